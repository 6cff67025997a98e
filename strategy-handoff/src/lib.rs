//! Strategy handoff.
