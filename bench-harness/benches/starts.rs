//! How long it takes until 8 and until 128 workers serve, by fork and by a new start, measured by
//! criterion.
//!
//! ```text
//! cargo bench -p forkherd-bench --bench starts
//! ```
//!
//! From the start of the supervisor's own process until `serve` says where it listens, which it does when
//! every worker is ready; ending them is not measured. Without `--events`: to write, read and parse 256
//! lines of JSON costs 128 workers about 5 ms on two processors, and belongs to whoever asks for it. A fork copies
//! the supervisor's memory, which is small here: with 200 MiB of touched memory it costs 5 ms per worker, and
//! a new start what it costs here (Linux 6.18).

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use criterion::{BenchmarkId, Criterion, SamplingMode};

use forkherd_bench::process::{Guarded, Program};

/// Worker processes.
const WORKERS: [u32; 2] = [8, 128];

/// Longest a service may take until it serves.
const TIMEOUT: Duration = Duration::from_secs(20);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("start");
    group.sampling_mode(SamplingMode::Flat).sample_size(20).nresamples(10_000);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    for start in ["fork", "again"] {
        for workers in WORKERS {
            group.bench_function(BenchmarkId::new(start, workers), |bencher| {
                bencher.iter_custom(|count| {
                    (0..count)
                        .map(|_| once(start, workers))
                        .sum::<anyhow::Result<Duration>>()
                        .unwrap_or_else(|error| panic!("{start}, {workers} workers: {error:#}"))
                });
            });
        }
    }
    group.finish();
    criterion.final_summary();
}

/// One service, from its start until it serves.
fn once(start: &str, workers: u32) -> anyhow::Result<Duration> {
    let mut command = Program::at(env!("CARGO_BIN_EXE_forkherd-bench")).command();
    command.args(["serve", "--app", "hello", "--strategy", "prefork", "--runtime", "blocking"]);
    command.args(["--listen", "127.0.0.1:0", "--start", start, "--workers", &workers.to_string()]);
    command.args(["--parent", &std::process::id().to_string()]).env("RUST_LOG", "error");
    let begin = Instant::now();
    let mut server = Guarded::start(&mut command, false)?;
    let line = server.lines().recv_timeout(TIMEOUT).context("it did not serve")?;
    let time = begin.elapsed();
    ensure!(line.starts_with("listening on "), "it said {line:?}");
    let status = server.end()?;
    ensure!(status.success(), "it ended with {status}");
    Ok(time)
}
