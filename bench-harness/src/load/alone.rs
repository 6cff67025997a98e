//! Load without a comparison: one server that runs already, and what came of it in a few lines.
//!
//! For a look beside the tools of others (`wrk`, `ab`), which are closed loops too.

use std::fmt::Write as _;
use std::net::SocketAddrV4;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::category::{Category, Tally};
use super::driver::DEADLINE;
use super::player::Score;
use super::protocol::{
    Answers, Arrival, Beside, Connections, Handler, Kept, Pace, Record, Target, Trace,
};
use crate::measure::generator::Lags;
use crate::measure::latency::{Latency, to_f64};
use crate::trace::{Shape, Work};

/// What is asked for, and of whom: `http://127.0.0.1:8080/spin/500`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Url {
    target: SocketAddrV4,
    handler: Handler,
    work_us: u64,
}

impl FromStr for Url {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = || {
            let (address, path) = text.strip_prefix("http://")?.split_once('/')?;
            let (handler, work) = match path.split_once('/')? {
                ("sleep", work) => (Handler::Sleeps, work),
                ("spin", work) => (Handler::Spins, work),
                _ => return None,
            };
            let (target, work_us) = (address.parse().ok()?, work.parse().ok()?);
            Some(Self { target, handler, work_us })
        };
        parts().ok_or("expected http://IPV4:PORT/spin/MICROSECONDS, or /sleep/ instead of /spin/")
    }
}

/// How it is loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Of whom.
    pub(super) url: Url,
    /// Requests outstanding in a closed loop; kept connections of either.
    pub(super) clients: NonZeroU32,
    /// How long.
    pub(super) length: Duration,
    /// Whether connections are kept, or one is made for each request.
    pub(super) keep_alive: bool,
    /// Requests per second of an open loop; without it the loop is closed.
    pub(super) rate: Option<f64>,
    /// Draws the arrivals of an open loop.
    pub(super) seed: u64,
}

impl Asked {
    /// Loads the server, and says what came of it; whether no request failed.
    ///
    /// # Errors
    /// The rate is none, or the machine gave no sockets.
    pub(super) fn run(&self) -> anyhow::Result<(String, bool)> {
        let trace = self.play()?;
        Ok((self.text(&trace), trace.requests().failed() == 0))
    }

    fn play(&self) -> anyhow::Result<Trace> {
        let Url { target: address, handler, work_us } = self.url;
        let target = Target { address, answers: Answers::Any };
        let (arrivals, pace) = match self.rate {
            Some(rate) => {
                let work = Work::Constant(Duration::from_micros(work_us));
                let shape = Shape { handler, ..Shape::poisson(rate, work, self.length) };
                (shape.draw(self.seed)?, Pace::Open)
            }
            None => {
                let length_us = u64::try_from(self.length.as_micros())?;
                let pace = Pace::Closed { clients: self.clients, length_us: Some(length_us) };
                (vec![Arrival { at_us: 0, service_us: work_us, handler }], pace)
            }
        };
        let connections = if self.keep_alive {
            let (number, requests) = (self.clients, NonZeroU32::MAX);
            Connections::Kept(Kept { number, requests, share: 1.0 })
        } else {
            Connections::Fresh
        };
        let (beside, kills, deadline) = (Beside::default(), false, DEADLINE);
        let arrivals = &arrivals;
        Ok(Score { target, arrivals, pace, connections, beside, kills, deadline }.play()?)
    }

    fn text(&self, trace: &Trace) -> String {
        // As `compare` counts them: who was given up as late waited so long at least.
        let latency = Latency::of(trace.records.iter().filter_map(Record::latency_ns));
        let requests = trace.requests();
        let seconds = to_f64(trace.wall_us) / 1e6;
        let per_second = to_f64(requests.of(Category::Served)) / seconds.max(1e-6);
        let connections = if self.keep_alive { "kept connections" } else { "a connection each" };
        let ms = |us: Option<f64>| us.map_or("–".to_owned(), |us| format!("{:.3} ms", us / 1e3));
        let mut text = match self.rate {
            None => {
                format!("closed loop, {} clients, {connections}, {seconds:.1} s\n", self.clients)
            }
            Some(rate) => format!(
                "open loop, {rate} requests/s, Poisson (seed {}), {connections}, {seconds:.1} s\n",
                self.seed
            ),
        };
        let late = match requests.of(Category::Late) {
            0 => "",
            _ => "; late ones as long as they were waited for",
        };
        let mut line = |words: String| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {words}");
        };
        line(format!("{per_second:.0} requests/s served"));
        line(format!(
            "latency: p50 {}, p99 {}, p99.9 {}; mean {}, standard deviation {}{late}",
            ms(latency.p50_us),
            ms(latency.p99_us),
            ms(latency.p999_us),
            ms(latency.mean_us),
            ms(latency.deviation_us)
        ));
        line(format!("requests: {}", words(&requests)));
        line(format!("connections: {} made; {}", trace.made, words(&trace.connections)));
        let mut lags = Lags::default();
        lags.add(trace);
        if let Some(generator) = lags.summary() {
            line(format!(
                "this client: {:.2} of a core; late by p50 {:.0}, p99 {:.0}, at most {:.0} µs",
                generator.cores, generator.lag_p50_us, generator.lag_p99_us, generator.lag_max_us
            ));
        }
        if self.rate.is_none() {
            line("a closed loop sends nothing while the server stalls, and so hides it".to_owned());
        }
        text
    }
}

/// `7 served, 1 late`.
fn words(tally: &Tally) -> String {
    let used = Category::ALL.into_iter().filter(|&category| tally.of(category) > 0);
    let words = used.map(|category| format!("{} {}", tally.of(category), category.word()));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(rate: Option<f64>) -> Asked {
        Asked {
            url: "http://127.0.0.1:8080/spin/500".parse().unwrap(),
            clients: NonZeroU32::new(4).unwrap(),
            length: Duration::from_secs(1),
            keep_alive: true,
            rate,
            seed: 7,
        }
    }

    #[test]
    fn addresses_say_who_and_what() {
        let url: Url = "http://127.0.0.1:8080/sleep/1500".parse().unwrap();
        let target = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(url, Url { target, handler: Handler::Sleeps, work_us: 1_500 });
        for wrong in ["127.0.0.1:80/spin/5", "http://host:80/spin/5", "http://127.0.0.1:80/"] {
            assert!(wrong.parse::<Url>().unwrap_err().starts_with("expected http://"), "{wrong}");
        }
    }

    fn record(latency_us: u64) -> Record {
        Record {
            lag_us: 3,
            unseen_us: 0,
            latency_us,
            service_us: Some(500),
            worker: Some(0),
            taken_us: None,
            after_ns: None,
            category: Category::Served,
        }
    }

    #[test]
    fn who_is_never_answered_is_in_the_latency_and_not_in_what_was_served() {
        let late = Record { category: Category::Late, ..record(10_000_000) };
        let reset = Record { category: Category::Reset, ..record(1) };
        let records = (0..60).map(|_| record(1_000)).chain([late; 40]).chain([reset; 9]).collect();
        let trace = Trace { records, wall_us: 2_000_000, ..Trace::default() };
        let text = asked(Some(50.0)).text(&trace);
        assert!(text.contains("  30 requests/s served\n"), "{text}");
        assert!(text.contains("latency: p50 1.000 ms") && text.contains("mean 400"), "{text}");
        assert!(text.contains("requests: 60 served, 9 reset, 40 late\n"), "{text}");
        assert!(text.contains("late ones as long as they were waited for"), "{text}");
    }

    #[test]
    fn what_came_of_it_is_labelled_as_what_it_is() {
        let records = (0..100).map(|index| record(1_000 + index % 2)).collect();
        let mut trace = Trace { records, wall_us: 2_000_000, made: 4, ..Trace::default() };
        (0..4).for_each(|_| trace.connections.count(Category::Served));
        let text = asked(None).text(&trace);
        assert!(text.starts_with("closed loop, 4 clients, kept connections, 2.0 s\n"), "{text}");
        assert!(text.contains("  50 requests/s served\n"), "{text}");
        assert!(text.contains("p50 1.000 ms, p99 –"), "{text}");
        assert!(text.contains("  connections: 4 made; 4 served\n"), "{text}");
        assert!(text.contains("hides it"), "{text}");
        let text = asked(Some(50.0)).text(&trace);
        assert!(text.starts_with("open loop, 50 requests/s, Poisson (seed 7), kept"), "{text}");
        assert!(!text.contains("hides it"), "{text}");
    }

    #[test]
    fn a_rate_that_is_none_is_an_error() {
        assert!(asked(Some(0.0)).run().is_err());
    }
}
