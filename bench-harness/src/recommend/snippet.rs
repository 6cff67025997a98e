//! The lines to copy: what goes into `Cargo.toml`, and a `main` that runs.

use std::num::NonZeroU32;

use forkherd_core::RuntimeKind;

use crate::registry::Choice;

/// The dependencies for a strategy on a runtime, as lines of `Cargo.toml`.
#[must_use]
pub fn dependencies(choice: &Choice, runtime: RuntimeKind) -> Vec<String> {
    let path = |folder: &str| format!("path = \"../forkherd/{folder}\"");
    let core = path("core");
    let mut lines = match runtime {
        RuntimeKind::Tokio => vec![
            format!("forkherd-core = {{ {core}, features = [\"tokio\"] }}"),
            "tokio = { version = \"1\", features = [\"io-util\"] }".to_owned(),
        ],
        _ => vec![format!("forkherd-core = {{ {core} }}")],
    };
    lines.insert(1, format!("{} = {{ {} }}", choice.package, path(choice.folder)));
    lines
}

/// A whole `main.rs`.
#[must_use]
pub fn main(choice: &Choice, runtime: RuntimeKind, workers: NonZeroU32) -> String {
    let library = choice.package.replace('-', "_");
    let (strategy, _) = choice.make.split_once("::").unwrap_or((choice.make, ""));
    let make = choice.make;
    let (uses, serve) = match runtime {
        RuntimeKind::Tokio => (
            "use forkherd_core::{AsyncConnection, ListenSpec, Service, Tokio};\n\
             use tokio::io::AsyncWriteExt;\n"
                .to_owned(),
            "Tokio::new(async |mut client: AsyncConnection| {\n            \
             client.write_all(b\"hello\\n\").await"
                .to_owned(),
        ),
        RuntimeKind::Threads(threads) => (
            "use forkherd_core::{Connection, ListenSpec, Service, Threads};\nuse std::io::Write;\n"
                .to_owned(),
            format!(
                "Threads::new({threads}, |mut client: Connection| {{\n            \
                 client.write_all(b\"hello\\n\")"
            ),
        ),
        _ => (
            "use forkherd_core::{Blocking, Connection, ListenSpec, Service};\nuse std::io::Write;\n"
                .to_owned(),
            "Blocking::new(|mut client: Connection| {\n            client.write_all(b\"hello\\n\")"
                .to_owned(),
        ),
    };
    format!(
        "use {library}::{strategy};\n\
         {uses}\n\
         fn main() -> Result<(), Box<dyn std::error::Error>> {{\n    \
             Service::new(\"hello\")\n        \
                 .listen(\"127.0.0.1:8080\".parse::<ListenSpec>()?)\n        \
                 .workers({workers})\n        \
                 .run({make}, {serve}\n        \
                 }}))?;\n    \
             Ok(())\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    /// That it compiles, for every strategy on every runtime, is shown in tests/snippets.rs.
    #[test]
    fn it_names_crate_strategy_runtime_and_workers() {
        let choice = Registry::builtin().find("handoff:pull").unwrap().choice.unwrap();
        let runtime = "threads:2".parse().unwrap();
        let text = main(&choice, runtime, NonZeroU32::MIN);
        for part in
            ["use forkherd_handoff::Handoff;", "Handoff::pull()", "Threads::new(2,", "workers(1)"]
        {
            assert!(text.contains(part), "{text}");
        }
        let lines = dependencies(&choice, RuntimeKind::Tokio).join("\n");
        assert!(lines.contains("forkherd-handoff = { path = \"../forkherd/strategy-handoff\" }"));
        assert!(lines.contains("features = [\"tokio\"]"), "{lines}");
    }
}
