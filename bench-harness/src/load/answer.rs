//! What an answer says: the answers of our own servers, checked in full, and those of anybody.

use super::protocol::Answers;
use crate::apps::hello;

/// Longest answer of ours.
pub(crate) const OURS_MAX: usize = 1024;

/// Longest answer of anybody.
const ANY_MAX: usize = 4 << 20;

/// What an answer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its status code.
    pub(crate) status: u16,
    /// Whether it is a 200, with the body and length it must have.
    pub(crate) as_expected: bool,
    /// `X-Worker`.
    pub(crate) worker: Option<u32>,
    /// `X-Service-Us`.
    pub(crate) service_us: Option<u64>,
    /// `X-Taken-Us`.
    pub(crate) taken_us: Option<u64>,
    /// `X-After-Ns`.
    pub(crate) after_ns: Option<u64>,
}

/// What the bytes read so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// The beginning of an answer.
    Part,
    /// A whole one, and whether it announces the close.
    Whole(Answer, bool),
    /// No answer, or more than one.
    Strange,
}

/// The most bytes an answer may have.
pub(crate) fn longest(answers: Answers) -> usize {
    match answers {
        Answers::Ours => OURS_MAX,
        Answers::Any => ANY_MAX,
    }
}

/// Reads what came so far; `over` says that nothing more will.
pub(crate) fn parse(bytes: &[u8], answers: Answers, over: bool) -> Parsed {
    read(bytes, answers, over).unwrap_or(Parsed::Strange)
}

/// How long the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    Chunked,
    UntilClose,
}

/// As [`parse`]; nothing is no answer.
fn read(bytes: &[u8], answers: Answers, over: bool) -> Option<Parsed> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(start) = head.parse(bytes).ok()? else {
        return Some(Parsed::Part);
    };
    let mut length = Length::UntilClose;
    let mut answer = Answer {
        status: head.code?,
        as_expected: head.code == Some(200),
        worker: None,
        service_us: None,
        taken_us: None,
        after_ns: None,
    };
    // HTTP/1.0 closes unless it says otherwise.
    let mut closes = head.version == Some(0);
    for field in head.headers.iter() {
        let is = |name| field.name.eq_ignore_ascii_case(name);
        // A name or a cookie in any encoding is nobody's concern here.
        let Ok(value) = str::from_utf8(field.value) else { continue };
        if is("content-length") {
            length = Length::Bytes(value.trim().parse().ok()?);
        } else if is("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked") {
            length = Length::Chunked;
        } else if is("connection") {
            closes = value.trim().eq_ignore_ascii_case("close");
        } else if answers == Answers::Ours {
            if is("x-worker") {
                answer.worker = Some(value.parse().ok()?);
            } else if is("x-service-us") {
                answer.service_us = Some(value.parse().ok()?);
            } else if is("x-taken-us") {
                answer.taken_us = Some(value.parse().ok()?);
            } else if is("x-after-ns") {
                answer.after_ns = Some(value.parse().ok()?);
            }
        }
    }
    let body = &bytes[start..];
    if answers == Answers::Ours {
        answer.as_expected &= body == hello::BODY && answer.worker.is_some();
    }
    let whole = match length {
        Length::Bytes(length) if body.len() > length => return None,
        Length::Bytes(length) => body.len() == length,
        // Ours always say how long they are.
        _ if answers == Answers::Ours => return None,
        Length::Chunked => is_last_chunk_there(body)?,
        Length::UntilClose => {
            closes = true;
            over
        }
    };
    Some(if whole { Parsed::Whole(answer, closes) } else { Parsed::Part })
}

/// Whether a chunked body is all there; nothing if it is none, or something follows it.
fn is_last_chunk_there(mut body: &[u8]) -> Option<bool> {
    loop {
        let httparse::Status::Complete((start, size)) = httparse::parse_chunk_size(body).ok()?
        else {
            return Some(false);
        };
        let rest = &body[start..];
        if size == 0 {
            // Trailers, which end as a head does: with an empty line.
            let end = if rest.starts_with(b"\r\n") {
                Some(2)
            } else {
                rest.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
            };
            return match end {
                Some(end) if end == rest.len() => Some(true),
                Some(_) => None,
                None => Some(false),
            };
        }
        let size = usize::try_from(size).ok()?;
        let Some(after) = rest.get(size..) else { return Some(false) };
        match after.split_at_checked(2) {
            Some((b"\r\n", rest)) => body = rest,
            Some(_) => return None,
            None => return Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nX-Worker: 3\r\nX-Service-Us: 9\r\n\
          X-Taken-Us: 5\r\nX-After-Ns: 6\r\nConnection: close\r\n\r\nHello, world!";

    fn ours(bytes: &[u8]) -> Parsed {
        parse(bytes, Answers::Ours, false)
    }

    fn any(bytes: &[u8]) -> Parsed {
        parse(bytes, Answers::Any, false)
    }

    #[test]
    fn answers_of_ours_are_checked_in_full() {
        let answer = Answer {
            status: 200,
            as_expected: true,
            worker: Some(3),
            service_us: Some(9),
            taken_us: Some(5),
            after_ns: Some(6),
        };
        assert_eq!(ours(GOOD), Parsed::Whole(answer, true));
        for cut in 0..GOOD.len() {
            assert_eq!(ours(&GOOD[..cut]), Parsed::Part, "cut at {cut}");
        }
        let wrong = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nX-Worker: 3\r\n\r\nHello, World!";
        let Parsed::Whole(answer, false) = ours(wrong) else { panic!("it is whole") };
        assert!(!answer.as_expected);
        for strange in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"nonsense\r\n\r\n",
        ] {
            assert_eq!(ours(strange), Parsed::Strange);
        }
    }

    #[test]
    fn of_anybody_a_200_is_enough_however_long_it_says_to_be() {
        let is_good = |bytes: &[u8], over, closes| {
            for cut in 0..bytes.len() {
                assert_eq!(any(&bytes[..cut]), Parsed::Part, "cut at {cut}");
            }
            let Parsed::Whole(answer, said) = parse(bytes, Answers::Any, over) else {
                panic!("not whole: {}", String::from_utf8_lossy(bytes))
            };
            assert_eq!((answer.as_expected, answer.worker, said), (true, None, closes));
        };
        is_good(
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Worker: unit 7\r\n\r\nany",
            false,
            false,
        );
        is_good(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nany", false, true);
        is_good(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nany\r\n1;x\r\n!\r\n0\r\n\r\n",
            false,
            false,
        );
        is_good(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n0\r\nA: b\r\n\r\n",
            false,
            false,
        );
        let endless = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nany";
        assert_eq!(any(endless), Parsed::Part);
        assert!(matches!(parse(endless, Answers::Any, true), Parsed::Whole(_, true)));
        let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        assert!(matches!(any(missing), Parsed::Whole(Answer { as_expected: false, .. }, false)));
    }

    #[test]
    fn what_is_no_answer_of_anybody_is_strange() {
        for strange in [
            &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nmore",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
            b"220 mail ready\r\n",
        ] {
            assert_eq!(any(strange), Parsed::Strange, "{}", String::from_utf8_lossy(strange));
        }
    }
}
