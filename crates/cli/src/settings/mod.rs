//! The settings of a node. [`Settings`] is the only list of them: the flags of `folio serve`, the environment and the
//! keys of a file follow from it, and so do `folio config example` and the texts of `--help`.
//!
//! `--peer-listen` on the command line is `FOLIO_PEER_LISTEN` in the environment and `peer-listen` in a file;
//! `--raft-queue-limit` is `queue-limit` in the table `[raft]`. Flags go before the environment, that before files, and
//! these before the defaults.

mod command;
mod file;
mod member;

use std::any::TypeId;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Command, ValueEnum};
#[cfg(feature = "otlp")]
use folio_node::Traces;
use folio_node::api::MAX_BODY_BYTES;
use folio_node::{Limits, is_host_and_port};
use folio_raft::{Config, FollowerReads, NodeId};

use crate::amount::{Rate, Size, Span};
use crate::run::Failure;

pub use command::{Arguments, run};
use file::REMEMBERED;
pub use file::{Layers, is_variable};
pub use member::{Member, by_id};

/// The tables of a file: settings whose names begin like this stand in them.
const TABLES: [&str; 2] = ["engine", "raft"];

/// How a node is run.
#[derive(Args, Debug, Clone)]
pub struct Settings {
    /// Where the node keeps what it has: its file, node.folio, and what was decided when it was started first, folio.toml.
    /// The directory is created when it is not there
    #[arg(long, value_name = "DIRECTORY")]
    pub data: Option<PathBuf>,
    /// The node's file, if it is not to be in the data directory; it is created when it is not there
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The node's id, from 1; never give it to another node, nor to the same one with an empty file. A node that begins a
    /// cluster is 1, and one that joins is given the next
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub id: Option<NodeId>,
    /// The name of the cluster; nodes of another one are refused
    #[arg(long, value_name = "NAME", default_value = "folio")]
    pub cluster: String,
    /// Where to listen for the HTTP API
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7001")]
    pub listen: String,
    /// Where to listen for the other nodes
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7101")]
    pub peer_listen: String,
    /// How other nodes reach this one, as HOST or HOST:PORT, if it is not by --peer-listen
    #[arg(long, value_name = "ADDRESS")]
    pub advertise: Option<String>,
    /// How clients reach this node, as HOST or HOST:PORT, if it is not by --listen
    #[arg(long, value_name = "ADDRESS")]
    pub advertise_api: Option<String>,
    /// The members' API addresses, where this node is to redirect clients to others than those that the members gave
    /// when they joined
    #[arg(long, value_name = "ID=ADDRESS,...", value_delimiter = ',')]
    pub apis: Vec<Member>,
    /// Speak TLS only, with the certificates in this directory, as `folio cert` makes them: authority.pem, node-ID.pem
    /// and node-ID.key. Peers must have certificates of the same authority. Files that change are read again
    #[arg(long, value_name = "DIRECTORY")]
    pub tls: Option<PathBuf>,
    /// With --tls and --clients: ask clients for certificates, which the authority in this file has made, so that --clients
    /// may name clients by these. Who shows none may show a token. Read again when it changes
    #[arg(long, value_name = "FILE")]
    pub client_authority: Option<PathBuf>,
    /// Without --tls: allow addresses that other machines can reach, although there is neither encryption nor
    /// authentication
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub insecure_network: bool,
    /// Answer the clients in this file only, and only what it says they may do, as `folio clients` makes it. Read again
    /// when it changes
    #[arg(long, value_name = "FILE")]
    pub clients: Option<PathBuf>,
    /// Without --clients: allow an API address that other machines can reach, although whoever reaches it may read,
    /// change and delete everything
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub open_to_everybody: bool,
    /// Connections of clients at a time; those that wait for a request give way to new ones
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Bytes of bodies of requests that are kept at a time; requests beyond that are answered 503
    #[arg(long, value_name = "BYTES", default_value = "64M")]
    pub max_body_bytes: Size,
    /// Verify the file in the background, reading at most this many bytes a second, for example 4M; damage is logged
    #[arg(long, value_name = "BYTES/S")]
    pub scrub: Option<Rate>,
    /// With --scrub: the hours between the end of one verification and the beginning of the next; 24 if nothing is said
    #[arg(long, value_name = "HOURS")]
    pub scrub_every: Option<u32>,
    /// What to log: a level, and others for parts of the program
    #[arg(long, value_name = "FILTER", default_value = "warn,openraft=error")]
    pub log: String,
    /// How to write the log
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Send traces of requests to this collector, by OTLP over HTTP, for example http://localhost:4318; none if nothing is said
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    #[command(flatten, next_help_heading = "The file")]
    pub engine: Engine,
    #[command(flatten, next_help_heading = "Replication; the same on every node")]
    pub raft: Raft,
}

/// How lines of the log are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// A JSON object a line, for programs
    Json,
}

/// How the file is used.
#[derive(Args, Debug, Clone)]
pub struct Engine {
    /// Memory for pages of the file
    #[arg(long = "engine-cache-size", default_value = "64M")]
    pub cache_size: Size,
}

/// How nodes keep in step. Every setting is one of [`Config`], where more is said.
#[derive(Args, Debug, Clone)]
pub struct Raft {
    /// How often a leader speaks to each follower; a flush of the slowest disk must fit well within it
    #[arg(long = "raft-heartbeat-interval", default_value = "250ms")]
    pub heartbeat_interval: Span,
    /// The shortest silence after which a follower stands for election
    #[arg(long = "raft-election-timeout-min", default_value = "1250ms")]
    pub election_timeout_min: Span,
    /// The longest such silence
    #[arg(long = "raft-election-timeout-max", default_value = "2500ms")]
    pub election_timeout_max: Span,
    /// The log is compacted after this many entries
    #[arg(long = "raft-snapshot-after-entries", default_value_t = 50_000)]
    pub snapshot_after_entries: u64,
    /// Applied entries that a compaction keeps, so that a node that was briefly away catches up from the log
    #[arg(long = "raft-log-entries-kept", default_value_t = 10_000)]
    pub log_entries_kept: u64,
    /// How long a message of a snapshot's transfer may stay unanswered
    #[arg(long = "raft-snapshot-timeout", default_value = "30s")]
    pub snapshot_timeout: Span,
    /// Bytes of a snapshot in one message
    #[arg(long = "raft-snapshot-chunk-bytes", default_value = "1M")]
    pub snapshot_chunk_bytes: Size,
    /// Entries sent to a follower in one message, at most
    #[arg(long = "raft-append-max-entries", default_value_t = 256)]
    pub append_max_entries: u64,
    /// Bytes of entries sent to a follower in one message, at most
    #[arg(long = "raft-append-max-bytes", default_value = "2M")]
    pub append_max_bytes: Size,
    /// Writes gathered into one entry, at most
    #[arg(long = "raft-batch-max-commands", default_value_t = 1024)]
    pub batch_max_commands: usize,
    /// Entries proposed and not yet answered, at most; what arrives meanwhile is gathered
    #[arg(long = "raft-entries-in-flight", default_value_t = 2)]
    pub entries_in_flight: usize,
    /// Writes that wait to be proposed, at most
    #[arg(long = "raft-queue-limit", default_value_t = 4096)]
    pub queue_limit: usize,
    /// Bytes of the writes that wait, at most
    #[arg(long = "raft-queue-max-bytes", default_value = "32M")]
    pub queue_max_bytes: Size,
    /// How long a write may take before its client is told that the outcome is unknown
    #[arg(long = "raft-write-timeout", default_value = "10s")]
    pub write_timeout: Span,
    /// How long a linearizable read may wait for most of the nodes
    #[arg(long = "raft-read-timeout", default_value = "10s")]
    pub read_timeout: Span,
    /// How long a new member may take to get the log, and a change of members
    #[arg(long = "raft-membership-timeout", default_value = "60s")]
    pub membership_timeout: Span,
    /// How long a leader that stops tries to give its leadership away
    #[arg(long = "raft-handover-timeout", default_value = "5s")]
    pub handover_timeout: Span,
    /// Let nodes that do not lead answer reads of the level `follower`, if what they have is at most this old
    #[arg(long = "raft-follower-reads-age")]
    pub follower_reads_age: Option<Span>,
    /// With --raft-follower-reads-age: the entries that they may lack, at most
    #[arg(long = "raft-follower-reads-entries", default_value_t = 1000)]
    pub follower_reads_entries: u64,
    /// Applied entries that would have to be applied again after a crash, at most
    #[arg(long = "raft-checkpoint-entries", default_value_t = 4096)]
    pub checkpoint_entries: u64,
    /// Changed pages that the engine holds before it makes them durable
    #[arg(long = "raft-checkpoint-dirty-pages", default_value_t = 4096)]
    pub checkpoint_dirty_pages: u64,
    /// The room on the disk below which no more writes are taken
    #[arg(long = "raft-disk-reserve", default_value = "64M")]
    pub disk_reserve: Size,
}

/// The list as `--help` shows it. Settings in tables are not for a first look, and their types say what they take.
pub fn shown(command: Command) -> Command {
    command.mut_args(|arg| {
        let in_table = arg
            .get_long()
            .is_some_and(|name| file::split(name).0.is_some());
        if !in_table {
            return arg;
        }
        let takes = arg.get_value_parser().type_id();
        let value = match () {
            () if takes == TypeId::of::<Size>() => "BYTES",
            () if takes == TypeId::of::<Span>() => "TIME",
            () => "N",
        };
        arg.hide_short_help(true).value_name(value)
    })
}

impl Settings {
    /// Whether the settings make sense together, whatever the node.
    pub fn check(&self) -> Result<(), Failure> {
        by_id(&self.apis, "apis")?;
        if self.tls.is_some() && self.insecure_network {
            return Err(Failure::Usage(
                "tls and insecure-network exclude each other: leave out insecure-network, since TLS protects every address"
                    .into(),
            ));
        }
        if self.clients.is_some() && self.open_to_everybody {
            return Err(Failure::Usage(
                "clients and open-to-everybody exclude each other: leave out open-to-everybody, since clients are asked who they are"
                    .into(),
            ));
        }
        if self.client_authority.is_some() && (self.tls.is_none() || self.clients.is_none()) {
            return Err(Failure::Usage(
                "client-authority means nothing without tls and clients: certificates are shown within TLS, and clients says whose they are"
                    .into(),
            ));
        }
        if self.scrub_every.is_some() && self.scrub.is_none() {
            return Err(Failure::Usage(
                "scrub-every means nothing without scrub: say with scrub how many bytes a second may be read".into(),
            ));
        }
        if self.limits().body_bytes < MAX_BODY_BYTES {
            return Err(Failure::Usage(format!(
                "max-body-bytes is {}: a request may have {MAX_BODY_BYTES} bytes, so set it to that or more",
                self.max_body_bytes.0
            )));
        }
        #[cfg(feature = "otlp")]
        if let Some(endpoint) = &self.otlp_endpoint {
            Traces::check(endpoint)
                .map_err(|error| Failure::Usage(format!("otlp-endpoint: {error}")))?;
        }
        for (name, given) in [
            ("advertise", &self.advertise),
            ("advertise-api", &self.advertise_api),
        ] {
            if let Some(text) = given
                && !is_host_and_port(&member::with_port(text, 1))
            {
                return Err(Failure::Usage(format!(
                    "{name} is `{text}`: write HOST or HOST:PORT"
                )));
            }
        }
        self.raft().map(drop)
    }

    /// The settings of the replication.
    pub fn raft(&self) -> Result<Config, Failure> {
        let given = &self.raft;
        let bytes = |Size(bytes): Size| usize::try_from(bytes).unwrap_or(usize::MAX);
        let age = given.follower_reads_age;
        let config = Config {
            heartbeat_interval: given.heartbeat_interval.0,
            election_timeout_min: given.election_timeout_min.0,
            election_timeout_max: given.election_timeout_max.0,
            snapshot_after_entries: given.snapshot_after_entries,
            log_entries_kept: given.log_entries_kept,
            snapshot_timeout: given.snapshot_timeout.0,
            snapshot_chunk_bytes: bytes(given.snapshot_chunk_bytes),
            append_max_entries: given.append_max_entries,
            append_max_bytes: bytes(given.append_max_bytes),
            batch_max_commands: given.batch_max_commands,
            entries_in_flight: given.entries_in_flight,
            queue_limit: given.queue_limit,
            queue_max_bytes: bytes(given.queue_max_bytes),
            write_timeout: given.write_timeout.0,
            read_timeout: given.read_timeout.0,
            membership_timeout: given.membership_timeout.0,
            handover_timeout: given.handover_timeout.0,
            follower_reads: age.map(|Span(age)| FollowerReads {
                entries: given.follower_reads_entries,
                age,
            }),
            checkpoint_entries: given.checkpoint_entries,
            checkpoint_dirty_pages: given.checkpoint_dirty_pages,
            disk_reserve: given.disk_reserve.0,
            ..Config::default()
        };
        // It calls them by the names of the fields.
        config
            .validate()
            .map_err(|error| Failure::Usage(format!("raft: {error}").replace('_', "-")))?;
        Ok(config)
    }

    /// What clients can hold on to.
    pub fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections as usize,
            body_bytes: usize::try_from(self.max_body_bytes.0).unwrap_or(usize::MAX),
            ..Limits::default()
        }
    }

    /// The memory for pages, in bytes.
    pub fn cache_bytes(&self) -> usize {
        usize::try_from(self.engine.cache_size.0).unwrap_or(usize::MAX)
    }

    /// The time between two verifications in the background.
    pub fn scrub_rest(&self) -> Duration {
        Duration::from_secs(u64::from(self.scrub_every.unwrap_or(24)) * 60 * 60)
    }

    /// How other nodes reach this one, which listens for them on `bound`.
    pub fn advertised(&self, bound: SocketAddr) -> Result<String, Failure> {
        match &self.advertise {
            Some(text) => Ok(member::with_port(text, bound.port())),
            None if bound.ip().is_unspecified() => Err(Failure::Usage(format!(
                "{bound} is every address of this machine: say with --advertise HOST by which one other nodes reach it"
            ))),
            None => Ok(bound.to_string()),
        }
    }

    /// How clients reach this node, which listens for them on `bound`; `None` if nothing says so.
    pub fn advertised_api(&self, bound: SocketAddr) -> Option<String> {
        let host = |text: &str| match is_host_and_port(text) {
            true => text
                .rsplit_once(':')
                .map_or(text, |(host, _)| host)
                .to_owned(),
            false => text.to_owned(),
        };
        match (&self.advertise_api, &self.advertise) {
            (Some(text), _) => Some(member::with_port(text, bound.port())),
            (None, Some(text)) => Some(member::with_port(&host(text), bound.port())),
            (None, None) => (!bound.ip().is_unspecified()).then(|| bound.to_string()),
        }
    }

    /// The node's file.
    pub fn place(&self) -> Result<PathBuf, Failure> {
        match (&self.file, &self.data) {
            (Some(file), _) => Ok(file.clone()),
            (None, Some(data)) => Ok(data.join("node.folio")),
            (None, None) => Err(Failure::Usage(
                "where is the node to keep what it has? Say so with --data: `folio serve --data DIRECTORY --init` begins a cluster"
                    .into(),
            )),
        }
    }

    /// The settings that a node would be started with by its data directory alone.
    pub fn of_directory(data: &Path) -> Result<Settings, Failure> {
        let file = Settings::remembered(data);
        let given = match file.exists() {
            true => file::read(&file)?,
            false => Vec::new(),
        };
        let settings = command::settings(&given)?;
        settings.check()?;
        Ok(settings)
    }

    /// What is remembered of the node's first start, in its data directory.
    pub fn remembered(data: &Path) -> PathBuf {
        data.join(REMEMBERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, FromArgMatches, Parser};

    #[derive(Parser)]
    pub(super) struct Alone {
        #[command(flatten)]
        settings: Settings,
    }

    fn settings(flags: &[&str]) -> Settings {
        let flags = std::iter::once("folio").chain(flags.iter().copied());
        let matches = Alone::command().get_matches_from(flags);
        Alone::from_arg_matches(&matches)
            .expect("it has them")
            .settings
    }

    #[test]
    fn the_defaults_are_those_of_the_replication() {
        let defaults = settings(&[]);
        assert_eq!(defaults.raft().expect("they are valid"), Config::default());
        defaults.check().expect("they make sense together");
    }

    #[test]
    fn a_node_may_be_told_to_use_its_disk_to_the_end() {
        let raft = settings(&["--raft-disk-reserve", "0"]).raft();
        assert_eq!(raft.expect("it is a setting").disk_reserve, 0);
    }

    #[test]
    fn settings_that_cannot_work_together_are_refused_with_what_to_change() {
        for (flags, said) in [
            (
                &["--raft-election-timeout-min", "300ms"][..],
                "election-timeout-min is 300ms: set it to 500ms or more; the default is 1.25s",
            ),
            (&["--raft-queue-max-bytes", "1K"], "queue-max-bytes is 1024"),
            (&["--raft-follower-reads-age", "1ms"], "follower-reads.age"),
            (&["--apis", "1=a:1,1=b:1"], "apis names node 1 twice"),
            (
                &["--tls", "certificates", "--insecure-network"],
                "leave out insecure-network",
            ),
            (
                &["--clients", "clients", "--open-to-everybody"],
                "leave out open-to-everybody",
            ),
            (&["--scrub-every", "3"], "nothing without scrub"),
            (
                &["--client-authority", "ca.pem", "--tls", "certificates"],
                "nothing without tls and clients",
            ),
            (&["--max-body-bytes", "8000K"], "max-body-bytes is 8192000"),
            #[cfg(feature = "otlp")]
            (&["--otlp-endpoint", "localhost:4318"], "http://HOST:PORT"),
            (&["--advertise", "a b"], "write HOST or HOST:PORT"),
            (&["--raft-queue-max-bytes", "0"], "queue-max-bytes is 0"),
        ] {
            let refused = settings(flags).check().expect_err(said);
            assert_eq!(refused.code(), 2);
            let message = refused.message().unwrap_or_default();
            assert!(message.contains(said), "{message}");
        }
    }
}
