//! One line of an access log.
//!
//! Only two things are read: when (the first `[…]`) and how long (the last field). What clients wrote
//! between them does not matter, so it need not be taken apart.

use clap::ValueEnum;
use jiff::Timestamp;
use jiff::fmt::strtime;
use serde_json::Value;

/// A request in a log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// When, in seconds since 1970.
    pub at_s: f64,
    /// How long it took, in microseconds.
    pub took_us: f64,
}

/// Unit of request times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
}

/// How lines are read.
#[derive(Clone, Debug)]
pub struct Reader {
    /// Unit of request times; if not given, what each looks like.
    pub unit: Option<Unit>,
    /// JSON field with the time.
    pub time_field: String,
    /// JSON field with how long it took.
    pub duration_field: String,
}

impl Reader {
    /// The request in `line`, and the unit that was guessed from its time: none if it was given, or the time
    /// is 0. A log has one unit, so two guesses of one log must not differ.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    pub fn entry(&self, line: &str) -> Result<(Entry, Option<Unit>), String> {
        if line.starts_with('{') { self.json(line) } else { self.common(line) }
    }

    /// Common or combined log format, and whatever else has a date in brackets and a time at the end.
    fn common(&self, line: &str) -> Result<(Entry, Option<Unit>), String> {
        let date = line.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        let (date, rest) = date.ok_or("no date in brackets, as the common log format has")?;
        let at_s = date_of(date)?;
        // After the request, which is in quotes, come status and bytes: neither is the time.
        let after = rest.rsplit_once('"').map_or("", |(_, after)| after);
        let fields: Vec<&str> = after.split_whitespace().collect();
        let quotes = rest.matches('"').count();
        // Common format: `"request" status bytes TIME`; combined: `"agent" TIME`.
        let is_missing = if quotes <= 2 { fields.len() < 3 } else { fields.is_empty() };
        if is_missing {
            return Err(
                "no request time at the end: log it (Apache %D, nginx $request_time)".to_owned()
            );
        }
        let last = fields.last().copied().unwrap_or_default();
        let (took_us, guessed) = self.duration(last)?;
        Ok((Entry { at_s, took_us }, guessed))
    }

    fn json(&self, line: &str) -> Result<(Entry, Option<Unit>), String> {
        let value: Value = serde_json::from_str(line).map_err(|_| "no JSON object")?;
        let field = |name: &str| {
            let found = name.split('.').try_fold(&value, |value, key| value.get(key));
            found.ok_or_else(|| {
                format!("no field `{name}`: name it by --time-field and --duration-field")
            })
        };
        let at_s = match field(&self.time_field)? {
            Value::Number(number) => {
                since_1970(number.as_f64().ok_or("a time that is no number")?)?
            }
            Value::String(text) => match text.parse() {
                Ok(number) => since_1970(number)?,
                Err(_) => date_of(text)?,
            },
            _ => return Err(format!("`{}` is neither a date nor a number", self.time_field)),
        };
        let (took_us, guessed) = match field(&self.duration_field)? {
            // As it stands there: the decimal point says which unit.
            Value::Number(number) => self.duration(&number.to_string())?,
            Value::String(text) => self.duration(text)?,
            _ => return Err(format!("`{}` is no number", self.duration_field)),
        };
        Ok((Entry { at_s, took_us }, guessed))
    }

    /// A request time in microseconds, and the unit that was guessed for it.
    fn duration(&self, text: &str) -> Result<(f64, Option<Unit>), String> {
        // Some formats quote it.
        let text = text.trim_matches('"');
        let number: f64 = text.parse().map_err(|_| format!("`{text}` is no request time"))?;
        if !(number.is_finite() && number >= 0.0) {
            return Err(format!("`{text}` is no request time"));
        }
        let looks = if text.contains(['.', 'e']) { Unit::S } else { Unit::Us };
        let us = match self.unit.unwrap_or(looks) {
            Unit::S => 1e6,
            Unit::Ms => 1e3,
            Unit::Us => 1.0,
        };
        // 0 is the same in each.
        let is_guessed = self.unit.is_none() && number > 0.0;
        Ok((number * us, is_guessed.then_some(looks)))
    }
}

/// Seconds since 1970 of a number of them, or of thousandths, millionths or milliardths: as seconds each of
/// those would be thousands of years away.
fn since_1970(number: f64) -> Result<f64, String> {
    let seconds = match number.abs() {
        size if size < 1e11 => number,
        size if size < 1e14 => number / 1e3,
        size if size < 1e17 => number / 1e6,
        size if size < 1e20 => number / 1e9,
        _ => return Err(format!("`{number}` is no time since 1970")),
    };
    Ok(seconds)
}

/// Seconds since 1970 of a date as the common log format or RFC 3339 has it.
#[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 stay below 2^53")]
fn date_of(text: &str) -> Result<f64, String> {
    let common = || strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).ok()?.to_timestamp().ok();
    let timestamp = text.parse::<Timestamp>().ok().or_else(common);
    timestamp
        .map(|timestamp| timestamp.as_microsecond() as f64 / 1e6)
        .ok_or_else(|| format!("`{text}` is no date"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unit: Option<Unit>, line: &str, expected: Result<(f64, f64), &str>) {
        let reader =
            Reader { unit, time_field: "ts".to_owned(), duration_field: "http.took".to_owned() };
        match (reader.entry(line), expected) {
            (Ok((seen, _)), Ok((at_s, took_us))) => {
                assert!((seen.at_s - at_s).abs() < 1e-3, "{seen:?}");
                assert!((seen.took_us - took_us).abs() < 1e-6, "{seen:?}");
            }
            (Err(seen), Err(words)) => assert!(seen.contains(words), "{seen}"),
            (seen, _) => panic!("{line}: {seen:?}"),
        }
    }

    #[test]
    fn common_and_combined_lines() {
        let at = 971_211_336.0;
        let date = "127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700]";
        let line = |rest: &str| format!("{date} {rest}");
        check(None, &line("\"GET / HTTP/1.0\" 200 2326 1500"), Ok((at, 1_500.0)));
        check(None, &line("\"GET / HTTP/1.0\" 200 2326 0.004"), Ok((at, 4_000.0)));
        check(
            None,
            &line("\"GET /\" 200 2 \"http://a/\" \"b [c] \\\" d\" 0.250"),
            Ok((at, 250_000.0)),
        );
        check(Some(Unit::Ms), &line("\"GET /\" 200 2 \"-\" \"-\" 7"), Ok((at, 7_000.0)));
        // The bytes are not the time.
        check(None, &line("\"GET / HTTP/1.0\" 200 2326"), Err("log it (Apache %D"));
        check(None, &line("\"GET /\" 200 2 \"-\" \"-\""), Err("log it (Apache %D"));
        check(None, &line("\"GET /\" 200 2 \"-\" \"-\" -"), Err("`-` is no request time"));
        check(None, &line("\"GET /\" 200 2 \"-\" \"-\" -5"), Err("`-5` is no request time"));
        check(None, "127.0.0.1 - - [yesterday] \"GET /\" 200 2 3", Err("`yesterday` is no date"));
        check(None, "hello", Err("no date in brackets"));
    }

    #[test]
    fn json_lines() {
        let at = 1_795_326_071.5;
        check(None, r#"{"ts":1795326071.5,"http":{"took":0.5}}"#, Ok((at, 500_000.0)));
        check(None, r#"{"ts":"2026-11-22T05:41:11.5Z","http":{"took":"12"}}"#, Ok((at, 12.0)));
        check(
            None,
            r#"{"ts":"22/Nov/2026:06:41:11 +0100","http":{"took":12}}"#,
            Ok((at - 0.5, 12.0)),
        );
        check(None, r#"{"ts":"1795326071.5","http":{"took":12}}"#, Ok((at, 12.0)));
        for number in ["1795326071500", "1795326071500000", "1795326071500000000"] {
            check(None, &format!(r#"{{"ts":{number},"http":{{"took":12}}}}"#), Ok((at, 12.0)));
        }
        check(None, r#"{"ts":1e300,"http":{"took":12}}"#, Err("is no time since 1970"));
        check(None, r#"{"ts":"NaN","http":{"took":12}}"#, Err("`NaN` is no time since 1970"));
        check(None, r#"{"ts":true,"http":{"took":12}}"#, Err("neither a date nor a number"));
        check(None, r#"{"ts":1}"#, Err("no field `http.took`"));
        check(None, r#"{"ts":1"#, Err("no JSON object"));
    }
}
