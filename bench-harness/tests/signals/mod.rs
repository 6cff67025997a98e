//! Programs that hear Ctrl-C, however the tests were started.

use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Once};

use signal_hook::consts::{SIGHUP, SIGINT};

/// The binary. Whoever runs the tests may have ignored signals (`nohup`, the background of a script), and what they
/// start would go on ignoring them. What is started by somebody who has a handler begins with the default; this
/// handler does the default itself.
pub(crate) fn binary() -> Command {
    static HEAR: Once = Once::new();
    HEAR.call_once(|| {
        for signal in [SIGINT, SIGHUP] {
            let always = Arc::new(AtomicBool::new(true));
            signal_hook::flag::register_conditional_default(signal, always).unwrap();
        }
    });
    Command::new(env!("CARGO_BIN_EXE_forkherd-bench"))
}
