//! How a command ends, and what commands need to run.

use std::fmt::Display;

use folio_node::offline::OpenError;

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

/// Starts writing the log to standard error. `FOLIO_LOG` replaces the level.
pub fn log_at(level: &str) -> Result<(), Failure> {
    use std::io::IsTerminal;
    use tracing_subscriber::EnvFilter;

    let wanted = std::env::var("FOLIO_LOG")
        .ok()
        .filter(|filter| !filter.is_empty());
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(level))
        .map_err(|error| Failure::Usage(format!("FOLIO_LOG is not a log filter: {error}")))?;
    let colourless = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && !colourless)
        .with_writer(std::io::stderr)
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
