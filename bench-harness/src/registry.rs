//! Which strategies there are: the one file of the harness that names concrete ones.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use forkherd_core::{RuntimeKind, Service, Strategy};
use forkherd_handoff::Handoff;
use forkherd_prefork::Prefork;
use forkherd_reuseport::Reuseport;

use crate::cli::Runtime;
use crate::contestant::{Contestant, Launch};
use crate::external::offers::Offers;

/// A strategy that can be served and compared.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its variant there; the first entry of a name is what the bare name means.
    pub variant: &'static str,
    /// One honest line about it.
    pub line: &'static str,
    /// The runtimes it can serve.
    pub runtimes: &'static [Runtime],
    /// Makes it; opens nothing.
    pub make: fn() -> Box<dyn Strategy>,
    /// What `recommend` has to know about it; without, it is never recommended.
    pub choice: Option<Choice>,
}

impl Entry {
    /// Why it does not take another program as its workers, if it does not.
    #[must_use]
    pub fn refuses_programs(&self) -> Option<String> {
        some_service().fits_program(&*(self.make)()).err().map(|reason| reason.to_string())
    }

    /// Whether it gives an event loop one connection at a time, as far as is known.
    #[must_use]
    pub fn is_one_at_a_time(&self) -> bool {
        self.choice.is_some_and(|choice| choice.one_at_a_time)
    }

    /// Whether it serves workers of this runtime. Opens nothing.
    #[must_use]
    pub fn serves(&self, runtime: RuntimeKind) -> bool {
        some_service().fits(&*(self.make)(), runtime).is_ok()
    }
}

/// How a strategy that accepts itself refuses. It announces the close that follows: a client that may keep its
/// connection knows by that alone that no further answer will come.
pub(crate) const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// One that says in HTTP whom it refuses, as almost every app of ours would: who was queued for several
/// workers that died was *shed*, not lost.
fn answering(handoff: Handoff) -> Box<dyn Strategy> {
    Box::new(handoff.refusal(REFUSAL))
}

/// One that anybody can serve who can serve any.
fn some_service() -> Service {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    Service::new("any").listen(SocketAddr::from(address)).workers(2)
}

/// What is to be known about a strategy by whoever chooses one.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Its crate.
    pub package: &'static str,
    /// The folder of that crate.
    pub folder: &'static str,
    /// What makes it, in Rust: `TYPE::CONSTRUCTOR()`.
    pub make: &'static str,
    /// Its place in the order of simplicity, from 0: where nothing else differs, the first wins.
    ///
    /// Simple is what has few parts that could fail or would have to be understood: one listener that all
    /// share and nobody on the way; then a listener per worker, with the kernel's own choice before
    /// programs of ours; then a process on the way; then programs that need a privilege.
    pub rank: u8,
    /// Whether the same client comes to the same worker, as long as that has room.
    pub sticky: bool,
    /// Whether a worker holds nothing that others depend on, so that it can be a hostile one.
    pub confines: bool,
    /// Whether the supervisor needs `CAP_BPF`, without which it is something else.
    pub bpf: bool,
    /// Whether a worker gets one connection at a time even where it could serve many.
    pub one_at_a_time: bool,
    /// The runtimes on which it is what the bare name is.
    pub is_usual_on: fn(RuntimeKind) -> bool,
}

/// The simplest of all; what the others differ in is said of each.
const PREFORK: Choice = Choice {
    package: "forkherd-prefork",
    folder: "strategy-prefork",
    make: "Prefork::default()",
    rank: 0,
    sticky: false,
    confines: false,
    bpf: false,
    one_at_a_time: false,
    is_usual_on: |_| false,
};

const REUSEPORT: Choice = Choice {
    package: "forkherd-reuseport",
    folder: "strategy-reuseport",
    make: "Reuseport::hash()",
    rank: 10,
    ..PREFORK
};

const HANDOFF: Choice = Choice {
    package: "forkherd-handoff",
    folder: "strategy-handoff",
    make: "Handoff::round_robin()",
    rank: 20,
    confines: true,
    ..PREFORK
};

const BOTH: &[Runtime] = &[Runtime::Blocking, Runtime::Tokio];

/// Everything that ships, and whatever else was added.
#[derive(Clone, Debug)]
pub struct Registry {
    entries: Vec<Entry>,
}

impl Registry {
    /// The strategies that ship with Forkherd.
    #[must_use]
    pub fn builtin() -> Self {
        let entries = vec![
            Entry {
                name: "prefork",
                variant: "default",
                line: "workers share one listener, and wait as suits the runtime: as blocking, with \
                       threads as exclusive, on tokio as gated",
                runtimes: BOTH,
                make: || Box::new(Prefork::default()),
                choice: Some(PREFORK),
            },
            Entry {
                name: "prefork",
                variant: "exclusive",
                line: "workers share one listener, the kernel wakes one; the ideal queue for blocking \
                       workers, skewed when idle; under tokio a thread per worker waits for it",
                runtimes: BOTH,
                make: || Box::new(Prefork::exclusive()),
                choice: Some(Choice {
                    make: "Prefork::exclusive()",
                    rank: 1,
                    is_usual_on: |runtime| matches!(runtime, RuntimeKind::Threads(_)),
                    ..PREFORK
                }),
            },
            Entry {
                name: "prefork",
                variant: "blocking",
                line: "workers wait in accept(2): four system calls, idle workers in turn; for the \
                       blocking runtime; as exclusive with several addresses",
                runtimes: &[Runtime::Blocking],
                make: || Box::new(Prefork::blocking()),
                choice: Some(Choice {
                    make: "Prefork::blocking()",
                    rank: 1,
                    is_usual_on: |_| true,
                    ..PREFORK
                }),
            },
            Entry {
                name: "prefork",
                variant: "gated",
                line: "as exclusive, but who has more connections than others lets them go first: even \
                       for connections that stay; for event loops",
                runtimes: &[Runtime::Tokio],
                make: || Box::new(Prefork::gated()),
                choice: Some(Choice {
                    make: "Prefork::gated()",
                    rank: 1,
                    is_usual_on: |_| true,
                    ..PREFORK
                }),
            },
            Entry {
                name: "prefork",
                variant: "rotating",
                line: "as exclusive, but who was served goes to the end of the line: even when idle, for \
                       three system calls more per connection",
                runtimes: BOTH,
                make: || Box::new(Prefork::rotating()),
                choice: Some(Choice { make: "Prefork::rotating()", rank: 2, ..PREFORK }),
            },
            Entry {
                name: "prefork",
                variant: "herd",
                line: "the bad example: every connection wakes every idle worker, and one gets it",
                runtimes: BOTH,
                make: || Box::new(Prefork::herd()),
                choice: None,
            },
            Entry {
                name: "handoff",
                variant: "round-robin",
                line: "the supervisor accepts and passes each connection to the next worker with \
                       room; exactly even, one process more on the way",
                runtimes: BOTH,
                make: || answering(Handoff::round_robin()),
                choice: Some(HANDOFF),
            },
            Entry {
                name: "handoff",
                variant: "least",
                line: "to the worker with the fewest connections; even for connections that stay",
                runtimes: BOTH,
                make: || answering(Handoff::least()),
                choice: Some(Choice { make: "Handoff::least()", rank: 21, ..HANDOFF }),
            },
            Entry {
                name: "handoff",
                variant: "p2c",
                line: "to the less loaded of two drawn at random; nearly as even as least",
                runtimes: BOTH,
                make: || answering(Handoff::power_of_two()),
                choice: Some(Choice { make: "Handoff::power_of_two()", rank: 22, ..HANDOFF }),
            },
            Entry {
                name: "handoff",
                variant: "hash",
                line: "a client address has its own worker, while that has room; as even as the \
                       addresses are",
                runtimes: BOTH,
                make: || answering(Handoff::client_hash()),
                choice: Some(Choice {
                    make: "Handoff::client_hash()",
                    rank: 24,
                    sticky: true,
                    ..HANDOFF
                }),
            },
            Entry {
                name: "handoff",
                variant: "idle",
                line: "only to a worker that has nothing to do: tokio, one connection at a time; else \
                       as round-robin",
                runtimes: BOTH,
                make: || answering(Handoff::idle()),
                choice: Some(Choice {
                    make: "Handoff::idle()",
                    rank: 23,
                    one_at_a_time: true,
                    ..HANDOFF
                }),
            },
            Entry {
                name: "handoff",
                variant: "pull",
                line: "one channel for all, idle workers take the oldest; the ideal queue for blocking \
                       workers, who is chosen is nobody's choice",
                runtimes: BOTH,
                make: || answering(Handoff::pull()),
                choice: Some(Choice {
                    make: "Handoff::pull()",
                    rank: 25,
                    confines: false,
                    ..HANDOFF
                }),
            },
            Entry {
                name: "handoff",
                variant: "one-by-one",
                line: "as round-robin, one connection per wake-up and message: what batches save event \
                       loops shows beside it",
                runtimes: BOTH,
                make: || answering(Handoff::one_by_one()),
                choice: None,
            },
            Entry {
                name: "handoff",
                variant: "eager",
                line: "the bad example: each worker in turn, busy or not; a connection waits behind a \
                       busy worker while others idle",
                runtimes: BOTH,
                make: || answering(Handoff::eager()),
                choice: None,
            },
            Entry {
                name: "reuseport",
                variant: "hash",
                line: "a listener per worker, the kernel hashes clients over them; cheap and even in \
                       count, but a connection waits behind a busy worker while others idle",
                runtimes: BOTH,
                make: || Box::new(Reuseport::hash()),
                choice: Some(REUSEPORT),
            },
            Entry {
                name: "reuseport",
                variant: "hash:bare",
                line: "the bad example: no cover, so what is hashed to a dead or stopped worker waits \
                       for it",
                runtimes: BOTH,
                make: || Box::new(Reuseport::hash_bare()),
                choice: None,
            },
            Entry {
                name: "reuseport",
                variant: "random",
                line: "a random slot, by classic BPF; as hash, whatever addresses clients have",
                runtimes: BOTH,
                make: || Box::new(Reuseport::random()),
                choice: Some(Choice { make: "Reuseport::random()", rank: 12, ..REUSEPORT }),
            },
            Entry {
                name: "reuseport",
                variant: "cpu",
                line: "the slot of the processor that took the handshake; for cards with many queues, \
                       on loopback degenerate",
                runtimes: BOTH,
                make: || Box::new(Reuseport::cpu()),
                choice: None,
            },
            Entry {
                name: "reuseport",
                variant: "steered",
                line: "a hash over the slots that serve now, by classic BPF; nothing new for a dead \
                       or stopped one",
                runtimes: BOTH,
                make: || Box::new(Reuseport::steered()),
                choice: Some(Choice { make: "Reuseport::steered()", rank: 11, ..REUSEPORT }),
            },
            Entry {
                name: "reuseport",
                variant: "steal",
                line: "as hash, but whoever is free takes what waits elsewhere; near the ideal queue \
                       without privilege",
                runtimes: &[Runtime::Blocking],
                make: || Box::new(Reuseport::steal()),
                choice: Some(Choice { make: "Reuseport::steal()", rank: 13, ..REUSEPORT }),
            },
            Entry {
                name: "reuseport",
                variant: "least",
                line: "the slot with the fewest connections, by eBPF (CAP_BPF); even for connections that \
                       stay",
                runtimes: BOTH,
                make: || Box::new(Reuseport::least()),
                choice: Some(Choice {
                    make: "Reuseport::least()",
                    rank: 30,
                    bpf: true,
                    ..REUSEPORT
                }),
            },
            Entry {
                name: "reuseport",
                variant: "balanced",
                line: "as least, and free blocking workers take what waits for 15 neighbours: up to 16 workers \
                       the ideal queue's tail at nearly the cost of a hash (CAP_BPF)",
                runtimes: BOTH,
                make: || Box::new(Reuseport::balanced()),
                choice: Some(Choice {
                    make: "Reuseport::balanced()",
                    rank: 31,
                    bpf: true,
                    ..REUSEPORT
                }),
            },
        ];
        Self { entries }
    }

    /// Adds a strategy of your own.
    #[must_use]
    pub fn with(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    /// All entries.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry that `NAME` or `NAME:VARIANT` means.
    ///
    /// # Errors
    /// A sentence that lists what there is.
    pub fn find(&self, label: &str) -> Result<&Entry, String> {
        let (name, variant) = match label.split_once(':') {
            Some((name, variant)) => (name, Some(variant)),
            None => (label, None),
        };
        let named = || self.entries.iter().filter(|entry| entry.name == name);
        let found = named().find(|entry| variant.is_none_or(|variant| entry.variant == variant));
        found.ok_or_else(|| match named().next() {
            Some(_) => {
                let variants: Vec<_> = named().map(|entry| entry.variant).collect();
                format!(
                    "strategy `{name}` has no variant `{}`; it has: {}",
                    variant.unwrap_or_default(),
                    variants.join(", ")
                )
            }
            None => {
                let mut names: Vec<_> = self.entries.iter().map(|entry| entry.name).collect();
                names.dedup();
                format!("no strategy is called `{name}`; there are: {}", names.join(", "))
            }
        })
    }

    /// A label as contestants carry it: the default variant of a strategy goes by the bare name, and
    /// `@N` stays. One that names nobody stays as it is.
    #[must_use]
    pub fn label(&self, label: &str) -> String {
        if let Some((strategy, workers)) = label.rsplit_once('@') {
            return format!("{}@{workers}", self.label(strategy));
        }
        match self.find(label) {
            Ok(entry) if self.find(entry.name).is_ok_and(|one| one.variant == entry.variant) => {
                entry.name.to_owned()
            }
            _ => label.to_owned(),
        }
    }

    /// As `compare` sees them: the first variant of each name goes by the bare name.
    #[must_use]
    pub fn contestants(&self) -> Vec<Contestant> {
        let is_default =
            |entry: &Entry| self.find(entry.name).is_ok_and(|first| first.variant == entry.variant);
        self.entries
            .iter()
            .map(|entry| Contestant {
                name: entry.name.to_owned(),
                variant: (!is_default(entry)).then(|| entry.variant.to_owned()),
                line: entry.line.to_owned(),
                runtimes: entry.runtimes.to_vec(),
                launch: Launch::Serve,
                workers: None,
                offers: Offers { keeps_many: !entry.is_one_at_a_time(), ..Offers::ALL },
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::builtin;

    #[test]
    fn a_bare_name_is_its_first_variant_and_wrong_ones_are_told_the_right_ones() {
        let registry = Registry::builtin();
        assert_eq!(registry.find("prefork").unwrap().variant, "default");
        assert_eq!(registry.find("handoff:round-robin").unwrap().name, "handoff");
        let wrong = |label: &str| registry.find(label).unwrap_err();
        assert_eq!(
            wrong("preforc"),
            "no strategy is called `preforc`; there are: prefork, handoff, reuseport"
        );
        assert_eq!(
            wrong("prefork:best"),
            "strategy `prefork` has no variant `best`; it has: default, exclusive, blocking, gated, rotating, herd"
        );
        assert_eq!(registry.find("reuseport:hash:bare").unwrap().variant, "hash:bare");
    }

    #[test]
    fn whoever_gives_an_event_loop_one_connection_is_left_out_where_they_are_kept() {
        let mut all = Registry::builtin().contestants();
        all.push(Contestant::baseline());
        let kept = builtin::find("keep-alive").unwrap().needs();
        let out = |runtime| {
            let is_out = |one: &&Contestant| {
                one.runtimes.contains(&runtime) && one.obstacle(runtime, &kept).is_some()
            };
            all.iter().filter(is_out).map(Contestant::label).collect::<Vec<_>>()
        };
        assert_eq!(out(Runtime::Tokio), ["handoff:idle"]);
        // Plain blocking loops stay with a connection as long as it does.
        assert_eq!(out(Runtime::Blocking), ["baseline"]);
        let short = builtin::find("short-connections").unwrap().needs();
        assert!(all.iter().all(|one| one.obstacle(one.runtimes[0], &short).is_none()));
    }

    #[test]
    fn an_added_strategy_can_be_compared() {
        let added = Entry { name: "mine", ..*Registry::builtin().find("prefork").unwrap() };
        let all = Registry::builtin().with(added).contestants();
        let defaults: Vec<_> =
            all.iter().filter(|one| one.variant.is_none()).map(Contestant::label).collect();
        assert_eq!(defaults, ["prefork", "handoff", "reuseport", "mine"]);
    }
}
