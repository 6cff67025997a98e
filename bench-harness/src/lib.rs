//! Runs the Forkherd strategies head to head: what each costs, whom it lets wait, what it loses.
//!
//! ```text
//! main ─► commands ─► compare ─► scenario ─┬─► slices  (cost: all servers up, paired slices)
//!              scenarios/*.toml ─► spec ─┘ ├─► blocks  (tails, faults: one server at a time)
//!                                          └─► held    (thousands of connections that stay)
//!    slices, blocks, held ─► server  (a contestant as a child process)
//!                         ─► load    (the client as a child process)
//!                         ─► measure, ideal ─► report ─► terminal, Markdown, CSV, HTML, JSON
//! record ─► profile ─► recommend ─► scenario, as above ─► verdict ─► answer
//! ```
//!
//! Every server is a child process and so is the client; this process only starts, asks, reads
//! `/proc` and ends them. `http` and `apps` are what the servers answer with, the same for all.
#![forbid(unsafe_code)]

pub mod cli;
pub mod commands;
pub mod compare;
pub mod contestant;
pub mod external;
pub mod lineup;

pub mod block;
pub mod blocks;
pub mod held;
pub mod killer;
pub mod restarter;
pub mod roster;
pub mod scaler;
pub mod scenario;
pub mod slice;
pub mod slices;
pub mod stopper;
pub mod trace;
pub mod void;

pub mod profile;
pub mod recommend;
pub mod record;

pub mod accounts;
pub mod cautions;
pub mod ideal;
pub mod measure;
pub mod report;
pub mod self_check;

pub mod cgroup;
pub mod clock;
pub mod interrupt;
pub mod kernel;
pub mod limits;
pub mod load;
pub mod pin;
pub mod process;
pub mod progress;
pub mod server;

pub mod apps;
pub mod baseline;
pub mod doctor;
pub mod http;
pub mod list;
pub mod registry;
pub mod serve;

pub use commands::main;

/// The README's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
