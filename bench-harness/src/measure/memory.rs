//! Memory of a server's workers, as the kernel accounts for it.
//!
//! PSS and not RSS: a page that n processes share counts as an n-th of itself in each, so that the
//! workers' sum is what they take together. Read after a load, from `/proc/PID/smaps_rollup`.

use std::fs;

use anyhow::Context as _;

use super::latency::to_f64;

/// PSS of these processes, mean, in KiB; `None` of none.
///
/// # Errors
/// One of them is gone, or its account may not be read.
pub fn mean_pss_kib(pids: &[u32]) -> anyhow::Result<Option<f64>> {
    let mut sum = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        sum += pss_kib(&text).with_context(|| format!("{path} has no line `Pss`"))?;
    }
    Ok((!pids.is_empty()).then(|| to_f64(sum) / to_f64(pids.len() as u64)))
}

/// `Pss:   123 kB`
fn pss_kib(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_the_account_is_read() {
        let text = "55d0-7ffc ---p 00000000 00:00 0   [rollup]\nRss:   900 kB\nPss:   123 kB\n\
                    Pss_Dirty:   7 kB\n";
        assert_eq!(pss_kib(text), Some(123));
        assert_eq!(pss_kib("Rss: 900 kB\n"), None);
    }

    #[test]
    fn this_process_has_memory_and_nobody_has_none() {
        let mine = mean_pss_kib(&[std::process::id()]).unwrap().unwrap();
        assert!(mine > 100.0, "{mine}");
        assert_eq!(mean_pss_kib(&[]).unwrap(), None);
        assert!(mean_pss_kib(&[u32::MAX]).is_err());
    }
}
