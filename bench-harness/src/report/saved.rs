//! Reports as JSON files.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

use anyhow::{Context as _, bail};
use nix::unistd::{AccessFlags, access};
use serde::Deserialize;

use super::{Report, SCHEMA};
use crate::interrupt;

/// Whether a report could be written to `path`; what is there stays as it is, and nothing is left where
/// nothing was. A pipe is not opened: its reader would take the close for the end.
///
/// # Errors
/// The file cannot be written.
pub fn check(path: &Path) -> anyhow::Result<()> {
    let was_there = path.symlink_metadata().is_ok();
    let outcome = if path.metadata().is_ok_and(|there| there.file_type().is_fifo()) {
        access(path, AccessFlags::W_OK).map_err(io::Error::from)
    } else {
        OpenOptions::new().append(true).create(true).open(path).map(drop)
    };
    outcome.with_context(|| format!("cannot write {}", path.display()))?;
    if !was_there {
        // Who could make it can take it away; if not, it is empty.
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// Writes `text` to `path`: all of it, or what was there before stays.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    put(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A link stays one. What is no file (a pipe, a terminal) has nothing to lose, and where none can be made
/// beside it or put in its place (a directory of somebody else, a file that is a mount), a file can only be
/// overwritten; not on a disk that is full.
fn put(path: &Path, text: &str) -> io::Result<()> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        // Whoever is to read it may never come.
        interrupt::let_go();
        return fs::write(path, text);
    }
    let beside = path.with_added_extension(format!("{}.part", std::process::id()));
    let Err(error) = make(&beside, text, &path).and_then(|()| fs::rename(&beside, &path)) else {
        return Ok(());
    };
    // Nobody can use what may be there.
    let _ = fs::remove_file(&beside);
    let is_full = matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    );
    if is_full { Err(error) } else { fs::write(path, text) }
}

/// Makes the file `beside`, with `text`, for those who may read and write what is at `path` now.
fn make(beside: &Path, text: &str, path: &Path) -> io::Result<()> {
    let Ok(there) = path.metadata() else { return fs::write(beside, text) };
    // Nobody sees the text before it is known who may; and a change of owner takes bits of the mode away.
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(beside)?;
    // Only root gives files away; to a group of ours anybody does.
    if fchown(&file, Some(there.uid()), Some(there.gid())).is_err() {
        let _ = fchown(&file, None, Some(there.gid()));
    }
    file.set_permissions(there.permissions())?;
    file.write_all(text.as_bytes())
}

/// `report` as it stands in a file.
///
/// # Errors
/// It cannot be JSON; no report is so.
pub fn json(report: &Report) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    Ok(text)
}

/// Reads a report that was saved by this version of the schema.
///
/// # Errors
/// The file cannot be read, is no report, or has another schema.
pub fn load(path: &Path) -> anyhow::Result<Report> {
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    parse(&text).with_context(|| format!("{name} is no result of `compare --json`"))
}

/// Only the part that says what the rest is.
#[derive(Deserialize)]
struct Kind {
    schema: String,
}

fn parse(text: &str) -> anyhow::Result<Report> {
    let Kind { schema } = serde_json::from_str(text)?;
    if schema != SCHEMA {
        bail!("its schema is {schema:?}, this program reads {SCHEMA:?}");
    }
    Ok(serde_json::from_str(text)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_replaced_keeps_its_mode_and_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("result");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        // Root alone may.
        let _ = std::os::unix::fs::chown(&path, Some(12_345), Some(23_456));
        let before = path.metadata().unwrap();
        write(&path, "new").unwrap();
        let after = path.metadata().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_ne!(after.ino(), before.ino(), "it was overwritten");
        let who = |file: &fs::Metadata| (format!("{:o}", file.mode()), file.uid(), file.gid());
        assert_eq!(who(&after), who(&before));
    }

    #[test]
    fn other_schemas_and_other_files_are_refused() {
        let error = parse(r#"{"schema":"forkherd-bench/99"}"#).unwrap_err().to_string();
        assert!(error.contains("forkherd-bench/99"), "{error}");
        assert!(parse("{}").is_err() && parse("hello").is_err());
    }
}
