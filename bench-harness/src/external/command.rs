//! What is typed for a stranger: `NAME='COMMAND {port} {workers}'`. Pure.

use std::str::FromStr;

/// Where the port goes.
const PORT: &str = "{port}";

/// Where the number of workers goes.
const WORKERS: &str = "{workers}";

/// The words of a command, as a shell would split them. There is no shell: no variables, no pipes, no
/// patterns; who wants one writes `sh -c '..'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(Vec<String>);

impl FromStr for Words {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = shlex::split(text).ok_or("a quote is not closed, or a `\\` ends it")?;
        if words.is_empty() { Err("the command is empty".to_owned()) } else { Ok(Self(words)) }
    }
}

impl Words {
    /// The program and its arguments.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// With what is known only when it is started, in every word.
    #[must_use]
    pub fn filled_in(&self, port: u16, workers: u32) -> Vec<String> {
        let (port, workers) = (port.to_string(), workers.to_string());
        self.0.iter().map(|word| word.replace(PORT, &port).replace(WORKERS, &workers)).collect()
    }
}

/// A server to be compared that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// What reports call it.
    pub name: String,
    /// How it is started.
    pub command: Words,
}

impl FromStr for External {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, command)) = text.split_once('=') else {
            return Err("expected NAME='COMMAND {port} {workers}'".to_owned());
        };
        let is_plain = |c: char| c.is_alphanumeric() || "-_.:+".contains(c);
        if name.is_empty() || name.len() > 40 || !name.chars().all(is_plain) {
            return Err(format!(
                "`{name}` cannot be a name; take up to 40 letters, digits and any of - _ . : +"
            ));
        }
        if !command.contains(PORT) {
            return Err(format!(
                "the command of `{name}` has no {PORT}, so it cannot be told where to listen"
            ));
        }
        Ok(Self { name: name.to_owned(), command: command.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let seen = match text.parse::<External>() {
            Ok(one) => format!("{}: {}", one.name, one.command.filled_in(18_000, 4).join("|")),
            Err(error) => error,
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_command_is_split_as_a_shell_would_and_filled_in() {
        check("mine=./serve -p {port} -w{workers}", "mine: ./serve|-p|18000|-w4");
        check("a=sh -c 'exec b --at=:{port} $X'", "a: sh|-c|exec b --at=:18000 $X");
        check(r#"a=b "{port} c" d\ e"#, "a: b|18000 c|d e");
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        check("nginx", "expected NAME='COMMAND {port} {workers}'");
        check("a=b", "the command of `a` has no {port}, so it cannot be told where to listen");
        check("a=b '{port}", "a quote is not closed, or a `\\` ends it");
        check(
            "a b={port}",
            "`a b` cannot be a name; take up to 40 letters, digits and any of - _ . : +",
        );
        assert_eq!(" ".parse::<Words>(), Err("the command is empty".to_owned()));
    }
}
