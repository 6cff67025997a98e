//! What became of a connection: a closed list, so that the sums can be checked.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The one end every connection comes to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Answered in full, as expected.
    Served,
    /// Refused with a 503.
    Shed,
    /// Ended without an answer while workers were being killed.
    Taken,
    /// Nobody listened.
    Refused,
    /// Reset before it was answered, no worker having been killed.
    Reset,
    /// Not answered within the deadline.
    Late,
    /// Held by us without a whole answer to the end, as intended: silent, or slow to read.
    Held,
    /// Ended by the server while nothing was asked on it: silent, or idle.
    Dismissed,
    /// Anything else: a wrong answer, an end-of-file instead of one, a client-side error.
    /// Never expected; makes the run a failure.
    Other,
}

impl Category {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 9] = [
        Self::Served,
        Self::Shed,
        Self::Taken,
        Self::Refused,
        Self::Reset,
        Self::Late,
        Self::Held,
        Self::Dismissed,
        Self::Other,
    ];

    /// The word in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Shed => "shed",
            Self::Taken => "taken",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Late => "late",
            Self::Held => "held",
            Self::Dismissed => "dismissed",
            Self::Other => "other",
        }
    }

    /// Whether it wanted an answer and got none.
    #[must_use]
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Served | Self::Shed | Self::Held | Self::Dismissed)
    }

    /// Whether the end of a worker may be the reason: its sockets are closed then, and nothing else comes
    /// of it. Whoever is not answered in time, finds nobody who listens or fails at the client has another
    /// reason, whomever was killed meanwhile.
    #[must_use]
    pub fn may_come_of_a_kill(self) -> bool {
        matches!(self, Self::Taken | Self::Reset)
    }
}

/// Connections by category.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Tally(BTreeMap<Category, u64>);

impl Tally {
    /// One more connection that ended so.
    pub fn count(&mut self, category: Category) {
        *self.0.entry(category).or_default() += 1;
    }

    /// Adds another tally to this one.
    pub fn add(&mut self, other: &Self) {
        for (&category, &count) in &other.0 {
            *self.0.entry(category).or_default() += count;
        }
    }

    /// All but those of this category.
    #[must_use]
    pub fn without(&self, category: Category) -> Self {
        let mut rest = self.clone();
        rest.0.remove(&category);
        rest
    }

    /// How many ended so.
    #[must_use]
    pub fn of(&self, category: Category) -> u64 {
        self.0.get(&category).copied().unwrap_or_default()
    }

    /// How many there were.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.values().sum()
    }

    /// Those that wanted an answer and got none.
    #[must_use]
    pub fn failed(&self) -> u64 {
        let failures = self.0.iter().filter(|(category, _)| category.is_failure());
        failures.map(|(_, count)| count).sum()
    }
}

/// How the transport ended, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// End-of-file.
    Closed,
    /// `ECONNREFUSED`.
    Refused,
    /// `ECONNRESET`, `EPIPE`.
    Reset,
    /// Our deadline, or the kernel's.
    TimedOut,
    /// More bytes than any answer of ours has, or another error.
    Strange,
}

/// What the client had read when the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Not a byte.
    Nothing,
    /// The beginning of an answer.
    Part,
    /// One whole answer with this status and, if it is 200, the expected body.
    Answer { status: u16, as_expected: bool },
}

/// The category of a connection; `kills` says whether workers were being killed.
pub(super) fn categorize(read: Read, end: End, kills: bool) -> Category {
    match (read, end) {
        (Read::Answer { status: 200, as_expected: true }, End::Closed) => Category::Served,
        (Read::Answer { status: 503, .. }, End::Closed) => Category::Shed,
        (_, End::TimedOut) => Category::Late,
        (_, End::Refused) => Category::Refused,
        (Read::Nothing | Read::Part, End::Closed | End::Reset) if kills => Category::Taken,
        (_, End::Reset) => Category::Reset,
        (_, End::Closed | End::Strange) => Category::Other,
    }
}

/// The category of a connection that was to stay and did not: never *served*, whatever was answered on it.
pub(super) fn categorize_kept(read: Read, end: End) -> Category {
    match categorize(read, end, false) {
        Category::Served => Category::Other,
        category => category,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_category() {
        let good = Read::Answer { status: 200, as_expected: true };
        let wrong = Read::Answer { status: 200, as_expected: false };
        let shed = Read::Answer { status: 503, as_expected: false };
        for (read, end, calm, kills) in [
            (good, End::Closed, Category::Served, Category::Served),
            (wrong, End::Closed, Category::Other, Category::Other),
            (shed, End::Closed, Category::Shed, Category::Shed),
            (Read::Nothing, End::Closed, Category::Other, Category::Taken),
            (Read::Part, End::Closed, Category::Other, Category::Taken),
            (Read::Nothing, End::Reset, Category::Reset, Category::Taken),
            (good, End::Reset, Category::Reset, Category::Reset),
            (Read::Nothing, End::Refused, Category::Refused, Category::Refused),
            (Read::Part, End::TimedOut, Category::Late, Category::Late),
            (Read::Part, End::Strange, Category::Other, Category::Other),
        ] {
            assert_eq!(categorize(read, end, false), calm, "{read:?} {end:?}");
            assert_eq!(categorize(read, end, true), kills, "{read:?} {end:?} with kills");
        }
    }

    #[test]
    fn who_was_to_stay_and_was_refused_is_shed_and_nobody_else_is_well() {
        let answer = |status, as_expected| Read::Answer { status, as_expected };
        for (read, end, category) in [
            (answer(503, false), End::Closed, Category::Shed),
            (answer(200, true), End::Closed, Category::Other),
            (answer(200, false), End::Closed, Category::Other),
            (answer(200, true), End::Reset, Category::Reset),
            (Read::Nothing, End::Closed, Category::Other),
            (Read::Nothing, End::Refused, Category::Refused),
            (Read::Part, End::TimedOut, Category::Late),
        ] {
            assert_eq!(categorize_kept(read, end), category, "{read:?} {end:?}");
        }
    }

    #[test]
    fn a_tally_adds_up() {
        let mut tally = Tally::default();
        tally.count(Category::Served);
        tally.count(Category::Late);
        let mut sum = tally.clone();
        sum.add(&tally);
        assert_eq!((sum.sum(), sum.of(Category::Served), sum.failed()), (4, 2, 2));
        let rest = sum.without(Category::Late).without(Category::Reset);
        assert_eq!((rest.sum(), rest.of(Category::Late)), (2, 0));
    }
}
