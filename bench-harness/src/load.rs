//! The load process: a client apart from the servers it loads, told slice by slice what to do.
//!
//! Orders come as lines of JSON on standard input, outcomes go as lines of JSON to standard
//! output ([`protocol`]); end-of-file ends it. One thread, one epoll: the CPU time of this process
//! is the client's cost and nothing else's.

mod alone;
pub(crate) mod answer;
mod beside;
mod carriers;
pub mod category;
mod closed;
mod connection;
mod driver;
mod handle;
mod held;
#[cfg(test)]
mod misbehaving;
mod player;
mod priority;
pub mod protocol;
mod reader;

use std::io::{self, BufRead as _, Write as _};
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::time::TimeValLike as _;

pub use alone::Url;
pub use connection::SOURCES;
pub use handle::Handle;

use crate::cli;
use crate::clock;
use crate::process;
use crate::report::outputs::print;
use protocol::{Order, Outcome};

/// Loads the server that is named, or obeys orders until standard input ends.
///
/// # Errors
/// Standard input or output failed, an order was no order, or a request to the named server failed.
pub fn run(arguments: &cli::Load) -> anyhow::Result<()> {
    if let Some(parent) = arguments.parent {
        process::die_with(parent, Signal::SIGKILL)?;
    }
    // 1 ns instead of 50 µs: arrivals are sent when they are due.
    prctl::set_timerslack(1)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;

    if let Some(url) = arguments.url {
        return load_alone(arguments, url);
    }
    let (mut kept, mut held) = (None, None);
    for line in io::stdin().lock().lines() {
        let order = serde_json::from_str(&line?)?;
        let outcome = obey(order, &mut kept, &mut held)
            .unwrap_or_else(|error| Outcome::Failed { message: format!("{error:#}") });
        let mut text = serde_json::to_vec(&outcome)?;
        text.push(b'\n');
        io::stdout().lock().write_all(&text)?;
    }
    Ok(())
}

/// Loads the server of `url` and prints what came of it.
fn load_alone(arguments: &cli::Load, url: Url) -> anyhow::Result<()> {
    let &cli::Load { clients, keep_alive, rate, .. } = arguments;
    let length = Duration::from_secs(arguments.seconds.get().into());
    let seed = arguments.seed.unwrap_or_else(|| clock::monotonic_us() % 1_000_000);
    let asked = alone::Asked { url, clients, length, keep_alive, rate, seed };
    let (text, all_well) = asked.run()?;
    print(&text)?;
    anyhow::ensure!(all_well, "some requests were not served");
    Ok(())
}

/// One order; `kept` holds connections between `Open` and `Requests`, `held` those of `Hold`.
fn obey(
    order: Order,
    kept: &mut Option<closed::Kept>,
    held: &mut Option<held::Held>,
) -> anyhow::Result<Outcome> {
    Ok(match order {
        Order::Short { target, clients, connections } => {
            Outcome::Slice(closed::short(target, clients, connections, driver::DEADLINE)?)
        }
        Order::Open { target, connections } => {
            *kept = Some(closed::Kept::open(target, connections, driver::DEADLINE)?);
            Outcome::Opened
        }
        Order::Requests { per_connection } => match kept.take() {
            Some(connections) => Outcome::Slice(connections.request(per_connection)?),
            None => anyhow::bail!("requests were ordered before connections were opened"),
        },
        Order::Hold { target, connections, burst, seed } => {
            *held = None;
            let open =
                held.insert(held::Held::open(target, connections, burst, seed, driver::DEADLINE)?);
            Outcome::Open(open.count()?)
        }
        Order::Churn { connections, step } => match held {
            Some(held) => {
                held.churn(connections, step)?;
                Outcome::Open(held.count()?)
            }
            None => anyhow::bail!("churn was ordered before connections were held"),
        },
        Order::Trace { target, arrivals, pace, connections, beside, kills } => {
            let deadline = driver::DEADLINE;
            let arrivals = &arrivals;
            let score =
                player::Score { target, arrivals, pace, connections, beside, kills, deadline };
            Outcome::Trace(score.play()?)
        }
    })
}

/// CPU time of this process so far, user and system, in nanoseconds.
///
/// `getrusage(2)` and not `/proc/self/schedstat`: the latter leaves out the stretch the running
/// thread is in.
fn cpu_ns() -> io::Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let total = usage.user_time().num_nanoseconds() + usage.system_time().num_nanoseconds();
    Ok(u64::try_from(total).unwrap_or_default())
}
