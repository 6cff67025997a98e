//! How contestants are told apart: the same colour and mark for each throughout a page.

use super::super::Report;

/// Colours in the style sheet, beside that of the yardstick.
const HUES: usize = 6;

/// A contestant's colour and mark. Six colours that colour-blind readers tell apart, and where
/// there are more contestants another mark and another dash, so that nothing rests on colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// A class of the style sheet: its colour.
    pub class: &'static str,
    /// What stands for it.
    pub mark: Mark,
}

/// Marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The first of a colour.
    Circle,
    /// The second.
    Square,
    /// The third.
    Triangle,
    /// The fourth and all others.
    Diamond,
}

/// Who looks how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    labels: Vec<String>,
}

impl Looks {
    /// The looks of everybody in `reports`, in order of appearance.
    #[must_use]
    pub fn of(reports: &[Report]) -> Self {
        let mut labels: Vec<String> = Vec::new();
        for report in reports {
            for scenario in &report.scenarios {
                let against = scenario.against.as_ref().unwrap_or(&report.against);
                for row in scenario.rows.iter().filter(|row| row.contestant != *against) {
                    if !labels.contains(&row.contestant) {
                        labels.push(row.contestant.clone());
                    }
                }
            }
        }
        Self { labels }
    }

    /// Everybody but yardsticks.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// How `label` looks; whoever is not among them is a yardstick.
    #[must_use]
    pub fn look(&self, label: &str) -> Look {
        let Some(index) = self.labels.iter().position(|one| one == label) else {
            return Look { class: "yardstick", mark: Mark::Circle };
        };
        Look {
            class: ["c0", "c1", "c2", "c3", "c4", "c5"][index % HUES],
            mark: match index / HUES {
                0 => Mark::Circle,
                1 => Mark::Square,
                2 => Mark::Triangle,
                _ => Mark::Diamond,
            },
        }
    }
}

impl Mark {
    /// A path around (`x`, `y`).
    #[must_use]
    pub fn path(self, x: f64, y: f64) -> String {
        let (x, y) = (super::draw::number(x), super::draw::number(y));
        let shape = match self {
            Self::Circle => "m-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z",
            Self::Square => "m-2.9-2.9h5.8v5.8h-5.8z",
            Self::Triangle => "m0-3.8l3.6 6.6h-7.2z",
            Self::Diamond => "m0-4.2l3.6 4.2l-3.6 4.2l-3.6-4.2z",
        };
        format!("M{x} {y}{shape}")
    }

    /// The class of its dash.
    #[must_use]
    pub fn dash(self) -> &'static str {
        match self {
            Self::Circle => "",
            Self::Square => "dash1",
            Self::Triangle => "dash2",
            Self::Diamond => "dash3",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_four_look_different_and_a_yardstick_is_grey() {
        let looks = Looks { labels: (0..24).map(|index| format!("s{index}")).collect() };
        let mut seen = Vec::new();
        for label in &looks.labels {
            let Look { class, mark } = looks.look(label);
            assert!(!seen.contains(&(class, mark.dash())), "{label}");
            seen.push((class, mark.dash()));
        }
        assert_eq!(looks.look("baseline").class, "yardstick");
    }
}
