//! What a reader should know before believing a figure, found by looking at machine and figures.
//!
//! Each function looks at one thing and is pure; [`of_run`] asks those about the machine, [`of_scenario`]
//! those about figures. Cautions about void rounds come from their account ([`crate::void`]).

mod figures;
mod machine;

pub(crate) use figures::fell_back;
pub use figures::of_scenario;
pub use machine::of_run;

/// The one caution begins like this, and all its parts are sentences.
#[cfg(test)]
fn check(cautions: &[crate::report::Caution], seen: &str) {
    let [caution] = cautions else { panic!("one caution was expected: {cautions:?}") };
    assert!(caution.seen.starts_with(seen), "{caution}");
    assert!(!caution.meaning.is_empty() && !caution.remedy.is_empty(), "{caution}");
}
