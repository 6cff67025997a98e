//! Open-loop traces, drawn beforehand from a seed: the same arrivals and work for everyone.
//!
//! [`Arrivals`] say when requests come, [`Work`] how much each brings, [`Handler`] what a worker
//! does with it. All three are plain data as it stands in a scenario file; drawing makes an
//! [`Arrival`] of each request. Arrivals and work come from two streams of the same seed, so that
//! another work leaves the arrivals as they were.

pub mod arrivals;
pub mod quantiles;
pub mod recorded;
pub mod work;

use std::time::Duration;

use anyhow::ensure;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

pub use crate::load::protocol::{Arrival, Handler};
pub use arrivals::Arrivals;
pub use quantiles::Quantiles;
pub use work::Work;

/// Tells the stream of the work from that of the arrivals.
const OF_WORK: u64 = 0x7761_726b;

/// What a trace is drawn from.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// How long arrivals come.
    pub length: Duration,
    /// Mean arrivals per second; recorded arrivals have their own, and it is not looked at.
    pub per_second: f64,
    /// How they come.
    pub arrivals: Arrivals,
    /// How much work each brings.
    pub work: Work,
    /// What is done with it.
    pub handler: Handler,
}

impl Shape {
    /// Poisson arrivals of sleeping work, at a given rate.
    #[must_use]
    pub fn poisson(per_second: f64, work: Work, length: Duration) -> Self {
        let (arrivals, handler) = (Arrivals::Poisson, Handler::Sleeps);
        Self { length, per_second, arrivals, work, handler }
    }

    /// Poisson arrivals of sleeping work that keep `workers` workers busy for the fraction `load` of
    /// the time.
    ///
    /// # Errors
    /// The work cannot be drawn, or is nothing.
    pub fn at_load(load: f64, workers: u32, work: Work, length: Duration) -> anyhow::Result<Self> {
        let mean = work.mean()?;
        ensure!(!mean.is_zero(), "work of 0 µs makes no load; give a rate instead");
        Ok(Self::poisson(load * f64::from(workers) / mean.as_secs_f64(), work, length))
    }

    /// Draws a trace.
    ///
    /// # Errors
    /// The rate is not positive, the work cannot be drawn, or a recorded trace cannot be read.
    pub fn draw(&self, seed: u64) -> anyhow::Result<Vec<Arrival>> {
        if let (Arrivals::Recorded(times), Work::Recorded(work)) = (&self.arrivals, &self.work)
            && times == work
        {
            // Line by line: whatever in the record depends on each other still does.
            let rows = recorded::read(times)?.into_iter();
            let arrivals = rows.map(|row| self.arrival(row.at_us, row.service_us));
            return Ok(arrivals.take_while(|one| self.is_within(one.at_us)).collect());
        }
        let mut random = SmallRng::seed_from_u64(seed);
        let times = self.arrivals.draw(self.per_second, self.length, &mut random)?;
        let work = self.work.sampler()?;
        let mut random = SmallRng::seed_from_u64(seed ^ OF_WORK);
        let arrivals = times.into_iter().take_while(|&at_us| self.is_within(at_us));
        Ok(arrivals.map(|at_us| self.arrival(at_us, work.draw(&mut random))).collect())
    }

    fn is_within(&self, at_us: u64) -> bool {
        u128::from(at_us) < self.length.as_micros()
    }

    fn arrival(&self, at_us: u64, service_us: u64) -> Arrival {
        Arrival { at_us, service_us, handler: self.handler }
    }
}

/// Work up to this is *short*: the mean of the trace, in microseconds.
///
/// Where some work is a hundred times the rest, the tail of all requests is the long work itself;
/// what a strategy does about it is seen in the tail of the short ones. Of bimodal work these are
/// exactly the short ones, of constant work all.
#[must_use]
pub fn short_us(arrivals: &[Arrival]) -> u64 {
    // At most a minute each: no trace overflows.
    let sum: u64 = arrivals.iter().map(|arrival| arrival.service_us).sum();
    sum.checked_div(arrivals.len() as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::measure::latency::to_f64;

    #[test]
    fn a_trace_has_its_rate_and_its_mean_and_comes_back_with_its_seed() {
        let mean = Duration::from_millis(4);
        let work = Work::Exponential(mean);
        let shape = Shape::at_load(0.7, 8, work, Duration::from_secs(100)).unwrap();
        let trace = shape.draw(5).unwrap();
        assert_eq!(trace, shape.draw(5).unwrap());
        assert_ne!(trace, shape.draw(6).unwrap());
        let count = to_f64(trace.len() as u64);
        assert!((count / 140_000.0 - 1.0).abs() < 0.02, "{count}");
        let work: u64 = trace.iter().map(|arrival| arrival.service_us).sum();
        assert!((to_f64(work) / count / 4_000.0 - 1.0).abs() < 0.02, "{work}");
        assert!(trace.is_sorted_by_key(|arrival| arrival.at_us));
    }

    #[test]
    fn other_work_leaves_the_arrivals_as_they_were() {
        let draw = |work| {
            let trace = Shape::poisson(500.0, work, Duration::from_secs(2)).draw(9).unwrap();
            trace.into_iter().map(|arrival| arrival.at_us).collect::<Vec<_>>()
        };
        let ms = Duration::from_millis;
        assert_eq!(draw(Work::Constant(ms(1))), draw(Work::Exponential(ms(7))));
    }

    #[test]
    fn short_is_the_short_work_of_two_kinds_and_all_of_one() {
        let short = Duration::from_micros(2_700);
        let work = Work::Bimodal { short, times: 100, one_in: 200 };
        let trace = Shape::poisson(1_000.0, work, Duration::from_secs(20)).draw(1).unwrap();
        let limit = short_us(&trace);
        assert!((2_700..270_000).contains(&limit), "{limit}");
        let one = Work::Constant(short);
        let trace = Shape::poisson(1_000.0, one, Duration::from_secs(1)).draw(1).unwrap();
        assert_eq!((short_us(&trace), short_us(&[])), (2_700, 0));
    }

    #[test]
    fn a_recorded_trace_is_played_line_by_line_and_cut_to_its_length() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"at_us,service_us\n0,700\n50,2\n50,900\n2000000,1\n").unwrap();
        let path = file.path().to_owned();
        let shape = Shape {
            arrivals: Arrivals::Recorded(path.clone()),
            handler: Handler::Spins,
            ..Shape::poisson(0.0, Work::Recorded(path.clone()), Duration::from_secs(1))
        };
        let seen = shape.draw(1).unwrap();
        let one = |at_us, service_us| Arrival { at_us, service_us, handler: Handler::Spins };
        assert_eq!(seen, [one(0, 700), one(50, 2), one(50, 900)]);

        // Its work alone, drawn: its values and no others, about as often.
        let shape = Shape::poisson(20_000.0, Work::Recorded(path), Duration::from_secs(1));
        let seen = shape.draw(1).unwrap();
        for value in [700, 2, 900, 1] {
            let count = seen.iter().filter(|one| one.service_us == value).count();
            let share = to_f64(count as u64) / to_f64(seen.len() as u64);
            assert!((share - 0.25).abs() < 0.02, "{value}: {share}");
        }
        assert!(seen.iter().all(|one| [700, 2, 900, 1].contains(&one.service_us)));
    }

    #[test]
    fn no_work_makes_no_load() {
        let none = Work::Constant(Duration::ZERO);
        let error = Shape::at_load(0.5, 2, none, Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.to_string(), "work of 0 µs makes no load; give a rate instead");
    }
}
