//! How far a comparison is: a bar with the time left on a terminal, else a line now and then.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal as _, Write as _};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is printed where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// Progress towards a planned total; the plan is kept, so elapsed time is the measure. Only where rounds were
/// asked for, however long they take, nobody planned: there rounds are.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    terminal: bool,
    done: Cell<Duration>,
    /// The scenario that runs, since when, and its share of the total.
    name: RefCell<String>,
    started: Cell<Instant>,
    share: Cell<Duration>,
    /// Of its rounds, if so many were asked for: those that are done, and all.
    rounds: Cell<Option<(u32, NonZeroU32)>>,
    /// When the last line was printed.
    told: Cell<Instant>,
}

impl Progress {
    /// Progress over `total`, drawn on standard error if that is a terminal.
    #[must_use]
    pub fn new(total: Duration) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(milliseconds(total)), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            terminal,
            done: Duration::ZERO.into(),
            name: String::new().into(),
            started: Instant::now().into(),
            share: Duration::ZERO.into(),
            rounds: None.into(),
            told: Instant::now().into(),
        }
    }

    /// A scenario begins that may take `share` of the total, or as long as its `rounds` take.
    pub fn begin(&self, name: &str, share: Duration, rounds: Option<NonZeroU32>) {
        self.started.set(Instant::now());
        self.share.set(share);
        self.rounds.set(rounds.map(|rounds| (0, rounds)));
        self.name.replace(name.to_owned());
        self.tell();
    }

    /// So many rounds of the current scenario are done.
    pub fn round(&self, done: u32) {
        self.rounds.set(self.rounds.get().map(|(_, rounds)| (done, rounds)));
        self.tick();
    }

    /// Some of the current scenario is done, or some time has passed.
    pub fn tick(&self) {
        if self.terminal || self.told.get().elapsed() >= EVERY {
            self.tell();
        }
    }

    /// Draws the bar, or prints a line.
    fn tell(&self) {
        self.told.set(Instant::now());
        let text = self.text();
        if !self.terminal {
            // Standard error may be closed; progress is not worth failing for.
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
        self.bar.set_position(milliseconds(self.position()));
        self.bar.set_message(text);
    }

    /// What is told.
    fn text(&self) -> String {
        let name = self.name.borrow();
        match self.rounds.get() {
            Some((done, rounds)) => format!("{name}, {done} of {rounds} rounds done"),
            None => format!("{name}, about {} s left", self.left().as_secs()),
        }
    }

    /// The current scenario is done.
    pub fn end(&self) {
        self.done.set(self.done.get() + self.share.replace(Duration::ZERO));
    }

    /// Nothing is left to draw.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn position(&self) -> Duration {
        let share = self.share.get();
        self.done.get()
            + match self.rounds.get() {
                Some((done, rounds)) => share * done.min(rounds.get()) / rounds.get(),
                None => self.started.get().elapsed().min(share),
            }
    }

    fn left(&self) -> Duration {
        let total = Duration::from_millis(self.bar.length().unwrap_or_default());
        total.saturating_sub(self.position())
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_were_asked_for_are_told_and_not_a_time_that_nobody_knows() {
        let progress = Progress::new(Duration::from_secs(1_000));
        progress.begin("first", Duration::from_secs(600), NonZeroU32::new(4));
        assert_eq!(progress.text(), "first, 0 of 4 rounds done");
        progress.round(3);
        assert_eq!(progress.text(), "first, 3 of 4 rounds done");
        assert_eq!(progress.position(), Duration::from_secs(450));
        progress.end();
        progress.begin("second", Duration::from_secs(400), None);
        progress.round(1);
        // However slow this machine is.
        let text = progress.text();
        let left: u64 = text
            .strip_prefix("second, about ")
            .and_then(|rest| rest.strip_suffix(" s left"))
            .and_then(|left| left.parse().ok())
            .unwrap_or_else(|| panic!("{text}"));
        assert!((1..=400).contains(&left), "{text}");
    }
}
