//! One channel from which all workers receive, each when it has nothing to do.

mod acceptor;
mod queue;

pub(crate) use acceptor::PullAcceptor;
pub(crate) use queue::SharedQueue;
