//! Socket calls that no crate wraps.
#![expect(unsafe_code, reason = "getsockopt into a struct")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use crate::pool::BACKLOG;

/// How many connections wait in the accept queue of a TCP listener.
///
/// Any process · any time. Corresponds to `getsockopt(2)` with `TCP_INFO`, whose `tcpi_unacked` is the
/// length of the accept queue for a listening socket (`tcp_get_info` in net/ipv4/tcp.c). 0.4 µs.
///
/// # Errors
/// That of `getsockopt(2)`: `EOPNOTSUPP` or `ENOPROTOOPT` if it is no TCP socket.
pub fn queue_len(listener: impl AsFd) -> io::Result<u32> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>())
        .expect("tcp_info is a few hundred bytes");
    // SAFETY: `info` and `length` are live for the call, and `length` says how much room `info` has.
    let result = unsafe {
        libc::getsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all-zero bytes are a valid `tcp_info` (integers only); the kernel wrote a prefix.
    Ok(unsafe { info.assume_init() }.tcpi_unacked)
}

/// How many connections wait in the accept queue of a listener at most: how often to accept if all that
/// is there now is to be taken, and clients that come later must not keep one for ever.
///
/// Any process · any time. [`queue_len`] for TCP. The queue of a Unix socket can be asked for its length by
/// netlink only; it is never longer than its backlog, so that is the bound, and `EAGAIN` comes first.
#[must_use]
pub fn queue_bound(listener: impl AsFd) -> u32 {
    queue_len(listener).unwrap_or_else(|error| match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::ENOPROTOOPT) => BACKLOG,
        _ => 0,
    })
}
