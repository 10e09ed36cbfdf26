//! What a writer tells its supervisor, a line each, before and after every step.

use std::{io::Write, process::exit};

use folio_store::Error;

use super::load::{LANES, Progress};

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// The file is open.
    Opened,
    /// A step will be published now.
    Attempt(usize, u64),
    /// A lane is durable up to this step.
    Acknowledged(usize, u64),
    /// The file was closed in order.
    Closed,
    /// The engine gave an error.
    Failed(Failure),
    /// The writer itself has seen something that must not be.
    Wrong(String),
}

/// An error of the engine, as far as it can be told in a line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Failure {
    /// The name of its variant.
    pub variant: String,
    /// The system's number, if it came from there.
    pub errno: Option<i32>,
    /// What was being done.
    pub operation: String,
    /// The whole text.
    pub message: String,
}

impl Failure {
    /// Of an error.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        let debug = format!("{error:?}");
        let end = debug.find([' ', '(']).unwrap_or(debug.len());
        let (errno, operation) = match error {
            Error::Io {
                operation, source, ..
            } => (source.raw_os_error(), (*operation).to_owned()),
            Error::Full { source, .. } => (source.raw_os_error(), "grow the file".into()),
            _ => (None, String::new()),
        };
        Self {
            variant: debug[..end].to_owned(),
            errno,
            operation,
            message: error.to_string().replace(['\n', '\t'], " "),
        }
    }
}

impl Report {
    fn line(&self) -> String {
        match self {
            Self::Opened => "o\n".into(),
            Self::Attempt(lane, step) => format!("b\t{lane}\t{step}\n"),
            Self::Acknowledged(lane, step) => format!("a\t{lane}\t{step}\n"),
            Self::Closed => "c\n".into(),
            Self::Failed(failure) => format!(
                "e\t{}\t{}\t{}\t{}\n",
                failure.variant,
                failure.errno.unwrap_or(0),
                failure.operation,
                failure.message
            ),
            Self::Wrong(what) => format!("w\t{}\n", what.replace(['\n', '\t'], " ")),
        }
    }

    /// Reads a line without its end.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let kind = fields.next()?;
        let mut step = || {
            let lane = fields.next()?.parse().ok().filter(|&lane| lane < LANES)?;
            Some((lane, fields.next()?.parse().ok()?))
        };
        Some(match kind {
            "o" => Self::Opened,
            "c" => Self::Closed,
            "b" => step().map(|(lane, step)| Self::Attempt(lane, step))?,
            "a" => step().map(|(lane, step)| Self::Acknowledged(lane, step))?,
            "e" => Self::Failed(Failure {
                variant: fields.next()?.into(),
                errno: fields.next()?.parse().ok().filter(|&errno| errno != 0),
                operation: fields.next()?.into(),
                message: fields.next()?.into(),
            }),
            "w" => Self::Wrong(fields.next()?.into()),
            _ => return None,
        })
    }

    /// Writes the line in one call. Without a supervisor the writer ends.
    pub fn send(&self) {
        if std::io::stdout().write_all(self.line().as_bytes()).is_err() {
            exit(3);
        }
    }
}

/// What the supervisor knows of a writer.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// No lane can have come further.
    pub attempted: Progress,
    /// Every lane has come so far at least.
    pub acknowledged: Progress,
    /// How often the file was open.
    pub opened: u64,
    /// How often it was closed in order.
    pub closed: u64,
    /// Errors of the engine, in their order.
    pub failures: Vec<Failure>,
    /// What the writer has seen that must not be.
    pub wrong: Vec<String>,
}

impl Known {
    /// Nothing but where the lanes are.
    #[must_use]
    pub fn at(progress: Progress) -> Self {
        Self {
            attempted: progress,
            acknowledged: progress,
            ..Self::default()
        }
    }

    /// Takes a report in.
    pub fn note(&mut self, report: Report) {
        match report {
            Report::Opened => self.opened += 1,
            Report::Closed => self.closed += 1,
            Report::Attempt(lane, step) => {
                self.attempted[lane] = self.attempted[lane].max(step);
            }
            Report::Acknowledged(lane, step) => {
                self.acknowledged[lane] = self.acknowledged[lane].max(step);
            }
            Report::Failed(failure) => self.failures.push(failure),
            Report::Wrong(what) => self.wrong.push(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_report_is_read_as_it_was_sent() {
        let failure = Failure {
            variant: "Io".into(),
            errno: Some(5),
            operation: "sync".into(),
            message: "a.folio: cannot sync: ...".into(),
        };
        let reports = [
            Report::Opened,
            Report::Attempt(2, 17),
            Report::Acknowledged(LANES - 1, u64::MAX),
            Report::Closed,
            Report::Failed(failure),
            Report::Wrong("it is".into()),
        ];
        for report in reports {
            let line = report.line();
            assert_eq!(Report::parse(line.trim_end_matches('\n')), Some(report));
        }
        assert_eq!(Report::parse("a\t9\t1"), None);
    }
}
