//! Profiles as TOML files.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::Profile;
use crate::serve::Usage;

/// Reads the profile in `path`.
///
/// # Errors
/// The file cannot be read; or it is no profile ([`Usage`]), with file, line and what is wanted.
pub fn read(path: &Path) -> anyhow::Result<Profile> {
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read profile {name}"))?;
    parse(&text).map_err(|error| Usage(format!("{name}, {error}")).into())
}

/// The profile that `text` is.
///
/// # Errors
/// The line and what is wanted there.
pub fn parse(text: &str) -> Result<Profile, String> {
    let profile: Profile = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        format!("line {line}: {}", error.message().replace('\n', " "))
    })?;
    // What does not fit together has no single line.
    profile.check().map_err(|error| format!("in all: {error}"))?;
    Ok(profile)
}

/// The number of the line, from 1, in which byte `at` stands.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
}

/// The profile as a file; `notes` stand at its head as comments.
///
/// # Errors
/// It cannot be written as TOML, which a checked profile always can.
pub fn render(profile: &Profile, notes: &[String]) -> anyhow::Result<String> {
    let mut text = String::new();
    for line in notes.iter().flat_map(|note| note.lines()) {
        text.push_str("# ");
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(&toml::to_string(profile).context("cannot write the profile")?);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Connections, Goal};
    use crate::trace::Quantiles;

    #[test]
    fn what_is_left_out_has_a_usual_value() {
        let profile = parse("[work]\nmean_us = 4000\n").unwrap();
        assert_eq!(profile, Profile::default());
    }

    #[test]
    fn a_wrong_line_is_named_with_what_is_wanted() {
        let check = |text: &str, line: &str, words: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(line) && error.contains(words), "{error}");
            assert!(!error.contains('\n'), "{error}");
        };
        check("goal = \"fast\"\n[work]\nmean_us = 1\n", "line 1:", "robustness");
        check("bpf = true\ncolour = 1\n[work]\nmean_us = 1\n", "line 2:", "unknown field `colour`");
        check("[work]\nmean_us = 1\nsigma = 2\n", "line 3:", "unknown field `sigma`");
        check("\nconnections = \"kept\"\n[work]\nmean_us = 1\n", "line 2:", "long-lived");
        check("runtime = \"threads:0\"\n[work]\nmean_us = 1\n", "line 1:", "threads:4");
        check("workers = 0\n[work]\nmean_us = 1\n", "line 1:", "nonzero");
        check("goal =\n", "line 1:", "");
        check("goal = \"tail\"\n", "line 1:", "missing field `work`");
        check("load = 0.99\n[work]\nmean_us = 1\n", "in all:", "more workers");
    }

    #[test]
    fn a_profile_survives_being_written() {
        let mut profile = Profile {
            about: "it".to_owned(),
            goal: Goal::Spread,
            connections: Connections::KeepAlive(20.try_into().unwrap()),
            runtime: "tokio".parse().unwrap(),
            ..Profile::default()
        };
        profile.work.mean_us = None;
        profile.work.quantiles_us = Quantiles::new(vec![(0.0, 1.0), (99.5, 2_500.5)]);
        let text = render(&profile, &["one\ntwo".to_owned()]).unwrap();
        assert!(text.starts_with("# one\n# two\n"), "{text}");
        assert_eq!(parse(&text).unwrap(), profile, "{text}");
    }
}
