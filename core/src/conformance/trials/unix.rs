//! Unix sockets: served as TCP is, and their paths handled with care.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;

use crate::conformance::client::{Client, all_answered};
use crate::conformance::herd::Herd;
use crate::conformance::spec::Spec;
use crate::conformance::stage::{Outcome, Stage, Verdict};
use crate::connection::Peer;
use crate::listener::{Address, ListenSpec};
use crate::strategy::Plan;

/// Neither what is usual nor what a umask of 022 or 077 leaves.
const MODE: u32 = 0o626;

/// A directory for one trial, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("forkherd-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    fn socket(&self) -> PathBuf {
        self.0.join("a.sock")
    }

    fn is_empty(&self) -> Result<bool, String> {
        Ok(fs::read_dir(&self.0).map_err(|error| error.to_string())?.next().is_none())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind in the worst case, and nobody's problem.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Served, answered, found by nobody who may not; refused to others, taken over from the dead, removed at
/// the end.
pub(super) fn served(stage: &Stage) -> Outcome {
    let folder = Folder::new()?;
    let path = folder.socket();
    let spec = on_path(stage, &path)?;
    if is_refused(stage, &spec) {
        return refused(stage, &spec, 2, "is a Unix socket").map(|()| Verdict::Passed);
    }

    let mut first = stage.serving(&spec)?;
    looks_right(&path)?;
    answers(&path, 20)?;
    refused(stage, &spec, 1, "another instance serves it")?;
    answers(&path, 20)?;

    // Who is killed leaves the path behind; whoever comes next takes it over, at once.
    first.kill_supervisor()?;
    if !path.exists() {
        return Err("a killed supervisor has removed its socket".to_owned());
    }
    let mut next = stage.serving(&spec)?;
    first.wait_nothing_left()?;
    looks_right(&path)?;
    answers(&path, 20)?;
    next.finish()?;
    if !folder.is_empty()? {
        return Err(format!("something is left in {}", folder.0.display()));
    }

    fs::write(&path, "precious").map_err(|error| error.to_string())?;
    refused(stage, &spec, 1, "what is there is no socket")?;
    match fs::read_to_string(&path) {
        Ok(text) if text == "precious" => Ok(Verdict::Passed),
        other => Err(format!("a file that was no socket is now {other:?}")),
    }
}

/// Some are in service, some wait in a queue whose length nobody can ask for; all of them are answered.
pub(super) fn drained(stage: &Stage) -> Outcome {
    const CLIENTS: usize = 12;

    let folder = Folder::new()?;
    let path = folder.socket();
    let spec = on_path(stage, &path)?;
    if is_refused(stage, &spec) {
        return Ok(Verdict::Skipped("this strategy refuses Unix sockets".to_owned()));
    }
    let mut herd = stage.serving(&spec)?;
    // A Unix socket has them in its queue as soon as they are connected.
    let mut clients = crowd(&path, CLIENTS, "hold")?;
    herd.signal(Signal::TERM)?;
    herd.journal().wait_log("stopping")?;
    for (n, client) in clients.iter_mut().enumerate() {
        client.ask("go on").map_err(|lost| format!("client {n}: {lost}"))?;
    }
    all_answered(clients)?;
    herd.wait_finished()?;
    Ok(Verdict::Passed)
}

fn on_path(stage: &Stage, path: &Path) -> Result<Spec, String> {
    let listener = ListenSpec::unix(path).map_err(|error| error.to_string())?.with_mode(MODE);
    Ok(Spec { listeners: vec![listener], ..stage.spec() })
}

fn is_refused(stage: &Stage, spec: &Spec) -> bool {
    let plan = Plan {
        listeners: spec.listeners.clone(),
        workers: spec.workers,
        slots: spec.workers,
        runtime: spec.runtime,
        is_foreign: false,
        read_timeout: None,
    };
    (stage.subject.make)().fits(&plan).is_err()
}

/// A service of this kind ends with this status before it starts a worker, and says why.
fn refused(stage: &Stage, spec: &Spec, status: i32, why: &'static str) -> Result<(), String> {
    let mut herd: Herd = stage.start(spec)?;
    herd.journal().expect(why);
    let ended = herd.wait_end("it cannot have its path")?;
    if ended.code() != Some(status) {
        return Err(format!("it ended with {ended} instead of {status}"));
    }
    herd.wait_nothing_left()?;
    if !herd.journal().said().is_empty() {
        return Err("what was to be refused has started workers".to_owned());
    }
    herd.journal().wait_log(why)
}

fn looks_right(path: &Path) -> Result<(), String> {
    let found = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !found.file_type().is_socket() || found.mode() & 0o7777 != MODE {
        return Err(format!("{MODE:o} was asked for, and the mode is {:o}", found.mode()));
    }
    Ok(())
}

fn crowd(path: &Path, count: usize, request: &str) -> Result<Vec<Client>, String> {
    (0..count)
        .map(|n| Client::asking_unix(path, request).map_err(|lost| format!("client {n}: {lost}")))
        .collect()
}

fn answers(path: &Path, count: usize) -> Result<(), String> {
    let address = Address::Unix(path.to_owned());
    for answer in all_answered(crowd(path, count, "serve")?)? {
        if (answer.peer, &answer.address, &*answer.listener) != (Peer::Unix, &address, "main") {
            return Err(format!("came through main={address}, but: {answer:?}"));
        }
    }
    Ok(())
}
