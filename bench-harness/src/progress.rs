//! How far a comparison is: a bar with the time left on a terminal, else a line now and then.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is printed where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// Progress towards a planned total; the plan is kept, so elapsed time is the measure.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    terminal: bool,
    done: Cell<Duration>,
    /// The scenario that runs, since when, and its share of the total.
    name: RefCell<String>,
    started: Cell<Instant>,
    share: Cell<Duration>,
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
            told: Instant::now().into(),
        }
    }

    /// A scenario begins that may take `share` of the total.
    pub fn begin(&self, name: &str, share: Duration) {
        self.started.set(Instant::now());
        self.share.set(share);
        self.name.replace(name.to_owned());
        self.tell();
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
        let text = format!("{}, about {} s left", self.name.borrow(), self.left().as_secs());
        if !self.terminal {
            // Standard error may be closed; progress is not worth failing for.
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
        self.bar.set_position(milliseconds(self.position()));
        self.bar.set_message(text);
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
