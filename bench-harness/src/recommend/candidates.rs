//! Who takes part: the strategies that a profile leaves, and why it does not leave the others.

use std::fmt;

use forkherd_core::RuntimeKind;
use serde::{Deserialize, Serialize};

use crate::cli::Runtime;
use crate::profile::{Profile, Trust};
use crate::registry::{Choice, Entry, Registry};

/// A strategy that fits.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its variant there.
    pub variant: &'static str,
    /// The runtimes it can be measured on.
    pub runtimes: &'static [Runtime],
    /// Whether the bare name means it.
    pub is_default: bool,
    /// What there is to know about it.
    pub choice: Choice,
}

impl Candidate {
    /// As in reports: the default variant goes by the bare name.
    #[must_use]
    pub fn label(&self) -> String {
        label(self.name, self.variant, self.is_default)
    }
}

/// A strategy that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// As in reports.
    pub label: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Pruned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.label, self.reason)
    }
}

/// Who is in and who is out.
#[derive(Clone, Debug)]
pub struct Field {
    /// The simplest first.
    pub candidates: Vec<Candidate>,
    /// In the order of the registry.
    pub pruned: Vec<Pruned>,
}

/// The strategies of `registry`, sorted by whether they fit `profile`.
#[must_use]
pub fn of(registry: &Registry, profile: &Profile) -> Field {
    let mut field = Field { candidates: Vec::new(), pruned: Vec::new() };
    for entry in registry.entries() {
        let is_default = registry.find(entry.name).is_ok_and(|one| one.variant == entry.variant);
        match fits(entry, profile) {
            Ok(choice) => {
                let Entry { name, variant, runtimes, .. } = *entry;
                let candidate = Candidate { name, variant, runtimes, is_default, choice };
                field.candidates.push(candidate);
            }
            Err(reason) => {
                let label = label(entry.name, entry.variant, is_default);
                field.pruned.push(Pruned { label, reason });
            }
        }
    }
    field.candidates.sort_by_key(|candidate| candidate.choice.rank);
    field
}

fn label(name: &str, variant: &str, is_default: bool) -> String {
    if is_default { name.to_owned() } else { format!("{name}:{variant}") }
}

/// What there is to know about a strategy that fits, or why it does not.
fn fits(entry: &Entry, profile: &Profile) -> Result<Choice, String> {
    // Its own line says what it is instead.
    let choice = entry.choice.ok_or_else(|| entry.line.to_owned())?;
    let runtime = measured_on(profile.runtime);
    let obstacle = if !entry.runtimes.contains(&runtime) {
        format!("it cannot serve the {} runtime", profile.runtime)
    } else if (choice.is_usual_on)(profile.runtime) {
        format!("on the {} runtime it is what `{}` is", profile.runtime, entry.name)
    } else if choice.one_at_a_time && !profile.runtime.is_one_at_a_time() {
        "it gives an event loop one connection at a time".to_owned()
    } else if profile.sticky && !choice.sticky {
        "it does not bring the same client to the same worker".to_owned()
    } else if profile.trust == Trust::Hostile && !choice.confines {
        "its workers hold what others depend on".to_owned()
    } else if choice.bpf && !profile.bpf {
        "it needs CAP_BPF, which the service has not (--bpf yes if it has)".to_owned()
    } else {
        return Ok(choice);
    };
    Err(obstacle)
}

/// What stands for a runtime when it is measured: each thread that serves one connection at a time is a
/// worker that does.
#[must_use]
pub fn measured_on(runtime: RuntimeKind) -> Runtime {
    if runtime.is_one_at_a_time() { Runtime::Blocking } else { Runtime::Tokio }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(change: impl Fn(&mut Profile)) -> String {
        let mut profile = Profile::default();
        change(&mut profile);
        let field = of(&Registry::builtin(), &profile);
        let all = field.candidates.len() + field.pruned.len();
        assert_eq!(all, Registry::builtin().entries().len(), "somebody is neither in nor out");
        field.candidates.iter().map(Candidate::label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_constraint_leaves_who_fits_the_simplest_first() {
        let usual = "prefork prefork:exclusive prefork:rotating reuseport reuseport:steered \
                     reuseport:random reuseport:steal handoff handoff:least handoff:p2c handoff:idle \
                     handoff:hash handoff:pull";
        assert_eq!(left(|_| {}), usual);
        let with_bpf = format!("{usual} reuseport:least reuseport:balanced");
        assert_eq!(left(|profile| profile.bpf = true), with_bpf);
        assert_eq!(left(|profile| profile.sticky = true), "handoff:hash");
        assert_eq!(
            left(|profile| profile.trust = Trust::Hostile),
            "handoff handoff:least handoff:p2c handoff:idle handoff:hash"
        );
        let on_tokio = left(|profile| profile.runtime = RuntimeKind::Tokio);
        assert!(on_tokio.starts_with("prefork prefork:exclusive"), "{on_tokio}");
        assert!(!on_tokio.contains("idle"), "{on_tokio}");
        assert!(!on_tokio.contains("steal") && !on_tokio.contains("gated"), "{on_tokio}");
        let on_threads = left(|profile| profile.runtime = "threads:2".parse().unwrap());
        assert!(!on_threads.contains("exclusive"), "{on_threads}");
    }

    #[test]
    fn whoever_is_out_has_a_reason() {
        let field = of(&Registry::builtin(), &Profile::default());
        let reason = |label: &str| {
            let pruned = field.pruned.iter().find(|pruned| pruned.label == label);
            pruned.map(|pruned| pruned.reason.clone()).unwrap_or_default()
        };
        assert!(reason("prefork:herd").starts_with("the bad example"));
        assert_eq!(reason("prefork:blocking"), "on the blocking runtime it is what `prefork` is");
        assert_eq!(reason("prefork:gated"), "it cannot serve the blocking runtime");
        assert!(reason("reuseport:balanced").starts_with("it needs CAP_BPF, "));
    }
}
