//! `list`: what there is to choose from, one honest line each.

use std::io::{self, Write as _};

use crate::registry::Registry;
use crate::scenario::builtin;

const APPS: [(&str, &str); 3] = [
    (
        "hello",
        "13 bytes; /sleep/<us> waits first, /spin/<us> burns CPU, /loop/<ms> hangs, /fill/<bytes> is \
         large; names its worker",
    ),
    ("echo", "what was sent comes back"),
    ("files:DIR", "the files below DIR, with listings, index.html and content types"),
];

/// Prints strategies, scenarios and apps.
///
/// # Errors
/// That of standard output.
pub fn print(registry: &Registry) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "strategies (NAME or NAME:VARIANT)")?;
    for entry in registry.entries() {
        let runtimes: Vec<_> = entry.runtimes.iter().map(|runtime| runtime.word()).collect();
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
    Ok(())
}
