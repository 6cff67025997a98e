//! The kernel's counters around a round.

use anyhow::Context as _;

use super::Seen;
use crate::kernel;

/// The kernel's counters, at the beginning of a round.
#[derive(Debug)]
pub struct Watch(Counters);

impl Watch {
    /// The round begins.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn start() -> anyhow::Result<Self> {
        Counters::now().map(Self)
    }

    /// The round has ended: what the kernel saw. The client's part is up to the caller.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn end(self) -> anyhow::Result<Seen> {
        Ok(Counters::now()?.since(&self.0))
    }
}

/// Counters of the kernel that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    ticks: u64,
    stolen: u64,
    overflows: u64,
    timeouts: u64,
    cookies: u64,
    forgotten: u64,
}

impl Counters {
    fn now() -> anyhow::Result<Self> {
        Self::of(&kernel::text("/proc/stat")?, &kernel::text("/proc/net/netstat")?)
            .context("/proc/stat begins with no line of all processors")
    }

    /// From the texts of `/proc/stat` and `/proc/net/netstat`; a counter that an old kernel lacks is 0.
    fn of(stat: &str, netstat: &str) -> Option<Self> {
        // user nice system idle iowait irq softirq steal; guests are in user already.
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let times: Vec<u64> = line.split_whitespace().flat_map(str::parse).take(8).collect();
        let tcp = |name| counter(netstat, name).unwrap_or_default();
        Some(Self {
            ticks: times.iter().sum(),
            stolen: times.get(7).copied().unwrap_or_default(),
            // Whatever overflows is dropped, but not the other way round.
            overflows: tcp("ListenDrops").max(tcp("ListenOverflows")),
            timeouts: tcp("TCPTimeouts"),
            cookies: tcp("SyncookiesSent"),
            forgotten: tcp("SyncookiesFailed"),
        })
    }

    fn since(&self, earlier: &Self) -> Seen {
        let grown = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier));
        Seen {
            ticks: grown(|counters| counters.ticks),
            stolen: grown(|counters| counters.stolen),
            overflows: grown(|counters| counters.overflows),
            timeouts: grown(|counters| counters.timeouts),
            cookies: grown(|counters| counters.cookies),
            forgotten: grown(|counters| counters.forgotten),
            ..Seen::default()
        }
    }
}

/// A counter of `/proc/net/netstat`: a line of names, then a line of values, each after `TcpExt:`.
fn counter(netstat: &str, name: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let index = names.split_whitespace().position(|one| one == name)?;
    values.split_whitespace().nth(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  10 1 5 80 2 0 1 3 7 0\ncpu0 5 0 2 40 1 0 0 1 3 0\n";
    const NETSTAT: &str = "TcpExt: SyncookiesSent SyncookiesFailed ListenOverflows ListenDrops TCPTimeouts\n\
                           TcpExt: 4 2 5 6 7\nIpExt: InNoRoutes\nIpExt: 0\n";

    #[test]
    fn the_kernels_counters_are_read() {
        let counters = Counters::of(STAT, NETSTAT).unwrap();
        let seen =
            Counters { overflows: 6, timeouts: 7, cookies: 4, forgotten: 2, ..Counters::default() };
        let expected = Counters { ticks: 102, stolen: 3, ..seen };
        assert_eq!(counters, expected);
        assert_eq!(Counters::of(STAT, "").unwrap().overflows, 0);
        assert_eq!(Counters::of("", NETSTAT), None);
        let later = Counters { ticks: 302, stolen: 5, forgotten: 9, ..counters };
        let seen = later.since(&counters);
        assert_eq!((seen.ticks, seen.stolen, seen.overflows, seen.forgotten), (200, 2, 0, 7));
    }

    #[test]
    fn this_machine_has_them() {
        let watch = Watch::start().unwrap();
        assert!(watch.0.ticks > 0);
        watch.end().unwrap();
    }
}
