//! What a reader should know before believing a figure.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A caution: what was seen, what it may mean, what to do about it. Whole sentences, all three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Caution {
    /// What was seen, with its figures.
    pub seen: String,
    /// What it may mean for the results.
    pub meaning: String,
    /// What to do.
    pub remedy: String,
}

impl Caution {
    /// A caution of these three sentences.
    #[must_use]
    pub fn new(
        seen: impl Into<String>,
        meaning: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { seen: seen.into(), meaning: meaning.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Caution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.seen, self.meaning, self.remedy)
    }
}
