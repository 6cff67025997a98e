//! From the text of a file to a scenario: what its types do not say is checked here, before anything starts.

use std::path::Path;

use super::spec::{Budget, CONNECTIONS_MAX, Engine, Open, Part, Rate, Spec};
use crate::load::protocol::{Beside, Connections, Pace};
use crate::trace::Arrivals;
use crate::trace::arrivals::RATE_MAX;

/// Twice what the workers can do: a block must end.
const LOAD_MAX: f64 = 2.0;

impl Spec {
    /// Reads the text of the file called `file`, beside which recorded traces are looked for.
    ///
    /// # Errors
    /// One sentence: the file, the line and column if the text is to blame, and what is wrong.
    pub fn parse(file: &str, text: &str) -> Result<Self, String> {
        let spec: Self = toml::from_str(text).map_err(|error| {
            let place = error.span().map(|span| place(text, span.start)).unwrap_or_default();
            // What it expected may come on lines of their own.
            format!("{file}{place}: {}", error.message().replace('\n', ", "))
        })?;
        let spec = spec.within(Path::new(file).parent().unwrap_or(Path::new("")));
        spec.check().map_err(|what| format!("{file}: {what}"))?;
        Ok(spec)
    }

    /// What the types do not say.
    fn check(&self) -> Result<(), String> {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || !self.name.chars().all(is_name) {
            return Err("name: use small letters, digits and hyphens".to_owned());
        }
        if self.runtimes.is_empty() {
            return Err("runtimes: name one at least".to_owned());
        }
        let seconds = |budget: Budget| [budget.full_s, budget.quick_s];
        if self.budget.is_some_and(|one| seconds(one).iter().any(|s| !(1.0..=36e3).contains(s))) {
            return Err("budget: full_s and quick_s are 1 to 36000 seconds".to_owned());
        }
        let has_lengths = |open: &Open| {
            !open.parts.is_empty() && open.parts.iter().all(|part| part.length_s.is_some())
        };
        match &self.engine {
            Engine::Closed(_) if self.budget.is_none() => {
                Err("budget: a closed loop needs one, for it has no length".to_owned())
            }
            Engine::Held(_) if self.budget.is_some() => {
                Err("budget: connections that are held take as long as they take".to_owned())
            }
            Engine::Open(open) if self.budget.is_some() && has_lengths(open) => {
                Err("budget: each part has its length_s; leave one of them out".to_owned())
            }
            Engine::Closed(closed) => few("engine.closed.clients", closed.clients.get().into()),
            Engine::Held(held) => few("engine.held.connections", held.connections.get().into()),
            Engine::Open(open) => open.check(self.budget.is_some()),
        }
    }

    /// Paths of recorded traces taken from `folder`, where they are relative.
    fn within(mut self, folder: &Path) -> Self {
        if let Engine::Open(open) = &mut self.engine {
            for part in &mut open.parts {
                part.arrivals = std::mem::take(&mut part.arrivals).within(folder);
                part.work = part.work.clone().within(folder);
            }
        }
        self
    }
}

impl Open {
    fn check(&self, has_budget: bool) -> Result<(), String> {
        if self.parts.is_empty() {
            return Err("engine.open.parts: name one at least".to_owned());
        }
        for (index, part) in self.parts.iter().enumerate() {
            part.check(has_budget).map_err(|what| format!("part {}, {what}", index + 1))?;
        }
        Ok(())
    }
}

impl Part {
    fn check(&self, has_budget: bool) -> Result<(), String> {
        if self.length_s.is_none() && !has_budget {
            return Err("length_s: give one, or a budget".to_owned());
        }
        let mean = self.work.mean().map_err(|error| format!("work: {error:#}"))?;
        match (self.rate, &self.arrivals) {
            (None, Arrivals::Recorded(_)) => {}
            (Some(_), Arrivals::Recorded(_)) => {
                return Err("rate: recorded arrivals have their own".to_owned());
            }
            (None, _) => return Err("rate: say { load = 0.7 } or { per_second = 800 }".to_owned()),
            (Some(Rate::Load(load) | Rate::Cores(load)), _)
                if !(load > 0.0 && load <= LOAD_MAX) =>
            {
                return Err(format!("rate: a load is above 0, and {LOAD_MAX} at most"));
            }
            (Some(Rate::Load(_) | Rate::Cores(_)), _) if mean.is_zero() => {
                return Err("rate: work of 0 µs makes no load; say { per_second = 800 }".to_owned());
            }
            (Some(Rate::PerSecond(rate)), _) if !(rate > 0.0 && rate <= RATE_MAX) => {
                return Err(format!("rate.per_second: above 0, and {RATE_MAX} at most"));
            }
            (Some(_), _) => {}
        }
        if let Pace::Closed { length_us, .. } = self.pace {
            if length_us.is_some() {
                let why = "pace: a closed loop plays its trace once, and has no length_us";
                return Err(why.to_owned());
            }
            if self.fault.is_some() {
                let why = "fault: a closed loop does not know when its requests were due, so nobody can be \
                           said to have waited for a fault; leave pace or fault out";
                return Err(why.to_owned());
            }
        }
        if let Connections::Kept(kept) = self.connections
            && !(kept.share > 0.0 && kept.share <= 1.0)
        {
            return Err("connections.kept.share: above 0, and 1 at most".to_owned());
        }
        // In a closed loop each client has a kept connection of its own.
        if let (Pace::Closed { clients, .. }, Connections::Kept(kept)) =
            (self.pace, self.connections)
        {
            if kept.share < 1.0 {
                let why = "connections.kept.share: in a closed loop every request is on a kept connection; \
                           leave share or pace out";
                return Err(why.to_owned());
            }
            if kept.number != clients {
                return Err(format!(
                    "connections.kept.number: a closed loop has one kept connection for each client, and this \
                     one has {clients}"
                ));
            }
        }
        let Beside { idle, silent, slow } = self.beside;
        let beside = u64::from(idle) + u64::from(silent) + u64::from(slow);
        few("beside", beside)?;
        if let Connections::Kept(kept) = self.connections {
            few("connections.kept.number", kept.number.get().into())?;
        }
        if let Pace::Closed { clients, .. } = self.pace {
            few("pace.closed.clients", clients.get().into())?;
        }
        if self.figures.iter().any(|figure| !(0.0..1.0).contains(&figure.quantile)) {
            return Err("figures: a quantile is below 1, as 0.99".to_owned());
        }
        Ok(())
    }
}

/// Whether so many connections can be open at a time.
fn few(what: &str, connections: u64) -> Result<(), String> {
    if connections <= CONNECTIONS_MAX.into() {
        return Ok(());
    }
    Err(format!("{what}: {connections} connections, and {CONNECTIONS_MAX} at most can be open"))
}

/// `:LINE:COLUMN` of a byte of `text`.
fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!(":{line}:{column}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GOOD: &str = r#"
name = "mine"
line = "what it is"
question = "What is it?"
runtimes = ["tokio"]

[[engine.open.parts]]
rate = { load = 0.5 }
work = { constant_us = 1000 }
length_s = 5
fault = { stop = { for_ms = 1000 } }
"#;

    #[test]
    fn a_file_says_what_it_says() {
        let spec = Spec::parse("mine.toml", GOOD).unwrap();
        assert_eq!((&*spec.name, spec.has_blocks(), spec.has_clients()), ("mine", true, false));
        assert_eq!(spec.budget, None);
        let Engine::Open(open) = &spec.engine else { panic!("{spec:?}") };
        let part = &open.parts[0];
        assert_eq!(part.rate, Some(Rate::Load(0.5)));
        assert_eq!(part.work.mean().unwrap(), Duration::from_millis(1));
        assert_eq!(part.length(None), Some(Duration::from_secs(5)));
        let asked = |ms| part.length(Some(Duration::from_millis(ms)));
        assert_eq!(asked(9_000), Some(Duration::from_secs(9)));
        assert_eq!(asked(1_000), Some(Duration::from_millis(1_600)), "too short for its fault");
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_with_its_place() {
        let check = |from: &str, to: &str, expected: &str| {
            assert!(GOOD.contains(from), "{from}");
            let said = Spec::parse("mine.toml", &GOOD.replace(from, to)).unwrap_err();
            assert!(said.starts_with(expected), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        };
        check("length_s", "lenght_s", "mine.toml:10:1: unknown field `lenght_s`, expected one of");
        check(
            "stop = ",
            "stip = ",
            "mine.toml:11:11: unknown variant `stip`, expected one of `kill`",
        );
        check("0.5", "\"half\"", "mine.toml:8:17: invalid type: string \"half\", expected f64");
        check("0.5 }", "0.5", "mine.toml:9:1: missing comma between key-value pairs");
        check("[\"tokio\"]", "[\"rayon\"]", "mine.toml:5:13: unknown variant `rayon`, expected");
        check("line = ", "# ", "mine.toml:1:1: missing field `line`");
        check("[\"tokio\"]", "[]", "mine.toml: runtimes: name one at least");
        check("\"mine\"", "\"Mine\"", "mine.toml: name: use small letters");
        check("0.5", "-0.5", "mine.toml: part 1, rate: a load is above 0, and 2 at most");
        check(
            "length_s",
            "beside = { idle = 4294967295, silent = 1 }\nlength_s",
            "mine.toml: part 1, beside: 4294967296 connections, and 100000 at most can be open",
        );
        check("length_s = 5\n", "", "mine.toml: part 1, length_s: give one, or a budget");
        check(
            "length_s = 5\n",
            "length_s = 5\npace = { closed = { clients = 9 } }\n",
            "mine.toml: part 1, fault: a closed loop does not know when its requests were due",
        );
        let kept = |kept: &str| {
            "length_s = 5\npace = { closed = { clients = 9 } }\nconnections = { kept = { KEPT } }\n"
                .replace("KEPT", kept)
        };
        let closed = GOOD.replace("fault = { stop = { for_ms = 1000 } }\n", "");
        let read =
            |text: &str| Spec::parse("mine.toml", &closed.replace("length_s = 5\n", &kept(text)));
        assert!(read("number = 9, requests = 5").is_ok());
        let said = read("number = 9, requests = 5, share = 0.5").unwrap_err();
        let expected = "mine.toml: part 1, connections.kept.share: in a closed loop every request";
        assert!(said.starts_with(expected), "{said}");
        let said = read("number = 8, requests = 5").unwrap_err();
        let expected = "mine.toml: part 1, connections.kept.number: a closed loop has one kept connection for \
                        each client, and this one has 9";
        assert_eq!(said, expected);
        check(
            "runtimes = [\"tokio\"]\n",
            "runtimes = [\"tokio\"]\nbudget = { full_s = 9, quick_s = 2 }\n",
            "mine.toml: budget: each part has its length_s",
        );
        check(
            "1000 }\nlength",
            "0 }\nlength",
            "mine.toml: part 1, rate: work of 0 µs makes no load",
        );
        check(
            "constant_us = 1000",
            "recorded = \"no.csv\"",
            "mine.toml: part 1, work: cannot read",
        );
        check(
            "rate = ",
            "arrivals = { recorded = \"a\" }\nrate = ",
            "mine.toml: part 1, rate: recorded",
        );
    }
}
