//! Core.
mod id;
pub use id::{SlotId, WorkerId};
