//! The binary: the library's commands with the strategies that ship with Forkherd.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use forkherd_bench::registry::Registry;

fn main() -> ExitCode {
    forkherd_bench::commands::main(&Registry::builtin())
}
