//! The harness with a strategy of your own among the contestants.
//!
//! ```text
//! cargo run --release -p forkherd-bench --example with_mine -- list
//! cargo run --release -p forkherd-bench --example with_mine -- compare --quick --strategies mine,prefork
//! ```

use std::process::ExitCode;

use forkherd_bench::cli::Runtime;
use forkherd_bench::commands;
use forkherd_bench::registry::{Entry, Registry};
// Yours here. CONTRIBUTING.md says how to write one.
use forkherd_reuseport::Reuseport as Mine;

fn main() -> ExitCode {
    let mine = Entry {
        name: "mine",
        variant: "first",
        line: "one honest sentence about it, for `list`",
        runtimes: &[Runtime::Blocking, Runtime::Tokio],
        make: || Box::new(Mine::default()),
    };
    commands::main(&Registry::builtin().with(mine))
}
