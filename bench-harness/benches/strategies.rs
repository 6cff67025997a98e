//! What a short connection costs, by strategy and number of workers, measured by criterion.
//!
//! ```text
//! cargo bench -p forkherd-bench                      # about a minute
//! cargo bench -p forkherd-bench -- --quick           # about ten seconds; its intervals mean nothing
//! cargo bench -p forkherd-bench -- handoff/          # one strategy
//! ```
//!
//! There is one group; `target/criterion/short-connections/report/index.html` sets its strategies
//! and workers side by side (`../8/report` those with eight workers, `../handoff/report` those of
//! one strategy). Orders and setting are those of the scenario of the same name in `compare`:
//! server and client are child processes, all on one core. Time per connection is therefore what
//! kernel, server and client *together* spend on it.
//!
//! For cost, then: what a strategy adds to a connection, what more workers add to a strategy, and
//! what a change of ours adds to both (criterion remembers the last run). Not for capacity, since
//! one core gains nothing from eight workers, and not for percentiles: a closed loop waits for a
//! stalled server instead of measuring it, and criterion's spread is one of means. Strategies come
//! one after the other here, so the mood of the machine is in their ratios: small differences are
//! for `compare`, which interleaves them.

#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::{Context as _, bail};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};

use forkherd_bench::cli::Runtime;
use forkherd_bench::contestant::{self, BASELINE, Contestant};
use forkherd_bench::interrupt::Interrupt;
use forkherd_bench::load::Handle;
use forkherd_bench::load::category::Category;
use forkherd_bench::load::protocol::{Order, Slice, Target};
use forkherd_bench::pin::Pin;
use forkherd_bench::process::Program;
use forkherd_bench::registry::Registry;
use forkherd_bench::scenario::builtin;
use forkherd_bench::scenario::spec::{Engine, Slice as Visit};
use forkherd_bench::server::Server;

/// Worker processes: alone, one more than needed, a herd.
const WORKERS: [u32; 3] = [1, 2, 8];

/// Most connections in one order: about a second, so that the load process is never taken for hung.
const ORDER_MAX: u32 = 20_000;

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    short_connections(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

fn short_connections(criterion: &mut Criterion) -> anyhow::Result<()> {
    let mut group = criterion.benchmark_group(SCENARIO);
    // Flat: samples of equal length, because one of a single connection would say nothing.
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    // Twenty samples say no more in 100,000 resamples than in a tenth of them, and drawing the
    // density of the former takes longer than measuring.
    group.nresamples(10_000);
    // One server, run three times: up to 22 % apart, on two virtual cores that others use too.
    group.noise_threshold(0.2);
    group.throughput(Throughput::Elements(1));
    for contestant in contestant::select(&Registry::builtin().contestants(), &[], BASELINE)? {
        if !contestant.runtimes.contains(&Runtime::Blocking) {
            continue;
        }
        let label = contestant.label();
        for workers in WORKERS {
            // Started at the first call, so that what a filter leaves out is never started.
            let mut bout = None;
            group.bench_function(BenchmarkId::new(&label, workers), |bencher| {
                let bout = bout.get_or_insert_with(|| {
                    Bout::start(&contestant, workers)
                        .unwrap_or_else(|error| panic!("{label}, {workers} workers: {error:#}"))
                });
                bencher.iter_custom(|count| {
                    bout.connect(count)
                        .unwrap_or_else(|error| panic!("{label}, {workers} workers: {error:#}"))
                });
            });
            if let Some(Bout { server, .. }) = bout {
                server.end().with_context(|| format!("{label}, {workers} workers"))?;
            }
        }
    }
    group.finish();
    Ok(())
}

/// A running contestant and its client; dropping it ends both.
struct Bout {
    server: Server,
    target: Target,
    load: Handle,
    /// Connections outstanding, and in a slice, as in the scenario.
    clients: u32,
    slice: u32,
}

/// Whose orders these are.
const SCENARIO: &str = "short-connections";

impl Bout {
    /// Starts both and warms them up.
    fn start(contestant: &Contestant, workers: u32) -> anyhow::Result<Self> {
        let program = Program::at(env!("CARGO_BIN_EXE_forkherd-bench"));
        // Never set: Ctrl-C ends this process at once, and its end ends its children.
        let interrupt = Interrupt::default();
        // Inherited by both; criterion's own arithmetic may run elsewhere.
        let _pin = Pin::to_one_core().context("cannot pin to one core")?;
        let server = Server::start(&program, contestant, workers, Runtime::Blocking, &interrupt)?;
        let target = server.target();
        let engine = builtin::find(SCENARIO).map(|spec| spec.engine);
        let Some(Engine::Closed(closed)) = engine else { bail!("{SCENARIO} is no closed loop") };
        let Visit::Fresh(slice) = closed.slice else { bail!("{SCENARIO} keeps connections") };
        let load = Handle::start(&program, &interrupt)?;
        let (clients, slice) = (closed.clients.get(), slice.get());
        let mut bout = Self { server, target, load, clients, slice };
        // `--quick` has no warm-up of its own.
        bout.connect(0)?;
        Ok(bout)
    }

    /// The time `count` connections take, from the first connect to the last end-of-file.
    ///
    /// Criterion begins with one and goes on by doubling. So few do not keep the clients busy, and
    /// would measure another thing than the many: fewer than a slice are a fraction of a slice.
    fn connect(&mut self, count: u64) -> anyhow::Result<Duration> {
        let made = count.max(self.slice.into());
        let mut left = made;
        let mut wall_ns = 0;
        while left > 0 {
            let connections = u32::try_from(left).unwrap_or(ORDER_MAX).min(ORDER_MAX);
            let order = Order::Short { target: self.target, clients: self.clients, connections };
            let slice = self.load.slice(&order)?;
            check(&slice, connections)?;
            wall_ns += u128::from(slice.wall_ns);
            left -= u64::from(connections);
        }
        let share_ns = wall_ns * u128::from(count) / u128::from(made);
        Ok(Duration::from_nanos(u64::try_from(share_ns)?))
    }
}

/// Every connection must be answered, or the time is not theirs.
fn check(slice: &Slice, made: u32) -> anyhow::Result<()> {
    for category in Category::ALL.into_iter().filter(|&one| one != Category::Served) {
        let count = slice.tally.of(category);
        if count > 0 {
            bail!("{count} of {made} connections {}", category.word());
        }
    }
    let served = slice.tally.of(Category::Served);
    if served != u64::from(made) {
        bail!("{served} of {made} connections served, the others unaccounted for");
    }
    Ok(())
}
