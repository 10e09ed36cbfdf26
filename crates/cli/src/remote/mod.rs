//! Commands that ask a running cluster.

pub mod bench;
pub mod entities;
pub mod members;
pub mod status;
pub mod vaults;
pub mod watch;

use std::future::Future;
use std::path::PathBuf;

use clap::Args;
use folio_client::api::Code;
use folio_client::{Client, Error, Settings};

use crate::amount::Span;
use crate::output::Format;
use crate::run::{self, Failure};

/// Where the cluster is, and who asks it.
#[derive(Args)]
pub struct Cluster {
    /// The APIs of some of its nodes
    #[arg(
        long = "node",
        global = true,
        value_name = "URL,...",
        env = "FOLIO_NODE",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7001"
    )]
    nodes: Vec<String>,
    /// The certificate of the cluster's authority, for nodes at https://
    #[arg(long, global = true, value_name = "FILE", env = "FOLIO_CA")]
    ca: Option<PathBuf>,
    /// A file with the token that says who asks, for a cluster that knows its clients
    #[arg(long, global = true, value_name = "FILE", env = "FOLIO_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// How long to go on trying
    #[arg(long, global = true, value_name = "TIME", default_value = "10s")]
    timeout: Span,
}

/// How a command prints.
#[derive(Args)]
pub struct Printing {
    /// How to print the result
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

impl Cluster {
    /// A client of all the nodes that were named.
    pub fn client(&self) -> Result<Client, Failure> {
        self.client_of(&self.nodes)
    }

    /// A client of these nodes of the cluster.
    pub fn client_of(&self, nodes: &[String]) -> Result<Client, Failure> {
        let mut settings = Settings::new(nodes)?.deadline(self.timeout.0);
        if let Some(file) = &self.ca {
            settings = settings.authority(file)?;
        }
        if let Some(file) = &self.token_file {
            let token = std::fs::read_to_string(file)
                .map_err(|error| Failure::Error(format!("{}: {error}", file.display())))?;
            settings = settings.token(token.trim());
        }
        Ok(Client::new(settings)?)
    }

    /// `http` or `https`, as the nodes that were named.
    pub fn scheme(&self) -> &'static str {
        match self.ca {
            Some(_) => "https",
            None => "http",
        }
    }
}

/// Runs a command to its end.
pub fn carry_out(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    run::runtime()?.block_on(command)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Setting(_) => Failure::Usage(message),
            Error::Unavailable { .. } => Failure::Unavailable(message),
            Error::Refused(problem)
                if matches!(
                    problem.code,
                    Code::NoLeader | Code::NoQuorum | Code::Overloaded
                ) =>
            {
                Failure::Unavailable(message)
            }
            _ => Failure::Error(message),
        }
    }
}
