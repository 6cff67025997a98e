//! The forms a result is put into, and where each goes.

use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use anyhow::Context as _;

use super::{Report, csv, html, markdown, saved, terminal};
use crate::cli::Outputs;
use crate::interrupt;
use crate::serve::Usage;

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The structure itself.
    Json,
    /// One line for each figure.
    Csv,
    /// Tables for a README.
    Markdown,
    /// A page with drawings.
    Html,
}

impl Form {
    /// As an option of the command line.
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            Self::Json => "--json",
            Self::Csv => "--csv",
            Self::Markdown => "--markdown",
            Self::Html => "--html",
        }
    }

    /// `reports` in this form.
    ///
    /// # Errors
    /// Several of them cannot be one JSON file.
    pub fn render(self, reports: &[Report]) -> anyhow::Result<String> {
        match (self, reports) {
            (Self::Json, [report]) => saved::json(report),
            (Self::Json, _) => {
                Err(Usage("--json is for one result: name one FILE".to_owned()).into())
            }
            (Self::Csv, _) => csv::render(reports),
            (Self::Markdown, _) => Ok(joined(reports, markdown::render)),
            (Self::Html, _) => Ok(html::render(reports)),
        }
    }
}

/// One after the other, with an empty line between them.
fn joined(reports: &[Report], render: impl Fn(&Report) -> String) -> String {
    reports.iter().map(render).collect::<Vec<_>>().join("\n")
}

impl Outputs {
    /// The forms that were asked for.
    fn asked(&self) -> impl Iterator<Item = (Form, &Path)> {
        let all = [
            (Form::Json, &self.json),
            (Form::Csv, &self.csv),
            (Form::Markdown, &self.markdown),
            (Form::Html, &self.html),
        ];
        all.into_iter().filter_map(|(form, path)| Some((form, path.as_deref()?)))
    }

    /// Whether nothing was asked for: then tables are wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.asked().next().is_none()
    }

    /// Whether all can go where they shall; to be asked before anything is measured. What is in
    /// the files stays as it is.
    ///
    /// # Errors
    /// A usage error if two would go to standard output or to one file, or another form than JSON to a
    /// file that is called so, most likely a result that was meant to be read; else a file that cannot be
    /// written.
    pub fn check(&self) -> anyhow::Result<()> {
        let printed: Vec<_> =
            self.asked().filter(|(_, path)| is_stdout(path)).map(|(form, _)| form).collect();
        if let [one, other, ..] = printed[..] {
            let (one, other) = (one.option(), other.option());
            let text = format!("{one} and {other} cannot share standard output: name a FILE");
            return Err(Usage(text).into());
        }
        let files: Vec<_> = self.asked().filter(|(_, path)| !is_stdout(path)).collect();
        for (index, &(form, path)) in files.iter().enumerate() {
            if let Some((other, _)) = files[..index].iter().find(|(_, other)| *other == path) {
                let (one, other, path) = (other.option(), form.option(), path.display());
                let text = format!("{one} and {other} cannot both go to {path}: name another file");
                return Err(Usage(text).into());
            }
            if form != Form::Json && path.extension().is_some_and(|end| end == "json") {
                let (option, path) = (form.option(), path.display());
                let text = format!("{option} would overwrite {path}: name another file");
                return Err(Usage(text).into());
            }
            saved::check(path)?;
        }
        Ok(())
    }

    /// Puts `reports` where they shall go, files first: printing may fail, and the figures took
    /// minutes. `tables` are printed unless something else is. What one of them cannot have, the others
    /// still get.
    ///
    /// # Errors
    /// A file, or standard output, cannot be written; the first of them is told.
    pub fn write(&self, reports: &[Report], tables: bool) -> anyhow::Result<()> {
        let mut printed = None;
        let mut outcome = Ok(());
        for (form, path) in self.asked() {
            let text = form.render(reports)?;
            if is_stdout(path) {
                printed = Some(text);
            } else {
                outcome = outcome.and(saved::write(path, &text));
            }
        }
        outcome.and(match printed {
            Some(text) => print(&text),
            None if tables => print(&joined(reports, terminal::render)),
            None => Ok(()),
        })
    }
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// Prints; a reader that went away (`| head`) is not an error.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(text: &str) -> anyhow::Result<()> {
    // A reader may let us wait for ever; what goes to files is there.
    interrupt::let_go();
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_form_goes_to_standard_output() {
        let both = Outputs { csv: Some("-".into()), html: Some("-".into()), ..Outputs::default() };
        let error = both.check().unwrap_err();
        assert!(
            error.is::<Usage>() && error.to_string().starts_with("--csv and --html"),
            "{error}"
        );
    }

    #[test]
    fn one_file_holds_one_form() {
        let file = || Some("result".into());
        let both = Outputs { json: file(), csv: file(), ..Outputs::default() };
        let error = both.check().unwrap_err();
        assert!(error.is::<Usage>(), "{error}");
        assert!(
            error.to_string().starts_with("--json and --csv cannot both go to result"),
            "{error}"
        );
    }

    #[test]
    fn a_saved_result_is_not_overwritten_by_another_form() {
        let directory = tempfile::tempdir().unwrap();
        let result = directory.path().join("result.json");
        let wrong = Outputs { markdown: Some(result.clone()), ..Outputs::default() };
        assert!(wrong.check().unwrap_err().is::<Usage>() && !result.exists());
        let right = Outputs { json: Some(result.clone()), ..Outputs::default() };
        assert!(right.check().is_ok() && !result.exists(), "nothing was measured yet");
        std::fs::write(&result, "kept").unwrap();
        assert!(right.check().is_ok());
        assert_eq!(std::fs::read_to_string(&result).unwrap(), "kept");
    }

    #[test]
    fn what_one_cannot_have_the_others_get() {
        let directory = tempfile::tempdir().unwrap();
        let csv = directory.path().join("result.csv");
        let outputs = Outputs {
            json: Some("/dev/full".into()),
            csv: Some(csv.clone()),
            ..Outputs::default()
        };
        let error = outputs.write(&[Report::default()], false).unwrap_err();
        assert_eq!(error.to_string(), "cannot write /dev/full");
        assert!(!std::fs::read_to_string(&csv).unwrap().is_empty());
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_file_in_no_directory_is_refused() {
        let html = Some("/nowhere/report.html".into());
        let error = Outputs { html, ..Outputs::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "cannot write /nowhere/report.html");
    }
}
