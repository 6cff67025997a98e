//! The channel to one worker: a pair of seqpacket sockets of which the supervisor keeps both ends.
//!
//! Each message carries one connection: its descriptor (`SCM_RIGHTS`) and a note that says from whom it
//! came and through which listener. A message has one receiver: the worker, or, if that is dead or
//! stopped, the supervisor itself, which takes it back. So nothing queued is ever lost, and no copy of a
//! connection is kept that would hide its end from the client.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use passfd::FdPassingExt;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, Shutdown,
    SocketFlags, SocketType, recvmsg, shutdown, socketpair,
};

/// What travels with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Note {
    pub(crate) peer: SocketAddr,
    pub(crate) listener: u16,
}

/// A connection on its way.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) socket: OwnedFd,
    pub(crate) note: Note,
}

/// What came out of a channel.
#[derive(Debug)]
pub(crate) enum Received {
    Parcel(Parcel),
    /// The supervisor has closed its sending end, and everything before that was received.
    End,
}

#[derive(Debug)]
pub(crate) struct Channel {
    sender: OwnedFd,
    receiver: OwnedFd,
}

impl Channel {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (sender, receiver) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok(Self { sender, receiver })
    }

    /// The end the worker gets a duplicate of.
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
            // non-blocking. A seqpacket message goes whole or not at all.
            let sender = self.sender.as_raw_fd();
            match sender.send_fd_with_payload(parcel.socket.as_raw_fd(), &parcel.note.encode()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Takes back the oldest that the worker has not received.
    pub(crate) fn take_back(&self) -> Option<Parcel> {
        match receive(&self.receiver) {
            Ok(Received::Parcel(parcel)) => Some(parcel),
            _ => None,
        }
    }

    /// After this the worker still receives what was sent, and then end-of-file.
    pub(crate) fn close(&self) -> io::Result<()> {
        Ok(shutdown(&self.sender, Shutdown::Write)?)
    }
}

/// Receives one connection, without waiting.
///
/// # Errors
/// `WouldBlock`; `EMFILE` if the message came without its descriptor because the table is full, which is
/// the one way to lose a connection here: have room before you call.
pub(crate) fn receive(channel: impl AsFd) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0_u8; Note::LENGTH];
    let mut parts = [io::IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = loop {
        match recvmsg(&channel, &mut parts, &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result?,
        }
    };
    let socket = ancillary.drain().find_map(|part| match part {
        // Should there be more than one, the iterator closes the others when it is dropped.
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    match socket {
        Some(socket) => {
            let note = Note::decode(&bytes[..message.bytes]).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "a handed-off connection without a note")
            })?;
            Ok(Received::Parcel(Parcel { socket, note }))
        }
        None if message.bytes == 0 => Ok(Received::End),
        None if message.flags.contains(ReturnFlags::CTRUNC) => Err(rustix::io::Errno::MFILE.into()),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "a note without a connection")),
    }
}

impl Note {
    /// Family, listener (2), port (2), scope (4), flow (4), address (16).
    pub(crate) const LENGTH: usize = 29;

    pub(crate) fn encode(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0_u8; Self::LENGTH];
        bytes[1..3].copy_from_slice(&self.listener.to_be_bytes());
        bytes[3..5].copy_from_slice(&self.peer.port().to_be_bytes());
        match self.peer {
            SocketAddr::V4(peer) => {
                bytes[0] = 4;
                bytes[13..17].copy_from_slice(&peer.ip().octets());
            }
            SocketAddr::V6(peer) => {
                bytes[0] = 6;
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
            4 => SocketAddr::V4(SocketAddrV4::new(four(13).into(), port)),
            6 => {
                let mut octets = [0_u8; 16];
                octets.copy_from_slice(&bytes[13..29]);
                let ip = Ipv6Addr::from(octets);
                SocketAddr::V6(SocketAddrV6::new(ip, port, four(9), four(5)))
            }
            _ => return None,
        };
        Some(Self { peer, listener: two(1) })
    }
}

/// For a peer that the kernel did not name; TCP always does.
pub(crate) const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn address() -> impl Strategy<Value = SocketAddr> {
        let v4 = (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from);
        let v6 = (any::<[u8; 16]>(), any::<u16>(), any::<u32>(), any::<u32>()).prop_map(
            |(ip, port, flow, scope)| {
                SocketAddr::V6(SocketAddrV6::new(ip.into(), port, flow, scope))
            },
        );
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn a_note_arrives_as_it_was_sent(peer in address(), listener: u16) {
            let note = Note { peer, listener };
            prop_assert_eq!(Note::decode(&note.encode()), Some(note));
        }

        #[test]
        fn any_other_bytes_are_no_note(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if bytes.len() != Note::LENGTH || ![4, 6].contains(&bytes[0]) {
                prop_assert_eq!(Note::decode(&bytes), None);
            }
        }
    }

    fn connection() -> (TcpStream, Parcel) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, peer) = listener.accept().unwrap();
        (client, Parcel { socket: socket.into(), note: Note { peer, listener: 3 } })
    }

    #[test]
    fn what_was_not_received_comes_back_in_order() {
        let channel = Channel::new().unwrap();
        let mut clients = vec![];
        for _ in 0..5 {
            let (client, parcel) = connection();
            channel.send(&parcel).unwrap();
            clients.push(client);
        }
        let Received::Parcel(first) = receive(channel.receiver()).unwrap() else { panic!() };
        assert_eq!(first.note.peer, clients[0].local_addr().unwrap());
        let back: Vec<_> = std::iter::from_fn(|| channel.take_back()).collect();
        let peers: Vec<_> = back.iter().map(|parcel| parcel.note.peer).collect();
        let expected: Vec<_> = clients[1..].iter().map(|c| c.local_addr().unwrap()).collect();
        assert_eq!(peers, expected);
        // They are alive, and theirs alone.
        for (client, parcel) in clients[1..].iter_mut().zip(back) {
            TcpStream::from(parcel.socket).write_all(b"hello").unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "hello");
        }
    }

    #[test]
    fn a_closed_channel_ends_after_what_was_sent() {
        let channel = Channel::new().unwrap();
        let (_client, parcel) = connection();
        channel.send(&parcel).unwrap();
        channel.close().unwrap();
        assert!(channel.send(&parcel).is_err());
        assert!(matches!(receive(channel.receiver()), Ok(Received::Parcel(_))));
        assert!(matches!(receive(channel.receiver()), Ok(Received::End)));
    }

    #[test]
    fn a_full_channel_refuses_at_once() {
        let channel = Channel::new().unwrap();
        let (_client, parcel) = connection();
        let sent = (0..100_000).take_while(|_| channel.send(&parcel).is_ok()).count();
        assert!((100..10_000).contains(&sent), "{sent}");
        assert_eq!(channel.send(&parcel).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(std::iter::from_fn(|| channel.take_back()).count(), sent);
    }
}
