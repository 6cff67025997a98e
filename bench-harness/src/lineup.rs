//! Who is compared: from the command line to contestants, strangers included.

use anyhow::{Context as _, bail};

use crate::cli;
use crate::contestant::{self, BASELINE, Contestant, EVERY};
use crate::external::command::Words;
use crate::external::offers;
use crate::interrupt::Interrupt;
use crate::load::protocol::Answers;
use crate::process::Program;
use crate::registry::Registry;
use crate::serve::Usage;
use crate::server::Server;

/// The contestants that `arguments` ask for, the yardstick first.
///
/// # Errors
/// [`Usage`]: a label that names nobody, or more than one; a strategy that cannot run the program.
pub fn of(arguments: &cli::Compare, registry: &Registry) -> anyhow::Result<Vec<Contestant>> {
    select(arguments, registry).map_err(|error| Usage(format!("{error:#}")).into())
}

fn select(arguments: &cli::Compare, registry: &Registry) -> anyhow::Result<Vec<Contestant>> {
    let label = |label: &String| registry.label(label);
    let mut wanted: Vec<String> = arguments.strategies.iter().map(label).collect();
    let mut all = registry.contestants();
    let mut yardstick = BASELINE.to_owned();
    if let Some(command) = &arguments.app {
        command.parse::<Words>().map_err(|why| anyhow::anyhow!("--app: {why}"))?;
        wanted = with_programs(&wanted, registry)?;
        let is_external =
            |label: &&String| arguments.external.iter().any(|one| one.name == **label);
        if let Some(against) = arguments.against.as_ref().filter(|label| !is_external(label)) {
            with_programs(&[label(against)], registry)?;
        }
        all = all.into_iter().map(|one| one.with_app(command)).collect();
        yardstick.clone_from(&wanted[0]);
    }
    let externals = arguments.external.iter().cloned().map(Contestant::external);
    let externals: Vec<Contestant> = externals.collect();
    for (index, one) in externals.iter().enumerate() {
        let name = one.label();
        let is_taken = name == EVERY || name.split(':').next() == Some(BASELINE);
        let mut others = all.iter().chain(&externals[..index]);
        if is_taken || others.any(|other| other.label() == name) {
            bail!("--external {name}: somebody is called so already");
        }
    }
    let against = arguments.against.as_ref().map_or(yardstick, label);
    if let Some(first) = externals.iter().position(|one| one.label() == against) {
        let mut externals = externals;
        let first = externals.remove(first);
        // The yardstick's place is taken; the baseline is no longer owed one.
        let mut rest = contestant::select(&all, &wanted, BASELINE)?;
        if !wanted.iter().any(|label| label == BASELINE) {
            rest.retain(|one| one.label() != BASELINE);
        }
        return Ok([first].into_iter().chain(rest).chain(externals).collect());
    }
    let mut selected = contestant::select(&all, &wanted, &against)?;
    selected.extend(externals);
    Ok(selected)
}

/// The labels of those that run another program as their workers: of the wanted ones all, or it is an
/// error; without wishes the first of each name.
fn with_programs(wanted: &[String], registry: &Registry) -> anyhow::Result<Vec<String>> {
    if wanted.is_empty() || wanted == [EVERY] {
        let mut labels = Vec::new();
        let mut names = Vec::new();
        for entry in registry.entries().iter().filter(|one| one.refuses_programs().is_none()) {
            if wanted.is_empty() && names.contains(&entry.name) {
                continue;
            }
            names.push(entry.name);
            labels.push(registry.label(&format!("{}:{}", entry.name, entry.variant)));
        }
        if labels.is_empty() {
            bail!("--app: no strategy runs another program as its workers");
        }
        return Ok(labels);
    }
    for label in wanted {
        if label.split([':', '@']).next() == Some(BASELINE) {
            bail!("--app: the {BASELINE} runs our own app only; leave it out");
        }
        let strategy = label.rsplit_once('@').map_or(label.as_str(), |(strategy, _)| strategy);
        let entry = registry.find(strategy).map_err(anyhow::Error::msg)?;
        if let Some(reason) = entry.refuses_programs() {
            bail!("--app: strategy `{label}` cannot run it: {reason}");
        }
    }
    Ok(wanted.to_vec())
}

/// Starts everybody who is not ours once, asks what they offer, and ends them again: who cannot be
/// measured says so before anything is.
///
/// # Errors
/// One of them did not come up or does not answer; or we were interrupted.
pub fn acquainted(
    program: &Program,
    contestants: &[Contestant],
    workers: u32,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<Contestant>> {
    let mut acquainted = contestants.to_vec();
    let is_strange = |one: &&mut Contestant| one.launch.answers() == Answers::Any;
    for contestant in acquainted.iter_mut().filter(is_strange) {
        let label = contestant.label();
        let workers = contestant.workers_of(workers);
        let server =
            Server::start(program, contestant, workers, contestant.runtimes[0], interrupt)?;
        contestant.offers = offers::ask(server.address(), interrupt)
            .with_context(|| format!("asking {label} what it offers"))?;
        server.end().with_context(|| label.clone())?;
    }
    Ok(acquainted)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn check(options: &[&str], expected: &str) {
        let line = ["forkherd-bench", "compare"].iter().chain(options);
        let Command::Compare(arguments) = Cli::try_parse_from(line).unwrap().command else {
            panic!("compare was asked for");
        };
        let seen = match of(&arguments, &Registry::builtin()) {
            Ok(all) => all.iter().map(Contestant::label).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert!(seen.starts_with(expected), "{options:?}: {seen}");
    }

    #[test]
    fn strangers_take_part_beside_whoever_else_does() {
        check(&["--external", "a=x {port}"], "baseline prefork handoff reuseport a");
        let two = ["--external=a=x {port}", "--external=b=y {port}", "--strategies=prefork"];
        check(&two, "baseline prefork a b");
        check(&[&two[..], &["--against=b"]].concat(), "b prefork a");
        check(&[&two[..], &["--against=prefork"]].concat(), "prefork a b");
        check(&["--external=a=x {port}", "--external=a=y {port}"], "--external a: somebody is");
        check(&["--external=prefork=x {port}"], "--external prefork: somebody is called so");
        check(&["--external=baseline:x=x {port}"], "--external baseline:x: somebody is");
    }

    #[test]
    fn a_program_of_ones_own_runs_under_those_that_can() {
        check(&["--app=./serve"], "prefork");
        check(&["--app=./serve", "--strategies=prefork:herd@3"], "prefork:herd@3");
        check(&["--app=./serve", "--against=prefork:herd"], "prefork:herd prefork");
        for (name, why) in [("handoff", "takes"), ("reuseport:steered", "covers")] {
            check(
                &["--app=./serve", &format!("--strategies={name}")],
                &format!(
                    "--app: strategy `{name}` cannot run it: a program that knows LISTEN_FDS {why}"
                ),
            );
        }
        for option in ["--strategies=baseline", "--against=baseline"] {
            check(&["--app=./serve", option], "--app: the baseline runs our own app");
        }
        check(&["--app=./serve", "--against=handoff"], "--app: strategy `handoff` cannot run it");
        let both = ["--app=./serve", "--external=a=x {port}", "--against=a"];
        check(&both, "a prefork");
        check(&["--app=it's"], "--app: a quote is not closed");
    }
}
