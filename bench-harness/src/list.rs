//! `list`: what there is to choose from, one honest line each.

use std::io::Write as _;
use std::num::NonZeroU32;

use forkherd_core::RuntimeKind;

use crate::cli::Runtime;
use crate::registry::Registry;
use crate::report::outputs;
use crate::scenario::builtin;

const APPS: [(&str, &str); 4] = [
    (
        "hello",
        "13 bytes; /sleep/<us> waits first, /spin/<us> burns CPU, /loop/<ms> hangs, /fill/<bytes> is \
         large; names its worker",
    ),
    ("echo", "what was sent comes back"),
    ("files:DIR", "the files below DIR, with listings, index.html and content types"),
    ("program:COMMAND", "what another program answers, which takes its listener by LISTEN_FDS"),
];

/// Stands for `threads:N` of any number.
const A_FEW_THREADS: RuntimeKind = RuntimeKind::Threads(NonZeroU32::new(4).unwrap());

/// Prints strategies, scenarios and apps.
///
/// # Errors
/// That of standard output.
pub fn print(registry: &Registry) -> anyhow::Result<()> {
    let mut out = Vec::new();
    writeln!(out, "strategies (NAME or NAME:VARIANT)")?;
    for entry in registry.entries() {
        let mut runtimes: Vec<_> = entry.runtimes.iter().map(|runtime| runtime.word()).collect();
        if entry.runtimes.contains(&Runtime::Blocking) && entry.serves(A_FEW_THREADS) {
            runtimes.insert(1, "threads:N");
        }
        if entry.refuses_programs().is_none() {
            runtimes.push("programs");
        }
        let label = format!("{}:{}", entry.name, entry.variant);
        writeln!(out, "  {label:<22} {} [{}]", entry.line, runtimes.join(", "))?;
    }
    writeln!(out, "\nscenarios of compare (* runs by default), or a file of your own, FILE.toml")?;
    for spec in builtin::all() {
        let mark = if builtin::DEFAULT.contains(&&*spec.name) { "*" } else { "" };
        let name = format!("{}{mark}", spec.name);
        writeln!(out, "  {name:<22} {}", spec.line)?;
    }
    writeln!(out, "\napps of serve")?;
    for (name, line) in APPS {
        writeln!(out, "  {name:<22} {line}")?;
    }
    outputs::print(&String::from_utf8(out)?)
}
