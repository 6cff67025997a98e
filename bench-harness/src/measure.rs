//! From raw samples to figures: CPU, percentiles, ratios with their spread, shares.

pub mod cpu;
pub mod latency;
pub mod queue;
pub mod ratio;
pub mod share;
pub mod syscalls;
