//! How many connections wait to be accepted, from `/proc/net/tcp`.
//!
//! For a listening socket `rx_queue` is the length of its accept queue (`sk_ack_backlog`). What was
//! accepted and waits elsewhere, in a channel to a worker for example, is not in it.
//!
//! Listening sockets come first in that file, and only they are read, a line at a time: for the
//! others the kernel walks its whole table of connections, which takes 42 ms (2 cores) and held up
//! the very servers that were measured; so it takes 0.04.

use std::fs::File;
use std::io::{self, BufRead, BufReader};

/// `TCP_LISTEN` as it is printed.
const LISTEN: &str = "0A";

/// Bytes of a line, its end included: the kernel fills no more than a read asks for.
const LINE: usize = 150;

/// Connections in the accept queues of all sockets that listen on `port`.
///
/// # Errors
/// What reading said.
pub fn depth(port: u16) -> io::Result<u64> {
    depth_in(BufReader::with_capacity(LINE, File::open("/proc/net/tcp")?), port)
}

/// How many sockets listen on `port`.
///
/// # Errors
/// What reading said.
pub fn listeners(port: u16) -> io::Result<u32> {
    let table = BufReader::with_capacity(LINE, File::open("/proc/net/tcp")?);
    let mut count = 0;
    each_in(table, port, |_| count += 1)?;
    Ok(count)
}

/// As [`depth`], of this text.
fn depth_in(table: impl BufRead, port: u16) -> io::Result<u64> {
    let mut sum = 0;
    each_in(table, port, |queued| sum += queued)?;
    Ok(sum)
}

/// Tells the queue of every socket that listens on `port`.
fn each_in(table: impl BufRead, port: u16, mut tell: impl FnMut(u64)) -> io::Result<()> {
    for line in table.lines().skip(1) {
        match waiting(&line?) {
            Some((of, queued)) if of == port => tell(queued),
            Some(_) => {}
            None => break,
        }
    }
    Ok(())
}

/// Port and queue of a listening socket; nothing of any other.
///
/// `  sl  local_address rem_address   st tx_queue:rx_queue …`, numbers in hexadecimal.
fn waiting(line: &str) -> Option<(u16, u64)> {
    let mut words = line.split_whitespace().skip(1);
    let (_, port) = words.next()?.split_once(':')?;
    let (_remote, state) = (words.next()?, words.next()?);
    let (_, queued) = words.next().filter(|_| state == LISTEN)?.split_once(':')?;
    Some((u16::from_str_radix(port, 16).ok()?, u64::from_str_radix(queued, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn listeners_of_one_port_are_added_up_and_others_are_not() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n\
            \x20  0: 0100007F:4650 00000000:0000 0A 00000000:00000003 00:00000000 00000000\n\
            \x20  1: 0100007F:4650 00000000:0000 0A 00000000:0000000C 00:00000000 00000000\n\
            \x20  2: 0100007F:4651 00000000:0000 0A 00000000:00000007 00:00000000 00000000\n\
            \x20  3: 0100007F:4650 0100007F:9999 01 00000000:00000009 00:00000000 00000000\n";
        assert_eq!(depth_in(table.as_bytes(), 18_000).unwrap(), 15);
        assert_eq!(depth_in(&b""[..], 18_000).unwrap(), 0);
    }

    #[test]
    fn what_nobody_accepted_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert_eq!(depth(address.port()).unwrap(), 3);
        assert_eq!(listeners(address.port()).unwrap(), 1);
        drop(clients);
    }
}
