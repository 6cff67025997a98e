//! Who takes part: what a comparison knows of a server before it starts it.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use anyhow::bail;
use forkherd_core::SLOTS_LIMIT;

use crate::cli::Runtime;
use crate::external::command::{External, Words};
use crate::external::offers::Offers;
use crate::load::protocol::Answers;

/// The name of the yardstick every ratio is taken to.
pub const BASELINE: &str = "baseline";

/// Asks for every variant of every strategy.
pub const EVERY: &str = "all";

/// One server that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contestant {
    /// The strategy.
    pub name: String,
    /// One of its variants; `None` is the default one.
    pub variant: Option<String>,
    /// One honest line about it, for `list`.
    pub line: String,
    /// The runtimes it can serve.
    pub runtimes: Vec<Runtime>,
    /// How it is started.
    pub launch: Launch,
    /// Worker processes, where it has its own number.
    pub workers: Option<NonZeroU32>,
    /// What scenarios may ask of it.
    pub offers: Offers,
}

/// How a contestant is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launch {
    /// `forkherd-bench serve --strategy LABEL`.
    Serve,
    /// `forkherd-bench baseline`: no supervisor, so no scenario with faults.
    Baseline,
    /// As [`Self::Serve`], with somebody's own program as the workers: the command as it was typed.
    App(String),
    /// `forkherd-bench host`: somebody's own server, whatever it does with its workers.
    External(Words),
}

impl Launch {
    /// What its answers have to be.
    #[must_use]
    pub fn answers(&self) -> Answers {
        match self {
            Self::Serve | Self::Baseline => Answers::Ours,
            Self::App(_) | Self::External(_) => Answers::Any,
        }
    }
}

impl Contestant {
    /// The yardstick: N plain accept loops on one shared listener, nobody watching over them.
    #[must_use]
    pub fn baseline() -> Self {
        Self {
            name: BASELINE.to_owned(),
            variant: None,
            line: "N plain std::net (or tokio) accept loops on one listener, no supervisor"
                .to_owned(),
            runtimes: vec![Runtime::Blocking, Runtime::Tokio],
            launch: Launch::Baseline,
            workers: None,
            offers: Offers { supervisor: false, ..Offers::ALL },
        }
    }

    /// A server that is not ours. What it runs inside is its own affair, so it fits both runtimes; what
    /// it offers has to be asked.
    #[must_use]
    pub fn external(external: External) -> Self {
        Self {
            name: external.name,
            variant: None,
            line: "not ours".to_owned(),
            runtimes: vec![Runtime::Blocking, Runtime::Tokio],
            launch: Launch::External(external.command),
            workers: None,
            offers: Offers::NONE,
        }
    }

    /// The same strategy with somebody's own program as its workers, started by `command`.
    #[must_use]
    pub fn with_app(self, command: &str) -> Self {
        Self {
            runtimes: vec![Runtime::Blocking, Runtime::Tokio],
            launch: Launch::App(command.to_owned()),
            offers: Offers::NONE,
            ..self
        }
    }

    /// Why it cannot take part where workers run on `runtime` and `needed` is asked of them.
    #[must_use]
    pub fn obstacle(&self, runtime: Runtime, needed: &Offers) -> Option<String> {
        let offers = Offers { keeps_many: self.keeps_many(runtime), ..self.offers };
        if let Some(reason) = offers.lack(needed) {
            return Some(reason.to_owned());
        }
        let fits = self.runtimes.contains(&runtime);
        (!fits).then(|| format!("it cannot serve the {} runtime", runtime.word()))
    }

    /// Its worker processes, where `asked` are asked for.
    #[must_use]
    pub fn workers_of(&self, asked: u32) -> u32 {
        self.workers.map_or(asked, NonZeroU32::get)
    }

    /// Whether more kept connections than workers are served at the same time on `runtime`.
    fn keeps_many(&self, runtime: Runtime) -> bool {
        match self.launch {
            // Under a supervisor a blocking worker closes a kept connection where others wait.
            Launch::Serve => runtime == Runtime::Blocking || self.offers.keeps_many,
            Launch::Baseline => runtime == Runtime::Tokio,
            Launch::App(_) | Launch::External(_) => self.offers.keeps_many,
        }
    }

    /// `NAME` or `NAME:VARIANT`.
    #[must_use]
    pub fn strategy(&self) -> String {
        match &self.variant {
            Some(variant) => format!("{}:{variant}", self.name),
            None => self.name.clone(),
        }
    }

    /// As on the command line and in reports: its strategy and, if it has its own number of workers,
    /// `@N`.
    #[must_use]
    pub fn label(&self) -> String {
        match self.workers {
            Some(workers) => format!("{}@{workers}", self.strategy()),
            None => self.strategy(),
        }
    }
}

/// The contestants called for by `wanted` labels out of `all`, the yardstick `against` always first.
///
/// Nothing wanted means the default variant of each strategy, `all` every variant. `baseline:TEXT`
/// is the baseline once more under that name; the baseline itself takes part if it is the yardstick
/// or wanted. `@N` after a label gives that contestant N workers.
///
/// # Errors
/// A label that names nobody, with those that exist; a label given twice.
pub fn select(
    all: &[Contestant],
    wanted: &[String],
    against: &str,
) -> anyhow::Result<Vec<Contestant>> {
    let mut selected = vec![find(all, against)?];
    let every = wanted == [EVERY];
    if wanted.is_empty() || every {
        let takes_part = |one: &&Contestant| {
            one.launch == Launch::Serve
                && (every || one.variant.is_none())
                && one.label() != against
        };
        selected.extend(all.iter().filter(takes_part).cloned());
        return Ok(selected);
    }
    let mut seen = BTreeSet::new();
    for label in wanted {
        if !seen.insert(label) && label != BASELINE {
            bail!("strategy `{label}` is given twice");
        }
        let one = find(all, label)?;
        if !selected.contains(&one) {
            selected.push(one);
        }
    }
    Ok(selected)
}

/// The contestant called `label`, which may end in `@N`: so many workers.
fn find(all: &[Contestant], label: &str) -> anyhow::Result<Contestant> {
    if let Some((strategy, count)) = label.rsplit_once('@') {
        let workers = count.parse().ok().filter(|count: &NonZeroU32| count.get() <= SLOTS_LIMIT);
        let Some(workers) = workers else {
            bail!("`{label}`: after the @ comes a number of workers, 1 to {SLOTS_LIMIT}");
        };
        return Ok(Contestant { workers: Some(workers), ..find(all, strategy)? });
    }
    if label == BASELINE {
        return Ok(Contestant::baseline());
    }
    match (label.split_once(':'), all.iter().find(|one| one.label() == label)) {
        (_, Some(one)) => Ok(one.clone()),
        (Some((BASELINE, again)), None) if !again.is_empty() => {
            Ok(Contestant { variant: Some(again.to_owned()), ..Contestant::baseline() })
        }
        _ => {
            let mut known: Vec<_> = all.iter().map(Contestant::label).collect();
            known.push(BASELINE.to_owned());
            bail!("no strategy is called `{label}`; there are: {}", known.join(", "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &[&str], expected: &str) {
        check_against(wanted, BASELINE, expected);
    }

    fn check_against(wanted: &[&str], against: &str, expected: &str) {
        let all = ["prefork", "handoff", "handoff:pull"].map(|label| {
            let (name, variant) =
                label.split_once(':').map_or((label, None), |(a, b)| (a, Some(b)));
            let (name, variant) = (name.to_owned(), variant.map(str::to_owned));
            Contestant {
                name,
                variant,
                launch: Launch::Serve,
                offers: Offers::ALL,
                ..Contestant::baseline()
            }
        });
        let wanted: Vec<_> = wanted.iter().map(|&label| label.to_owned()).collect();
        let seen = match select(&all, &wanted, against) {
            Ok(selected) => selected.iter().map(Contestant::label).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_baseline_always_runs_along() {
        check(&[], "baseline prefork handoff");
        check(&["all"], "baseline prefork handoff handoff:pull");
        check(&["handoff:pull", "prefork"], "baseline handoff:pull prefork");
        check(&["baseline", "prefork"], "baseline prefork");
        check(&["baseline:again"], "baseline baseline:again");
        check(&["handoff:pull@16", "baseline@2"], "baseline handoff:pull@16 baseline@2");
    }

    #[test]
    fn another_yardstick_comes_first_and_leaves_the_baseline_out() {
        check_against(&[], "handoff:pull", "handoff:pull prefork handoff");
        check_against(&["prefork", "handoff:pull"], "handoff:pull", "handoff:pull prefork");
        check_against(&["baseline", "prefork"], "handoff", "handoff baseline prefork");
        check_against(
            &["prefork"],
            "pull",
            "no strategy is called `pull`; there are: prefork, handoff, handoff:pull, baseline",
        );
    }

    #[test]
    fn its_own_number_of_workers_comes_before_what_is_asked_for() {
        let own = Contestant { workers: NonZeroU32::new(2), ..Contestant::baseline() };
        assert_eq!((own.workers_of(8), Contestant::baseline().workers_of(8)), (2, 8));
    }

    #[test]
    fn a_wrong_label_is_told_the_right_ones() {
        check(
            &["pull"],
            "no strategy is called `pull`; there are: prefork, handoff, handoff:pull, baseline",
        );
        check(&["prefork", "prefork"], "strategy `prefork` is given twice");
        check(&["prefork@0"], "`prefork@0`: after the @ comes a number of workers, 1 to 256");
    }
}
