//! The report as one HTML page that needs nothing beside it: no network, no script, light and dark,
//! for a phone and for a desk.
//!
//! Everything is made from the report alone, and escaped by the library that builds the page. A
//! policy in its head forbids whatever a mistake of ours would load or run.

pub mod axis;
pub mod curves;
pub mod dots;
pub mod draw;
pub mod look;
pub mod page;
pub mod spread;
pub mod timeline;

use super::Report;

/// The page that shows `reports`, one after the other.
#[must_use]
pub fn render(reports: &[Report]) -> String {
    page::page(reports).into_string()
}
