//! The crate's only unsafe code: shared pages, starting or forking a worker, adopting what it inherited, being called
//! away from a wait, and what no crate wraps: two socket calls, and a look at numbers of descriptors.

mod fork;
mod interrupt;
mod memory;
mod process;
mod socket;

pub(crate) use fork::{fork, threads};
pub use interrupt::Interruptible;
pub(crate) use interrupt::signal_on_input;
pub(crate) use memory::{ReadOnlyPage, SharedPage};
pub use process::are_free;
pub(crate) use process::{
    adopt_descriptor, default_child_signal, gather_signals, leave_signals_to_supervisor, on_start,
    place_descriptor, scatter_signals,
};
pub use socket::{queue_bound, queue_len};

#[cfg(feature = "tokio")]
mod readiness;
#[cfg(feature = "tokio")]
pub(crate) use readiness::watch;
