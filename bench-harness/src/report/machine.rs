//! Where and when a comparison ran.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::utsname::uname;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The machine, as far as a reader needs it to judge the figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// System name and release.
    pub kernel: String,
    /// Processors this process may use.
    pub cpus: usize,
    /// The processor's model name.
    pub model: String,
    /// `net.core.somaxconn`, the bound of every backlog.
    pub somaxconn: String,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn this() -> Self {
        let kernel = uname().map_or_else(
            |_| "unknown".to_owned(),
            |name| {
                let words = [name.sysname(), name.release(), name.machine()];
                words.map(|word| word.to_string_lossy().into_owned()).join(" ")
            },
        );
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            kernel,
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            model: model_name(&read("/proc/cpuinfo")).unwrap_or("unknown processor").to_owned(),
            somaxconn: read("/proc/sys/net/core/somaxconn").trim().to_owned(),
        }
    }
}

/// The first `model name` of `/proc/cpuinfo` (other architectures have none).
fn model_name(cpuinfo: &str) -> Option<&str> {
    cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim())
    })
}

/// Now, as `2025-01-31 12:00:00 UTC`.
#[must_use]
pub fn date() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date_of(since.as_secs())
}

/// Days to civil date after Howard Hinnant, `chrono-Compatible Low-Level Date Algorithms`.
fn date_of(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date_of(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date_of(951_827_696), "2000-02-29 12:34:56 UTC");
        assert_eq!(date_of(1_735_689_599), "2024-12-31 23:59:59 UTC");
    }

    #[test]
    fn the_model_name_is_found() {
        assert_eq!(model_name("processor\t: 0\nmodel name\t: Some CPU\n"), Some("Some CPU"));
        assert_eq!(model_name(""), None);
    }
}
