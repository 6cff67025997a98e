//! How long the accept queues of a port may get, from `sock_diag(7)`.
//!
//! `/proc/net/tcp` tells how many wait and not how many may, and a socket of somebody else's cannot be
//! asked. The kernel can: for a socket that listens `idiag_wqueue` is its backlog, no more than
//! `net.core.somaxconn` (`ss -ltn` shows it as Send-Q). Only listening sockets are asked for, so that the
//! kernel does not walk its table of connections.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// `AF_NETLINK` and `NETLINK_SOCK_DIAG`.
const NETLINK: i32 = 16;
const SOCK_DIAG: i32 = 4;

/// `SOCK_DIAG_BY_FAMILY`, and `NLM_F_REQUEST` with `NLM_F_DUMP`.
const BY_FAMILY: u16 = 20;
const DUMP: u16 = 0x301;

/// `NLMSG_ERROR` and `NLMSG_DONE`: nothing comes after them.
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Bytes of `struct nlmsghdr` and of `struct inet_diag_req_v2`.
const HEAD: usize = 16;
const REQUEST: usize = 56;

/// Where `idiag_wqueue` is in `struct inet_diag_msg`.
const WQUEUE: usize = 60;

/// `AF_INET` and `AF_INET6`.
const FAMILIES: [u8; 2] = [2, 10];

/// `IPPROTO_TCP`, and the bit of `TCP_LISTEN`.
const TCP: u8 = 6;
const LISTEN: u32 = 1 << 10;

/// Longer than any kernel takes to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The least backlog of the sockets that listen on `port`; nothing if none does.
///
/// # Errors
/// The kernel has no `sock_diag(7)` for TCP, or may not be asked.
pub fn least(port: u16) -> io::Result<Option<u32>> {
    let mut least = None;
    for family in FAMILIES {
        least = backlogs(family, port)?.into_iter().chain(least).min();
    }
    Ok(least)
}

/// The backlog of each socket of this family that listens on `port`.
fn backlogs(family: u8, port: u16) -> io::Result<Vec<u32>> {
    // Each request on a socket of its own: what is left of an answer is nobody's.
    let mut socket =
        Socket::new(Domain::from(NETLINK), Type::DGRAM, Some(Protocol::from(SOCK_DIAG)))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(&request(family, port))?;
    let (mut found, mut buffer) = (Vec::new(), vec![0; 32 << 10]);
    loop {
        let length = socket.read(&mut buffer)?;
        if read(&buffer[..length], &mut found)? {
            return Ok(found);
        }
    }
}

/// What asks for all sockets of `family` that listen on `port`.
fn request(family: u8, port: u16) -> Vec<u8> {
    let length = u32::try_from(HEAD + REQUEST).unwrap_or_default();
    let mut bytes = Vec::with_capacity(HEAD + REQUEST);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    // A number for the request, and the port that the kernel is.
    bytes.extend([0; 8]);
    bytes.extend([family, TCP, 0, 0]);
    bytes.extend(LISTEN.to_ne_bytes());
    bytes.extend(port.to_be_bytes());
    bytes.resize(HEAD + REQUEST, 0);
    bytes
}

/// Adds the backlogs in a datagram; whether it was the last.
fn read(mut datagram: &[u8], found: &mut Vec<u32>) -> io::Result<bool> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "sock_diag(7) said something else");
    while !datagram.is_empty() {
        let length = number(datagram, 0).ok_or_else(strange)? as usize;
        let kind = datagram.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
        let body = datagram.get(HEAD..length).ok_or_else(strange)?;
        match kind {
            Some(DONE) => return Ok(true),
            Some(ERROR) => {
                let negative = number(body, 0).ok_or_else(strange)?.cast_signed();
                return Err(io::Error::from_raw_os_error(-negative));
            }
            _ => found.push(number(body, WQUEUE).ok_or_else(strange)?),
        }
        // Messages begin at multiples of four.
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    use super::*;

    #[test]
    fn the_least_backlog_of_a_port_is_seen_whoever_listens() {
        let listen = |address: SocketAddr, backlog| {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&address.into()).unwrap();
            socket.listen(backlog).unwrap();
            socket
        };
        let first = listen((Ipv4Addr::LOCALHOST, 0).into(), 100);
        let address = first.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(least(address.port()).unwrap(), Some(100));
        let second = listen(address, 7);
        assert_eq!(least(address.port()).unwrap(), Some(7));
        drop((first, second));
        assert_eq!(least(address.port()).unwrap(), None);
        // A kernel without IPv6 has nobody there.
        if let Ok(six) = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
            assert!(least(six.local_addr().unwrap().port()).unwrap().is_some());
        }
    }

    #[test]
    fn answers_that_are_cut_or_errors_are_errors() {
        let message = |kind: u16, body: &[u8]| {
            let length = u32::try_from(HEAD + body.len()).unwrap();
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.resize(HEAD, 0);
            bytes.extend(body);
            bytes
        };
        let mut body = [0; 72];
        body[WQUEUE..WQUEUE + 4].copy_from_slice(&128_u32.to_ne_bytes());
        let whole = [message(BY_FAMILY, &body), message(DONE, &[0; 4])].concat();
        let mut found = Vec::new();
        assert!(read(&whole, &mut found).unwrap());
        assert_eq!(found, [128]);
        assert!(!read(&message(BY_FAMILY, &body), &mut found).unwrap());
        assert!(read(&whole[..60], &mut found).is_err());
        assert!(read(&whole[..3], &mut found).is_err());
        let refused = read(&message(ERROR, &(-2_i32).to_ne_bytes()), &mut found).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        // A length that leads nowhere ends.
        assert!(read(&[0; 16], &mut found).is_err());
    }
}
