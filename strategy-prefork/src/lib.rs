//! Strategy prefork.
