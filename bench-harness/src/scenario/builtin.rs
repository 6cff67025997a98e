//! The scenarios that ship, each embedded from a file of its own, and how those that are wanted are found.

use std::fs;
use std::path::Path;

use super::spec::Spec;

/// What `compare` runs if nothing is named.
pub const DEFAULT: [&str; 4] = ["short-connections", "keep-alive", "uneven-work", "worker-killed"];

/// The files, in the order the scenarios run.
const FILES: [(&str, &str); 15] = [
    ("short-connections.toml", include_str!("../../scenarios/short-connections.toml")),
    ("keep-alive.toml", include_str!("../../scenarios/keep-alive.toml")),
    ("uneven-work.toml", include_str!("../../scenarios/uneven-work.toml")),
    ("worker-killed.toml", include_str!("../../scenarios/worker-killed.toml")),
    ("tail.toml", include_str!("../../scenarios/tail.toml")),
    ("long-lived.toml", include_str!("../../scenarios/long-lived.toml")),
    ("worker-hung.toml", include_str!("../../scenarios/worker-hung.toml")),
    ("rolling-restart.toml", include_str!("../../scenarios/rolling-restart.toml")),
    ("scaling.toml", include_str!("../../scenarios/scaling.toml")),
    ("cpu-bound.toml", include_str!("../../scenarios/cpu-bound.toml")),
    ("uneven-keep-alive.toml", include_str!("../../scenarios/uneven-keep-alive.toml")),
    ("closed-loop.toml", include_str!("../../scenarios/closed-loop.toml")),
    ("slow-clients.toml", include_str!("../../scenarios/slow-clients.toml")),
    ("connection-storm.toml", include_str!("../../scenarios/connection-storm.toml")),
    ("descriptor-starvation.toml", include_str!("../../scenarios/descriptor-starvation.toml")),
];

/// All that ship, in the order they run.
///
/// # Panics
/// Never: a test reads them all.
#[must_use]
pub fn all() -> Vec<Spec> {
    let read = |&(file, text): &(&str, &str)| Spec::parse(file, text);
    FILES.iter().map(read).collect::<Result<_, _>>().expect("the embedded scenarios are sound")
}

/// The one that ships under this name.
#[must_use]
pub fn find(name: &str) -> Option<Spec> {
    all().into_iter().find(|spec| spec.name == name)
}

/// The scenarios that `wanted` names, each once: first those that ship, in their own order, then files
/// in the order given. What has a dot or a slash in it is a file.
///
/// # Errors
/// One sentence: a name that there is not, with those there are; a file that cannot be read, or is
/// no scenario; two scenarios of one name.
pub fn select(wanted: &[impl AsRef<str>]) -> Result<Vec<Spec>, String> {
    let is_file = |name: &&str| name.contains(['.', '/']);
    let (files, names): (Vec<&str>, Vec<&str>) =
        wanted.iter().map(AsRef::as_ref).partition(is_file);
    let mut all = all();
    if let Some(name) = names.iter().find(|&&name| all.iter().all(|spec| spec.name != name)) {
        let known: Vec<_> = all.iter().map(|spec| &*spec.name).collect();
        return Err(format!(
            "no scenario is called `{name}`; there are: {}, or a file of your own, FILE.toml",
            known.join(", ")
        ));
    }
    all.retain(|spec| names.contains(&&*spec.name));
    for file in files {
        let text = fs::read_to_string(Path::new(file))
            .map_err(|error| format!("cannot read the scenario {file}: {error}"))?;
        let spec = Spec::parse(file, &text)?;
        if all.iter().any(|other| other.name == spec.name) {
            return Err(format!("{file}: another scenario is called `{}`, too", spec.name));
        }
        all.push(spec);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_sound_and_named_as_its_scenario() {
        for (file, text) in FILES {
            let spec = Spec::parse(file, text).unwrap();
            assert_eq!(format!("{}.toml", spec.name), file);
            assert!(spec.question.ends_with('?') && !spec.line.ends_with('.'), "{file}");
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        assert_eq!(fs::read_dir(folder).unwrap().count(), FILES.len(), "a file is not embedded");
        assert!(DEFAULT.iter().all(|name| find(name).is_some()));
    }

    #[test]
    fn the_scenario_that_the_readme_shows_is_sound() {
        let readme = include_str!("../../README.md");
        let shown = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
        let spec = Spec::parse("README.md", shown.expect("README.md shows a scenario")).unwrap();
        assert!(spec.has_blocks() && find(&spec.name).is_none());
    }

    #[test]
    fn names_and_files_are_found_and_wrong_ones_are_told_the_right_ones() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let check = |wanted: &[&str], expected: &str| {
            let seen = match select(wanted) {
                Ok(specs) => specs.into_iter().map(|spec| spec.name).collect::<Vec<_>>().join(" "),
                Err(error) => error,
            };
            assert!(seen.starts_with(expected), "{wanted:?}: {seen}");
        };
        let mine = file("a.toml", &FILES[0].1.replace("short-connections", "mine"));
        let again = file("b.toml", FILES[0].1);
        let broken = file("c.toml", "name = 3");
        check(&["scaling", "keep-alive", "scaling"], "keep-alive scaling");
        check(&[&mine, "keep-alive"], "keep-alive mine");
        check(&["tial"], "no scenario is called `tial`; there are: short-connections, keep-alive,");
        check(&[&again, "short-connections"], &format!("{again}: another scenario is called `sh"));
        check(&[&broken], &format!("{broken}:1:8: invalid type: integer `3`, expected a string"));
        check(&["./none.toml"], "cannot read the scenario ./none.toml: No such file");
    }
}
