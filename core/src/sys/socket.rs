//! Socket calls that no crate wraps.
#![expect(unsafe_code, reason = "getsockopt into a struct, and an ioctl")]

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
    Ok(tcp_info(listener)?.tcpi_unacked)
}

/// Whether there is something in a TCP socket that its peer has not acknowledged and still may.
///
/// Corresponds to `ioctl(2)` with `SIOCOUTQ`, which is also the number of `TIOCOUTQ`.
///
/// # Errors
/// That of `ioctl(2)` or `getsockopt(2)`: it is no TCP socket.
pub(crate) fn has_unsent(socket: impl AsFd) -> io::Result<bool> {
    /// `TCP_CLOSE` (include/net/tcp_states.h): reset, or never connected.
    const CLOSE: u8 = 7;
    let mut bytes: libc::c_int = 0;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the call writes one `int`, and `bytes` is one that lives longer.
    if unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(bytes > 0 && tcp_info(socket)?.tcpi_state != CLOSE)
}

fn tcp_info(socket: impl AsFd) -> io::Result<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>())
        .expect("tcp_info is a few hundred bytes");
    // SAFETY: `info` and `length` are live for the call, and `length` says how much room `info` has.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
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
    Ok(unsafe { info.assume_init() })
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
