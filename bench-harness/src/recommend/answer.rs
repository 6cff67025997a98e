//! The answer: one crate and variant, the lines to copy, and why.

use serde::{Deserialize, Serialize};

use crate::profile::{Goal, Profile, Trust};
use crate::registry::Registry;
use crate::report::Caution;

use super::candidates::{self, Candidate, Field, Pruned};
use super::measure::{Method, Outcome};
use super::play::Play;
use super::snippet;
use super::text;
use super::verdict::Standing;

/// The name and version of this structure as JSON.
pub const SCHEMA: &str = "forkherd-recommendation/1";

/// A recommendation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// [`SCHEMA`].
    pub schema: String,
    /// What was asked.
    pub profile: Profile,
    /// The strategy to take, as `NAME[:VARIANT]`.
    pub take: String,
    /// The crate it is in.
    pub package: String,
    /// What makes it, in Rust.
    pub make: String,
    /// Lines for `[dependencies]`.
    pub dependencies: Vec<String>,
    /// A whole `main.rs`.
    pub main: String,
    /// Why, as measured figures.
    pub reasons: Vec<String>,
    /// What would change the answer.
    pub changes: Vec<String>,
    /// The next one, as `NAME[:VARIANT]`.
    pub runner_up: Option<String>,
    /// Whether nobody could be told from the best.
    pub no_difference: bool,
    /// Everybody in the final, the best first.
    pub standings: Vec<Standing>,
    /// Who was left behind in the heat, by its figures.
    pub behind: Vec<Standing>,
    /// Who did not take part, or failed, and why.
    pub pruned: Vec<Pruned>,
    /// What a reader should know.
    pub cautions: Vec<Caution>,
    /// What strategies wanted known.
    pub notes: Vec<String>,
    /// How it was measured.
    pub method: Method,
}

impl Answer {
    /// The answer to `profile` that `outcome` gives.
    ///
    /// # Panics
    /// Never: the chosen one is a candidate.
    #[must_use]
    pub fn of(
        profile: &Profile,
        registry: &Registry,
        field: &Field,
        play: &Play,
        outcome: Outcome,
    ) -> Self {
        let Outcome { verdict, behind, failed, cautions, notes, method } = outcome;
        let chosen = field
            .candidates
            .iter()
            .find(|one| one.label() == verdict.chosen)
            .expect("who was measured is a candidate");
        let choice = &chosen.choice;
        Self {
            schema: SCHEMA.to_owned(),
            profile: profile.clone(),
            take: verdict.chosen.clone(),
            package: choice.package.to_owned(),
            make: choice.make.to_owned(),
            dependencies: snippet::dependencies(choice, profile.runtime),
            main: snippet::main(choice, profile.runtime, profile.workers),
            reasons: text::reasons(&verdict, &behind, !failed.is_empty(), play),
            changes: changes(profile, registry, chosen),
            runner_up: verdict.runner_up,
            no_difference: verdict.no_difference,
            standings: verdict.standings,
            behind,
            pruned: failed.into_iter().chain(field.pruned.clone()).collect(),
            cautions,
            notes,
            method,
        }
    }
}

/// Changes a constraint, and says whether that was a change.
type Turn = fn(&mut Profile) -> bool;

/// What would change the answer: each constraint that would throw the chosen one out, and each that keeps
/// somebody out who might be better.
fn changes(profile: &Profile, registry: &Registry, chosen: &Candidate) -> Vec<String> {
    let turned: [(&str, Turn); 5] = [
        ("If the same client had to reach the same worker", |profile| {
            !std::mem::replace(&mut profile.sticky, true)
        }),
        ("If clients need not reach the same worker each time", |profile| {
            std::mem::replace(&mut profile.sticky, false)
        }),
        ("If workers could not be trusted with what others depend on", |profile| {
            std::mem::replace(&mut profile.trust, Trust::Hostile) != Trust::Hostile
        }),
        ("If workers could be trusted", |profile| {
            std::mem::replace(&mut profile.trust, Trust::Full) == Trust::Hostile
        }),
        ("With CAP_BPF for the supervisor", |profile| !std::mem::replace(&mut profile.bpf, true)),
    ];
    let now = candidates::of(registry, profile);
    let mut changes = Vec::new();
    for (what, turn) in turned {
        let mut other = profile.clone();
        if !turn(&mut other) {
            continue;
        }
        let then = candidates::of(registry, &other);
        let out = then.pruned.iter().find(|pruned| pruned.label == chosen.label());
        let labels = |field: &Field| -> Vec<String> {
            field.candidates.iter().map(Candidate::label).collect()
        };
        let before = labels(&now);
        let new: Vec<String> =
            labels(&then).into_iter().filter(|label| !before.contains(label)).collect();
        if let Some(out) = out {
            let left = labels(&then).join(", ");
            changes.push(format!("{what}: {} is out ({}); left: {left}.", out.label, out.reason));
        } else if !new.is_empty() {
            changes.push(format!("{what} these would take part, too: {}.", new.join(", ")));
        }
    }
    let others = [
        (Goal::Tail, "tail", "the slowest requests"),
        (Goal::Cost, "cost", "CPU"),
        (Goal::Spread, "spread", "even use of workers"),
        (Goal::Robustness, "robustness", "what clients notice of faults"),
    ];
    let goals = others.iter().filter(|(goal, ..)| *goal != profile.goal);
    let goals: Vec<String> =
        goals.map(|(_, word, what)| format!("`--goal {word}` ({what})")).collect();
    changes.push(format!("Another goal is another comparison: {}.", goals.join(", ")));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(profile: &Profile, label: &str) -> Vec<String> {
        let registry = Registry::builtin();
        let field = candidates::of(&registry, profile);
        let chosen = field.candidates.iter().find(|one| one.label() == label).unwrap();
        changes(profile, &registry, chosen)
    }

    #[test]
    fn what_would_throw_the_chosen_one_out_is_said() {
        let said = of(&Profile::default(), "prefork").join("\n");
        assert!(said.contains("same worker: prefork is out"), "{said}");
        assert!(said.contains("left: handoff:hash."), "{said}");
        assert!(said.contains("With CAP_BPF") && said.contains("reuseport:balanced"), "{said}");
        assert!(said.contains("--goal cost") && !said.contains("--goal tail"), "{said}");
    }

    #[test]
    fn a_constraint_that_keeps_others_out_is_named() {
        let sticky = Profile { sticky: true, bpf: true, ..Profile::default() };
        let said = of(&sticky, "handoff:hash");
        assert!(said[0].starts_with("If clients need not reach"), "{said:?}");
        assert!(said[0].contains("prefork"), "{said:?}");
        assert!(!said.join("\n").contains("CAP_BPF"), "{said:?}");
    }
}
