//! Strategy reuseport.
