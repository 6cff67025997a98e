//! Whether figures of two runs say anything about each other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;

use super::title;
use crate::report::flat::figures;
use crate::report::machine::Machine;
use crate::report::text::seconds;
use crate::report::{Report, Scenario};

/// Nothing, if they do.
///
/// # Errors
/// All that differs and must not, in one sentence.
pub(super) fn check(old: &Report, new: &Report) -> anyhow::Result<()> {
    let mut reasons = machine(&old.machine, &new.machine);
    let built = |report: &Report| if report.build.debug { "debug" } else { "release" };
    reasons.extend(differs("the build", built(old), built(new)));
    reasons.extend(differs("the yardstick", &old.against, &new.against));
    // An older result has 0 where it does not know.
    if old.workers > 0 && new.workers > 0 {
        reasons.extend(differs("workers", &old.workers.to_string(), &new.workers.to_string()));
    }
    let pairs: Vec<(&Scenario, &Scenario)> = old
        .scenarios
        .iter()
        .filter_map(|one| {
            Some((one, new.scenarios.iter().find(|other| title(other) == title(one))?))
        })
        .collect();
    for (one, other) in &pairs {
        reasons.extend(settings(one, other));
    }
    if pairs.is_empty() {
        reasons.push("they have no scenario in common".to_owned());
    }
    if !reasons.is_empty() {
        bail!("these results cannot be compared: {}", reasons.join("; "));
    }
    Ok(())
}

/// What of two machines differs. What a result does not know differs from nothing.
fn machine(old: &Machine, new: &Machine) -> Vec<String> {
    let (ours, theirs) = (Fields::of(old), Fields::of(new));
    let names: BTreeSet<&String> = ours.texts.keys().chain(theirs.texts.keys()).collect();
    let differs =
        |name: &String| differs(&format!("machine {name}"), ours.value(name)?, theirs.value(name)?);
    names.into_iter().filter_map(differs).collect()
}

/// The fields of a machine by name.
struct Fields {
    texts: BTreeMap<String, String>,
    /// Whether it has none of the kernel's settings: then it is older than most fields, and what is absent
    /// is not known.
    is_old: bool,
}

impl Fields {
    fn of(machine: &Machine) -> Self {
        let texts = figures(machine).into_iter().map(|figure| {
            let name = match figure.name.strip_prefix("sysctls.") {
                Some(setting) => setting.to_owned(),
                None => figure.name.replace('_', " "),
            };
            (format!("{name} {}", figure.at).trim_end().to_owned(), figure.value)
        });
        Self { texts: texts.collect(), is_old: machine.sysctls.is_empty() }
    }

    /// The value of a field, if it is known.
    fn value(&self, name: &str) -> Option<&str> {
        match self.texts.get(name).map(String::as_str) {
            Some("") => None,
            Some("0") if COUNTS.contains(&name) => None,
            None if self.is_old => None,
            // No limit, no pinning, a setting that the kernel does not have.
            None => Some("nothing"),
            value => value,
        }
    }
}

/// Fields that are 0 where a machine did not tell; a setting of the kernel may be 0.
const COUNTS: [&str; 3] = ["cpus", "online", "memory mib"];

/// Where the settings of a scenario part, and what else decides what its blocks measured.
fn settings(old: &Scenario, new: &Scenario) -> Vec<String> {
    // One that could not be run has no figures, and no setting but its question.
    if old.rows.is_empty() || new.rows.is_empty() {
        return Vec::new();
    }
    let title = title(old);
    let (one, other) = apart(&old.setting, &new.setting);
    let mut reasons = Vec::from_iter(differs(&format!("the setting of {title}"), &one, &other));
    if !old.block_s.is_empty() && !new.block_s.is_empty() {
        let words = |scenario: &Scenario| {
            scenario.block_s.iter().map(|&s| seconds(s)).collect::<Vec<_>>().join(", ")
        };
        reasons.extend(differs(&format!("the blocks of {title}"), &words(old), &words(new)));
    }
    // Older results tell of no rounds.
    if old.voids.played > 0 && new.voids.played > 0 {
        let kept = |scenario: &Scenario| if scenario.voids.kept { "kept" } else { "left out" };
        reasons.extend(differs(&format!("void rounds of {title}"), kept(old), kept(new)));
    }
    reasons
}

/// The first few words from which on two texts differ.
fn apart(one: &str, other: &str) -> (String, String) {
    let same = one.split(' ').zip(other.split(' ')).take_while(|(one, other)| one == other).count();
    let words = |text: &str| text.split(' ').skip(same).take(4).collect::<Vec<_>>().join(" ");
    (words(one), words(other))
}

/// `what: "a" in OLD, "b" in NEW`, where they are not the same.
fn differs(what: &str, old: &str, new: &str) -> Option<String> {
    (old != new).then(|| format!("{what}: {old:?} in OLD, {new:?} in NEW"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Row;

    #[test]
    fn what_differs_is_named_and_what_is_not_known_does_not_differ() {
        let machine_of =
            |cpus, model: &str| Machine { cpus, model: model.to_owned(), ..Machine::default() };
        let reasons = machine(&machine_of(2, "this"), &machine_of(4, "that"));
        let wanted = [
            "machine cpus: \"2\" in OLD, \"4\" in NEW",
            "machine model: \"this\" in OLD, \"that\" in NEW",
        ];
        assert_eq!(reasons, wanted);
        assert!(machine(&machine_of(2, "this"), &machine_of(0, "")).is_empty());
        let told = Machine {
            sysctls: [("net.core.somaxconn".to_owned(), "4096".to_owned())].into(),
            ..machine_of(2, "this")
        };
        let untold = Machine { cpus: 0, model: String::new(), ..told.clone() };
        assert!(machine(&told, &untold).is_empty());
    }

    #[test]
    fn a_setting_of_the_kernel_may_be_zero_and_a_limit_may_be_absent() {
        let machine_of = |settings: &[(&str, &str)], cpu_limit| Machine {
            sysctls: settings
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            cpu_limit,
            ..Machine::default()
        };
        let off = machine_of(&[("net.ipv4.tcp_tw_reuse", "0")], None);
        let on = machine_of(&[("net.ipv4.tcp_tw_reuse", "1")], None);
        let seen = machine(&off, &on);
        assert_eq!(seen, ["machine net.ipv4.tcp_tw_reuse: \"0\" in OLD, \"1\" in NEW"]);
        let limited = machine_of(&[("net.ipv4.tcp_tw_reuse", "0")], Some(1.5));
        let seen = machine(&off, &limited);
        assert_eq!(seen, ["machine cpu limit: \"nothing\" in OLD, \"1.5\" in NEW"]);
        let other =
            machine_of(&[("net.ipv4.tcp_tw_reuse", "0"), ("net.ipv4.tcp_migrate_req", "0")], None);
        let seen = machine(&other, &off);
        assert_eq!(seen, ["machine net.ipv4.tcp_migrate_req: \"0\" in OLD, \"nothing\" in NEW"]);
        // Without any, it is an older result and says nothing by silence.
        assert!(machine(&limited, &Machine::default()).is_empty());
    }

    #[test]
    fn a_scenario_that_could_not_be_run_stops_no_comparison() {
        let ran = Scenario {
            setting: "What? This was done.".to_owned(),
            rows: vec![Row::default()],
            ..Scenario::default()
        };
        let other = Scenario { setting: "What?".to_owned(), ..ran.clone() };
        assert_eq!(settings(&ran, &other).len(), 1);
        let failed = Scenario { rows: Vec::new(), ..other };
        assert!(settings(&ran, &failed).is_empty() && settings(&failed, &ran).is_empty());
    }

    #[test]
    fn settings_are_quoted_from_where_they_part() {
        let parted = apart("Closed loop, 16 clients, one", "Closed loop, 64 clients, one");
        assert_eq!(parted, ("16 clients, one".to_owned(), "64 clients, one".to_owned()));
    }
}
