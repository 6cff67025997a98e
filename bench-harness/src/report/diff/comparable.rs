//! Whether figures of two runs say anything about each other.

use anyhow::bail;

use super::title;
use crate::report::flat::figures;
use crate::report::machine::Machine;
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
    reasons.extend(differs("workers", &old.workers.to_string(), &new.workers.to_string()));
    let pairs: Vec<(&Scenario, &Scenario)> = old
        .scenarios
        .iter()
        .filter_map(|one| {
            Some((one, new.scenarios.iter().find(|other| title(other) == title(one))?))
        })
        .collect();
    for (one, other) in &pairs {
        reasons.extend(setting(one, other));
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
    let others = figures(new);
    figures(old)
        .iter()
        .filter_map(|one| {
            let other =
                others.iter().find(|other| (&other.name, &other.at) == (&one.name, &one.at))?;
            differs(&format!("machine {}", one.name.replace('_', " ")), &one.value, &other.value)
        })
        .collect()
}

/// Where the settings of a scenario part.
fn setting(old: &Scenario, new: &Scenario) -> Option<String> {
    if old.setting == new.setting {
        return None;
    }
    let (one, other) = apart(&old.setting, &new.setting);
    differs(&format!("the setting of {}", title(old)), &one, &other)
}

/// The first few words from which on two texts differ.
fn apart(one: &str, other: &str) -> (String, String) {
    let same = one.split(' ').zip(other.split(' ')).take_while(|(one, other)| one == other).count();
    let words = |text: &str| text.split(' ').skip(same).take(4).collect::<Vec<_>>().join(" ");
    (words(one), words(other))
}

/// `what is "a" in OLD and "b" in NEW`, where both are known and not the same.
fn differs(what: &str, old: &str, new: &str) -> Option<String> {
    // An older result has 0 where it does not know.
    let is_known = |value: &str| !value.is_empty() && value != "0";
    (is_known(old) && is_known(new) && old != new)
        .then(|| format!("{what}: {old:?} in OLD, {new:?} in NEW"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(machine(&machine_of(2, "this"), &machine_of(2, "")).is_empty());
    }

    #[test]
    fn settings_are_quoted_from_where_they_part() {
        let parted = apart("Closed loop, 16 clients, one", "Closed loop, 64 clients, one");
        assert_eq!(parted, ("16 clients, one".to_owned(), "64 clients, one".to_owned()));
    }
}
