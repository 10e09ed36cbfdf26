//! How a command ends, and what commands need to run.

use std::fmt::Display;
use std::path::Path;

use folio_node::offline::OpenError;
use tracing_subscriber::{Layer, Registry};

use crate::settings::LogFormat;

/// Why a command did not succeed. Each way has an exit code of its own, for scripts.
#[derive(Debug)]
pub enum Failure {
    /// Something went wrong.
    Error(String),
    /// The command line makes no sense in a way the parser cannot see.
    Usage(String),
    /// The file is damaged. Without a message the report has said it.
    Corruption(Option<String>),
    /// It may work later: the file is in use, or no leader was found.
    Unavailable(String),
}

impl Failure {
    pub fn error(reason: impl Display) -> Self {
        Failure::Error(reason.to_string())
    }

    /// The same, said of a file.
    pub fn about(self, file: &Path) -> Self {
        let named = |message: String| format!("{}: {message}", file.display());
        match self {
            Failure::Error(message) => Failure::Error(named(message)),
            Failure::Usage(message) => Failure::Usage(named(message)),
            Failure::Corruption(message) => Failure::Corruption(message.map(named)),
            Failure::Unavailable(message) => Failure::Unavailable(named(message)),
        }
    }

    pub fn code(&self) -> u8 {
        match self {
            Failure::Error(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Corruption(_) => 3,
            Failure::Unavailable(_) => 4,
        }
    }

    pub fn message(&self) -> Option<&str> {
        match self {
            Failure::Error(message) | Failure::Usage(message) | Failure::Unavailable(message) => {
                Some(message)
            }
            Failure::Corruption(message) => message.as_deref(),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let message = error.to_string();
        match error {
            OpenError::Damaged(_) | OpenError::Inconsistent(_) => {
                Failure::Corruption(Some(message))
            }
            OpenError::InUse(_) => Failure::Unavailable(message),
            _ => Failure::Error(message),
        }
    }
}

impl From<folio_store::Error> for Failure {
    fn from(error: folio_store::Error) -> Self {
        OpenError::from(error).into()
    }
}

/// The runtime of the commands that run nodes.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Error(format!("cannot start the asynchronous runtime: {error}")))
}

/// Starts writing the log to standard error, for people. `FOLIO_LOG` replaces the level.
pub fn log_at(level: &str) -> Result<(), Failure> {
    let wanted = std::env::var("FOLIO_LOG").unwrap_or_default();
    let filter = match &wanted[..] {
        "" => level,
        filter => filter,
    };
    log_as(filter, LogFormat::Text, None)
}

/// What takes spans beside the log.
pub type Spans = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts writing what passes the filter to standard error. The filter means nothing for `spans`.
pub fn log_as(filter: &str, format: LogFormat, spans: Option<Spans>) -> Result<(), Failure> {
    use std::io::IsTerminal;
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::prelude::*;

    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::Usage(format!("`{filter}` is not a log filter: {error}")))?;
    let colourless = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = match format {
        LogFormat::Json => log.json().flatten_event(true).boxed(),
        LogFormat::Text => log
            .with_ansi(std::io::stderr().is_terminal() && !colourless)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(spans)
        .with(log.with_filter(filter))
        .init();
    Ok(())
}

impl From<folio_node::NodeError> for Failure {
    fn from(error: folio_node::NodeError) -> Self {
        use folio_node::NodeError;

        let message = error.to_string();
        match error {
            NodeError::Open(error) if error.is_corruption() => Failure::Corruption(Some(message)),
            NodeError::Open(folio_store::Error::InUse { .. }) => Failure::Unavailable(message),
            _ => Failure::Error(message),
        }
    }
}
