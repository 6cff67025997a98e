//! The strategy trait, the supervisor and the worker runtimes of **Forkherd**.
mod acceptor;
mod board;
mod connection;
mod error;
mod id;
mod inherit;
mod listener;
mod listener_set;
mod notice;
mod pool;
mod service;
mod strategy;
mod supervisor;
mod sys;
mod worker;

pub use acceptor::{AcceptFault, Acceptor, Dispatcher, Interest, Load, Source, SourceId, Wake};
pub use board::{Counts, Kick, Leaving, SLOTS_LIMIT, View};
pub use connection::{Connection, ListenerName, Meter, Serving, WorkerHandle};
pub use error::Error;
pub use id::{SlotId, WorkerId};
pub use inherit::{ENV_WORKER, Inherit, Inherited};
pub use listener::{ListenSpec, ListenSpecError, RefusedText};
pub use listener_set::ListenerSet;
pub use notice::Notice;
pub use pool::{BACKLOG, Listener};
pub use service::{DRAIN_TIMEOUT, Role, START_TIMEOUT, Service};
pub use strategy::{Needs, Plan, RuntimeKind, Setup, Strategy, Unsupported};
pub use supervisor::ExitStatus;
pub use sys::queue_len;
#[cfg(feature = "tokio")]
pub use worker::{AsyncConnection, Tokio};
pub use worker::{Blocking, Runtime};
