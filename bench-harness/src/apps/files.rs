//! App `files`: the files below a directory, with listings, `index.html` and content types.
//!
//! A path is opened by `openat2(2)` with `RESOLVE_BENEATH` (Linux 5.6): neither `..` nor a symbolic
//! link leads out of the directory, whatever is renamed meanwhile.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context as _;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

use super::conversation::{Answer, Site};
use super::hello::{After, Task, Told};
use crate::http::{Method, Request, Response, Status};

/// The files below one directory.
#[derive(Debug)]
pub struct Files {
    root: OwnedFd,
}

impl Files {
    /// Serves `directory`, which is opened now and need not keep its name.
    ///
    /// # Errors
    /// It is not there, or is no directory.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory, flags, Mode::empty()).with_context(|| {
            format!(
                "cannot serve files from {}: give a directory that is there and readable",
                directory.display()
            )
        })?;
        Ok(Self { root })
    }

    fn find(&self, path: &str) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&self.root, path, flags, Mode::empty(), resolve)?)
    }

    /// What is at `path`, which is relative and decoded.
    fn look(&self, path: &str) -> Result<Found, Status> {
        let fd = self.find(path).map_err(|error| status_of(&error))?;
        let stat = fstat(&fd).map_err(|_| Status::INTERNAL_SERVER_ERROR)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                Ok(Found::File(File::from(fd), u64::try_from(stat.st_size).unwrap_or(0)))
            }
            FileType::Directory if !path.is_empty() && !path.ends_with('/') => Ok(Found::NoSlash),
            FileType::Directory => match self.look(&format!("{path}index.html")) {
                Ok(Found::File(file, length)) => Ok(Found::Index(file, length)),
                _ => Ok(Found::Listing(list(path, fd).map_err(|error| status_of(&error))?)),
            },
            // Neither devices nor pipes.
            _ => Err(Status::FORBIDDEN),
        }
    }
}

enum Found {
    File(File, u64),
    Index(File, u64),
    NoSlash,
    Listing(String),
}

fn status_of(error: &io::Error) -> Status {
    match rustix::io::Errno::from_io_error(error) {
        Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM | rustix::io::Errno::XDEV) => {
            Status::FORBIDDEN
        }
        Some(
            rustix::io::Errno::NOENT
            | rustix::io::Errno::NOTDIR
            | rustix::io::Errno::NAMETOOLONG
            | rustix::io::Errno::LOOP
            | rustix::io::Errno::INVAL,
        ) => Status::NOT_FOUND,
        _ => Status::INTERNAL_SERVER_ERROR,
    }
}

/// Kept as they are in a link: what RFC 3986 calls unreserved.
const LINK: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn list(path: &str, fd: OwnedFd) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = String::from_utf8_lossy(entry.file_name().to_bytes()).into_owned();
        if name != "." && name != ".." {
            let slash = if entry.file_type() == FileType::Directory { "/" } else { "" };
            names.push(format!("{name}{slash}"));
        }
    }
    names.sort();
    let title = escape(path);
    let mut page = format!(
        "<!DOCTYPE html>\n<meta charset=utf-8>\n<title>/{title}</title>\n<h1>/{title}</h1>\n<ul>\n"
    );
    if !path.is_empty() {
        page.push_str("<li><a href=\"../\">../</a>\n");
    }
    for name in &names {
        let bare = name.trim_end_matches('/');
        let slash = &name[bare.len()..];
        let link = utf8_percent_encode(bare, LINK);
        let _ = writeln!(page, "<li><a href=\"./{link}{slash}\">{}</a>", escape(name));
    }
    page.push_str("</ul>\n");
    Ok(page)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Site for Files {
    fn answer(
        &self,
        request: &Request<'_>,
        _task: Task,
        _told: Option<Told>,
        keep_alive: bool,
        out: &mut Vec<u8>,
    ) -> Answer {
        let keep_alive = keep_alive && request.keep_alive;
        let method = request.method;
        let after = if keep_alive { After::KeepAlive } else { After::Close };
        let plain =
            |status: Status, fields: &[(&str, &dyn crate::http::Field)], out: &mut Vec<u8>| {
                let body = status.reason().as_bytes();
                let content_type = "text/plain";
                Response { status, content_type, fields, body, method, keep_alive }.write(out);
                after.into()
            };
        let raw = request.path();
        let Ok(path) = percent_decode_str(raw.trim_start_matches('/')).decode_utf8() else {
            return plain(Status::BAD_REQUEST, &[], out);
        };
        if path.contains('\0') {
            return plain(Status::BAD_REQUEST, &[], out);
        }
        let found = match self.look(&path) {
            Ok(found) => found,
            Err(status) => return plain(status, &[], out),
        };
        let (content_type, file): (Cow<'_, str>, _) = match found {
            Found::NoSlash => {
                // From the encoded form, so nothing in it can end the header line.
                let location = format!("/{}/", raw.trim_start_matches('/'));
                return plain(Status::MOVED_PERMANENTLY, &[("Location", &location)], out);
            }
            Found::Listing(page) => {
                let content_type = "text/html; charset=utf-8";
                let body = page.as_bytes();
                Response {
                    status: Status::OK,
                    content_type,
                    fields: &[],
                    body,
                    method,
                    keep_alive,
                }
                .write(out);
                return after.into();
            }
            Found::Index(file, length) => ("text/html".into(), (file, length)),
            Found::File(file, length) => {
                let kind = mime_guess::from_path(&*path).first_or_octet_stream();
                (kind.essence_str().to_owned().into(), (file, length))
            }
        };
        let content_type = &*content_type;
        Response { status: Status::OK, content_type, fields: &[], body: &[], method, keep_alive }
            .write_head(file.1, out);
        Answer { after, file: (method == Method::Get).then_some(file) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::http::{Parsed, parse};

    fn get(files: &Files, path: &str) -> (String, Option<u64>) {
        let text = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let Parsed::Request(request) = parse(text.as_bytes()) else { panic!("{text:?} is valid") };
        let mut out = Vec::new();
        let answer = files.answer(&request, Task::Greet, None, true, &mut out);
        (String::from_utf8(out).unwrap(), answer.file.map(|(_, length)| length))
    }

    #[test]
    fn files_listings_and_nothing_from_outside() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir_all(root.join("sub dir")).unwrap();
        std::fs::create_dir_all(root.join("site")).unwrap();
        std::fs::write(outer.path().join("secret"), "no").unwrap();
        std::fs::write(root.join("a&b.txt"), "four").unwrap();
        std::fs::write(root.join("site/index.html"), "<p>").unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("/etc/passwd", root.join("abs")).unwrap();
        let files = Files::open(&root).unwrap();

        let check = |path: &str, status: &str, within: &str, length: Option<u64>| {
            let (text, file) = get(&files, path);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {text}");
            assert!(text.contains(within), "{path}: {text}");
            assert_eq!(file, length, "{path}");
        };
        check("/a%26b.txt", "200", "Content-Type: text/plain\r\nContent-Length: 4", Some(4));
        check("/", "200", "<li><a href=\"./a%26b.txt\">a&amp;b.txt</a>", None);
        check("/", "200", "<a href=\"./sub%20dir/\">sub dir/</a>", None);
        check("/site", "301", "Location: /site/\r\n", None);
        check("/site/", "200", "text/html", Some(3));
        check("/none", "404", "", None);
        for path in ["/../secret", "/%2e%2e/secret", "/site/../../secret", "/out", "/abs"] {
            check(path, "403", "", None);
        }
        check("/%00", "400", "", None);
        check("/%ff", "400", "", None);
        assert!(Files::open(&root.join("none")).is_err());
    }
}
