//! What the repository as a whole keeps to: which way the arrows point, where unsafe code is, what each
//! dependency is for, and that what the documents say and link to is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use forkherd_bench::report::{markdown, saved};

const CORE: &str = "forkherd-core";
const BENCH: &str = "forkherd-bench";
const STRATEGIES: [&str; 3] = ["prefork", "handoff", "reuseport"];
const DOCUMENTS: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];

// ---- The arrows -----------------------------------------------------------------------------------

#[test]
fn core_names_no_strategy() {
    for file in sources("core/src") {
        // Comments may speak of mechanisms and give examples; code, with what it prints, may not.
        let code = without_comments(&read(&file), Strings::Kept).to_lowercase();
        for word in STRATEGIES {
            assert!(
                !code.contains(word),
                "{file}: names `{word}`; core serves all strategies alike"
            );
        }
    }
}

#[test]
fn strategies_know_core_and_nobody_else() {
    for package in packages() {
        let ours: BTreeSet<_> =
            package.dependencies.iter().filter(|name| name.starts_with("forkherd-")).collect();
        let ours: Vec<&str> = ours.into_iter().map(String::as_str).collect();
        let all = [CORE, "forkherd-handoff", "forkherd-prefork", "forkherd-reuseport"];
        let expected: &[&str] = match &*package.name {
            // Itself, with the conformance suite, for its own tests.
            CORE => &[CORE],
            BENCH => &all,
            _ => &[CORE],
        };
        assert_eq!(ours, expected, "{}: depends on other members than it may", package.name);
    }
}

#[test]
fn one_file_of_the_harness_names_strategies() {
    let names_one = |file: &String| {
        let text = read(file);
        let code = without_comments(text.split("#[cfg(test)]").next().unwrap(), Strings::Kept);
        STRATEGIES.iter().any(|word| code.to_lowercase().contains(word))
    };
    let files: Vec<_> = sources("bench-harness/src").into_iter().filter(names_one).collect();
    assert_eq!(files, ["bench-harness/src/registry.rs"]);
}

#[test]
fn core_does_without() {
    let absent = [
        ("waitpid", "children are reaped by pidfd, which is never somebody else's"),
        ("kill_process", "children are signalled by pidfd, which is never somebody else's"),
        ("getpeername", "who the peer is comes with accept or with the message"),
        ("Mutex", "no lock lives in memory that processes share; threads are the runtimes' alone"),
        ("RwLock", "as Mutex"),
        ("Condvar", "as Mutex"),
    ];
    let is_suite = |file: &String| file.contains("/conformance");
    // What runs threads in a worker, and locks between them.
    let has_threads = ["core/src/worker/lookout.rs"];
    for file in sources("core/src").into_iter().filter(|file| !is_suite(file)) {
        let code = without_comments(&read(&file), Strings::Blank);
        assert!(!code.contains("thread::sleep"), "{file}: events are waited for, not time");
        for (word, reason) in absent {
            if has_threads.contains(&file.as_str()) && ["Mutex", "Condvar"].contains(&word) {
                continue;
            }
            assert!(!has_word(&code, word), "{file}: `{word}`, but {reason}");
        }
    }
}

#[test]
fn unsafe_code_is_in_modules_named_sys() {
    let is_sys = |file: &str| file.ends_with("/sys.rs") || file.contains("/sys/");
    for file in members().iter().flat_map(|member| sources(member)) {
        let code = without_comments(&read(&file), Strings::Blank);
        assert!(
            is_sys(&file) || !has_word(&code, "unsafe"),
            "{file}: unsafe code belongs in `sys`"
        );
    }
}

#[test]
fn examples_fit_on_a_screen_or_two() {
    let examples = members().into_iter().flat_map(|member| sources(&format!("{member}/examples")));
    let mut found = Vec::new();
    for file in examples {
        let lines = read(&file).lines().count();
        assert!(lines < 100, "{file}: {lines} lines; examples have less than 100");
        found.push(file);
    }
    let wanted = ["strategy-handoff/examples/greeter.rs", "strategy-prefork/examples/http_pool.rs"];
    assert!(wanted.iter().all(|file| found.iter().any(|one| one == file)), "{found:?}");
}

// ---- Dependencies ---------------------------------------------------------------------------------

#[test]
fn each_dependency_is_used_where_it_was_chosen_for() {
    let chosen = [
        ("nix", "core/src"),
        ("socket2", "core/src"),
        ("passfd", "strategy-handoff/src"),
        ("clap", "bench-harness/src"),
        ("proptest", "core/src"),
        ("proptest", "strategy-handoff/src"),
        ("proptest", "bench-harness/src"),
        ("criterion", "bench-harness/benches"),
    ];
    for (name, folder) in chosen {
        let is_used = sources(folder).iter().any(|file| uses(&read(file), name));
        assert!(is_used, "`{name}` is used nowhere in {folder}");
    }
}

#[test]
fn every_dependency_is_used_by_whoever_declares_it() {
    for package in packages() {
        let code: Vec<_> = sources(&package.folder).iter().map(|file| read(file)).collect();
        for name in &package.dependencies {
            let is_used = code.iter().any(|code| uses(code, &library(name)));
            assert!(is_used, "{}: `{name}` is declared and not used", package.name);
        }
    }
    let declared: BTreeSet<_> =
        packages().into_iter().flat_map(|package| package.dependencies).collect();
    for name in workspace_dependencies() {
        assert!(declared.contains(&name), "Cargo.toml: no member depends on `{name}`");
    }
}

#[test]
fn architecture_says_what_each_dependency_is_for() {
    let listed: BTreeSet<_> = rows("ARCHITECTURE.md", "Dependencies")
        .iter()
        .filter_map(|row| Some(row.split('`').nth(1)?.to_owned()))
        .collect();
    let foreign = |name: &String| !name.starts_with("forkherd-");
    let declared: BTreeSet<_> = workspace_dependencies().into_iter().filter(foreign).collect();
    assert_eq!(listed, declared, "ARCHITECTURE.md's table (left) and Cargo.toml (right) differ");
}

#[test]
fn one_rust_version_is_named_everywhere() {
    let manifest = read("Cargo.toml");
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"'))
        .expect("Cargo.toml names a rust-version");
    for document in ["README.md", "CONTRIBUTING.md"] {
        assert!(read(document).contains(&format!("Rust {version}")), "{document}: Rust {version}?");
    }
    // It reads the version from Cargo.toml, so it cannot name another.
    let ci = read(".ci/run");
    assert!(ci.contains("rust-version = ") && !ci.contains("1."), ".ci/run names a version itself");
    let last = ci.lines().rfind(|line| !line.is_empty());
    assert_eq!(last, Some("cargo test --workspace"), ".ci/run ends with the README's command");
}

// ---- Documents ------------------------------------------------------------------------------------

const BEGIN: &str = "<!-- results:begin -->\n";
const END: &str = "<!-- results:end -->\n";

/// With `UPDATE_SNAPSHOTS` set it writes the results instead of comparing them.
#[test]
fn the_readme_shows_the_results_that_were_saved() {
    let readme = read("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("README.md has a line results:begin");
    let (shown, after) = rest.split_once(END).expect("README.md has a line results:end");
    let saved = saved::load(&root().join("bench-harness/results/readme.json"))
        .unwrap_or_else(|error| panic!("{error:#}: make it by `compare --json` of a whole run"));
    let failures: Vec<_> = saved.failures().collect();
    assert!(failures.is_empty(), "the saved run failed: {failures:?}");
    let rendered = format!("\n{}\n", markdown::render(&saved));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        let text = format!("{before}{BEGIN}{rendered}{END}{after}");
        fs::write(root().join("README.md"), text).unwrap();
    } else {
        assert!(
            shown == rendered,
            "README.md shows other results than bench-harness/results/readme.json; write them by\n\
             UPDATE_SNAPSHOTS=1 cargo test -p forkherd-bench --test tidy"
        );
    }
}

#[test]
fn every_link_leads_somewhere() {
    for document in DOCUMENTS {
        for Link { target, .. } in links(&read(document)) {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let path = target.split('#').next().unwrap();
            assert!(root().join(path).exists(), "{document}: {path} is not there");
        }
    }
}

#[test]
fn every_promise_names_a_test() {
    for (document, heading) in [("README.md", "Promises"), ("ARCHITECTURE.md", "Invariants")] {
        let rows = rows(document, heading);
        assert!(!rows.is_empty(), "{document}: nothing under {heading}");
        for row in rows {
            let tests = links(&row).iter().filter(|link| link.test().is_some()).count();
            assert!(tests > 0, "{document}: no test is named by: {row}");
        }
    }
}

#[test]
fn every_named_test_is_there() {
    for document in DOCUMENTS {
        for link in links(&read(document)) {
            let Some(test) = link.test() else { continue };
            // The conformance suite is one for all strategies, and its trials are named in core.
            let files = if link.target.contains("/tests/conformance") {
                sources("core/src/conformance")
            } else {
                vec![link.target.clone()]
            };
            let is_there = files.iter().any(|file| {
                let text = read(file);
                text.contains(&format!("fn {test}(")) || text.contains(&format!("\"{test}\""))
            });
            assert!(is_there, "{document}: {} has no test `{test}`", link.target);
        }
    }
}

/// What CONTRIBUTING.md shows of *Write your own strategy* is compiled and tested where it stands.
#[test]
fn every_snippet_stands_in_a_file_that_is_tested() {
    // However it is wrapped and indented there.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let files = ["core/tests/toy.rs", "bench-harness/examples/own_strategy.rs"];
    let files = files.map(|file| words(&read(file)));
    let document = read("CONTRIBUTING.md");
    let snippets = document.split("\n```rust\n").skip(1);
    for snippet in snippets.map(|rest| words(rest.split("\n```").next().unwrap())) {
        let is_there = files.iter().any(|file| file.contains(&snippet));
        assert!(is_there, "CONTRIBUTING.md shows what is nowhere:\n{snippet}");
    }
}

#[test]
fn every_folder_has_a_reason() {
    let known: BTreeSet<_> = [
        ".ci",
        "bench-harness",
        "core",
        "strategy-handoff",
        "strategy-prefork",
        "strategy-reuseport",
    ]
    .map(str::to_owned)
    .into();
    // Hidden folders are those of somebody's tools.
    let is_ours = |name: &String| name == ".ci" || (name != "target" && !name.starts_with('.'));
    let folders: BTreeSet<_> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(is_ours)
        .collect();
    assert!(folders.is_superset(&known), "{known:?} minus {folders:?}");
    let architecture = read("ARCHITECTURE.md");
    for folder in &folders {
        assert!(
            architecture.contains(&format!("`{folder}/`")),
            "ARCHITECTURE.md: why `{folder}/`?"
        );
    }
}

#[test]
fn no_file_knows_where_it_was_written() {
    // In pieces, because this file is looked at, too.
    let places: Vec<String> =
        ["home", "root", "work", "tmp/target"].iter().map(|name| format!("/{name}")).collect();
    let is_cut = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || "._-".contains(c));
    // In a second work tree `.git` is a file that says where the first one is.
    for file in files("").into_iter().filter(|file| file != ".git") {
        let Ok(text) = fs::read_to_string(root().join(&file)) else { continue };
        for place in &places {
            for (at, _) in text.match_indices(place) {
                let before = text[..at].chars().next_back().unwrap_or(' ');
                let is_path = !before.is_alphanumeric() && !"./_-)}".contains(before);
                let found = is_path && is_cut(&text[at + place.len()..]);
                assert!(!found, "{file}: names {place}, a place on one machine");
            }
        }
    }
}

// ---- Reading --------------------------------------------------------------------------------------

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member is in a folder").to_owned()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Every file under a folder of the repository, sorted, as a path from its root. None if it is not there.
fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let is_skipped = name == "target" || (name.starts_with('.') && name != ".ci");
        if entry.file_type().unwrap().is_dir() {
            found.extend(if is_skipped { Vec::new() } else { files(&path) });
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources(folder: &str) -> Vec<String> {
    files(folder).into_iter().filter(|file| file.ends_with(".rs")).collect()
}

/// A member of the workspace.
struct Package {
    name: String,
    folder: String,
    /// Of every kind.
    dependencies: Vec<String>,
}

fn packages() -> Vec<Package> {
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let package = |package: &serde_json::Value| {
        let manifest = text(&package["manifest_path"]);
        let folder = Path::new(&manifest).parent().unwrap().file_name().unwrap();
        let dependencies = package["dependencies"].as_array().unwrap();
        Package {
            name: text(&package["name"]),
            folder: folder.to_str().unwrap().to_owned(),
            dependencies: dependencies.iter().map(|one| text(&one["name"])).collect(),
        }
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

fn members() -> Vec<String> {
    packages().into_iter().map(|package| package.folder).collect()
}

fn workspace_dependencies() -> BTreeSet<String> {
    let manifest = read("Cargo.toml");
    let section = manifest.split("[workspace.dependencies]\n").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    section.lines().filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect()
}

/// What a package is called in code.
fn library(package: &str) -> String {
    match package {
        // The crate `perf-event` went on under another name, and its library kept the old one.
        "perf-event2" => "perf_event".to_owned(),
        other => other.replace('-', "_"),
    }
}

fn uses(source: &str, dependency: &str) -> bool {
    has_word(&without_comments(source, Strings::Blank), dependency)
}

fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|one| one == word)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strings {
    Kept,
    Blank,
}

/// Rust code without its comments, and if asked to without what is in its strings.
fn without_comments(source: &str, strings: Strings) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest) {
            code.push_str(if strings == Strings::Kept { &rest[..length] } else { "\"\"" });
            length
        } else {
            code.push(first);
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    code
}

/// How long the string or character is that `rest` begins with, if it does.
fn literal(rest: &str) -> Option<usize> {
    let raw = rest.strip_prefix('r').map(|rest| rest.trim_start_matches('#'));
    if let Some(inner) = raw.and_then(|raw| raw.strip_prefix('"')) {
        let start = rest.len() - inner.len();
        let end = format!("\"{}", "#".repeat(start - 2));
        return Some(inner.find(&end).map_or(rest.len(), |at| start + at + end.len()));
    }
    let quote = rest.chars().next().filter(|c| *c == '"' || *c == '\'')?;
    // 'a is a lifetime, 'a' a character.
    if quote == '\'' && !rest[1..].starts_with('\\') && rest.chars().nth(2) != Some('\'') {
        return None;
    }
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

#[derive(Debug)]
struct Link {
    text: String,
    target: String,
}

impl Link {
    /// The name of the test it leads to: [`name`](file.rs).
    fn test(&self) -> Option<&str> {
        let name = self.text.strip_prefix('`')?.strip_suffix('`')?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let is_name = name.chars().all(plain) && name.contains('_');
        (is_name && self.target.ends_with(".rs")).then_some(name)
    }
}

/// The links of a document, those in blocks of code apart.
fn links(document: &str) -> Vec<Link> {
    let prose: String = document.split("```").step_by(2).collect();
    let mut found = Vec::new();
    for (at, _) in prose.match_indices("](") {
        let text = prose[..at].rsplit('[').next().unwrap().to_owned();
        let target = prose[at + 2..].split(')').next().unwrap().to_owned();
        found.push(Link { text, target });
    }
    found
}

/// The rows of the tables under a heading, without their heads.
fn rows(document: &str, heading: &str) -> Vec<String> {
    let text = read(document);
    let start = format!("\n## {heading}\n");
    let section = text.split_once(&start).unwrap_or_else(|| panic!("{document}: no {start}")).1;
    let section = section.split("\n## ").next().unwrap();
    let mut rows = Vec::new();
    let mut in_body = false;
    for line in section.lines() {
        in_body = line.starts_with('|') && (in_body || line.starts_with("|-"));
        if in_body && !line.starts_with("|-") {
            rows.push(line.to_owned());
        }
    }
    rows
}

#[test]
fn comments_and_strings_are_told_apart() {
    let source = "a /* b */ 'c' \"d // \\\" e\" r#\"f\"g\"# // h\n&'i j '\\'' k";
    let strip = |strings| without_comments(source, strings);
    assert_eq!(strip(Strings::Blank), "a  \"\" \"\" \"\" \n&'i j \"\" k");
    assert_eq!(strip(Strings::Kept), "a  'c' \"d // \\\" e\" r#\"f\"g\"# \n&'i j '\\'' k");
    let links = links("[`a_b`](c.rs) ```[x](y)``` [d](e#f)");
    assert_eq!(links.iter().map(Link::test).collect::<Vec<_>>(), [Some("a_b"), None]);
}
