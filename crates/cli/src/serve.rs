//! `folio serve`: one node of a cluster as a process of its own.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use clap::Args;
use folio_node::{AddressError, Node, NodeOptions, TlsListener, api, resolve};
use folio_raft::{Config, NodeId};
use folio_store::ScrubOptions;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cert::Place;
use crate::output;
use crate::rate::Rate;
use crate::run::{self, Failure};

/// How long open requests may take to end once the node has been told to stop.
const DRAIN: Duration = Duration::from_secs(10);

#[derive(Args)]
#[command(after_help = "\
Examples:
  One node:
    folio serve --id 1 --file node-1.folio --init

  Three nodes on one machine; the first one forms the cluster, and --init does nothing when it is there:
    P=1=127.0.0.1:7101,2=127.0.0.1:7102,3=127.0.0.1:7103
    A=1=127.0.0.1:7001,2=127.0.0.1:7002,3=127.0.0.1:7003
    folio serve --id 2 --file node-2.folio --listen 127.0.0.1:7002 --peer-listen 127.0.0.1:7102 --apis $A
    folio serve --id 3 --file node-3.folio --listen 127.0.0.1:7003 --peer-listen 127.0.0.1:7103 --apis $A
    folio serve --id 1 --file node-1.folio --listen 127.0.0.1:7001 --peer-listen 127.0.0.1:7101 --apis $A \\
        --init --peers $P

  Then:
    curl -s localhost:7001/v1/status
    curl -sL localhost:7001/v1/vaults --json '{\"name\": \"first\"}'
    curl -sL localhost:7001/v1/vaults/1/transactions --json \\
        '{\"operations\": [{\"set\": {\"key\": \"colour\", \"value\": \"blue\"}}]}'
    curl -sL localhost:7001/v1/vaults/1/entities/colour

SIGTERM and Ctrl-C end the node cleanly; a second one ends it at once.")]
pub struct Arguments {
    /// The node's id, from 1; never give it to another node, nor to the same one with an empty file
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    id: NodeId,
    /// The node's file; it is created when it is not there
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The name of the cluster; nodes of another one are refused
    #[arg(long, value_name = "NAME", default_value = "folio")]
    cluster: String,
    /// Where to listen for the HTTP API
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7001")]
    listen: String,
    /// Where to listen for the other nodes
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7101")]
    peer_listen: String,
    /// Form the cluster, if this node is not in one yet; on one node only
    #[arg(long)]
    init: bool,
    /// The members of the cluster that --init forms, this node among them, at their --peer-listen addresses; without it
    /// this node alone
    #[arg(long, value_name = "ID=ADDRESS,...", value_delimiter = ',')]
    peers: Vec<Member>,
    /// The members' --listen addresses, so that this node can redirect clients to the leader
    #[arg(long, value_name = "ID=ADDRESS,...", value_delimiter = ',')]
    apis: Vec<Member>,
    /// Verify the file in the background, reading at most this many bytes a second, for example 4M; damage is logged
    #[arg(long, value_name = "BYTES/S")]
    scrub: Option<Rate>,
    /// With --scrub: the hours between the end of one verification and the beginning of the next
    #[arg(long, value_name = "HOURS", default_value_t = 24, requires = "scrub")]
    scrub_every: u32,
    /// Speak TLS only, with the certificates in this directory, as `folio cert` makes them: authority.pem, node-ID.pem
    /// and node-ID.key. Peers must have certificates of the same authority. Files that change are read again
    #[arg(long, value_name = "DIRECTORY")]
    tls: Option<PathBuf>,
    /// Without --tls: allow addresses that other machines can reach, although there is neither encryption nor
    /// authentication
    #[arg(long, conflicts_with = "tls")]
    insecure_network: bool,
}

/// `1=127.0.0.1:7101`
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    id: NodeId,
    address: String,
}

impl FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "write ID=HOST:PORT, for example 1=127.0.0.1:7101".to_owned();
        let (id, address) = text.split_once('=').ok_or_else(form)?;
        let id = id.parse().ok().filter(|id| *id > 0).ok_or_else(form)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(form)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        if host.is_empty() || !host.chars().all(plain) || port.parse::<u16>().is_err() {
            return Err(form());
        }
        Ok(Member {
            id,
            address: address.to_owned(),
        })
    }
}

/// The members by id, of which each is named once.
fn by_id(members: &[Member], option: &str) -> Result<BTreeMap<NodeId, String>, Failure> {
    let mut named = BTreeMap::new();
    for Member { id, address } in members {
        if named.insert(*id, address.clone()).is_some() {
            return Err(Failure::Usage(format!("{option} names node {id} twice")));
        }
    }
    Ok(named)
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    // openraft warns of what happens in every election.
    run::log_at("warn,openraft=error")?;
    run::runtime()?.block_on(serve(arguments))
}

async fn serve(arguments: &Arguments) -> Result<(), Failure> {
    let mut members = by_id(&arguments.peers, "--peers")?;
    let apis = by_id(&arguments.apis, "--apis")?;
    if !members.is_empty() && !members.contains_key(&arguments.id) {
        return Err(Failure::Usage(format!(
            "--peers does not name this node, {}",
            arguments.id
        )));
    }
    let mut interrupted = listen_to(SignalKind::interrupt())?;
    let mut terminated = listen_to(SignalKind::terminate())?;
    let peer_listen = address(&arguments.peer_listen, arguments).await?;
    if arguments.init && members.is_empty() && peer_listen.ip().is_unspecified() {
        return Err(Failure::Usage(format!(
            "{peer_listen} is every address of this machine: say with --peers {}=HOST:{} by which one other nodes reach it",
            arguments.id,
            peer_listen.port()
        )));
    }
    let api_listen = address(&arguments.listen, arguments).await?;
    let tls = arguments.tls.as_deref();
    let tls = tls
        .map(|directory| Place(directory).tls(arguments.id))
        .transpose()?;
    let listener = TcpListener::bind(api_listen)
        .await
        .map_err(|error| Failure::Error(format!("cannot listen on {api_listen}: {error}")))?;

    let options = NodeOptions {
        id: arguments.id,
        file: arguments.file.clone(),
        cluster: arguments.cluster.clone(),
        peer_listen,
        tls,
        raft: Config::default(),
    };
    let node = Node::start(options).await.map_err(Failure::from)?;
    let _scrub = match arguments.scrub {
        Some(Rate(rate)) => {
            let rest = Duration::from_secs(u64::from(arguments.scrub_every) * 60 * 60);
            let options = ScrubOptions::new().rate(rate).interval(rest);
            let scrub = node.ledger().start_scrub(options);
            Some(scrub.map_err(Failure::error)?)
        }
        None => None,
    };
    if arguments.init {
        members
            .entry(arguments.id)
            .or_insert_with(|| node.peer_address().to_string());
        node.form_cluster(members).await.map_err(Failure::from)?;
    }
    let api_address = listener.local_addr().map_err(Failure::error)?;
    let scheme = match node.tls() {
        Some(_) => "https",
        None => "http",
    };
    output::print(&format!(
        "node {} serves {scheme}://{api_address}, listens for its peers on {}, and keeps {}\n",
        node.id(),
        node.peer_address(),
        node.file().display()
    ))?;

    let (stop, stopping) = tokio::sync::oneshot::channel();
    let router = api::router(node.clone(), apis);
    let mut serving = match node.tls().cloned() {
        Some(tls) => serve_api(TlsListener::new(listener, tls), router, stopping),
        None => serve_api(listener, router, stopping),
    };
    let outcome = tokio::select! {
        _ = interrupted.recv() => Ok(()),
        _ = terminated.recv() => Ok(()),
        stopped = node.stopped() => Err(Failure::Error(stopped)),
        ended = &mut serving => Err(Failure::Error(format!("the HTTP server ended: {ended:?}"))),
    };
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        eprintln!(
            "folio: told to stop again; the file is as after a crash, which the next start repairs"
        );
        std::process::exit(1);
    });
    // While requests are still answered: clients learn who leads now, and whoever has a request open here
    // keeps nobody waiting.
    if let Err(error) = node.ledger().transfer_leadership(None).await {
        tracing::info!(%error, "the leadership was not handed over");
    }
    node.end_feeds();
    drop(stop);
    if !serving.is_finished() && tokio::time::timeout(DRAIN, &mut serving).await.is_err() {
        tracing::warn!("requests were still open after {DRAIN:?} and are given up");
    }
    node.ledger().shutdown().await.map_err(Failure::error)?;
    outcome
}

/// Serves the API until the other end of `stopping` is dropped, and then what is open.
fn serve_api<L: Listener<Addr = SocketAddr>>(
    listener: L,
    router: Router,
    stopping: oneshot::Receiver<()>,
) -> JoinHandle<io::Result<()>> {
    let serving = axum::serve(listener, router).with_graceful_shutdown(async {
        // Ends as well when the sender is dropped.
        let _ = stopping.await;
    });
    tokio::spawn(serving.into_future())
}

async fn address(text: &str, arguments: &Arguments) -> Result<SocketAddr, Failure> {
    resolve(text, arguments.insecure_network || arguments.tls.is_some())
        .await
        .map_err(|error| match error {
            AddressError::Unresolved { .. } | AddressError::Exposed { .. } => {
                Failure::Usage(error.to_string())
            }
        })
}

fn listen_to(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::Error(format!("cannot listen to signals: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_an_id_and_an_address() {
        let member = |text: &str| text.parse::<Member>();
        assert_eq!(
            member("1=127.0.0.1:7101"),
            Ok(Member {
                id: 1,
                address: "127.0.0.1:7101".to_owned()
            })
        );
        assert_eq!(
            member("22=[::1]:1"),
            Ok(Member {
                id: 22,
                address: "[::1]:1".to_owned()
            })
        );
        for wrong in [
            "",
            "1",
            "1=",
            "=a:1",
            "0=a:1",
            "1=a",
            "1=:1",
            "1=a:b",
            "1=a:99999",
            "1=a b:1",
            "x=a:1",
        ] {
            assert!(member(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_member_named_twice_is_refused() {
        let members: Vec<Member> = ["1=a:1", "2=b:1", "1=c:1"]
            .map(|text| text.parse().expect("a member"))
            .to_vec();
        let refused = by_id(&members, "--peers").expect_err("node 1 is named twice");
        assert_eq!(refused.code(), 2);
    }
}
