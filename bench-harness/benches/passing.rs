//! What it costs to pass descriptors: one by one by `passfd`, and several in a message, measured by criterion.
//!
//! ```text
//! cargo bench -p forkherd-bench --bench passing
//! ```
//!
//! A batch is sent over a pair of seqpacket sockets, received and closed, all by one thread. Time per descriptor
//! is therefore what the kernel needs for sending, installing and closing it; to wake a receiver in another
//! process costs several times as much, and once per message, so that batching gains more there than these
//! figures show. In `passfd` a message carries one descriptor and the receiver sees nothing of its payload; what
//! that means for a server stands in `strategy-handoff/src/channel.rs`, which sends by it and receives by rustix.

#![forbid(unsafe_code)]

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use criterion::{BenchmarkId, Criterion, Throughput};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use passfd::FdPassingExt;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};

/// Descriptors passed at a time.
const BATCHES: [usize; 4] = [1, 4, 16, 64];
const MOST: usize = 64;
/// Payload of a descriptor, as `passfd` sends it where nobody asks for another.
const PAYLOAD: usize = 4;

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("descriptor passing");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    let pair = Pair::new()?;
    for batch in BATCHES {
        group.throughput(Throughput::Elements(batch as u64));
        for (name, pass) in
            [("passfd", Pair::one_by_one as fn(&Pair, usize) -> _), ("sendmsg", Pair::together)]
        {
            // Once with its errors told; criterion has no place for them.
            pass(&pair, batch).with_context(|| format!("{name}, {batch} descriptors"))?;
            group.bench_function(BenchmarkId::new(name, batch), |bencher| {
                bencher.iter(|| pass(&pair, batch).expect("it passed as many before"));
            });
        }
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}

/// Both ends of a channel, and what is passed over it: one end of a TCP connection.
struct Pair {
    sender: OwnedFd,
    receiver: OwnedFd,
    passed: OwnedFd,
    _peer: OwnedFd,
}

impl Pair {
    fn new() -> anyhow::Result<Self> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (sender, receiver) = socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let peer = std::net::TcpStream::connect(listener.local_addr()?)?;
        let (passed, _) = listener.accept()?;
        Ok(Self { sender, receiver, passed: passed.into(), _peer: peer.into() })
    }

    /// A message for each.
    fn one_by_one(&self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            self.sender.as_raw_fd().send_fd(self.passed.as_raw_fd())?;
        }
        for _ in 0..count {
            nix::unistd::close(self.receiver.as_raw_fd().recv_fd()?)?;
        }
        Ok(())
    }

    /// All in one message.
    fn together(&self, count: usize) -> anyhow::Result<()> {
        let sockets: [RawFd; MOST] = [self.passed.as_raw_fd(); MOST];
        let payload = [0_u8; MOST * PAYLOAD];
        let parts = [IoSlice::new(&payload[..count * PAYLOAD])];
        let rights = [ControlMessage::ScmRights(&sockets[..count])];
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        sendmsg::<()>(self.sender.as_raw_fd(), &parts, &rights, flags, None)?;

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0_u8; MOST * PAYLOAD];
        let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
        recvmsg(&self.receiver, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        // Each is closed as it is dropped.
        let received: usize = ancillary
            .drain()
            .map(|part| match part {
                RecvAncillaryMessage::ScmRights(sockets) => sockets.count(),
                _ => 0,
            })
            .sum();
        ensure!(received == count, "received {received} of {count}");
        Ok(())
    }
}
