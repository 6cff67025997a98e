//! Where, by what and when a comparison ran: the head of every report.

mod date;
mod probe;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::measure::latency::to_f64;
pub use date::date;

/// The machine, as far as a reader needs it to judge the figures. What is absent was not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Machine {
    /// System name and release.
    pub kernel: String,
    /// Processors this process may use: at once, if a cgroup limits its time.
    pub cpus: usize,
    /// Processors that are online.
    pub online: usize,
    /// Those this process is pinned to, as `0-3,8`, if not all.
    pub pinned: Option<String>,
    /// Processors' worth of time that a cgroup allows.
    pub cpu_limit: Option<f64>,
    /// How the first processor's frequency is governed.
    pub governor: Option<String>,
    /// The processor's model name.
    pub model: String,
    /// What it runs on, if that is another machine: who made that, or just `yes`.
    pub virtual_on: Option<String>,
    /// Memory, in MiB: the machine's, or what a cgroup allows.
    pub memory_mib: u64,
    /// `net.core.somaxconn`, the bound of every backlog.
    pub somaxconn: String,
    /// Settings of the kernel, by name; absent ones are unknown to this kernel.
    pub sysctls: BTreeMap<String, String>,
    /// Files a process may have open: soft and hard limit.
    pub open_files: Option<(u64, u64)>,
}

impl Machine {
    /// The lines of a report's head after the first, kernel and processors.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut first = vec![format!("{} × {}", self.cpus, self.model)];
        first.extend(self.pinned.as_ref().map(|list| format!("pinned to {list}")));
        first.extend(self.cpu_limit.map(|limit| format!("limited to {limit:.2} by a cgroup")));
        first.extend(self.governor.as_ref().map(|name| format!("governor {name}")));
        first.extend(self.virtual_on.as_ref().map(|on| match &**on {
            YES => "virtual".to_owned(),
            on => format!("virtual, on {on}"),
        }));
        if self.memory_mib > 0 {
            first.push(format!("{:.1} GiB", to_f64(self.memory_mib) / 1024.0));
        }
        let mut lines = vec![format!("{} · {}", self.kernel, first.join(" · "))];
        let mut settings: Vec<String> = self
            .sysctls
            .iter()
            .map(|(name, value)| {
                let short = name.rsplit('.').next().unwrap_or(name);
                format!("{short} {}", value.replace(' ', "–"))
            })
            .collect();
        settings.extend(self.open_files.map(|(soft, hard)| format!("open files {soft}–{hard}")));
        if !settings.is_empty() {
            lines.push(settings.join(" · "));
        }
        lines
    }
}

/// What a machine runs on if nobody says who made that.
const YES: &str = "yes";

/// What made the figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Build {
    /// The commit, with `-dirty` if the source differed from it; `unknown` outside a checkout.
    pub commit: String,
    /// Whether it was built without optimisation.
    pub debug: bool,
}

impl Build {
    /// This program.
    #[must_use]
    pub fn this() -> Self {
        Self { commit: env!("FORKHERD_COMMIT").to_owned(), debug: cfg!(debug_assertions) }
    }

    /// As it stands behind the version: nothing of a report that does not say.
    #[must_use]
    pub fn told(&self) -> String {
        let debug = if self.debug { ", debug build" } else { "" };
        match &*self.commit {
            "" => String::new(),
            commit => format!(" (commit {commit}{debug})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_has_what_is_known_and_older_machines_still_load() {
        let old: Machine = serde_json::from_str(
            r#"{"kernel": "Linux 6", "cpus": 2, "model": "M", "somaxconn": "4096"}"#,
        )
        .unwrap();
        assert_eq!(old.lines(), ["Linux 6 · 2 × M"]);
        let machine = Machine {
            pinned: Some("0-1".into()),
            cpu_limit: Some(1.5),
            governor: Some("powersave".into()),
            virtual_on: Some(YES.into()),
            memory_mib: 2_048,
            sysctls: [("net.ipv4.ip_local_port_range".into(), "32768 60999".into())].into(),
            open_files: Some((1_024, 4_096)),
            ..old
        };
        assert_eq!(
            machine.lines(),
            [
                "Linux 6 · 2 × M · pinned to 0-1 · limited to 1.50 by a cgroup · governor powersave \
                 · virtual · 2.0 GiB",
                "ip_local_port_range 32768–60999 · open files 1024–4096"
            ]
        );
        let build = Build { commit: "abc-dirty".into(), debug: true };
        assert_eq!(build.told(), " (commit abc-dirty, debug build)");
        assert_eq!(Build::default().told(), "");
        assert!(!Build::this().commit.is_empty());
    }
}
