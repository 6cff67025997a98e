//! From raw samples to figures: CPU, percentiles, ratios with their spread, shares.

pub mod backlog;
pub mod cpu;
pub mod curve;
pub mod figures;
pub mod generator;
pub mod latency;
pub mod memory;
pub mod queue;
pub mod ratio;
pub mod share;
pub mod syscalls;
pub mod timeline;
