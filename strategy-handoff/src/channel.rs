//! Channels: pairs of seqpacket sockets of which the supervisor keeps both ends.
//!
//! Each message carries connections: their descriptors (`SCM_RIGHTS`) and for each a note that says from
//! whom it came and through which listener. A message has one receiver: a worker, or, if that is dead or
//! stopped, the supervisor itself, which takes it back. So nothing queued is ever lost, and no copy of a
//! connection is kept that would hide its end from the client.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use forkherd_core::Peer;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use passfd::FdPassingExt;
use rustix::fs::OFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, Shutdown,
    SocketFlags, SocketType, recv, recvmsg, shutdown, socketpair,
};

/// Most connections in one message.
///
/// 16: a descriptor costs the sender 1.5 µs alone, 0.15 µs among 16 and 0.08 µs among 64 (Linux 6.18),
/// and a worker has to have room for a whole message before it receives one.
pub(crate) const BATCH: usize = 16;

/// What travels with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Note {
    pub(crate) peer: Peer,
    pub(crate) listener: u16,
    /// How many workers have died while it was queued for them.
    pub(crate) deaths: u8,
}

/// A connection on its way.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) socket: OwnedFd,
    pub(crate) note: Note,
}

/// What came out of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Received {
    /// One message.
    Parcels {
        /// So many connections.
        count: usize,
        /// So many more came without their descriptors.
        lost: usize,
    },
    /// The supervisor has closed its sending end, and everything before that was received.
    End,
}

/// Whether to wait for a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    Not,
    ForEver,
}

#[derive(Debug)]
pub(crate) struct Channel {
    sender: OwnedFd,
    receiver: OwnedFd,
}

impl Channel {
    /// The receiving end is blocking, because `O_NONBLOCK` belongs to the open file, which the worker
    /// shares: there one may wait in `recvmsg(2)` itself, and who must not says so in each call.
    pub(crate) fn new() -> io::Result<Self> {
        let (sender, receiver) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::fs::fcntl_setfl(&sender, OFlags::NONBLOCK)?;
        Ok(Self { sender, receiver })
    }

    /// The end that workers get duplicates of.
    pub(crate) fn receiver(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }

    /// Sends a connection. The caller's copy is to be closed as soon as this succeeded.
    ///
    /// # Errors
    /// `EAGAIN`: the channel is full. `ETOOMANYREFS`: this user has more descriptors under way than its
    /// limit of open files.
    pub(crate) fn send(&self, parcel: &Parcel) -> io::Result<()> {
        loop {
            // passfd sets neither MSG_NOSIGNAL nor MSG_DONTWAIT: std ignores SIGPIPE, and the socket is
            // non-blocking. A seqpacket message goes whole or not at all. It is one call and no
            // allocation, where nix makes room for the descriptors on the heap.
            let sender = self.sender.as_raw_fd();
            match sender.send_fd_with_payload(parcel.socket.as_raw_fd(), &parcel.note.encode()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Sends up to [`BATCH`] connections in one message: all of them or none.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) fn send_all(&self, parcels: &[Parcel]) -> io::Result<()> {
        if let [parcel] = parcels {
            return self.send(parcel);
        }
        debug_assert!(!parcels.is_empty() && parcels.len() <= BATCH);
        let mut notes = [0_u8; BATCH * Note::LENGTH];
        let mut sockets: [RawFd; BATCH] = [-1; BATCH];
        for (index, parcel) in parcels.iter().enumerate() {
            notes[index * Note::LENGTH..][..Note::LENGTH].copy_from_slice(&parcel.note.encode());
            sockets[index] = parcel.socket.as_raw_fd();
        }
        let parts = [io::IoSlice::new(&notes[..parcels.len() * Note::LENGTH])];
        let rights = [ControlMessage::ScmRights(&sockets[..parcels.len()])];
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        loop {
            match sendmsg::<()>(self.sender.as_raw_fd(), &parts, &rights, flags, None) {
                Err(nix::errno::Errno::EINTR) => {}
                result => return Ok(result.map(drop)?),
            }
        }
    }

    /// Makes it hold as little as the kernel allows: a few messages.
    #[cfg(test)]
    pub(crate) fn shrink(&self) {
        rustix::net::sockopt::set_socket_send_buffer_size(&self.sender, 1).unwrap();
    }

    /// Takes back the oldest message that was not received; says how many connections it held.
    pub(crate) fn take_back(&self, parcel: impl FnMut(Parcel)) -> usize {
        match receive(&self.receiver, Wait::Not, parcel) {
            Ok(Received::Parcels { count, lost }) => count + lost,
            _ => 0,
        }
    }

    /// How many connections are in the channel, by the kernel's own account.
    ///
    /// Corresponds to `ioctl(2)` with `FIONREAD`, which for seqpacket sockets adds up all messages
    /// (`unix_inq_len` in net/unix/af_unix.c); every note has the same length.
    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(rustix::io::ioctl_fionread(&self.receiver)? / Note::LENGTH as u64)
    }

    /// After this the worker still receives what was sent, and then end-of-file.
    pub(crate) fn close(&self) -> io::Result<()> {
        Ok(shutdown(&self.sender, Shutdown::Write)?)
    }
}

/// How many connections the oldest message holds that was not received. 0: there will be none any more.
///
/// # Errors
/// `WouldBlock`: there is none now. Others of `recv(2)`.
pub(crate) fn oldest(channel: impl AsFd) -> io::Result<usize> {
    let mut notes = [0_u8; BATCH * Note::LENGTH];
    // Without space for descriptors none is installed, and the message stays as it is.
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let (_, bytes) = recv(channel, &mut notes[..], flags)?;
    Ok(bytes.div_ceil(Note::LENGTH))
}

/// Whether there is room for the oldest message, or, where there is none yet, for one connection.
///
/// # Errors
/// `EMFILE`: a message received now would lose its connections. Others of `recv(2)`.
pub(crate) fn try_room_for_next(channel: impl AsFd) -> io::Result<()> {
    let count = match oldest(&channel) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 1,
        result => result?,
    };
    try_room(channel, count)
}

/// Whether this process can have so many descriptors more: duplicates of `fd`, for as long as it takes.
///
/// # Errors
/// `EMFILE`: a message received now would lose its connections.
pub(crate) fn try_room(fd: impl AsFd, count: usize) -> io::Result<()> {
    let fd = fd.as_fd();
    (0..count).map(|_| fd.try_clone_to_owned()).collect::<Result<Vec<_>, _>>().map(drop)
}

/// As [`receive`], but nothing for which there is no room.
///
/// Where a message comes just now it is not received either: whether there is room for it nobody has asked. (Should
/// the supervisor take the oldest back between the look and the call, it is the next that is received. It takes
/// back from who runs only when that is full, and then there are no larger ones behind.)
///
/// # Errors
/// `EMFILE`: there is no room for the oldest message, or for any. Others as for [`receive`].
pub(crate) fn receive_with_care(
    channel: impl AsFd,
    wait: Wait,
    parcel: impl FnMut(Parcel),
) -> io::Result<Received> {
    match wait {
        Wait::Not => try_room(&channel, oldest(&channel)?)?,
        Wait::ForEver => try_room_for_next(&channel)?,
    }
    receive(channel, wait, parcel)
}

/// Receives one message, and gives each connection in it to `parcel`.
///
/// A message comes without its descriptors where the table is full (`MSG_CTRUNC`), which is the one way to
/// lose a connection here: have room for [`BATCH`] before you call, or for one where only one is sent.
///
/// # Errors
/// `WouldBlock`, and others of `recvmsg(2)`.
pub(crate) fn receive(
    channel: impl AsFd,
    wait: Wait,
    mut parcel: impl FnMut(Parcel),
) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0_u8; BATCH * Note::LENGTH];
    let mut parts = [io::IoSliceMut::new(&mut bytes)];
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    if wait == Wait::Not {
        flags |= RecvFlags::DONTWAIT;
    }
    let message = loop {
        match recvmsg(&channel, &mut parts, &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) if wait == Wait::Not => {}
            result => break result?,
        }
    };
    let (bytes, truncated) = (message.bytes, message.flags.contains(ReturnFlags::CTRUNC));
    if bytes == 0 {
        return Ok(Received::End);
    }
    let mut notes = parts[0][..bytes].chunks(Note::LENGTH);
    let mut count = 0;
    for message in ancillary.drain() {
        let RecvAncillaryMessage::ScmRights(sockets) = message else { continue };
        for socket in sockets {
            // One more than there are notes is closed here.
            let Some(note) = notes.next().and_then(Note::decode) else { continue };
            parcel(Parcel { socket, note });
            count += 1;
        }
    }
    let lost = bytes.div_ceil(Note::LENGTH) - count;
    if lost > 0 {
        tracing::warn!(lost, count, truncated, "connections lost: no descriptors for them");
    }
    Ok(Received::Parcels { count, lost })
}

impl Note {
    /// Family (4, 6, or 1 for Unix), listener (2), port (2), scope (4), flow (4), address (16), deaths.
    pub(crate) const LENGTH: usize = 30;

    pub(crate) fn encode(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0_u8; Self::LENGTH];
        bytes[1..3].copy_from_slice(&self.listener.to_be_bytes());
        bytes[29] = self.deaths;
        match self.peer {
            Peer::Unix => bytes[0] = 1,
            Peer::Inet(SocketAddr::V4(peer)) => {
                bytes[0] = 4;
                bytes[3..5].copy_from_slice(&peer.port().to_be_bytes());
                bytes[13..17].copy_from_slice(&peer.ip().octets());
            }
            Peer::Inet(SocketAddr::V6(peer)) => {
                bytes[0] = 6;
                bytes[3..5].copy_from_slice(&peer.port().to_be_bytes());
                bytes[5..9].copy_from_slice(&peer.scope_id().to_be_bytes());
                bytes[9..13].copy_from_slice(&peer.flowinfo().to_be_bytes());
                bytes[13..29].copy_from_slice(&peer.ip().octets());
            }
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LENGTH] = bytes.try_into().ok()?;
        let two = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let four = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let port = two(3);
        let peer = match bytes[0] {
            1 => Peer::Unix,
            4 => Peer::Inet(SocketAddrV4::new(four(13).into(), port).into()),
            6 => {
                let mut octets = [0_u8; 16];
                octets.copy_from_slice(&bytes[13..29]);
                let ip = Ipv6Addr::from(octets);
                Peer::Inet(SocketAddrV6::new(ip, port, four(9), four(5)).into())
            }
            _ => return None,
        };
        Some(Self { peer, listener: two(1), deaths: bytes[29] })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn peer() -> impl Strategy<Value = Peer> {
        let v4 = (any::<[u8; 4]>(), any::<u16>()).prop_map(|v4| SocketAddr::from(v4).into());
        let v6 = (any::<[u8; 16]>(), any::<u16>(), any::<u32>(), any::<u32>()).prop_map(
            |(ip, port, flow, scope)| {
                Peer::Inet(SocketAddrV6::new(ip.into(), port, flow, scope).into())
            },
        );
        prop_oneof![Just(Peer::Unix), v4, v6]
    }

    proptest! {
        #[test]
        fn a_note_arrives_as_it_was_sent(peer in peer(), listener: u16, deaths: u8) {
            let note = Note { peer, listener, deaths };
            prop_assert_eq!(Note::decode(&note.encode()), Some(note));
        }

        #[test]
        fn any_other_bytes_are_no_note(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if bytes.len() != Note::LENGTH || ![1, 4, 6].contains(&bytes[0]) {
                prop_assert_eq!(Note::decode(&bytes), None);
            }
        }
    }

    fn connection() -> (TcpStream, Parcel) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, peer) = listener.accept().unwrap();
        (
            client,
            Parcel {
                socket: socket.into(),
                note: Note { peer: peer.into(), listener: 3, deaths: 0 },
            },
        )
    }

    fn connections(count: usize) -> (Vec<TcpStream>, Vec<Parcel>) {
        (0..count).map(|_| connection()).unzip()
    }

    fn received(channel: &Channel) -> (io::Result<Received>, Vec<Parcel>) {
        let mut parcels = vec![];
        let result = receive(channel.receiver(), Wait::Not, |parcel| parcels.push(parcel));
        (result, parcels)
    }

    fn peers<'a>(parcels: impl IntoIterator<Item = &'a Parcel>) -> Vec<Peer> {
        parcels.into_iter().map(|parcel| parcel.note.peer).collect()
    }

    fn names(clients: &[TcpStream]) -> Vec<Peer> {
        clients.iter().map(|client| client.local_addr().unwrap().into()).collect()
    }

    #[test]
    fn what_was_not_received_comes_back_in_order() {
        let channel = Channel::new().unwrap();
        let (mut clients, parcels) = connections(5);
        parcels.iter().for_each(|parcel| channel.send(parcel).unwrap());
        drop(parcels);
        let (_, first) = received(&channel);
        assert_eq!(peers(&first), names(&clients[..1]));
        let mut back = vec![];
        while channel.take_back(|parcel| back.push(parcel)) > 0 {}
        assert_eq!(peers(&back), names(&clients[1..]));
        // They are alive, and theirs alone.
        for (client, parcel) in clients[1..].iter_mut().zip(back) {
            TcpStream::from(parcel.socket).write_all(b"hello").unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "hello");
        }
    }

    #[test]
    fn a_batch_is_one_message_and_each_has_its_note() {
        let channel = Channel::new().unwrap();
        let (clients, parcels) = connections(BATCH + 3);
        channel.send_all(&parcels[..BATCH]).unwrap();
        channel.send_all(&parcels[BATCH..]).unwrap();
        assert_eq!(
            (oldest(channel.receiver()).unwrap(), channel.len().unwrap()),
            (BATCH, BATCH as u64 + 3)
        );
        let (result, first) = received(&channel);
        assert_eq!(result.unwrap(), Received::Parcels { count: BATCH, lost: 0 });
        assert_eq!((oldest(channel.receiver()).unwrap(), channel.len().unwrap()), (3, 3));
        let mut back = vec![];
        assert_eq!(channel.take_back(|parcel| back.push(parcel)), 3);
        assert_eq!(peers(first.iter().chain(&back)), names(&clients));
        assert_eq!(oldest(channel.receiver()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(channel.len().unwrap(), 0);
    }

    #[test]
    fn a_closed_channel_ends_after_what_was_sent() {
        let channel = Channel::new().unwrap();
        let (_client, parcel) = connection();
        channel.send(&parcel).unwrap();
        channel.close().unwrap();
        assert!(channel.send(&parcel).is_err());
        assert_eq!(received(&channel).0.unwrap(), Received::Parcels { count: 1, lost: 0 });
        assert_eq!(oldest(channel.receiver()).unwrap(), 0);
        let end = receive_with_care(channel.receiver(), Wait::ForEver, drop);
        assert_eq!(end.unwrap(), Received::End);
        assert_eq!(received(&channel).0.unwrap(), Received::End);
    }

    /// A channel to which somebody sends whenever it was looked at.
    struct Busy {
        channel: Channel,
        parcel: Parcel,
        uses: Cell<u32>,
    }

    impl AsFd for Busy {
        fn as_fd(&self) -> BorrowedFd<'_> {
            if self.uses.replace(self.uses.get() + 1) > 0 {
                self.channel.send(&self.parcel).unwrap();
            }
            self.channel.receiver()
        }
    }

    #[test]
    fn with_care_nothing_is_received_that_was_not_looked_at() {
        let (channel, (_client, parcel)) = (Channel::new().unwrap(), connection());
        let busy = Busy { channel, parcel, uses: Cell::new(0) };
        let result = receive_with_care(&busy, Wait::Not, drop);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // Now something is there before it looks.
        busy.channel.send(&busy.parcel).unwrap();
        let result = receive_with_care(&busy, Wait::Not, drop);
        assert_eq!(result.unwrap(), Received::Parcels { count: 1, lost: 0 });
    }

    #[test]
    fn a_full_channel_refuses_at_once() {
        let channel = Channel::new().unwrap();
        let (_client, parcel) = connection();
        let sent = (0..100_000).take_while(|_| channel.send(&parcel).is_ok()).count();
        assert!((100..10_000).contains(&sent), "{sent}");
        assert_eq!(channel.send(&parcel).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(channel.len().unwrap(), sent as u64);
        let back = std::iter::repeat_with(|| channel.take_back(drop)).take_while(|&n| n > 0);
        assert_eq!(back.sum::<usize>(), sent);
    }
}
