//! HTTP/1.1 as the measured apps speak it: one strict, sans-I/O module for every runtime.
//!
//! Bytes go into an [`Inbox`], requests come out of [`Inbox::parse`], answers are appended to a
//! `Vec<u8>` by [`Response::write`]. Nothing here reads, writes, waits or allocates per request,
//! so the blocking servers and the tokio servers run exactly the same code.
//!
//! Strict means: what RFC 9112 lets a server refuse is refused, and every refusal closes the
//! connection. That is more than a benchmark needs and as much as a front door does; a lax parser
//! would be measured too fast.

use std::fmt;

/// Longest request head, in bytes: 8 KiB, the customary limit (nginx, Apache).
pub const HEAD_LIMIT: usize = 8 * 1024;

/// Most header fields in one request.
pub const FIELDS_MAX: usize = 64;

/// A status code with its reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(u16);

impl Status {
    /// 200: here it is.
    pub const OK: Self = Self(200);
    /// 301: it lives elsewhere.
    pub const MOVED_PERMANENTLY: Self = Self(301);
    /// 400: not HTTP as we read it.
    pub const BAD_REQUEST: Self = Self(400);
    /// 403: it is there, but not for you.
    pub const FORBIDDEN: Self = Self(403);
    /// 404: no such target.
    pub const NOT_FOUND: Self = Self(404);
    /// 405: only GET and HEAD.
    pub const METHOD_NOT_ALLOWED: Self = Self(405);
    /// 413: we take no bodies.
    pub const CONTENT_TOO_LARGE: Self = Self(413);
    /// 414: the request line does not fit.
    pub const URI_TOO_LONG: Self = Self(414);
    /// 431: the header fields do not fit.
    pub const FIELDS_TOO_LARGE: Self = Self(431);
    /// 500: our fault.
    pub const INTERNAL_SERVER_ERROR: Self = Self(500);
    /// 501: a transfer coding we do not know, that is, any.
    pub const NOT_IMPLEMENTED: Self = Self(501);
    /// 505: neither HTTP/1.0 nor HTTP/1.1.
    pub const VERSION_NOT_SUPPORTED: Self = Self(505);

    /// The three digits.
    #[must_use]
    pub fn code(self) -> u16 {
        self.0
    }

    /// The words after the digits.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self.0 {
            200 => "OK",
            301 => "Moved Permanently",
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            413 => "Content Too Large",
            414 => "URI Too Long",
            431 => "Request Header Fields Too Large",
            500 => "Internal Server Error",
            501 => "Not Implemented",
            505 => "HTTP Version Not Supported",
            _ => "Unknown",
        }
    }
}

/// The methods we answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`: the same answer without its body.
    Head,
}

/// One complete request head, borrowed from the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'b> {
    /// What to do.
    pub method: Method,
    /// The target as sent: origin form (`/path?query`) or absolute form (`http://host/path`).
    pub target: &'b str,
    /// Whether the client would like to send another request on this connection.
    pub keep_alive: bool,
    /// Length of the head in bytes: hand it to [`Inbox::consume`] once answered.
    pub length: usize,
}

impl<'b> Request<'b> {
    /// The path of the target, without scheme, authority and query.
    #[must_use]
    pub fn path(&self) -> &'b str {
        let path = match self.target.strip_prefix("http://") {
            Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => self.target,
        };
        path.split('?').next().unwrap_or(path)
    }
}

/// What the bytes so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'b> {
    /// Read on.
    Incomplete,
    /// A request to answer.
    Request(Request<'b>),
    /// Answer with this status ([`refuse`]) and close.
    Bad(Status),
}

/// Reads the request at the beginning of `bytes`; what follows it (pipelining) is left alone.
///
/// Pure and stateless: called again with the same bytes and more behind them it gives the same
/// answer, so a request may arrive in any pieces.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(bytes) {
        // httparse takes a bare line feed for a line end; smuggling lives on such differences.
        Ok(httparse::Status::Complete(length)) if has_bare_line_end(&bytes[..length]) => {
            Parsed::Bad(Status::BAD_REQUEST)
        }
        Ok(httparse::Status::Complete(length)) if length > HEAD_LIMIT => {
            Parsed::Bad(too_large(bytes))
        }
        Ok(httparse::Status::Complete(length)) => match check(&head, length) {
            Ok(request) => Parsed::Request(request),
            Err(status) => Parsed::Bad(status),
        },
        Ok(httparse::Status::Partial) if has_bare_line_end(bytes) => {
            Parsed::Bad(Status::BAD_REQUEST)
        }
        Ok(httparse::Status::Partial) if bytes.len() >= HEAD_LIMIT => Parsed::Bad(too_large(bytes)),
        Ok(httparse::Status::Partial) => Parsed::Incomplete,
        Err(httparse::Error::TooManyHeaders) => Parsed::Bad(Status::FIELDS_TOO_LARGE),
        Err(httparse::Error::Version) if names_a_version(bytes) => {
            Parsed::Bad(Status::VERSION_NOT_SUPPORTED)
        }
        Err(_) => Parsed::Bad(Status::BAD_REQUEST),
    }
}

/// Whether a carriage return and a line feed stand apart anywhere in `bytes`. A carriage return at
/// the very end may still get its line feed.
fn has_bare_line_end(bytes: &[u8]) -> bool {
    let mut before = 0;
    for &byte in bytes {
        if (byte == b'\n') != (before == b'\r') {
            return true;
        }
        before = byte;
    }
    false
}

/// Which part of a head that does not fit is the long one.
fn too_large(bytes: &[u8]) -> Status {
    if bytes[..HEAD_LIMIT.min(bytes.len())].contains(&b'\n') {
        Status::FIELDS_TOO_LARGE
    } else {
        Status::URI_TOO_LONG
    }
}

/// Whether the request line ends in what at least looks like an HTTP version.
fn names_a_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\r' || byte == b'\n').find(|line| !line.is_empty());
    let version = line.and_then(|line| line.split(|&byte| byte == b' ').nth(2));
    version.is_some_and(|version| {
        version
            .strip_prefix(b"HTTP/")
            .is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit))
    })
}

/// What httparse leaves to the server: method, framing, host, persistence.
fn check<'b>(head: &httparse::Request<'_, 'b>, length: usize) -> Result<Request<'b>, Status> {
    let (Some(method), Some(target), Some(minor)) = (head.method, head.path, head.version) else {
        return Err(Status::BAD_REQUEST);
    };
    let mut hosts = 0;
    let mut content_length = None;
    let mut transfer_encoding = false;
    let mut close = false;
    let mut keep_alive = false;
    for field in head.headers.iter() {
        if field.name.eq_ignore_ascii_case("host") {
            hosts += 1;
            if !field.value.iter().all(|&byte| is_host_byte(byte)) {
                return Err(Status::BAD_REQUEST);
            }
        } else if field.name.eq_ignore_ascii_case("content-length") {
            let number = decimal(field.value).ok_or(Status::BAD_REQUEST)?;
            if content_length.replace(number).is_some() {
                return Err(Status::BAD_REQUEST);
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            transfer_encoding = true;
        } else if field.name.eq_ignore_ascii_case("connection") {
            for option in field.value.split(|&byte| byte == b',') {
                let option = option.trim_ascii();
                close |= option.eq_ignore_ascii_case(b"close");
                keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
    }
    if hosts > 1 || (hosts == 0 && minor == 1) {
        return Err(Status::BAD_REQUEST);
    }
    // Both framings, or a coding from a client too old to know it: the classic ways to smuggle.
    if transfer_encoding && (content_length.is_some() || minor == 0) {
        return Err(Status::BAD_REQUEST);
    }
    if transfer_encoding {
        return Err(Status::NOT_IMPLEMENTED);
    }
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        _ => return Err(Status::METHOD_NOT_ALLOWED),
    };
    if content_length.is_some_and(|length| length > 0) {
        return Err(Status::CONTENT_TOO_LARGE);
    }
    if !(target.starts_with('/') || target.starts_with("http://")) {
        return Err(Status::BAD_REQUEST);
    }
    let keep_alive = !close && (minor == 1 || keep_alive);
    Ok(Request { method, target, keep_alive, length })
}

/// Bytes a `Host` value is made of: names, addresses, brackets, a port.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(byte, b'/' | b'\\' | b'?' | b'#' | b'@' | b'<' | b'>' | b'"')
}

/// Digits only: no sign, no space, no list, no overflow.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The bytes of one connection that were read and not yet consumed; never grows.
///
/// Read into [`space`](Self::space), say how much with [`filled`](Self::filled), then
/// [`parse`](Self::parse) until it says `Incomplete`, consuming each request it gives.
pub struct Inbox {
    bytes: Box<[u8; HEAD_LIMIT]>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// An empty inbox. The only allocation; keep it for the next connection ([`Self::clear`]).
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: Box::new([0; HEAD_LIMIT]), start: 0, end: 0 }
    }

    /// Forgets what the last connection left.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Where to read to; never empty as long as [`Self::parse`] said `Incomplete`.
    #[must_use]
    pub fn space(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.bytes[self.end..]
    }

    /// `count` bytes of [`Self::space`] now hold what was read.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(HEAD_LIMIT);
    }

    /// The request at the front, if it is all there.
    #[must_use]
    pub fn parse(&self) -> Parsed<'_> {
        parse(&self.bytes[self.start..self.end])
    }

    /// Drops the `length` bytes of a request that was answered.
    pub fn consume(&mut self, length: usize) {
        self.start = (self.start + length).min(self.end);
    }

    /// Whether everything read was consumed: an end-of-file now cuts nothing off.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inbox").field("pending", &(self.end - self.start)).finish()
    }
}

/// One answer, written by [`Response::write`].
#[derive(Clone, Copy, Debug)]
pub struct Response<'r> {
    /// The status line.
    pub status: Status,
    /// `Content-Type`.
    pub content_type: &'r str,
    /// Further header fields: names and values without line ends.
    pub fields: &'r [(&'r str, &'r dyn Field)],
    /// The body; `HEAD` gets its length only.
    pub body: &'r [u8],
    /// The method it answers.
    pub method: Method,
    /// Whether the connection stays open; says so to the client.
    pub keep_alive: bool,
}

/// A header value: anything that prints itself.
pub trait Field: fmt::Display + fmt::Debug {}
impl<T: fmt::Display + fmt::Debug> Field for T {}

impl Response<'_> {
    /// Appends head and body to `out`, which a steady server clears and reuses: no allocation.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_head(self.body.len() as u64, out);
        if self.method == Method::Get {
            out.extend_from_slice(self.body);
        }
    }

    /// Appends the head alone, for a body of `length` bytes that is sent by other means.
    pub fn write_head(&self, length: u64, out: &mut Vec<u8>) {
        push(out, format_args!("HTTP/1.1 {} {}\r\n", self.status.code(), self.status.reason()));
        push(out, format_args!("Content-Type: {}\r\n", self.content_type));
        push(out, format_args!("Content-Length: {length}\r\n"));
        for (name, value) in self.fields {
            push(out, format_args!("{name}: {value}\r\n"));
        }
        let connection = if self.keep_alive { "keep-alive" } else { "close" };
        push(out, format_args!("Connection: {connection}\r\n\r\n"));
    }
}

/// Formats into a vector, which cannot fail.
fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    use std::io::Write as _;
    out.write_fmt(text).expect("writing into a vector succeeds");
}

/// Appends the answer to a [`Parsed::Bad`] request; the caller then closes.
pub fn refuse(status: Status, out: &mut Vec<u8>) {
    let allow: [(&str, &dyn Field); 1] = [("Allow", &"GET, HEAD")];
    let fields: &[_] = if status == Status::METHOD_NOT_ALLOWED { &allow } else { &[] };
    Response {
        status,
        content_type: "text/plain",
        fields,
        body: status.reason().as_bytes(),
        method: Method::Get,
        keep_alive: false,
    }
    .write(out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(request: &str, expected: &str) {
        let seen = match parse(request.as_bytes()) {
            Parsed::Incomplete => "incomplete".to_owned(),
            Parsed::Bad(status) => status.code().to_string(),
            Parsed::Request(request) => format!(
                "{:?} {} {}",
                request.method,
                request.path(),
                if request.keep_alive { "keep" } else { "close" }
            ),
        };
        assert_eq!(seen, expected, "{request:?}");
    }

    #[test]
    fn good_requests() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "Get / keep");
        check("HEAD /a?b HTTP/1.1\r\nHost: a\r\n\r\n", "Head /a keep");
        check("GET http://h:1/x?y HTTP/1.1\r\nHost: h:1\r\n\r\n", "Get /x keep");
        check("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n", "Get / keep");
        check("GET / HTTP/1.1\r\nhost:\r\nConnection: x, CLOSE\r\n\r\n", "Get / close");
        check("GET / HTTP/1.0\r\n\r\n", "Get / close");
        check("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "Get / keep");
        check("GET / HTTP/1.1\r\nHost: [::1]:8080\r\nContent-Length: 0\r\n\r\n", "Get / keep");
        check("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "Get / keep");
    }

    #[test]
    fn unfinished_requests() {
        for unfinished in ["", "\r\n", "GE", "GET / HTTP/1.1\r", "GET / HTTP/1.1\r\nHost: a\r\n\r"]
        {
            check(unfinished, "incomplete");
        }
    }

    #[test]
    fn bad_requests_are_400() {
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX\x01: b\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTQ/1.1\r\nHost: a\r\n\r\n",
            "GET x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "\x16\x03\x01\x02\x00",
        ] {
            check(bad, "400");
        }
    }

    #[test]
    fn refusals_with_a_status_of_their_own() {
        check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "405");
        check("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", "405");
        check("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "413");
        check("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "501");
        check("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505");
        check("GET / HTTP/1.2\r\nHost: a\r\n\r\n", "505");
        check(&format!("GET /{}", "a".repeat(HEAD_LIMIT)), "414");
        check(&format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(HEAD_LIMIT)), "431");
        check(&format!("GET / HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(FIELDS_MAX + 1)), "431");
    }

    #[test]
    fn a_405_says_what_is_allowed() {
        let mut out = Vec::new();
        refuse(Status::METHOD_NOT_ALLOWED, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\r\nAllow: GET, HEAD\r\n"), "{text}");
        assert!(text.contains("\r\nConnection: close\r\n\r\nMethod Not Allowed"), "{text}");
    }

    #[test]
    fn head_gets_the_length_without_the_body() {
        let mut out = Vec::new();
        let fields: [(&str, &dyn Field); 1] = [("X-Worker", &3)];
        Response {
            status: Status::OK,
            content_type: "text/plain",
            fields: &fields,
            body: b"abc",
            method: Method::Head,
            keep_alive: true,
        }
        .write(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\
             X-Worker: 3\r\nConnection: keep-alive\r\n\r\n"
        );
    }

    /// Feeds `bytes` to an inbox in pieces of the given sizes and collects the paths.
    fn paths_in_pieces(bytes: &[u8], sizes: &[usize]) -> Vec<String> {
        let mut inbox = Inbox::new();
        let mut paths = Vec::new();
        let mut rest = bytes;
        let mut sizes = sizes.iter().copied().cycle();
        loop {
            while let Parsed::Request(request) = inbox.parse() {
                paths.push(request.path().to_owned());
                let length = request.length;
                inbox.consume(length);
            }
            if rest.is_empty() {
                return paths;
            }
            let space = inbox.space();
            let count = sizes.next().unwrap().min(rest.len()).min(space.len());
            space[..count].copy_from_slice(&rest[..count]);
            inbox.filled(count);
            rest = &rest[count..];
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_almost_request_makes_it_panic(
            text in "(GET|PUT|G) (/|http://|\\*)[ -~]{0,20} HTTP/[0-9.]{0,4}(\r|\n|\r\n)([A-Za-z-]{0,18}:[ -~]{0,12}(\r\n|\n)){0,6}(\r\n)?"
        ) {
            let _ = parse(text.as_bytes());
        }

        #[test]
        fn pipelined_requests_keep_their_order_however_they_arrive(
            names in proptest::collection::vec("[a-z]{0,40}", 1..300),
            sizes in proptest::collection::vec(1_usize..2000, 1..8),
        ) {
            let bytes: String =
                names.iter().map(|name| format!("GET /{name} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
            let expected: Vec<_> = names.iter().map(|name| format!("/{name}")).collect();
            prop_assert_eq!(paths_in_pieces(bytes.as_bytes(), &sizes), expected);
        }

        #[test]
        fn every_prefix_of_a_request_is_incomplete(
            path in "/[a-z/]{0,30}", value in "[a-z ]{0,30}", cut in any::<prop::sample::Index>()
        ) {
            let text = format!("GET {path} HTTP/1.1\r\nHost: h\r\nX-A: {value}\r\n\r\n");
            let cut = cut.index(text.len());
            prop_assert_eq!(parse(&text.as_bytes()[..cut]), Parsed::Incomplete);
            prop_assert!(matches!(parse(text.as_bytes()), Parsed::Request(r) if r.length == text.len()));
        }
    }
}
