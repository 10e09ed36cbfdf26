//! Commands that ask a running cluster.

pub mod entities;
pub mod members;
pub mod status;
pub mod vaults;
pub mod watch;

use std::future::Future;
use std::path::{Path, PathBuf};

use clap::Args;
use folio_client::api::Code;
use folio_client::{Client, Error, Settings};

use crate::amount::Span;
use crate::files::about;
use crate::output::Format;
use crate::run::{self, Failure};

/// Which cluster is asked, and how the answer is printed.
#[derive(Args)]
pub struct Asking {
    #[command(flatten)]
    pub cluster: Cluster,
    /// How to print the result
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// Where the cluster is, and how it is talked to.
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
    #[command(flatten)]
    contact: Contact,
}

/// How nodes are talked to.
#[derive(Args)]
pub struct Contact {
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

/// A file, or a running node.
#[derive(Args)]
pub struct FileOrNode {
    /// The file of a node, running or not, or a copy
    #[arg(required_unless_present = "node", conflicts_with = "node")]
    file: Option<PathBuf>,
    /// The API of a running node
    #[arg(long, value_name = "URL")]
    node: Option<String>,
    #[command(flatten)]
    contact: Contact,
}

/// What [`FileOrNode`] names.
pub enum Source<'a> {
    File(&'a Path),
    Node(&'a str, Client),
}

impl FileOrNode {
    pub fn source(&self) -> Result<Source<'_>, Failure> {
        match (&self.file, &self.node) {
            (_, Some(node)) => {
                let client = self.contact.client(std::slice::from_ref(node))?;
                Ok(Source::Node(node, client))
            }
            (Some(file), None) => Ok(Source::File(file)),
            (None, None) => Err(Failure::Usage("name a file, or a node with --node".into())),
        }
    }
}

impl Cluster {
    /// A client of all the nodes that were named.
    pub fn client(&self) -> Result<Client, Failure> {
        self.contact.client(&self.nodes)
    }

    /// A client of the node of the cluster whose API is at `HOST:PORT`.
    pub fn client_at(&self, api: &str) -> Result<Client, Failure> {
        let scheme = match self.contact.ca {
            Some(_) => "https",
            None => "http",
        };
        self.contact.client(&[format!("{scheme}://{api}")])
    }
}

impl Contact {
    /// A client of nodes.
    fn client(&self, nodes: &[String]) -> Result<Client, Failure> {
        let mut settings = Settings::new(nodes)?.deadline(self.timeout.0);
        if let Some(file) = &self.ca {
            settings = settings.authority(file)?;
        } else if let Some(node) = nodes.iter().find(|node| node.starts_with("https://")) {
            return Err(Failure::Usage(format!(
                "whom to trust at {node}? Name the certificate of the cluster's authority with --ca"
            )));
        }
        if let Some(file) = &self.token_file {
            let token = std::fs::read_to_string(file).map_err(|error| about(file, error))?;
            let token = token.trim();
            if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
                return Err(about(file, "there is no token in it"));
            }
            settings = settings.token(token);
        }
        Ok(Client::new(settings)?)
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
            Error::Unavailable { .. } => {
                Failure::Unavailable(format!("{message}; --node says which nodes to ask"))
            }
            Error::Refused(problem) if problem.code == Code::Unauthenticated => Failure::Error(
                "the node wants to know who asks: name a file with the token of `folio clients add` by --token-file"
                    .into(),
            ),
            // Something that comes to an end, or that somebody sees to.
            Error::Refused(problem)
                if problem.code == Code::VerificationRunning
                    || matches!(problem.status, 429 | 503 | 504 | 507) =>
            {
                Failure::Unavailable(message)
            }
            _ => Failure::Error(message),
        }
    }
}
