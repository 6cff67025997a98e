//! Who listens on an address: one service, or several that do not know of each other.
//!
//! Sockets with `SO_REUSEPORT` on one address form a group, and the kernel gives each member its share of
//! connections, whoever it belongs to. Members that share a holder (a supervisor holds all that its
//! workers hold) are one service; others are strangers to each other.

use std::collections::BTreeSet;

/// A listening socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// Its inode, by which processes hold it.
    pub inode: u64,
    /// Whose it is.
    pub uid: u32,
    /// The processes that hold it, with their names; empty if they could not be seen.
    pub holders: BTreeSet<(u32, String)>,
    /// Whether it lets others join; absent if it could not be asked.
    pub shares_port: Option<bool>,
}

/// Listening sockets that belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Party {
    /// How many there are.
    pub sockets: usize,
    /// Whose they are.
    pub uids: BTreeSet<u32>,
    /// Who holds them.
    pub holders: BTreeSet<(u32, String)>,
}

impl Party {
    /// Who it is, in words: its first process, and how many more.
    #[must_use]
    pub fn words(&self) -> String {
        let uids: Vec<_> = self.uids.iter().map(u32::to_string).collect();
        let uids = uids.join(", ");
        match self.holders.first() {
            Some((pid, name)) => format!("{name} (process {pid}, user {uids})"),
            None => format!("an unseen process of user {uids}"),
        }
    }
}

/// The parties on an address: sockets with a common holder are one's, those without any seen holder one's
/// per user.
#[must_use]
pub fn parties(listening: &[Listening]) -> Vec<Party> {
    let mut parties: Vec<Party> = Vec::new();
    for socket in listening {
        let belongs = |party: &Party| {
            if socket.holders.is_empty() {
                party.holders.is_empty() && party.uids.contains(&socket.uid)
            } else {
                !party.holders.is_disjoint(&socket.holders)
            }
        };
        // One socket may join what seemed to be several.
        let (own, others): (Vec<Party>, Vec<Party>) = parties.into_iter().partition(belongs);
        let mut one = Party {
            sockets: 1,
            uids: BTreeSet::from([socket.uid]),
            holders: socket.holders.clone(),
        };
        for party in own {
            one.sockets += party.sockets;
            one.uids.extend(party.uids);
            one.holders.extend(party.holders);
        }
        parties = others;
        parties.push(one);
    }
    parties.sort_by(|a, b| a.holders.first().cmp(&b.holders.first()));
    parties
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(inode: u64, uid: u32, holders: &[u32]) -> Listening {
        let holders = holders.iter().map(|&pid| (pid, format!("p{pid}"))).collect();
        Listening { inode, uid, holders, shares_port: Some(true) }
    }

    #[test]
    fn who_shares_a_holder_is_one_party() {
        // A supervisor 1 with workers 2 and 3, each with all sockets or its own; and a stranger.
        let all = [socket(1, 0, &[1, 2]), socket(2, 0, &[9]), socket(3, 0, &[1, 3])];
        let seen = parties(&all);
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].sockets, seen[0].holders.len()), (2, 3));
        assert_eq!(seen[1].words(), "p9 (process 9, user 0)");
        // The holder of both comes last.
        let all = [socket(1, 0, &[1]), socket(2, 0, &[2]), socket(3, 0, &[1, 2])];
        assert_eq!(parties(&all).len(), 1);
    }

    #[test]
    fn unseen_holders_are_told_apart_by_their_user() {
        let all = [socket(1, 33, &[]), socket(2, 33, &[]), socket(3, 34, &[]), socket(4, 0, &[5])];
        let seen = parties(&all);
        assert_eq!(seen.len(), 3);
        assert_eq!(seen[0].words(), "an unseen process of user 33");
    }
}
