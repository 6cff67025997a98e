//! Tells the program which commit it was built from, for the head of every report.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!(
        "cargo::rustc-env=FORKHERD_COMMIT={}",
        commit().unwrap_or_else(|| "unknown".to_owned())
    );
}

/// The commit, with `-dirty` if tracked files differ from it; `None` outside a checkout of Forkherd.
fn commit() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let top = git(root, &["rev-parse", "--show-toplevel"])?;
    // As a dependency in someone else's repository we would tell their commit.
    if Path::new(&top).canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    // A commit, a checkout, `git add`, and every change of what is compiled ask again.
    for name in ["HEAD", "logs/HEAD", "index"] {
        let path = git(root, &["rev-parse", "--git-path", name])?;
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    for entry in std::fs::read_dir(root).ok()?.flatten() {
        // What is compiled, and what is embedded in it.
        for folder in ["src", "scenarios"].map(|folder| entry.path().join(folder)) {
            if entry.path().join("Cargo.toml").exists() && folder.exists() {
                println!("cargo::rerun-if-changed={}", folder.display());
            }
        }
    }
    let commit = git(root, &["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(root, &["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { commit + "-dirty" })
}

/// What git says, trimmed; `None` if it is not there or says no.
fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    // To look must not change the index, or the next build would begin anew. (`describe --dirty` writes it all
    // the same.)
    let git = ["--no-optional-locks", "-C"];
    let output = Command::new("git").args(git).arg(directory).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
