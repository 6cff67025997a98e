//! How far a comparison is: a bar with the time left on a terminal, else a line per scenario.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Progress towards a planned total; the plan is kept, so elapsed time is the measure.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    terminal: bool,
    done: std::cell::Cell<Duration>,
    started: std::cell::Cell<Instant>,
    share: std::cell::Cell<Duration>,
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
            started: Instant::now().into(),
            share: Duration::ZERO.into(),
        }
    }

    /// A scenario begins that may take `share` of the total.
    pub fn begin(&self, name: &str, share: Duration) {
        self.started.set(Instant::now());
        self.share.set(share);
        self.tick(name);
        if !self.terminal {
            // Standard error may be closed; progress is not worth failing for.
            let _ = writeln!(
                std::io::stderr().lock(),
                "{name}: about {} s, then {} s more",
                share.as_secs(),
                self.left().saturating_sub(share).as_secs()
            );
        }
    }

    /// Some of the current scenario is done.
    pub fn tick(&self, name: &str) {
        self.bar.set_position(milliseconds(self.position()));
        self.bar.set_message(format!("{name}, about {} s left", self.left().as_secs()));
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
        self.done.get() + self.started.get().elapsed().min(self.share.get())
    }

    fn left(&self) -> Duration {
        let total = Duration::from_millis(self.bar.length().unwrap_or_default());
        total.saturating_sub(self.position())
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
