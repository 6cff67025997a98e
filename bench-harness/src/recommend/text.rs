//! The answer in words, for a terminal.

use std::fmt::Write as _;

use crate::measure::ratio::Ratio;
use crate::profile::Goal;
use crate::report::terminal::wrap;
use crate::report::text::rounds;

use super::answer::Answer;
use super::play::Play;
use super::verdict::{Standing, TOLERANCE, Verdict};

/// An interval that reaches beyond this ratio is said: not to be told from the best is not to be as good.
const UNPROVEN: f64 = 1.10;

/// Why the chosen one was chosen, each sentence a measured figure; `some_failed` and are not judged.
#[must_use]
pub fn reasons(
    verdict: &Verdict,
    behind: &[Standing],
    some_failed: bool,
    play: &Play,
) -> Vec<String> {
    let mut reasons = Vec::new();
    let Some(best) = verdict.standings.first() else { return reasons };
    let goal = play.goal;
    let what = name_of(goal);
    let chosen = verdict.standings.iter().find(|one| one.label == verdict.chosen);
    match chosen {
        Some(chosen) if verdict.standings.len() == 1 => {
            let others_fit = some_failed || !behind.is_empty() || !verdict.unknown.is_empty();
            let alone = if others_fit {
                "Nobody else who fits was measured to the end."
            } else {
                "It is the only one that fits."
            };
            reasons.push(format!("{alone} {what}: {}.", figure(goal, chosen)));
        }
        Some(chosen) if chosen.label == best.label => {
            reasons.push(format!("{what}: {} with {}, the best.", figure(goal, best), best.label));
        }
        Some(chosen) => reasons.push(format!(
            "{what}: {} with {}, {} with {}, the best: {}, which shows no difference.",
            figure(goal, chosen),
            chosen.label,
            figure(goal, best),
            best.label,
            ratio(chosen.to_best),
        )),
        None => {}
    }
    let good: Vec<&str> =
        verdict.standings.iter().filter(|one| one.is_as_good).map(|one| &*one.label).collect();
    if verdict.no_difference {
        let is_unknown = |one: &Standing| one.is_as_good && one.to_best.is_none();
        // The best has no ratio to itself.
        let unless = if verdict.standings.iter().skip(1).any(is_unknown) {
            ", or too little was measured for one"
        } else {
            ""
        };
        reasons.push(format!(
            "No difference was seen between {}: their ratios to the best are below {TOLERANCE}, or \
             their intervals reach 1{unless}. So the simplest is the one to take.",
            good.join(", ")
        ));
    } else if good.len() > 1 {
        reasons.push(format!(
            "It is the simplest of those that cannot be told from the best: {}.",
            good.join(", ")
        ));
    }
    let most = chosen.and_then(|one| one.to_best).and_then(|ratio| ratio.interval);
    if let Some(most) = most.map(|interval| interval.high).filter(|&most| most > UNPROVEN) {
        reasons.push(format!(
            "What was measured does not exclude that {} is {most:.2} times {}: `--seconds` gives it longer.",
            verdict.chosen, best.label
        ));
    }
    for one in verdict.standings.iter().filter(|one| !one.is_as_good) {
        reasons.push(format!("{}: {}, {}.", one.label, figure(goal, one), ratio(one.to_best)));
    }
    let (worse, unknown): (Vec<&Standing>, Vec<_>) =
        behind.iter().partition(|one| one.to_best.is_some());
    if !worse.is_empty() {
        let all: Vec<String> =
            worse.iter().map(|one| format!("{} ({})", one.label, ratio(one.to_best))).collect();
        reasons.push(format!("Left behind in a first, shorter heat: {}.", all.join("; ")));
    }
    if !unknown.is_empty() {
        let all: Vec<&str> = unknown.iter().map(|one| &*one.label).collect();
        reasons.push(format!(
            "Not played to the end, for want of time, though a first, shorter heat measured too little to \
             call them worse: {}.",
            all.join(", ")
        ));
    }
    if play.own_cpu_us > 0.0 {
        reasons.push(format!(
            "{:.0} µs of each figure are the CPU of the work itself, the same for all.",
            play.own_cpu_us
        ));
    }
    if !verdict.unknown.is_empty() {
        reasons.push(format!("Too few requests for a figure: {}.", verdict.unknown.join(", ")));
    }
    reasons
}

/// The figure of a goal, in words.
fn name_of(goal: Goal) -> &'static str {
    match goal {
        Goal::Tail => "99th percentile of latency",
        Goal::Cost => "CPU of all server processes per request",
        Goal::Spread => "busiest worker over the mean, median of rounds",
        Goal::Robustness => "99th percentile of latency with faults",
    }
}

fn figure(goal: Goal, standing: &Standing) -> String {
    let figure = standing.figure;
    match goal {
        Goal::Spread => format!("{figure:.2}"),
        Goal::Cost => format!("{figure:.1} µs"),
        Goal::Tail | Goal::Robustness if figure >= 1e6 => format!("{:.2} s", figure / 1e6),
        Goal::Tail | Goal::Robustness => format!("{:.2} ms", figure / 1e3),
    }
}

fn ratio(ratio: Option<Ratio>) -> String {
    match ratio {
        None => "too little was measured for a ratio".to_owned(),
        Some(Ratio { value, interval: None }) => format!("{value:.2} times, too few rounds to say"),
        Some(Ratio { value, interval: Some(one) }) => {
            format!("{value:.2} times [{:.2} {:.2}]", one.low, one.high)
        }
    }
}

/// The whole answer.
#[must_use]
pub fn render(answer: &Answer) -> String {
    let mut text = format!("Take {}: {} ({})\n", answer.package, answer.make, answer.take);
    if let Some(runner_up) = &answer.runner_up {
        let _ = writeln!(text, "Runner-up: {runner_up}");
    }
    let list = |text: &mut String, head: &str, lines: &[String]| {
        if !lines.is_empty() {
            let _ = writeln!(text, "\n{head}");
        }
        for line in lines {
            wrap(text, "* ", line);
        }
    };
    list(&mut text, "Why (95 % intervals in brackets)", &answer.reasons);
    list(&mut text, "What would change it", &answer.changes);
    let pruned: Vec<String> = answer.pruned.iter().map(ToString::to_string).collect();
    list(&mut text, "Not measured, or not judged", &pruned);
    let cautions: Vec<String> = answer.cautions.iter().map(ToString::to_string).collect();
    list(&mut text, "Cautions", &cautions);
    list(&mut text, "Notes", &answer.notes);
    let method = &answer.method;
    let how = format!(
        "{} candidates, {} s, {} in the final, seed {}. {}",
        method.candidates,
        method.seconds,
        rounds(method.rounds),
        method.seed,
        method.setting
    );
    list(&mut text, "How", &[how]);
    let _ =
        writeln!(text, "\nCargo.toml (not published yet: by path, or by git)\n\n[dependencies]");
    for line in &answer.dependencies {
        let _ = writeln!(text, "{line}");
    }
    let _ = write!(text, "\nsrc/main.rs\n\n{}", answer.main);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::ratio::Interval;
    use crate::profile::Profile;
    use crate::recommend::candidates::Pruned;
    use crate::recommend::measure::{Method, Outcome};
    use crate::recommend::{candidates, play};
    use crate::registry::Registry;
    use crate::report::terminal::WIDTH;

    fn standing(
        label: &str,
        figure: f64,
        to_best: Option<(f64, f64, f64)>,
        good: bool,
    ) -> Standing {
        let to_best = to_best
            .map(|(value, low, high)| Ratio { value, interval: Some(Interval { low, high }) });
        Standing { label: label.to_owned(), figure, to_best, is_as_good: good }
    }

    fn answer(standings: Vec<Standing>, chosen: &str) -> Answer {
        let (profile, registry) = (Profile::default(), Registry::builtin());
        let field = candidates::of(&registry, &profile);
        let play = play::of(&profile, 2);
        let verdict = Verdict {
            chosen: chosen.to_owned(),
            runner_up: Some(standings[0].label.clone()),
            no_difference: standings.iter().all(|one| one.is_as_good),
            standings,
            unknown: Vec::new(),
        };
        let outcome = Outcome {
            verdict,
            behind: vec![standing("reuseport", 60_000.0, Some((3.1, 2.9, 3.4)), false)],
            failed: vec![Pruned {
                label: "handoff:idle".to_owned(),
                reason: "it failed (25 connections reset), and what failed is not judged"
                    .to_owned(),
            }],
            cautions: Vec::new(),
            notes: Vec::new(),
            method: Method { setting: "word ".repeat(60), seed: 7, ..Method::default() },
        };
        Answer::of(&profile, &registry, &field, &play, outcome)
    }

    #[test]
    fn reasons_are_figures_with_intervals() {
        let best = standing("handoff:pull", 19_500.0, None, true);
        let simple = standing("prefork", 19_900.0, Some((1.02, 0.98, 1.06)), true);
        let worse = standing("handoff", 25_000.0, Some((1.28, 1.2, 1.4)), false);
        let answer = answer(vec![best, simple, worse], "prefork");
        let said = answer.reasons.join("\n");
        for words in [
            "19.90 ms with prefork, 19.50 ms with handoff:pull, the best: 1.02 times [0.98 1.06]",
            "the simplest of those that cannot be told from the best: handoff:pull, prefork",
            "handoff: 25.00 ms, 1.28 times [1.20 1.40]",
            "heat: reuseport (3.10 times [2.90 3.40])",
        ] {
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn where_nothing_differs_it_says_so() {
        let best = standing("handoff:pull", 19_500.0, None, true);
        let simple = standing("prefork", 19_900.0, Some((1.02, 0.98, 1.06)), true);
        let said = answer(vec![best.clone(), simple], "prefork").reasons.join("\n");
        assert!(said.contains("No difference was seen between handoff:pull, prefork"), "{said}");
        assert!(!said.contains("does not exclude"), "{said}");
        assert!(!said.contains("too little was measured"), "{said}");
        let unknown = standing("prefork", 19_900.0, None, true);
        let said = answer(vec![best.clone(), unknown], "prefork").reasons.join("\n");
        assert!(said.contains("intervals reach 1, or too little was measured for one."), "{said}");
        // And how much it may be all the same, where little was measured.
        let unsure = standing("prefork", 21_900.0, Some((1.12, 0.91, 1.46)), true);
        let said = answer(vec![best, unsure], "prefork").reasons.join("\n");
        assert!(
            said.contains("does not exclude that prefork is 1.46 times handoff:pull"),
            "{said}"
        );
    }

    #[test]
    fn whoever_is_left_is_not_called_the_only_one_that_fits() {
        let alone = Verdict {
            chosen: "prefork".to_owned(),
            runner_up: None,
            no_difference: false,
            standings: vec![standing("prefork", 19_900.0, None, true)],
            unknown: Vec::new(),
        };
        let play = play::of(&Profile::default(), 2);
        let said = |some_failed| reasons(&alone, &[], some_failed, &play).join("\n");
        assert!(said(false).starts_with("It is the only one that fits. "), "{}", said(false));
        assert!(said(true).starts_with("Nobody else who fits was measured"), "{}", said(true));
        let behind = [standing("handoff", 20_000.0, None, true)];
        let said = reasons(&alone, &behind, false, &play).join("\n");
        assert!(said.contains("measured too little to call them worse: handoff."), "{said}");
        assert!(!said.contains("Left behind"), "{said}");
    }

    #[test]
    fn the_text_fits_a_terminal_and_ends_with_the_lines_to_copy() {
        let answer = answer(vec![standing("prefork", 19_900.0, None, true)], "prefork");
        let text = render(&answer);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(
            text.starts_with("Take forkherd-prefork: Prefork::default() (prefork)\n"),
            "{text}"
        );
        assert!(text.contains("* reuseport:hash:bare: the bad example"), "{text}");
        let why = "* handoff:idle: it failed (25 connections reset), and what failed is not judged";
        assert!(text.contains(&format!("\nNot measured, or not judged\n{why}\n")), "{text}");
        assert!(text.ends_with("    Ok(())\n}\n"), "{text}");
    }
}
