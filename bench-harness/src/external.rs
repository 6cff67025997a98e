//! Servers that are not ours: how they are named, started, watched, asked what they offer, and ended.
//!
//! ```text
//! compare ─► host ─► hosted, which becomes the COMMAND ─► its own workers
//! ```
//!
//! `host` is this program as the stranger's supervisor of last resort: whatever the command starts stays
//! below it, however it forks, and is gone when `host` is. It speaks as `serve` does (`listening on
//! ADDR`), so that [`Server`](crate::server::Server) is one for all.

pub mod command;
pub mod host;
pub mod offers;
pub mod request;
