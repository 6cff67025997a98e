//! Where a service listens: one address with a name, and how the two are written down.
//!
//! Reading and explaining are apart. What is right is read in three lines, by the standard library's own
//! parser; only a text that was refused is looked at again, by `explain`, to say what is wrong with it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a listener is.
///
/// Displayed as it is written in a [`ListenSpec`], and parsed from the same: `127.0.0.1:80`, `[::1]:80`,
/// `unix:/run/web.sock`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// TCP, over IPv4 or IPv6.
    Inet(SocketAddr),
    /// A Unix stream socket at this path.
    Unix(PathBuf),
}

impl Address {
    /// Address and port, where it has them.
    #[must_use]
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The path of a Unix socket.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Inet(_) => None,
            Self::Unix(path) => Some(path),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(without_flow_label(address))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = ListenSpecError;

    fn from_str(text: &str) -> Result<Self, ListenSpecError> {
        let spec: ListenSpec = text.parse()?;
        if split_name(text).0.is_none() && !text.contains('?') {
            return Ok(spec.address);
        }
        // With a name or an option it is the text of a listener.
        let refused = RefusedText::new(text, spec.address.to_string());
        Err(ListenSpecError::NotOnlyAnAddress(refused))
    }
}

/// One address a service listens on, with a name.
///
/// Written `[NAME=]ADDRESS:PORT`. ADDRESS is an IPv4 literal, or an IPv6 literal in brackets (with a
/// numeric zone, `[fe80::1%2]`, where the address is link-local). Port 0 lets the kernel choose. NAME is
/// 1 to 32 of `a-z A-Z 0-9 - _` and starts with a letter; without one the listener is called `main`.
///
/// Or `[NAME=]unix:/PATH[?mode=0660]`, a Unix socket: the whole path, of visible ASCII but `,` and `?`, at
/// most 107 bytes; who may connect is said by its permissions, [`UNIX_MODE`] if not given.
///
/// Host names are refused: what they stand for can change, and a restart must never bind elsewhere.
/// The flow label of an IPv6 address has no written form and means nothing to a listener: it is dropped.
///
/// ```
/// use forkherd_core::ListenSpec;
///
/// let spec: ListenSpec = "admin=[::1]:9000".parse()?;
/// assert_eq!(spec.name(), "admin");
/// assert_eq!(spec.address().to_string(), "[::1]:9000");
/// assert_eq!(spec.to_string(), "admin=[::1]:9000");
///
/// let spec: ListenSpec = "unix:/run/web.sock?mode=0600".parse()?;
/// assert_eq!(spec, ListenSpec::unix("/run/web.sock")?.with_mode(0o600));
/// # Ok::<(), forkherd_core::ListenSpecError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenSpec {
    name: String,
    address: Address,
    /// For a Unix socket.
    mode: u32,
}

/// Permissions of a Unix socket if none were asked for: `rw-rw----`.
///
/// Who may write may connect. Owner and group: the group is how a proxy on the same machine is let in,
/// and nobody else is let in by an oversight. As `listen.mode` of php-fpm; the umask has no say.
pub const UNIX_MODE: u32 = 0o660;

impl ListenSpec {
    /// A listener called `name` on `address`.
    ///
    /// # Errors
    /// `name` is empty, too long, does not start with a letter or holds another character than
    /// `a-z A-Z 0-9 - _`; the path of a Unix socket cannot be one.
    pub fn new(
        name: impl Into<String>,
        address: impl Into<Address>,
    ) -> Result<Self, ListenSpecError> {
        let (name, address) = (name.into(), address.into());
        if let Some(path) = address.path()
            && !is_socket_path(path)
        {
            return Err(explain_unix(&address.to_string(), "", &address.to_string()[UNIX.len()..]));
        }
        match explain_name(&name, &name, &address.to_string()) {
            Some(error) => Err(error),
            None => Ok(Self { name, address: written(address), mode: UNIX_MODE }),
        }
    }

    /// A listener called `main` on a Unix socket at `path`.
    ///
    /// # Errors
    /// The path is not whole, too long, or holds another character than visible ASCII but `,` and `?`.
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self, ListenSpecError> {
        Self::new(MAIN, Address::Unix(path.into()))
    }

    /// With these permissions, of which the lowest nine bits count, if it is a Unix socket.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        if self.address.path().is_some() {
            self.mode = mode & MODE_MOST;
        }
        self
    }

    /// The permissions of a Unix socket.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// What the listener is called in logs, and what strategies and other programs find it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What to bind. Port 0: the kernel chooses, so this is not where the service can be reached.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl From<SocketAddr> for ListenSpec {
    /// A listener called `main`.
    fn from(address: SocketAddr) -> Self {
        Self { name: MAIN.to_owned(), address: address.into(), mode: UNIX_MODE }
    }
}

impl fmt::Display for ListenSpec {
    /// The text it can be parsed from; the name `main` is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name != MAIN {
            write!(f, "{}=", self.name)?;
        }
        self.address.fmt(f)?;
        if self.mode != UNIX_MODE {
            write!(f, "?mode={:04o}", self.mode)?;
        }
        Ok(())
    }
}

impl FromStr for ListenSpec {
    type Err = ListenSpecError;

    fn from_str(text: &str) -> Result<Self, ListenSpecError> {
        read(text).ok_or_else(|| explain(text))
    }
}

/// Why a text is no [`ListenSpec`].
///
/// Each message quotes the text, says what is wrong with it and ends with one that would be right, made
/// from the refused one where it can be. `Debug` prints it, too: it is what a `main` that returns this
/// error shows to people.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenSpecError {
    /// Nothing, or nothing but white space.
    #[error("{} is empty: write [NAME=]ADDRESS:PORT, for example {}", .0.text, .0.example)]
    Empty(RefusedText),
    /// White space before or after.
    #[error("{} has white space around it: write [NAME=]ADDRESS:PORT and nothing else, for example {}", .0.text, .0.example)]
    SpaceAround(RefusedText),
    /// White space somewhere inside.
    #[error("{} has white space inside: write [NAME=]ADDRESS:PORT in one piece, for example {}", .0.text, .0.example)]
    SpaceInside(RefusedText),
    /// A control character, NUL included.
    #[error("{} holds the control character {:?}: write [NAME=]ADDRESS:PORT in plain text, for example {}", .0.text, .1, .0.example)]
    ControlCharacter(RefusedText, char),
    /// A character that is not ASCII.
    #[error("{} holds {:?}, which is not ASCII: write [NAME=]ADDRESS:PORT with the address in digits, for example {}", .0.text, .1, .0.example)]
    NotAscii(RefusedText, char),
    /// A URL.
    #[error("{} is a URL: a listener has no scheme and no path, write [NAME=]ADDRESS:PORT, for example {}", .0.text, .0.example)]
    Url(RefusedText),
    /// A name or an option where only an address belongs.
    #[error("{} is more than an address: write it without name and options, for example {}", .0.text, .0.example)]
    NotOnlyAnAddress(RefusedText),
    /// The path of a socket, and not said so.
    #[error("{} looks like a Unix socket: write [NAME=]unix:/PATH, for example {}", .0.text, .0.example)]
    UnixSocket(RefusedText),
    /// A Unix socket without a path.
    #[error("{} has an abstract name, to which anybody may connect: write unix:/PATH, for example {}", .0.text, .0.example)]
    UnixAbstract(RefusedText),
    /// A Unix socket whose path depends on where the service is started.
    #[error("{} has a path that is not whole: write it from the root on, so that a restart can never bind elsewhere, for example {}", .0.text, .0.example)]
    UnixRelative(RefusedText),
    /// A Unix socket with the path of a directory.
    #[error("{} ends with a slash, as a directory does: write the path of the socket itself, for example {}", .0.text, .0.example)]
    UnixDirectory(RefusedText),
    /// A Unix socket with a path that does not fit into its address.
    #[error("{} has a path of {} bytes: at most 107 fit into the address of a Unix socket, for example {}", .0.text, .1, .0.example)]
    UnixTooLong(RefusedText, usize),
    /// A character that the path of a Unix socket cannot hold here.
    #[error("{} has {:?} in its path: a path is made of visible ASCII characters but `,` and `?`, for example {}", .0.text, .1, .0.example)]
    UnixCharacter(RefusedText, char),
    /// An option that a Unix socket does not have.
    #[error("{} has the option {:?}: there is only mode, its permissions, for example {}", .0.text, .1, .0.example)]
    UnixOption(RefusedText, String),
    /// Permissions that are none.
    #[error("{} has the mode {:?}: write permissions in octal, 0000 to 0777, for example {}", .0.text, .1, .0.example)]
    UnixMode(RefusedText, String),
    /// A slash behind or inside the address.
    #[error("{} holds a slash: a listener has no path and no network mask, write [NAME=]ADDRESS:PORT, for example {}", .0.text, .0.example)]
    Slash(RefusedText),
    /// More than one `=`.
    #[error("{} holds more than one `=`: one name, one address, write NAME=ADDRESS:PORT, for example {}", .0.text, .0.example)]
    SecondName(RefusedText),
    /// `=` with nothing before it.
    #[error("{} has an empty name: leave out the `=` or write 1 to 32 of a-z A-Z 0-9 - _ before it, for example {}", .0.text, .0.example)]
    EmptyName(RefusedText),
    /// A name that starts with a digit, `-` or `_`.
    #[error("{} has a name that starts with {:?}: a name starts with a letter, for example {}", .0.text, .1, .0.example)]
    NameStart(RefusedText, char),
    /// A character that no name may hold.
    #[error("{} has {:?} in its name: a name is made of a-z A-Z 0-9 - _, for example {}", .0.text, .1, .0.example)]
    NameCharacter(RefusedText, char),
    /// A name of more than 32 characters.
    #[error("{} has a name of {} characters: at most 32 are allowed, for example {}", .0.text, .1, .0.example)]
    NameTooLong(RefusedText, usize),
    /// A name, then nothing.
    #[error("{} has no address after the name: write NAME=ADDRESS:PORT, for example {}", .0.text, .0.example)]
    MissingAddress(RefusedText),
    /// A number alone.
    #[error("{} is only a number: a port needs an address before it, write ADDRESS:PORT, for example {}", .0.text, .0.example)]
    OnlyPort(RefusedText),
    /// `*` or nothing before the port.
    #[error("{} does not say which address: for all of them write 0.0.0.0 (IPv4) or [::] (IPv6), for example {}", .0.text, .0.example)]
    AnyAddress(RefusedText),
    /// `localhost`.
    #[error("{} says localhost, which can mean 127.0.0.1 or [::1]: write the one you mean, for example {}", .0.text, .0.example)]
    Localhost(RefusedText),
    /// A host name.
    #[error("{} holds the host name {:?}: names are not resolved, so that a restart can never bind elsewhere; write its address, for example {}", .0.text, .1, .0.example)]
    HostName(RefusedText, String),
    /// Neither an address nor a host name.
    #[error("{} holds {:?}, which is no IP address: write 1.2.3.4:PORT or [1:2::3]:PORT, for example {}", .0.text, .1, .0.example)]
    NotAnAddress(RefusedText, String),
    /// Less than four numbers in an IPv4 address.
    #[error("{} has {} of the four numbers of an IPv4 address: write all four, for example {}", .0.text, .1, .0.example)]
    TooFewOctets(RefusedText, usize),
    /// More than four numbers in an IPv4 address.
    #[error("{} has {} numbers in an IPv4 address: write four, for example {}", .0.text, .1, .0.example)]
    TooManyOctets(RefusedText, usize),
    /// Two dots in a row, or a dot at an end of an IPv4 address.
    #[error("{} has a dot too many in its IPv4 address: write four numbers with one dot between them, for example {}", .0.text, .0.example)]
    EmptyOctet(RefusedText),
    /// A number above 255 in an IPv4 address.
    #[error("{} has {} in an IPv4 address: each of its numbers is 0 to 255, for example {}", .0.text, .1, .0.example)]
    OctetTooLarge(RefusedText, String),
    /// A number that starts with a zero in an IPv4 address.
    #[error("{} has {} in an IPv4 address: some programs read a leading zero as octal, so write it without, for example {}", .0.text, .1, .0.example)]
    LeadingZero(RefusedText, String),
    /// An IPv6 address without brackets, so that nobody can tell where the port starts.
    #[error("{} holds an IPv6 address without brackets: write [ADDRESS]:PORT, for example {}", .0.text, .0.example)]
    BareIpv6(RefusedText),
    /// `[` without `]`.
    #[error("{} opens a bracket and does not close it: write [ADDRESS]:PORT, for example {}", .0.text, .0.example)]
    UnclosedBracket(RefusedText),
    /// A bracket where none belongs.
    #[error("{} has a bracket in the wrong place: brackets go around an IPv6 address, write [ADDRESS]:PORT, for example {}", .0.text, .0.example)]
    StrayBracket(RefusedText),
    /// Something else than `:PORT` after the bracket.
    #[error("{} has {:?} after the bracket: only :PORT may follow, for example {}", .0.text, .1, .0.example)]
    AfterBracket(RefusedText, String),
    /// An IPv4 address in brackets.
    #[error("{} has an IPv4 address in brackets: brackets are for IPv6, write ADDRESS:PORT, for example {}", .0.text, .0.example)]
    BracketedIpv4(RefusedText),
    /// A zone that is no number.
    #[error("{} has the zone {:?}: a zone is the number of an interface (`ip link` shows it), for example {}", .0.text, .1, .0.example)]
    ZoneNotANumber(RefusedText, String),
    /// Brackets around something that is no IPv6 address.
    #[error("{} has {:?} in brackets, which is no IPv6 address: write [ADDRESS]:PORT, for example {}", .0.text, .1, .0.example)]
    BadIpv6(RefusedText, String),
    /// More colons than one between an IPv4 address or a name and the port.
    #[error("{} has a colon too many: one stands between address and port, write ADDRESS:PORT, for example {}", .0.text, .0.example)]
    TooManyColons(RefusedText),
    /// No port.
    #[error("{} has no port: write ADDRESS:PORT (port 0 lets the kernel choose), for example {}", .0.text, .0.example)]
    MissingPort(RefusedText),
    /// A colon with nothing after it.
    #[error("{} ends before the port: write a number after the colon (0 lets the kernel choose), for example {}", .0.text, .0.example)]
    EmptyPort(RefusedText),
    /// A sign before the port.
    #[error("{} has a sign before the port: write its digits only, for example {}", .0.text, .0.example)]
    SignedPort(RefusedText),
    /// A port that is no number.
    #[error("{} has the port {:?}, which is no number: service names are not looked up, write 0 to 65535, for example {}", .0.text, .1, .0.example)]
    PortNotANumber(RefusedText, String),
    /// A port above 65535.
    #[error("{} has the port {}, and ports end at 65535: write 0 to 65535, for example {}", .0.text, .1, .0.example)]
    PortTooLarge(RefusedText, String),
}

impl fmt::Debug for ListenSpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text that was refused, and one that would have been right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedText {
    /// Quoted and escaped, and cut if it is very long.
    text: String,
    example: String,
}

impl RefusedText {
    fn new(text: &str, example: String) -> Self {
        Self { text: quoted(text), example }
    }

    /// A text that would have been right, as like the refused one as we can make it.
    #[must_use]
    pub fn example(&self) -> &str {
        &self.example
    }
}

/// What a listener is called if nobody gave it a name.
const MAIN: &str = "main";

/// Longest name, in characters (which are ASCII).
///
/// Ours: narrow enough for a column of `top`, and far below the 255 that systemd allows for the names
/// in `LISTEN_FDNAMES`, where ours may end up.
const NAME_CHARS_MAX: usize = 32;

/// Longest piece of a refused text that a message repeats, in characters.
const QUOTED_CHARS_MAX: usize = 80;

/// What the text of a Unix socket begins with.
const UNIX: &str = "unix:";

/// Longest path of a Unix socket: `sun_path` has 108 bytes, one of which is the NUL at its end (`unix(7)`).
const PATH_BYTES_MAX: usize = 107;

/// All nine permission bits.
const MODE_MOST: u32 = 0o777;

const EXAMPLE_PATH: &str = "/run/web.sock";
const EXAMPLE_HOST: &str = "127.0.0.1";
const EXAMPLE_PORT: &str = "8080";

/// The whole grammar, without a word on what is wrong.
fn read(text: &str) -> Option<ListenSpec> {
    let (name, place) = split_name(text);
    let name = name.unwrap_or(MAIN);
    let Some(place) = place.strip_prefix(UNIX) else {
        let address: SocketAddr = place.parse().ok()?;
        return ListenSpec::new(name, address).ok();
    };
    let (path, option) = place.split_once('?').map_or((place, None), |(p, o)| (p, Some(o)));
    if !is_socket_path(Path::new(path)) {
        return None;
    }
    let spec = ListenSpec::new(name, Address::Unix(path.into())).ok()?;
    Some(match option {
        Some(option) => spec.with_mode(read_mode(option.strip_prefix("mode=")?)?),
        None => spec,
    })
}

/// What stands before the first `=`, unless that belongs to the path or the options of a Unix socket.
fn split_name(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((name, place)) if !is_unix(text) => (Some(name), place),
        _ => (None, text),
    }
}

fn is_unix(place: &str) -> bool {
    place.get(..UNIX.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(UNIX))
}

/// Whether a socket can have this path, and the path a written form.
fn is_socket_path(path: &Path) -> bool {
    path.to_str().is_some_and(|path| {
        path.starts_with('/')
            && !path.starts_with("//")
            && !path.ends_with('/')
            && path.len() <= PATH_BYTES_MAX
            && path.chars().all(is_path_character)
    })
}

/// `,` stands between listeners in a worker's environment, `?` before the options.
fn is_path_character(c: char) -> bool {
    c.is_ascii_graphic() && c != ',' && c != '?'
}

/// Digits only: `u32::from_str_radix` takes a sign, too.
fn read_mode(text: &str) -> Option<u32> {
    let is_octal = (1..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..b'8').contains(&b));
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| is_octal)?;
    (mode <= MODE_MOST).then_some(mode)
}

/// As it can be written down and read again.
fn written(address: Address) -> Address {
    match address {
        Address::Inet(address) => Address::Inet(without_flow_label(address)),
        path @ Address::Unix(_) => path,
    }
}

fn without_flow_label(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
    }
}

/// What is wrong with `text`, which `read` refused. Looks at the most telling thing first: a URL is called
/// a URL, and not an address with a strange port.
fn explain(text: &str) -> ListenSpecError {
    use ListenSpecError as E;
    let default = || format!("{EXAMPLE_HOST}:{EXAMPLE_PORT}");
    let refused = |better: String| {
        let example = if read(&better).is_some() { better } else { default() };
        RefusedText::new(text, example)
    };

    let trimmed = text.trim();
    if trimmed.is_empty() {
        return E::Empty(refused(default()));
    }
    if trimmed != text {
        return E::SpaceAround(refused(trimmed.to_owned()));
    }
    // Before what is wrong with characters: a path may hold others than an address.
    let (name, place) = split_name(text);
    if is_unix(place) {
        let prefix = name.map_or(String::new(), |name| format!("{name}="));
        return name
            .and_then(|name| explain_name(text, name, &format!("{UNIX}{EXAMPLE_PATH}")))
            .unwrap_or_else(|| explain_unix(text, &prefix, &place[UNIX.len()..]));
    }
    if let Some(c) = text.chars().find(|c| c.is_control() && !c.is_whitespace()) {
        return E::ControlCharacter(refused(text.replace(char::is_control, "")), c);
    }
    if text.contains(char::is_whitespace) {
        return E::SpaceInside(refused(text.replace(char::is_whitespace, "")));
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii()) {
        return E::NotAscii(refused(default()), c);
    }
    if let Some((before, after)) = text.split_once("://") {
        let name = before.split_once('=').map_or("", |(name, _)| name);
        let place = after.split(['/', '?', '#']).next().unwrap_or_default();
        let address = if place.parse::<SocketAddr>().is_ok() { place } else { &default() };
        return E::Url(refused(if name.is_empty() {
            address.to_owned()
        } else {
            format!("{name}={address}")
        }));
    }
    let Some((name, place)) = text.split_once('=') else {
        return Place { text, prefix: String::new(), place: text }.explain();
    };
    if let Some((_, last)) = place.rsplit_once('=') {
        return E::SecondName(refused(format!("{name}={last}")));
    }
    let address = if place.parse::<SocketAddr>().is_ok() { place.to_owned() } else { default() };
    explain_name(text, name, &address)
        .unwrap_or_else(|| Place { text, prefix: format!("{name}="), place }.explain())
}

/// What is wrong with a Unix socket. `prefix` is the name with its `=`, `place` what follows `unix:`.
fn explain_unix(text: &str, prefix: &str, place: &str) -> ListenSpecError {
    use ListenSpecError as E;
    let (path, option) = place.split_once('?').map_or((place, None), |(p, o)| (p, Some(o)));
    let refused = |path: &str, option: &str| {
        let better = format!("{prefix}{UNIX}{path}{option}");
        let default = || format!("{prefix}{UNIX}{EXAMPLE_PATH}{option}");
        RefusedText::new(text, if read(&better).is_some() { better } else { default() })
    };

    if path.is_empty() {
        return E::UnixRelative(refused(EXAMPLE_PATH, ""));
    }
    if path.starts_with(['@', '\0']) {
        return E::UnixAbstract(refused(&format!("/run/{}.sock", &path[1..]), ""));
    }
    if let Some(c) = path.chars().find(|&c| !is_path_character(c)) {
        return E::UnixCharacter(refused(&path.replace(|c| !is_path_character(c), "-"), ""), c);
    }
    let bare = path.trim_start_matches('/');
    if path.starts_with("//") {
        return E::UnixSocket(refused(&format!("/{bare}"), ""));
    }
    if !path.starts_with('/') {
        let bare = bare.trim_start_matches(['.', '~', '/']);
        return E::UnixRelative(refused(&format!("/run/{bare}"), ""));
    }
    if path.ends_with('/') {
        return E::UnixDirectory(refused(&format!("{}/web.sock", path.trim_end_matches('/')), ""));
    }
    if path.len() > PATH_BYTES_MAX {
        return E::UnixTooLong(refused(EXAMPLE_PATH, ""), path.len());
    }
    match option.map(|option| option.split_once('=').unwrap_or((option, ""))) {
        Some(("mode", mode)) if read_mode(mode).is_none() => {
            E::UnixMode(refused(path, "?mode=0660"), cut(mode))
        }
        Some(("mode", _)) | None => {
            E::UnixSocket(refused(path, option.map_or("", |_| "?mode=0660")))
        }
        Some((other, _)) => E::UnixOption(refused(path, "?mode=0660"), cut(other)),
    }
}

/// What is wrong with `name`, if anything. `text` is what the message quotes; `address` completes its example.
fn explain_name(text: &str, name: &str, address: &str) -> Option<ListenSpecError> {
    use ListenSpecError as E;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let refused = || {
        let better: String = name
            .chars()
            .map(|c| if is_allowed(c) { c } else { '-' })
            .skip_while(|c| !c.is_ascii_alphabetic())
            .take(NAME_CHARS_MAX)
            .collect();
        let better = if better.is_empty() { "web" } else { &better };
        RefusedText::new(text, format!("{better}={address}"))
    };

    let first = match name.chars().next() {
        Some(first) => first,
        None => return Some(E::EmptyName(refused())),
    };
    if let Some(c) = name.chars().find(|&c| !is_allowed(c)) {
        return Some(E::NameCharacter(refused(), c));
    }
    if !first.is_ascii_alphabetic() {
        return Some(E::NameStart(refused(), first));
    }
    (name.len() > NAME_CHARS_MAX).then(|| E::NameTooLong(refused(), name.len()))
}

/// The part after the name, which is known to be wrong, plain ASCII and free of white space.
struct Place<'a> {
    /// All of the text, for the message.
    text: &'a str,
    /// The name with its `=`, for the example; empty without a name.
    prefix: String,
    place: &'a str,
}

impl Place<'_> {
    /// Splits off the port and asks whoever knows about the shape that is left.
    fn explain(&self) -> ListenSpecError {
        use ListenSpecError as E;
        let place = self.place;
        if place.is_empty() {
            E::MissingAddress(self.refused(EXAMPLE_HOST, None))
        } else if place.starts_with(['/', '.', '~']) {
            match explain_unix(self.text, &self.prefix, place) {
                // Whatever is wrong with it, first it has to be called what it is.
                E::UnixRelative(refused) | E::UnixDirectory(refused) => E::UnixSocket(refused),
                other => other,
            }
        } else if place.starts_with('@') {
            explain_unix(self.text, &self.prefix, place)
        } else if let Some((before, _)) = place.split_once('/') {
            let (host, port) = before.rsplit_once(':').unwrap_or((before, ""));
            E::Slash(self.refused(host, Some(port)))
        } else if let Some(inner) = place.strip_prefix('[') {
            self.explain_brackets(inner)
        } else if place.contains(['[', ']']) {
            let bare = place.replace(['[', ']'], "");
            let (host, port) = bare.rsplit_once(':').unwrap_or((&bare, ""));
            E::StrayBracket(self.refused(host, Some(port)))
        } else {
            match place.matches(':').count() {
                0 => self.explain_host(place, None),
                1 => {
                    let (host, port) = place.split_once(':').unwrap_or((place, ""));
                    self.explain_host(host, Some(port))
                }
                _ => self.explain_colons(),
            }
        }
    }

    /// `inner` is what follows the opening bracket.
    fn explain_brackets(&self, inner: &str) -> ListenSpecError {
        use ListenSpecError as E;
        let Some((host, rest)) = inner.split_once(']') else {
            let (host, port) = split_bare_ipv6(inner);
            return E::UnclosedBracket(self.refused(host, port));
        };
        let port = rest.strip_prefix(':');
        let bracketed = format!("[{host}]");
        if format!("{bracketed}:0").parse::<SocketAddrV6>().is_err() {
            return match host.split_once('%') {
                Some((ip, zone)) if ip.parse::<Ipv6Addr>().is_ok() => {
                    E::ZoneNotANumber(self.refused(&format!("[{ip}%1]"), port), cut(zone))
                }
                _ if host.parse::<Ipv4Addr>().is_ok() => E::BracketedIpv4(self.refused(host, port)),
                _ => E::BadIpv6(self.refused("[::1]", port), cut(host)),
            };
        }
        if rest.is_empty() || rest.starts_with(':') {
            self.explain_port(&bracketed, port)
        } else {
            let port = rest.rsplit(':').next();
            E::AfterBracket(self.refused(&bracketed, port), cut(rest))
        }
    }

    /// Two colons or more, and no brackets.
    fn explain_colons(&self) -> ListenSpecError {
        use ListenSpecError as E;
        let ip = self.place.split('%').next().unwrap_or_default();
        let mut pieces = self.place.split(':');
        let first = pieces.next().unwrap_or_default();
        let is_ipv6 = ip.chars().all(|c| c.is_ascii_hexdigit() || c == ':' || c == '.');
        if is_ipv6 && !first.contains('.') {
            let (host, port) = split_bare_ipv6(self.place);
            E::BareIpv6(self.refused(host, port))
        } else {
            E::TooManyColons(self.refused(first, pieces.next()))
        }
    }

    /// `host` without brackets; `port` is `None` if there was no colon.
    fn explain_host(&self, host: &str, port: Option<&str>) -> ListenSpecError {
        use ListenSpecError as E;
        if host.is_empty() || host == "*" {
            E::AnyAddress(self.refused("0.0.0.0", port))
        } else if host.eq_ignore_ascii_case("localhost") {
            E::Localhost(self.refused(EXAMPLE_HOST, port))
        } else if port.is_none() && host.bytes().all(|b| b.is_ascii_digit()) {
            E::OnlyPort(self.refused(EXAMPLE_HOST, Some(host)))
        } else if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            self.explain_ipv4(host, port)
        } else if host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)) {
            // An address that RFC 5737 keeps for examples: nobody can mistake it for the right one.
            E::HostName(self.refused("192.0.2.10", port), cut(host))
        } else {
            E::NotAnAddress(self.refused(EXAMPLE_HOST, port), cut(host))
        }
    }

    /// `host` is made of digits and dots.
    fn explain_ipv4(&self, host: &str, port: Option<&str>) -> ListenSpecError {
        use ListenSpecError as E;
        if host.parse::<Ipv4Addr>().is_ok() {
            return self.explain_port(host, port);
        }
        let octets: Vec<&str> = host.split('.').collect();
        // Zeros that we add or take away leave the rest of the address as it was.
        let without_zeros = |octet: &&str| match octet.trim_start_matches('0') {
            "" => "0".to_owned(),
            digits => digits.to_owned(),
        };
        let mut better: Vec<String> =
            octets.iter().filter(|octet| !octet.is_empty()).map(without_zeros).collect();
        better.truncate(4);
        let missing = 4 - better.len();
        let at = better.len().saturating_sub(1);
        better.splice(at..at, std::iter::repeat_n("0".to_owned(), missing));
        let refused = self.refused(&better.join("."), port);

        if octets.contains(&"") {
            E::EmptyOctet(refused)
        } else if octets.len() < 4 {
            E::TooFewOctets(refused, octets.len())
        } else if octets.len() > 4 {
            E::TooManyOctets(refused, octets.len())
        } else if let Some(octet) = octets.iter().find(|o| o.len() > 1 && o.starts_with('0')) {
            E::LeadingZero(refused, cut(octet))
        } else if let Some(octet) = octets.iter().find(|octet| octet.parse::<u8>().is_err()) {
            E::OctetTooLarge(refused, cut(octet))
        } else {
            E::NotAnAddress(refused, cut(host))
        }
    }

    /// `host` is right (and has its brackets), so it must be the port.
    fn explain_port(&self, host: &str, port: Option<&str>) -> ListenSpecError {
        use ListenSpecError as E;
        let Some(port) = port else {
            return E::MissingPort(self.refused(host, None));
        };
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if port.is_empty() {
            return E::EmptyPort(self.refused(host, None));
        }
        if is_number(port) {
            return E::PortTooLarge(self.refused(host, None), cut(port));
        }
        if let Some(digits) = port.strip_prefix(['+', '-']).filter(|digits| is_number(digits)) {
            return E::SignedPort(self.refused(host, Some(digits)));
        }
        let better = match port {
            "http" => "80",
            "https" => "443",
            _ => EXAMPLE_PORT,
        };
        E::PortNotANumber(self.refused(host, Some(better)), cut(port))
    }

    /// The text, with an example that keeps its name, and keeps `host` and `port` where they are right.
    fn refused(&self, host: &str, port: Option<&str>) -> RefusedText {
        let port = match port.map(str::parse::<u16>) {
            Some(Ok(port)) => port.to_string(),
            _ => EXAMPLE_PORT.to_owned(),
        };
        let host = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => format!("[{host}]"),
            _ => host.to_owned(),
        };
        let prefix = &self.prefix;
        let better = format!("{prefix}{host}:{port}");
        let example = if read(&better).is_some() {
            better
        } else {
            let host = if host.starts_with('[') { "[::1]" } else { EXAMPLE_HOST };
            format!("{prefix}{host}:{port}")
        };
        RefusedText::new(self.text, example)
    }
}

/// Host and port of an IPv6 address without (both) brackets. Where the last group can be either, it is the
/// port: whoever leaves out brackets rarely leaves out the port as well.
fn split_bare_ipv6(place: &str) -> (&str, Option<&str>) {
    match place.rsplit_once(':') {
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() && port.parse::<u16>().is_ok() => {
            (host, Some(port))
        }
        _ if place.parse::<Ipv6Addr>().is_ok() => (place, None),
        _ => ("[::1]", None),
    }
}

/// As it goes into a message: in quotes, escaped and not longer than a line or two.
fn quoted(text: &str) -> String {
    format!("{:?}", cut(text))
}

fn cut(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// What is refused, and the whole message.
    const REFUSED: &[(&str, &str)] = &[
        ("", r##""" is empty: write [NAME=]ADDRESS:PORT, for example 127.0.0.1:8080"##),
        ("  \t ", r##""  \t " is empty: write [NAME=]ADDRESS:PORT, for example 127.0.0.1:8080"##),
        (
            " 127.0.0.1:80",
            r##"" 127.0.0.1:80" has white space around it: write [NAME=]ADDRESS:PORT and nothing else, for example 127.0.0.1:80"##,
        ),
        (
            "web=[::1]:80\n",
            r##""web=[::1]:80\n" has white space around it: write [NAME=]ADDRESS:PORT and nothing else, for example web=[::1]:80"##,
        ),
        (
            "127.0.0.1 :80",
            r##""127.0.0.1 :80" has white space inside: write [NAME=]ADDRESS:PORT in one piece, for example 127.0.0.1:80"##,
        ),
        (
            "127.0.0.1:80\0",
            r##""127.0.0.1:80\0" holds the control character '\0': write [NAME=]ADDRESS:PORT in plain text, for example 127.0.0.1:80"##,
        ),
        (
            "127.0.0.1\u{1b}:80",
            r##""127.0.0.1\u{1b}:80" holds the control character '\u{1b}': write [NAME=]ADDRESS:PORT in plain text, for example 127.0.0.1:80"##,
        ),
        (
            "127.0.0.1:８0",
            r##""127.0.0.1:８0" holds '８', which is not ASCII: write [NAME=]ADDRESS:PORT with the address in digits, for example 127.0.0.1:8080"##,
        ),
        (
            "bücher.example:80",
            r##""bücher.example:80" holds 'ü', which is not ASCII: write [NAME=]ADDRESS:PORT with the address in digits, for example 127.0.0.1:8080"##,
        ),
        (
            "http://127.0.0.1:8080/index.html",
            r##""http://127.0.0.1:8080/index.html" is a URL: a listener has no scheme and no path, write [NAME=]ADDRESS:PORT, for example 127.0.0.1:8080"##,
        ),
        (
            "web=https://example.com",
            r##""web=https://example.com" is a URL: a listener has no scheme and no path, write [NAME=]ADDRESS:PORT, for example web=127.0.0.1:8080"##,
        ),
        (
            "UNIX:/run/web.sock",
            r##""UNIX:/run/web.sock" looks like a Unix socket: write [NAME=]unix:/PATH, for example unix:/run/web.sock"##,
        ),
        (
            "web=/run/my.sock",
            r##""web=/run/my.sock" looks like a Unix socket: write [NAME=]unix:/PATH, for example web=unix:/run/my.sock"##,
        ),
        (
            "./my.sock",
            r##""./my.sock" looks like a Unix socket: write [NAME=]unix:/PATH, for example unix:/run/my.sock"##,
        ),
        (
            "@web",
            r##""@web" has an abstract name, to which anybody may connect: write unix:/PATH, for example unix:/run/web.sock"##,
        ),
        (
            "unix:my.sock",
            r##""unix:my.sock" has a path that is not whole: write it from the root on, so that a restart can never bind elsewhere, for example unix:/run/my.sock"##,
        ),
        (
            "web=unix:",
            r##""web=unix:" has a path that is not whole: write it from the root on, so that a restart can never bind elsewhere, for example web=unix:/run/web.sock"##,
        ),
        (
            "unix:/run/my/",
            r##""unix:/run/my/" ends with a slash, as a directory does: write the path of the socket itself, for example unix:/run/my/web.sock"##,
        ),
        (
            "unix:///run/my.sock",
            r##""unix:///run/my.sock" looks like a Unix socket: write [NAME=]unix:/PATH, for example unix:/run/my.sock"##,
        ),
        (
            "unix:/run/a,b.sock",
            r##""unix:/run/a,b.sock" has ',' in its path: a path is made of visible ASCII characters but `,` and `?`, for example unix:/run/a-b.sock"##,
        ),
        (
            "unix:/run/my web.sock",
            r##""unix:/run/my web.sock" has ' ' in its path: a path is made of visible ASCII characters but `,` and `?`, for example unix:/run/my-web.sock"##,
        ),
        (
            "unix:/run/my.sock?owner=me",
            r##""unix:/run/my.sock?owner=me" has the option "owner": there is only mode, its permissions, for example unix:/run/my.sock?mode=0660"##,
        ),
        (
            "unix:/run/my.sock?mode=rw",
            r##""unix:/run/my.sock?mode=rw" has the mode "rw": write permissions in octal, 0000 to 0777, for example unix:/run/my.sock?mode=0660"##,
        ),
        (
            "unix:/run/my.sock?mode=1777",
            r##""unix:/run/my.sock?mode=1777" has the mode "1777": write permissions in octal, 0000 to 0777, for example unix:/run/my.sock?mode=0660"##,
        ),
        (
            "1=unix:/run/my.sock",
            r##""1=unix:/run/my.sock" has a name that starts with '1': a name starts with a letter, for example web=unix:/run/web.sock"##,
        ),
        (
            "127.0.0.1:80/path",
            r##""127.0.0.1:80/path" holds a slash: a listener has no path and no network mask, write [NAME=]ADDRESS:PORT, for example 127.0.0.1:80"##,
        ),
        (
            "10.0.0.0/8:80",
            r##""10.0.0.0/8:80" holds a slash: a listener has no path and no network mask, write [NAME=]ADDRESS:PORT, for example 10.0.0.0:8080"##,
        ),
        (
            "a=b=127.0.0.1:80",
            r##""a=b=127.0.0.1:80" holds more than one `=`: one name, one address, write NAME=ADDRESS:PORT, for example a=127.0.0.1:80"##,
        ),
        (
            "=127.0.0.1:80",
            r##""=127.0.0.1:80" has an empty name: leave out the `=` or write 1 to 32 of a-z A-Z 0-9 - _ before it, for example web=127.0.0.1:80"##,
        ),
        (
            "=",
            r##""=" has an empty name: leave out the `=` or write 1 to 32 of a-z A-Z 0-9 - _ before it, for example web=127.0.0.1:8080"##,
        ),
        (
            "1web=[::1]:80",
            r##""1web=[::1]:80" has a name that starts with '1': a name starts with a letter, for example web=[::1]:80"##,
        ),
        (
            "-=127.0.0.1:80",
            r##""-=127.0.0.1:80" has a name that starts with '-': a name starts with a letter, for example web=127.0.0.1:80"##,
        ),
        (
            "my.web=127.0.0.1:80",
            r##""my.web=127.0.0.1:80" has '.' in its name: a name is made of a-z A-Z 0-9 - _, for example my-web=127.0.0.1:80"##,
        ),
        (
            "abcdefghijklmnopqrstuvwxyz-1234567=127.0.0.1:80",
            r##""abcdefghijklmnopqrstuvwxyz-1234567=127.0.0.1:80" has a name of 34 characters: at most 32 are allowed, for example abcdefghijklmnopqrstuvwxyz-12345=127.0.0.1:80"##,
        ),
        (
            "web=",
            r##""web=" has no address after the name: write NAME=ADDRESS:PORT, for example web=127.0.0.1:8080"##,
        ),
        (
            "8080",
            r##""8080" is only a number: a port needs an address before it, write ADDRESS:PORT, for example 127.0.0.1:8080"##,
        ),
        (
            "*:80",
            r##""*:80" does not say which address: for all of them write 0.0.0.0 (IPv4) or [::] (IPv6), for example 0.0.0.0:80"##,
        ),
        (
            "web=:80",
            r##""web=:80" does not say which address: for all of them write 0.0.0.0 (IPv4) or [::] (IPv6), for example web=0.0.0.0:80"##,
        ),
        (
            "*",
            r##""*" does not say which address: for all of them write 0.0.0.0 (IPv4) or [::] (IPv6), for example 0.0.0.0:8080"##,
        ),
        (
            "localhost",
            r##""localhost" says localhost, which can mean 127.0.0.1 or [::1]: write the one you mean, for example 127.0.0.1:8080"##,
        ),
        (
            "web=LocalHost:80",
            r##""web=LocalHost:80" says localhost, which can mean 127.0.0.1 or [::1]: write the one you mean, for example web=127.0.0.1:80"##,
        ),
        (
            "example.com:80",
            r##""example.com:80" holds the host name "example.com": names are not resolved, so that a restart can never bind elsewhere; write its address, for example 192.0.2.10:80"##,
        ),
        (
            "web=db-1",
            r##""web=db-1" holds the host name "db-1": names are not resolved, so that a restart can never bind elsewhere; write its address, for example web=192.0.2.10:8080"##,
        ),
        (
            "#1:80",
            r##""#1:80" holds "#1", which is no IP address: write 1.2.3.4:PORT or [1:2::3]:PORT, for example 127.0.0.1:80"##,
        ),
        (
            "127.1:80",
            r##""127.1:80" has 2 of the four numbers of an IPv4 address: write all four, for example 127.0.0.1:80"##,
        ),
        (
            "1.2.3.4.5:80",
            r##""1.2.3.4.5:80" has 5 numbers in an IPv4 address: write four, for example 1.2.3.4:80"##,
        ),
        (
            "1..2.3:80",
            r##""1..2.3:80" has a dot too many in its IPv4 address: write four numbers with one dot between them, for example 1.2.0.3:80"##,
        ),
        (
            "127.0.0.256:80",
            r##""127.0.0.256:80" has 256 in an IPv4 address: each of its numbers is 0 to 255, for example 127.0.0.1:80"##,
        ),
        (
            "127.0.0.01:80",
            r##""127.0.0.01:80" has 01 in an IPv4 address: some programs read a leading zero as octal, so write it without, for example 127.0.0.1:80"##,
        ),
        (
            "::1:8080",
            r##""::1:8080" holds an IPv6 address without brackets: write [ADDRESS]:PORT, for example [::1]:8080"##,
        ),
        (
            "::1",
            r##""::1" holds an IPv6 address without brackets: write [ADDRESS]:PORT, for example [::1]:8080"##,
        ),
        (
            "web=fe80::1%eth0:80",
            r##""web=fe80::1%eth0:80" holds an IPv6 address without brackets: write [ADDRESS]:PORT, for example web=[::1]:8080"##,
        ),
        (
            "[::1:8080",
            r##""[::1:8080" opens a bracket and does not close it: write [ADDRESS]:PORT, for example [::1]:8080"##,
        ),
        (
            "[::1",
            r##""[::1" opens a bracket and does not close it: write [ADDRESS]:PORT, for example [::1]:8080"##,
        ),
        (
            "127.0.0.1]:80",
            r##""127.0.0.1]:80" has a bracket in the wrong place: brackets go around an IPv6 address, write [ADDRESS]:PORT, for example 127.0.0.1:80"##,
        ),
        (
            "[::1]8080",
            r##""[::1]8080" has "8080" after the bracket: only :PORT may follow, for example [::1]:8080"##,
        ),
        (
            "[::1]x:80",
            r##""[::1]x:80" has "x:80" after the bracket: only :PORT may follow, for example [::1]:80"##,
        ),
        (
            "[127.0.0.1]:80",
            r##""[127.0.0.1]:80" has an IPv4 address in brackets: brackets are for IPv6, write ADDRESS:PORT, for example 127.0.0.1:80"##,
        ),
        (
            "[fe80::1%eth0]:80",
            r##""[fe80::1%eth0]:80" has the zone "eth0": a zone is the number of an interface (`ip link` shows it), for example [fe80::1%1]:80"##,
        ),
        (
            "[1::2::3]:80",
            r##""[1::2::3]:80" has "1::2::3" in brackets, which is no IPv6 address: write [ADDRESS]:PORT, for example [::1]:80"##,
        ),
        (
            "[]:80",
            r##""[]:80" has "" in brackets, which is no IPv6 address: write [ADDRESS]:PORT, for example [::1]:80"##,
        ),
        (
            "127.0.0.1:80:90",
            r##""127.0.0.1:80:90" has a colon too many: one stands between address and port, write ADDRESS:PORT, for example 127.0.0.1:80"##,
        ),
        (
            "tcp:127.0.0.1:80",
            r##""tcp:127.0.0.1:80" has a colon too many: one stands between address and port, write ADDRESS:PORT, for example 127.0.0.1:8080"##,
        ),
        (
            "127.0.0.1",
            r##""127.0.0.1" has no port: write ADDRESS:PORT (port 0 lets the kernel choose), for example 127.0.0.1:8080"##,
        ),
        (
            "web=[::]",
            r##""web=[::]" has no port: write ADDRESS:PORT (port 0 lets the kernel choose), for example web=[::]:8080"##,
        ),
        (
            "127.0.0.1:",
            r##""127.0.0.1:" ends before the port: write a number after the colon (0 lets the kernel choose), for example 127.0.0.1:8080"##,
        ),
        (
            "[::1]:",
            r##""[::1]:" ends before the port: write a number after the colon (0 lets the kernel choose), for example [::1]:8080"##,
        ),
        (
            "127.0.0.1:-1",
            r##""127.0.0.1:-1" has a sign before the port: write its digits only, for example 127.0.0.1:1"##,
        ),
        (
            "[::1]:+80",
            r##""[::1]:+80" has a sign before the port: write its digits only, for example [::1]:80"##,
        ),
        (
            "127.0.0.1:http",
            r##""127.0.0.1:http" has the port "http", which is no number: service names are not looked up, write 0 to 65535, for example 127.0.0.1:80"##,
        ),
        (
            "web=127.0.0.1:80x",
            r##""web=127.0.0.1:80x" has the port "80x", which is no number: service names are not looked up, write 0 to 65535, for example web=127.0.0.1:8080"##,
        ),
        (
            "127.0.0.1:65536",
            r##""127.0.0.1:65536" has the port 65536, and ports end at 65535: write 0 to 65535, for example 127.0.0.1:8080"##,
        ),
        (
            "[::]:99999999999999999999",
            r##""[::]:99999999999999999999" has the port 99999999999999999999, and ports end at 65535: write 0 to 65535, for example [::]:8080"##,
        ),
    ];

    fn message(text: &str) -> String {
        text.parse::<ListenSpec>().expect_err(text).to_string()
    }

    /// The example that every message ends with.
    fn example(message: &str) -> &str {
        message.rsplit_once("for example ").expect(message).1
    }

    #[test]
    fn a_refused_text_is_told_what_is_wrong_with_it() {
        for (text, expected) in REFUSED {
            assert_eq!(&message(text), expected, "for {text:?}");
        }
    }

    #[test]
    fn no_two_messages_are_the_same() {
        let distinct: BTreeSet<_> = REFUSED.iter().map(|(_, message)| message).collect();
        assert_eq!(distinct.len(), REFUSED.len());
    }

    #[test]
    fn every_example_would_be_right() {
        for (_, message) in REFUSED {
            let example = example(message);
            assert!(example.parse::<ListenSpec>().is_ok(), "{example} in: {message}");
        }
    }

    #[test]
    fn an_address_alone_is_called_main() {
        let spec: ListenSpec = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(spec.name(), "main");
        assert_eq!(spec, ListenSpec::from(spec.address().inet().unwrap()));
        assert_eq!(
            "main=127.0.0.1:8080".parse::<ListenSpec>().unwrap().to_string(),
            "127.0.0.1:8080"
        );
    }

    #[test]
    fn what_is_right_is_read_and_written_back() {
        let longest = format!("{}=0.0.0.0:65535", "n".repeat(NAME_CHARS_MAX));
        let longest_path = format!("unix:/{}", "p".repeat(PATH_BYTES_MAX - 1));
        for text in [
            "0.0.0.0:0",
            "[::]:80",
            "[::1]:0",
            "[fe80::1%2]:80",
            "[::ffff:1.2.3.4]:80",
            "web=127.0.0.1:1",
            "a-B_9=[::1]:443",
            &longest,
            "unix:/a",
            "web=unix:/run/a=b@c.sock?mode=0600",
            "unix:/run/web.sock?mode=0000",
            &longest_path,
        ] {
            assert_eq!(text.parse::<ListenSpec>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn a_path_that_does_not_fit_is_refused_when_it_is_read() {
        let path = format!("/{}", "p".repeat(PATH_BYTES_MAX));
        let message = message(&format!("unix:{path}"));
        assert!(message.contains("has a path of 108 bytes: at most 107 fit"), "{message}");
        assert!(ListenSpec::unix(path).is_err());
        assert!(ListenSpec::unix("/run/w\u{e9}b.sock").is_err());
        assert!(ListenSpec::unix("web.sock").is_err());
    }

    #[test]
    fn the_usual_mode_is_not_written() {
        let spec = ListenSpec::unix("/run/web.sock").unwrap();
        assert_eq!(spec.mode(), UNIX_MODE);
        assert_eq!("unix:/run/web.sock?mode=660".parse(), Ok(spec.clone()));
        assert_eq!(spec.to_string(), "unix:/run/web.sock");
        assert_eq!(ListenSpec::from(SocketAddr::from(([0; 4], 0))).with_mode(0).mode(), UNIX_MODE);
    }

    #[test]
    fn an_address_is_read_without_a_name_and_without_options() {
        for text in ["127.0.0.1:80", "[::1]:80", "unix:/run/web.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["web=127.0.0.1:80", "unix:/run/web.sock?mode=0600", "/run/web.sock"] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(example(&error).parse::<Address>().is_ok(), "{error}");
        }
    }

    #[test]
    fn a_bad_name_is_refused_whoever_gives_it() {
        let address: SocketAddr = "[::1]:80".parse().unwrap();
        let message = |name: &str| ListenSpec::new(name, address).unwrap_err().to_string();
        assert_eq!(
            message("my web"),
            r#""my web" has ' ' in its name: a name is made of a-z A-Z 0-9 - _, for example my-web=[::1]:80"#
        );
        assert_eq!(
            message("wéb=1"),
            r#""wéb=1" has 'é' in its name: a name is made of a-z A-Z 0-9 - _, for example w-b-1=[::1]:80"#
        );
        assert!(ListenSpec::new("", address).is_err());
    }

    #[test]
    fn a_flow_label_is_dropped() {
        let address = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 7, 3);
        let spec = ListenSpec::from(SocketAddr::from(address));
        assert_eq!(spec.to_string().parse::<ListenSpec>().unwrap(), spec);
    }

    #[test]
    fn a_very_long_text_makes_a_short_message() {
        for text in
            ["x".repeat(100_000), "1".repeat(100_000), format!("[::1]{}", "é".repeat(9_000))]
        {
            assert!(message(&text).len() < 600, "{}", message(&text));
        }
    }

    /// Texts that come close to being right.
    fn nearly_right() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "=",
            ":",
            ":",
            "[",
            "]",
            "::1",
            "fe80::1",
            "%",
            "%1",
            "127.0.0.1",
            "256",
            "01",
            ".",
            "8080",
            "70000",
            "+",
            "-",
            "*",
            "localhost",
            "web",
            "main",
            "/",
            "://",
            "unix:",
            "unix:/",
            "?",
            "mode=",
            ",",
            " ",
            "\0",
            "é",
            "@",
            "\t",
        ]);
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn every_spec_survives_being_written_down(
            name in "[a-zA-Z][a-zA-Z0-9_-]{0,31}",
            ip: IpAddr,
            port: u16,
            zone: u32,
        ) {
            let address = match ip {
                IpAddr::V4(ip) => SocketAddr::from((ip, port)),
                IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, zone).into(),
            };
            let spec = ListenSpec::new(name, address).unwrap();
            prop_assert_eq!(spec.to_string().parse::<ListenSpec>(), Ok(spec));
        }

        #[test]
        fn every_path_survives_being_written_down(
            name in "[a-zA-Z][a-zA-Z0-9_-]{0,31}", path in "(/[!-+\\--.0->@-~]{1,20}){1,5}", mode in 0_u32..0o1000,
        ) {
            let spec = ListenSpec::new(name, Address::Unix(path.into())).unwrap().with_mode(mode);
            prop_assert_eq!(spec.to_string().parse::<ListenSpec>(), Ok(spec.clone()));
            prop_assert_eq!(spec.address().to_string().parse::<Address>(), Ok(spec.address().clone()));
        }

        #[test]
        fn no_text_makes_it_panic_and_every_refusal_has_a_right_example(
            text in prop_oneof![any::<String>(), ".{0,40}", nearly_right()],
        ) {
            match text.parse::<ListenSpec>() {
                Ok(spec) => prop_assert_eq!(spec.to_string().parse::<ListenSpec>(), Ok(spec)),
                Err(error) => {
                    let message = error.to_string();
                    let example = example(&message);
                    prop_assert!(example.parse::<ListenSpec>().is_ok(), "{} in: {}", example, message);
                }
            }
        }

        #[test]
        fn no_name_makes_it_panic(name: String) {
            if let Ok(spec) = ListenSpec::new(name, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))) {
                prop_assert_eq!(spec.to_string().parse::<ListenSpec>(), Ok(spec));
            }
        }
    }
}
