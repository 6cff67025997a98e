//! What `recommend` gives to copy compiles: for every strategy, on every runtime it serves.

use std::fs;
use std::path::Path;
use std::process::Command;

use forkherd_bench::profile::Profile;
use forkherd_bench::recommend::{candidates, snippet};
use forkherd_bench::registry::Registry;

#[test]
fn every_main_that_may_be_recommended_compiles() {
    let directory = tempfile::tempdir().unwrap();
    let (source, manifest) = (directory.path().join("src"), directory.path().join("Cargo.toml"));
    fs::create_dir_all(&source).unwrap();
    // Each `main` is a module of one library, which is checked far sooner than as many programs.
    let mut library = "#![allow(dead_code)]\n".to_owned();
    let mut dependencies = Vec::new();
    let mut written = 0;
    for runtime in ["blocking", "threads:2", "tokio"] {
        let runtime = runtime.parse().unwrap();
        let profile = Profile { runtime, bpf: true, ..Profile::default() };
        for candidate in candidates::of(&Registry::builtin(), &profile).candidates {
            let name = format!("{}_{runtime}", candidate.label()).replace([':', '-'], "_");
            let main = snippet::main(&candidate.choice, runtime, profile.workers);
            fs::write(source.join(format!("{name}.rs")), main).unwrap();
            library.push_str(&format!("mod {name};\n"));
            dependencies.extend(snippet::dependencies(&candidate.choice, runtime));
            written += 1;
        }
    }
    assert!(written >= 35, "{written}");
    fs::write(source.join("lib.rs"), library).unwrap();
    // Each crate once: with features, where a runtime needs them.
    dependencies.sort_by_key(|line| (name(line).to_owned(), line.len()));
    dependencies.reverse();
    dependencies.dedup_by(|one, other| name(one) == name(other));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = dependencies.join("\n").replace("../forkherd", root.to_str().unwrap());
    let head = "[package]\nname = \"snippets\"\nedition = \"2024\"\n\n[dependencies]\n";
    fs::write(&manifest, format!("{head}{text}\n\n[workspace]\n")).unwrap();
    // The versions that are here already: nothing is fetched.
    fs::copy(root.join("Cargo.lock"), directory.path().join("Cargo.lock")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["check", "--quiet", "--offline", "--manifest-path"])
        .arg(&manifest)
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("snippets"))
        .env("RUSTFLAGS", "-Dwarnings")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn name(dependency: &str) -> &str {
    dependency.split(' ').next().unwrap_or_default()
}
