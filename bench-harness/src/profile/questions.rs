//! A profile field by field: from flags, or asked one after another on a terminal.

use std::io::{self, BufRead, Write};

use clap::{Args, ValueEnum};

use super::Profile;
use crate::trace::Quantiles;

/// How often a field is asked for before we give up: somebody who pipes something else into us.
const TRIES: u32 = 5;

/// What can be said about a service on the command line.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// Mean work of a request, in microseconds: what it takes when it does not have to wait.
    #[arg(long, value_name = "US")]
    pub work_us: Option<String>,
    /// Its variation, standard deviation over mean: 0 all alike, 1 exponential, 3 very uneven.
    #[arg(long, value_name = "X")]
    pub cv: Option<String>,
    /// The part of it that burns CPU, 0 to 1.
    #[arg(long, value_name = "X")]
    pub cpu: Option<String>,
    /// What each worker runs: blocking, threads:N or tokio.
    #[arg(long, value_name = "RUNTIME")]
    pub runtime: Option<String>,
    /// How long connections live: short (one request each), keep-alive:N or long-lived.
    #[arg(long, value_name = "LIFE")]
    pub connections: Option<String>,
    /// Worker processes.
    #[arg(long, value_name = "N")]
    pub workers: Option<String>,
    /// Requests per second.
    #[arg(long, value_name = "N")]
    pub rate: Option<String>,
    /// Instead of the rate: fraction of the time the workers are busy.
    #[arg(long, value_name = "X", conflicts_with = "rate")]
    pub load: Option<String>,
    /// How many requests come at once: 1 is Poisson.
    #[arg(long, value_name = "N")]
    pub burst: Option<String>,
    /// Whether the same client is to reach the same worker: yes or no.
    #[arg(long, value_name = "YES|NO")]
    pub sticky: Option<String>,
    /// What workers may do: full (crash now and then), may-hang, or hostile.
    #[arg(long, value_name = "TRUST")]
    pub trust: Option<String>,
    /// Whether the supervisor may have CAP_BPF: yes or no.
    #[arg(long, value_name = "YES|NO")]
    pub bpf: Option<String>,
    /// How often workers are replaced while clients are there: rare or often; for the goal robustness.
    #[arg(long, value_name = "HOW")]
    pub restarts: Option<String>,
    /// What matters most: tail, cost, spread or robustness.
    #[arg(long, value_name = "GOAL")]
    pub goal: Option<String>,
}

/// A field that can be given in words.
struct Field {
    flag: &'static str,
    /// Asked on a terminal; none for what a first answer does without.
    question: Option<&'static str>,
    given: fn(&Flags) -> Option<&str>,
    set: fn(&mut Profile, &str) -> Result<(), String>,
}

const FIELDS: [Field; 14] = [
    Field {
        flag: "--work-us",
        question: Some(
            "How long does a request take when it does not have to wait? Microseconds [4000]",
        ),
        given: |flags| flags.work_us.as_deref(),
        set: |profile, text| {
            profile.work.quantiles_us = Quantiles::default();
            number(text).map(|mean| profile.work.mean_us = Some(mean))
        },
    },
    Field {
        flag: "--cv",
        question: Some(
            "How uneven is that? Standard deviation over mean; 0 all alike, 3 very uneven [1]",
        ),
        given: |flags| flags.cv.as_deref(),
        set: |profile, text| number(text).map(|cv| profile.work.cv = Some(cv)),
    },
    Field {
        flag: "--cpu",
        question: Some("Which part of it burns CPU instead of waiting? 0 to 1 [0]"),
        given: |flags| flags.cpu.as_deref(),
        set: |profile, text| number(text).map(|cpu| profile.work.cpu = cpu),
    },
    Field {
        flag: "--runtime",
        question: Some("What does each worker run? blocking, threads:N or tokio [blocking]"),
        given: |flags| flags.runtime.as_deref(),
        set: |profile, text| text.parse().map(|runtime| profile.runtime = runtime),
    },
    Field {
        flag: "--connections",
        question: Some("How long do connections live? short, keep-alive:N or long-lived [short]"),
        given: |flags| flags.connections.as_deref(),
        set: |profile, text| text.parse().map(|life| profile.connections = life),
    },
    Field {
        flag: "--workers",
        question: Some("How many worker processes? [8]"),
        given: |flags| flags.workers.as_deref(),
        set: |profile, text| {
            let workers = text.parse().map_err(|_| format!("`{text}`: expected a number above 0"));
            workers.map(|workers| profile.workers = workers)
        },
    },
    Field {
        flag: "--rate",
        question: None,
        given: |flags| flags.rate.as_deref(),
        set: |profile, text| {
            profile.load = None;
            number(text).map(|rate| profile.rate = Some(rate))
        },
    },
    Field {
        flag: "--load",
        question: Some(
            "Which fraction of their time are they busy, at the times that matter? [0.7]",
        ),
        given: |flags| flags.load.as_deref(),
        set: |profile, text| {
            profile.rate = None;
            number(text).map(|load| profile.load = Some(load))
        },
    },
    Field {
        flag: "--burst",
        question: None,
        given: |flags| flags.burst.as_deref(),
        set: |profile, text| {
            let burst = text.parse().map_err(|_| format!("`{text}`: expected a number above 0"));
            burst.map(|burst| profile.burst = burst)
        },
    },
    Field {
        flag: "--sticky",
        question: Some("Must the same client reach the same worker? yes or no [no]"),
        given: |flags| flags.sticky.as_deref(),
        set: |profile, text| yes(text).map(|sticky| profile.sticky = sticky),
    },
    Field {
        flag: "--trust",
        question: Some("What may workers do? full trust, may-hang or hostile [full]"),
        given: |flags| flags.trust.as_deref(),
        set: |profile, text| word(text).map(|trust| profile.trust = trust),
    },
    Field {
        flag: "--bpf",
        question: Some("May the supervisor have CAP_BPF? yes or no [no]"),
        given: |flags| flags.bpf.as_deref(),
        set: |profile, text| yes(text).map(|bpf| profile.bpf = bpf),
    },
    Field {
        flag: "--restarts",
        question: Some(
            "How often are workers replaced while clients are there? rare or often [rare]",
        ),
        given: |flags| flags.restarts.as_deref(),
        set: |profile, text| word(text).map(|restarts| profile.restarts = restarts),
    },
    Field {
        flag: "--goal",
        question: Some("What matters most? tail, cost, spread or robustness [tail]"),
        given: |flags| flags.goal.as_deref(),
        set: |profile, text| word(text).map(|goal| profile.goal = goal),
    },
];

impl Flags {
    /// Whether nothing was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        FIELDS.iter().all(|field| (field.given)(self).is_none())
    }

    /// `profile` with what was given instead of what it has.
    ///
    /// # Errors
    /// The flag and what it wants, or what does not fit together.
    pub fn apply(&self, mut profile: Profile) -> Result<Profile, String> {
        for field in &FIELDS {
            if let Some(text) = (field.given)(self) {
                (field.set)(&mut profile, text)
                    .map_err(|error| format!("{}: {error}", field.flag))?;
            }
        }
        profile.check()?;
        Ok(profile)
    }
}

/// The flags that make up a profile, for an error.
#[must_use]
pub fn flags() -> String {
    FIELDS.map(|field| field.flag).join(", ")
}

/// Asks `answers` for a profile on `terminal`; an empty answer is the usual one.
///
/// # Errors
/// No more answers (`UnexpectedEof`), or none of several was any good.
pub fn ask(answers: &mut impl BufRead, terminal: &mut impl Write) -> io::Result<Profile> {
    let mut profile = Profile::default();
    for field in &FIELDS {
        let Some(question) = field.question else { continue };
        ask_one(field, question, &mut profile, answers, terminal)?;
    }
    Ok(profile)
}

fn ask_one(
    field: &Field,
    question: &str,
    profile: &mut Profile,
    answers: &mut impl BufRead,
    terminal: &mut impl Write,
) -> io::Result<()> {
    for _ in 0..TRIES {
        write!(terminal, "{question}: ")?;
        terminal.flush()?;
        let mut answer = String::new();
        if answers.read_line(&mut answer)? == 0 {
            writeln!(terminal)?;
            let what = format!("no answer to: {question}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        let answer = answer.trim();
        if answer.is_empty() {
            return Ok(());
        }
        // What does not fit together is asked again where it shows.
        let mut changed = profile.clone();
        match (field.set)(&mut changed, answer).and_then(|()| changed.check()) {
            Ok(()) => {
                *profile = changed;
                return Ok(());
            }
            Err(error) => writeln!(terminal, "  {error}")?,
        }
    }
    let what = format!("{TRIES} answers and none that fits: {question}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("`{text}`: expected a number"))
}

fn yes(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "y" => Ok(true),
        "no" | "n" => Ok(false),
        _ => Err(format!("`{text}`: expected yes or no")),
    }
}

/// One of the words of a closed list.
fn word<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let words: Vec<_> = values.map(|value| value.get_name().to_owned()).collect();
        format!("`{text}`: expected one of {}", words.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Goal, Trust};

    fn asked(answers: &str) -> (io::Result<Profile>, String) {
        let mut terminal = Vec::new();
        let profile = ask(&mut answers.as_bytes(), &mut terminal);
        (profile, String::from_utf8(terminal).unwrap())
    }

    #[test]
    fn empty_answers_are_the_usual_ones() {
        let (profile, said) = asked(&"\n".repeat(12));
        assert_eq!(profile.unwrap(), Profile::default());
        assert_eq!(said.matches('?').count(), 12, "{said}");
        assert!(said.lines().all(|line| line.chars().count() < 1_400), "{said}");
    }

    #[test]
    fn a_wrong_answer_is_told_what_is_wanted_and_asked_again() {
        let (profile, said) = asked("soon\n2000\n\n\n\nlong-lived\nshort\n\n\n\n\n\n\nspread\n");
        let profile = profile.unwrap();
        assert_eq!((profile.work.mean_us, profile.goal), (Some(2_000.0), Goal::Spread));
        assert!(said.contains("`soon`: expected a number"), "{said}");
        // Blocking workers cannot keep connections: said where it was answered.
        assert!(said.contains("use tokio"), "{said}");
    }

    #[test]
    fn the_end_of_the_answers_is_an_error_and_so_is_nonsense_without_end() {
        let (profile, _) = asked("4000\n");
        assert_eq!(profile.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (profile, _) = asked(&"what?\n".repeat(99));
        assert_eq!(profile.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn flags_change_a_profile_and_name_themselves_when_wrong() {
        let mut flags = Flags::default();
        assert!(flags.is_empty());
        flags.trust = Some("hostile".to_owned());
        flags.load = Some("0.5".to_owned());
        let before = Profile { rate: Some(100.0), ..Profile::default() };
        let profile = flags.apply(before).unwrap();
        assert_eq!((profile.trust, profile.rate, profile.load), (Trust::Hostile, None, Some(0.5)));
        flags.bpf = Some("maybe".to_owned());
        assert_eq!(flags.apply(profile).unwrap_err(), "--bpf: `maybe`: expected yes or no");
    }
}
