//! Open-loop traces, drawn beforehand from a seed: the same arrivals and work for everyone.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp};

use crate::load::protocol::Arrival;

/// What a trace is drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// How long arrivals come.
    pub length: Duration,
    /// Mean arrivals per second; Poisson.
    pub per_second: f64,
    /// How much work each brings.
    pub work: Work,
}

/// How work is distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// All the same.
    Constant(Duration),
    /// Exponential with this mean: mostly short, some long.
    Exponential(Duration),
    /// One in so many at random is so many times as long as the others.
    Bimodal {
        /// The work of the others.
        short: Duration,
        /// How many times as long the long ones are.
        times: u32,
        /// One in so many is long.
        one_in: u32,
    },
}

impl Work {
    /// The mean.
    #[must_use]
    pub fn mean(self) -> Duration {
        match self {
            Self::Constant(mean) | Self::Exponential(mean) => mean,
            Self::Bimodal { short, times, one_in } => short * (one_in - 1 + times) / one_in,
        }
    }
}

impl Work {
    /// The shortest there is, in whole microseconds.
    #[must_use]
    pub fn shortest_us(self) -> u64 {
        match self {
            Self::Constant(work) | Self::Bimodal { short: work, .. } => microseconds(work),
            Self::Exponential(_) => 0,
        }
    }
}

impl Shape {
    /// Arrivals that keep `workers` workers busy for the fraction `load` of the time.
    #[must_use]
    pub fn at_load(load: f64, workers: u32, work: Work, length: Duration) -> Self {
        let per_second = load * f64::from(workers) / work.mean().as_secs_f64();
        Self { length, per_second, work }
    }

    /// Draws a trace.
    ///
    /// # Errors
    /// The shape has no positive rate or mean.
    pub fn draw(&self, seed: u64) -> anyhow::Result<Vec<Arrival>> {
        let mut random = SmallRng::seed_from_u64(seed);
        let gap = Exp::new(self.per_second)?;
        let work = Exp::new(1.0 / self.work.mean().as_secs_f64())?;
        let mut arrivals = Vec::new();
        let mut at = gap.sample(&mut random);
        while at < self.length.as_secs_f64() {
            let service =
                match self.work {
                    Work::Constant(service) => service,
                    Work::Exponential(_) => Duration::from_secs_f64(work.sample(&mut random)),
                    Work::Bimodal { short, times, one_in } => {
                        if random.random_range(0..one_in) == 0 { short * times } else { short }
                    }
                };
            let at_us = microseconds(Duration::from_secs_f64(at));
            arrivals.push(Arrival { at_us, service_us: microseconds(service), hangs: false });
            at += gap.sample(&mut random);
        }
        Ok(arrivals)
    }
}

/// Whole microseconds.
fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::latency::to_f64;

    #[test]
    fn a_trace_has_its_rate_and_its_mean_and_comes_back_with_its_seed() {
        let mean = Duration::from_millis(4);
        let shape = Shape::at_load(0.7, 8, Work::Exponential(mean), Duration::from_secs(100));
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
    fn bimodal_work_has_its_mean_and_its_share_of_long_ones() {
        let short = Duration::from_micros(2_700);
        let work = Work::Bimodal { short, times: 100, one_in: 200 };
        assert_eq!(work.mean(), Duration::from_nanos(4_036_500));
        let trace = Shape::at_load(0.7, 8, work, Duration::from_secs(200)).draw(3).unwrap();
        let long = trace.iter().filter(|arrival| arrival.service_us == 270_000).count();
        let share = to_f64(long as u64) / to_f64(trace.len() as u64);
        assert!((share / 0.005 - 1.0).abs() < 0.1, "{share}");
        assert!(trace.iter().all(|arrival| [2_700, 270_000].contains(&arrival.service_us)));
    }

    #[test]
    fn constant_work_is_constant() {
        let work = Work::Constant(Duration::from_millis(2));
        let trace = Shape::at_load(0.5, 2, work, Duration::from_secs(1)).draw(1).unwrap();
        assert!(trace.iter().all(|arrival| arrival.service_us == 2_000));
    }
}
