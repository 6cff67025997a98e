//! The apps a server can run: what is answered, apart from how the connection came.

pub mod conversation;
pub mod echo;
pub mod files;
pub mod hello;
