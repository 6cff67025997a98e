//! What a program may ask of its own service while that runs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::event::{EventfdFlags, eventfd};

/// What can be asked of a running service; signals ask the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// As SIGTERM.
    Stop,
    /// As SIGHUP.
    Restart,
    /// SIGTTIN and SIGTTOU by one.
    Scale(u32),
}

/// A handle on a service, for another thread or the observer.
///
/// Supervisor · from [`Service::handle`](crate::Service::handle). A worker has one too, because its `main`
/// runs up to `run` as well; there, and once the service has ended, it does nothing and says so.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: Sender<Command>,
    bell: Arc<OwnedFd>,
}

impl Handle {
    /// There are to be so many workers: at least one, at most
    /// [`Service::max_workers`](crate::Service::max_workers). Those on the highest slots drain and leave;
    /// new ones start at once. False if no service of ours runs in this process.
    pub fn scale_to(&self, workers: u32) -> bool {
        self.ask(Command::Scale(workers))
    }

    /// A rolling restart, as by SIGHUP.
    pub fn restart(&self) -> bool {
        self.ask(Command::Restart)
    }

    /// Drains and ends the service, as by SIGTERM; asked again it kills, and `run` returns as before.
    pub fn stop(&self) -> bool {
        self.ask(Command::Stop)
    }

    fn ask(&self, command: Command) -> bool {
        let asked = self.commands.send(command).is_ok();
        // Full only after 2^64 − 2 commands that nobody read.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        asked
    }
}

/// The supervisor's end.
#[derive(Debug)]
pub(crate) struct Commands {
    commands: Receiver<Command>,
    bell: Arc<OwnedFd>,
}

impl Commands {
    pub(crate) fn new() -> io::Result<(Handle, Self)> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (sender, receiver) = channel();
        let handle = Handle { commands: sender, bell: Arc::clone(&bell) };
        Ok((handle, Self { commands: receiver, bell }))
    }

    /// Readable while there may be a command.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        (*self.bell).as_fd()
    }

    pub(crate) fn take(&self) -> Vec<Command> {
        // The bell first: a command that comes now rings it again.
        let _ = rustix::io::read(&self.bell, &mut [0_u8; 8]);
        self.commands.try_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_in_order_and_nobody_hears_them_once_the_service_is_gone() {
        let (handle, commands) = Commands::new().unwrap();
        assert!(handle.scale_to(3));
        assert!(handle.clone().restart());
        assert!(handle.stop());
        assert_eq!(commands.take(), [Command::Scale(3), Command::Restart, Command::Stop]);
        assert_eq!(commands.take(), []);
        drop(commands);
        assert!(!handle.stop());
    }
}
