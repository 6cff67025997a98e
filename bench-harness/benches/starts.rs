//! How long it takes until 8 and until 128 workers serve, by fork and by a new start, measured by
//! criterion.
//!
//! ```text
//! cargo bench -p forkherd-bench --bench starts
//! ```
//!
//! From the start of the supervisor's own process until it says that every worker is ready; ending them is
//! not measured. A fork copies the supervisor's memory, which is small here: with 200 MiB of touched memory
//! it costs 5 ms per worker, and a new start what it costs here (Linux 6.18).

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use anyhow::Context as _;
use criterion::{BenchmarkId, Criterion, SamplingMode};

use forkherd_bench::cli::Runtime;
use forkherd_bench::contestant::Contestant;
use forkherd_bench::interrupt::Interrupt;
use forkherd_bench::process::Program;
use forkherd_bench::registry::Registry;
use forkherd_bench::server::Server;

/// Worker processes.
const WORKERS: [u32; 2] = [8, 128];

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("start");
    group.sampling_mode(SamplingMode::Flat).sample_size(20).nresamples(10_000);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    let all = Registry::builtin().contestants();
    let first = all.first().context("no strategy is registered")?;
    for start in ["fork", "again"] {
        for workers in WORKERS {
            group.bench_function(BenchmarkId::new(start, workers), |bencher| {
                bencher.iter_custom(|count| {
                    (0..count)
                        .map(|_| once(first, start, workers))
                        .sum::<anyhow::Result<Duration>>()
                        .unwrap_or_else(|error| panic!("{start}, {workers} workers: {error:#}"))
                });
            });
        }
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}

/// One service, from its start until it serves.
fn once(contestant: &Contestant, start: &str, workers: u32) -> anyhow::Result<Duration> {
    let program = Program::at(env!("CARGO_BIN_EXE_forkherd-bench"));
    // Never set: Ctrl-C ends this process at once, and its end ends its children.
    let interrupt = Interrupt::default();
    let options = ["--start", start];
    let begin = Instant::now();
    let runtime = Runtime::Blocking;
    let server = Server::start_with(&program, contestant, workers, runtime, &options, &interrupt)?;
    let time = begin.elapsed();
    server.end()?;
    Ok(time)
}
