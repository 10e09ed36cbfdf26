//! `folio serve`: one node of a cluster as a process of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
#[cfg(feature = "otlp")]
use folio_node::Traces;
use folio_node::access::Access;
use folio_node::{AddressError, MemberAddress, Node, NodeOptions, api, resolve};
use folio_raft::NodeId;
use folio_store::ScrubOptions;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::amount::Rate;
use crate::cert::Place;
use crate::files;
use crate::join::Guest;
use crate::output;
use crate::run::{self, Failure};
use crate::settings::{self, Layers, Member, Settings, by_id};

/// How long a node that is alone may take to lead.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long open requests may take to end once the node has been told to stop.
const DRAIN: Duration = Duration::from_secs(10);

#[derive(Args)]
#[command(after_help = "\
Examples:
  One node, which keeps what it has in the directory node-1:
    folio serve --data node-1 --init

  The same node again, whatever it was started with first:
    folio serve --data node-1

  Three nodes on one machine. The first one leaves an invitation in its directory:
    folio serve --data node-1 --init
    folio serve --data node-2 --join node-1/invitation --listen 127.0.0.1:7002 --peer-listen 127.0.0.1:7102
    folio serve --data node-3 --join node-1/invitation --listen 127.0.0.1:7003 --peer-listen 127.0.0.1:7103

  Then:
    curl -s localhost:7001/v1/status
    curl -sL localhost:7001/v1/vaults --json '{\"name\": \"first\"}'
    curl -sL localhost:7001/v1/vaults/1/transactions --json \\
        '{\"operations\": [{\"set\": {\"key\": \"colour\", \"value\": \"blue\"}}]}'
    curl -sL localhost:7001/v1/vaults/1/entities/colour

Every flag may be given in the environment as well (--peer-listen as FOLIO_PEER_LISTEN), and most in a file (`folio config`).
SIGTERM and Ctrl-C end the node cleanly; a second one ends it at once.")]
pub struct Arguments {
    /// Read settings from a file, as `folio config example` shows one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Begin a cluster, if this node is not in one yet; on one node only
    #[arg(long, value_parser = BoolishValueParser::new())]
    init: bool,
    /// The members of the cluster that --init forms, this node among them, at their --peer-listen addresses; without it
    /// this node alone
    #[arg(long, value_name = "ID=ADDRESS,...", value_delimiter = ',')]
    peers: Vec<Member>,
    /// Become a member of a cluster, if this node is not in one yet: an invitation, or a file with one. `folio serve --init`
    /// leaves one in the data directory that is good for a day, and `folio members invite` makes others
    #[arg(long, value_name = "INVITATION", conflicts_with_all = ["init", "peers"], hide_env_values = true)]
    join: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

pub fn run(arguments: &Arguments, layers: &Layers) -> Result<(), Failure> {
    let settings = &arguments.settings;
    settings.check()?;
    let runtime = run::runtime()?;
    #[cfg(feature = "otlp")]
    let traces = {
        let _within = runtime.enter();
        let traces = settings.otlp_endpoint.as_deref().map(Traces::to);
        traces.transpose().map_err(Failure::error)?
    };
    #[cfg(feature = "otlp")]
    let spans = traces
        .as_ref()
        .map(|traces| -> run::Spans { Box::new(traces.layer()) });
    #[cfg(not(feature = "otlp"))]
    let spans = None;
    run::log_as(&settings.log, settings.log_format, spans)?;
    for variable in unknown_variables() {
        tracing::warn!(variable, "there is no such setting, and it is not used");
    }
    let served = runtime.block_on(serve(arguments, layers));
    #[cfg(feature = "otlp")]
    if let Some(traces) = traces {
        traces.end();
    }
    served
}

async fn serve(arguments: &Arguments, layers: &Layers) -> Result<(), Failure> {
    let settings = &arguments.settings;
    let members = by_id(&arguments.peers, "--peers")?;
    let apis = by_id(&settings.apis, "--apis")?;
    let file = settings.place()?;
    // Who has an id already shows its invitation once it runs, if it is no member by then: invitations end.
    let is_known = settings.id.is_some()
        && settings
            .data
            .as_deref()
            .is_some_and(|data| Settings::remembered(data).exists());
    let invitation = arguments.join.as_deref();
    let guest = match invitation.filter(|_| !is_known) {
        Some(given) => Some(self::guest(given, settings)?),
        None => None,
    };
    let peer_listen = address(&settings.peer_listen, settings).await?;
    let api_listen = address(&settings.listen, settings).await?;
    // Before an id is taken that a node which cannot listen has no use for.
    let listener = TcpListener::bind(api_listen).await.map_err(|error| {
        Failure::Error(format!(
            "cannot listen on {api_listen}: {error}; --listen chooses another address"
        ))
    })?;
    let id = match (settings.id, &guest) {
        (Some(id), _) => id,
        (None, _) if arguments.init => 1,
        (None, Some(guest)) => guest.ask_for_id().await?,
        (None, None) => return Err(no_id(&file)),
    };
    if !members.is_empty() && !members.contains_key(&id) {
        return Err(Failure::Usage(format!(
            "--peers does not name this node, {id}"
        )));
    }
    let cluster = guest.as_ref().map_or(&settings.cluster[..], Guest::cluster);
    // A write beyond a limit of file sizes (`LimitFSIZE` of systemd) would end the process, were the signal not taken. It
    // fails instead, as on a full disk.
    drop(listen_to(SignalKind::from_raw(nix::libc::SIGXFSZ))?);
    let mut interrupted = listen_to(SignalKind::interrupt())?;
    let mut terminated = listen_to(SignalKind::terminate())?;
    let access = match &settings.clients {
        Some(file) => Access::from_file(file).map_err(Failure::error)?,
        None => Access::open(),
    };
    let is_open = settings.insecure_network || settings.open_to_everybody;
    if settings.clients.is_none() && !is_open && !api_listen.ip().is_loopback() {
        let open = AddressError::Open {
            address: api_listen,
        };
        return Err(Failure::Usage(open.to_string()));
    }
    let tls = settings.tls.as_deref();
    let authority = settings.client_authority.as_deref();
    let tls = tls.map(|directory| Place(directory).tls(id, authority));
    let tls = tls.transpose()?;
    if invitation.is_some() || arguments.init && members.is_empty() {
        settings.advertised(peer_listen)?;
    }

    if let Some(data) = &settings.data {
        remember(data, layers, id, cluster)?;
    }
    let options = NodeOptions {
        id,
        file,
        cluster: cluster.to_owned(),
        peer_listen,
        tls,
        cache_bytes: settings.cache_bytes(),
        raft: settings.raft()?,
    };
    let node = Node::start(options).await.map_err(Failure::from)?;
    let _scrub = match settings.scrub {
        Some(Rate(rate)) => {
            let options = ScrubOptions::new()
                .rate(rate)
                .interval(settings.scrub_rest());
            let scrub = node.ledger().start_scrub(options);
            Some(scrub.map_err(Failure::error)?)
        }
        None => None,
    };
    let api_address = listener.local_addr().map_err(Failure::error)?;
    let own = MemberAddress {
        peers: settings
            .advertised(node.peer_address())
            .unwrap_or_else(|_| node.peer_address().to_string()),
        api: settings.advertised_api(api_address),
    };
    if arguments.init {
        form(&node, own.clone(), members, &apis, settings.data.as_deref()).await?;
    } else if let Some(given) = invitation
        && !node.votes().await
    {
        let guest = self::guest(given, settings)?;
        guest.enter(&node, &own.peers, own.api.clone()).await?;
        output::print(&format!("joined the cluster {}\n", node.cluster()))?;
    }
    let is_reachable = settings.advertised(node.peer_address()).is_ok();
    if is_reachable && node.votes().await && node.members().len() == 1 {
        tokio::spawn(say_where(node.clone(), own));
    }
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

    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let stopped = async {
        // Ends as well when the sender is dropped.
        let _ = stopping.await;
    };
    let limits = settings.limits();
    let router = api::router(node.clone(), apis, access, &limits);
    let serving = folio_node::serve(listener, router, node.tls().cloned(), limits, stopped);
    let mut serving = tokio::spawn(serving);
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
    node.leave();
    // While requests are still answered: clients learn who leads now, and whoever has a request open here
    // keeps nobody waiting.
    if let Err(error) = node.ledger().transfer_leadership(None).await {
        tracing::info!(%error, "the leadership was not handed over");
    }
    node.end_streams();
    drop(stop);
    if !serving.is_finished() && tokio::time::timeout(DRAIN, &mut serving).await.is_err() {
        tracing::warn!("requests were still open after {DRAIN:?} and are given up");
    }
    node.ledger().shutdown().await.map_err(Failure::error)?;
    outcome
}

async fn address(text: &str, settings: &Settings) -> Result<SocketAddr, Failure> {
    resolve(text, settings.insecure_network || settings.tls.is_some())
        .await
        .map_err(|error| match error {
            AddressError::Unresolved { .. }
            | AddressError::Exposed { .. }
            | AddressError::Open { .. } => Failure::Usage(error.to_string()),
        })
}

/// The invitation of a node that is to become a member.
fn guest(given: &str, settings: &Settings) -> Result<Guest, Failure> {
    if settings.data.is_none() {
        return Err(Failure::Usage(
            "a node that joins remembers its id and its cluster in its data directory: name one with --data".into(),
        ));
    }
    let authority = settings
        .tls
        .as_deref()
        .map(|directory| Place(directory).authority());
    Guest::new(given, authority)
}

/// Begins a cluster, unless the node is in one. Alone in a new one, it leaves an invitation for others.
async fn form(
    node: &Node,
    own: MemberAddress,
    members: BTreeMap<NodeId, String>,
    apis: &BTreeMap<NodeId, String>,
    data: Option<&Path>,
) -> Result<(), Failure> {
    let alone = members.is_empty();
    let mut members: BTreeMap<NodeId, MemberAddress> = members
        .into_iter()
        .map(|(id, peers)| {
            let api = apis.get(&id).cloned();
            (id, MemberAddress { peers, api })
        })
        .collect();
    match members.get_mut(&node.id()) {
        Some(named) => named.api = named.api.take().or(own.api),
        None => drop(members.insert(node.id(), own)),
    }
    let members = members
        .into_iter()
        .map(|(id, address)| (id, address.to_string()));
    let is_new = node
        .form_cluster(members.collect())
        .await
        .map_err(Failure::from)?;
    let Some(data) = data.filter(|_| alone && is_new) else {
        return Ok(());
    };
    node.ledger()
        .wait_for_leader(PATIENCE)
        .await
        .map_err(Failure::error)?;
    if node.members().values().all(|member| member.api.is_none()) {
        return Ok(());
    }
    let invitation = api::invitation(node, 24).await.map_err(Failure::error)?;
    let file = data.join("invitation");
    files::write(&file, &(invitation.to_secret() + "\n"), files::SECRET, true)?;
    output::print(&format!(
        "began the cluster {}; for a day others join it with: folio serve --data DIRECTORY --join {}\n",
        node.cluster(),
        file.display()
    ))
}

/// Tells the cluster where its only node is found, if that is elsewhere than before. Of one among others the leader is
/// told, by `folio members move`.
async fn say_where(node: Node, own: MemberAddress) {
    if node.members().get(&node.id()) == Some(&own) {
        return;
    }
    let saying = async {
        node.ledger().wait_for_leader(PATIENCE).await?;
        node.ledger().set_address(node.id(), own.to_string()).await
    };
    if let Err(error) = saying.await {
        tracing::warn!(%error, "the cluster does not know where this node is found now");
    }
}

/// Which node is it? A directory that remembers one has said so.
fn no_id(file: &Path) -> Failure {
    let reason = match file.exists() {
        true => "it was made by a node with an id of its own: name it with --id",
        false => "there is no node yet: begin a cluster with --init, or join one with --join",
    };
    Failure::Usage(format!("{}: {reason}", file.display()))
}

/// Writes down how a node is started first, so that its directory is enough to start it again.
fn remember(data: &Path, layers: &Layers, id: NodeId, cluster: &str) -> Result<(), Failure> {
    files::make_private_directory(data)?;
    let file = Settings::remembered(data);
    if file.exists() {
        return Ok(());
    }
    let text = layers.to_remember(&[("id", id.to_string()), ("cluster", cluster.to_owned())]);
    files::write(&file, &text, files::SECRET, false)
}

/// Variables of the environment that look like settings and are none: a name that was mistyped.
fn unknown_variables() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names
        .filter(|name| name.starts_with("FOLIO_") && !settings::is_variable(name))
        .collect()
}

fn listen_to(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::Error(format!("cannot listen to signals: {error}")))
}
