//! `folio cert`: an authority for a cluster, and certificates for its nodes and clients.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use folio_raft::NodeId;
use folio_raft::transport::Tls;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls::pki_types::ServerName;

use crate::files::{PUBLIC, SECRET, about, write};
use crate::output;
use crate::run::Failure;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Certificates begin to be good so long before they are made, for clocks that are behind.
const CLOCKS: Duration = Duration::from_secs(5 * 60);

#[derive(Args)]
#[command(after_help = "\
Examples:
  folio cert authority certificates
  folio cert node certificates --id 1 --host node-1.example.com --host 192.0.2.1
  folio serve --id 1 --file node-1.folio --tls certificates --listen 192.0.2.1:7001 --peer-listen 192.0.2.1:7101 --init
  folio verify --node https://192.0.2.1:7001 --ca certificates/authority.pem

  Clients that prove themselves with certificates, of an authority of their own:
    folio cert authority client-certificates
    folio cert client client-certificates --name billing.example.com
    folio clients add clients billing --certificate-name billing.example.com --read 3
    folio serve ... --clients clients --client-authority client-certificates/authority.pem

A node needs authority.pem, node-ID.pem and node-ID.key. Whoever has authority.key can make a certificate for any node:
keep it elsewhere. An authority belongs to one cluster.")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an authority: authority.pem, which everybody may see, and authority.key
    Authority {
        /// Where to put it; the directory is created when it is not there
        directory: PathBuf,
        /// How long it is good for
        #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
        days: u32,
    },
    /// Make the certificate of a node: node-ID.pem and node-ID.key
    Node {
        /// Where the authority is, and where the certificate goes
        directory: PathBuf,
        /// The node's id
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        id: NodeId,
        /// A name or an address by which clients call the node; peers do not look at it
        #[arg(long = "host", value_name = "HOST", default_values = ["localhost", "127.0.0.1", "::1"])]
        hosts: Vec<String>,
        /// How long it is good for
        #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
        days: u32,
        /// Put it in the place of the one that is there; a running node takes it with its next connection
        #[arg(long)]
        replace: bool,
    },
    /// Make the certificate of a client, for `folio clients add --certificate-name`: NAME.pem and NAME.key
    Client {
        /// Where the authority is, and where the certificate goes
        directory: PathBuf,
        /// The name in it, as a DNS name
        #[arg(long)]
        name: String,
        /// How long it is good for
        #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
        days: u32,
        /// Put it in the place of the one that is there
        #[arg(long)]
        replace: bool,
    },
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Authority { directory, days } => make_authority(&Place(directory), *days),
        Command::Node {
            directory,
            id,
            hosts,
            days,
            replace,
        } => make_node(&Place(directory), *id, hosts, *days, *replace),
        Command::Client {
            directory,
            name,
            days,
            replace,
        } => make_client(&Place(directory), name, *days, *replace),
    }
}

/// A directory of certificates, and the names of the files in it.
pub struct Place<'a>(pub &'a Path);

impl Place<'_> {
    pub fn authority(&self) -> PathBuf {
        self.0.join("authority.pem")
    }

    fn authority_key(&self) -> PathBuf {
        self.0.join("authority.key")
    }

    fn node(&self, id: NodeId) -> PathBuf {
        self.0.join(format!("node-{id}.pem"))
    }

    pub fn node_key(&self, id: NodeId) -> PathBuf {
        self.0.join(format!("node-{id}.key"))
    }

    /// What node `id` needs, read again when it changes. Asks clients for certificates of the authority in the file `clients`.
    pub fn tls(&self, id: NodeId, clients: Option<&Path>) -> Result<Tls, Failure> {
        let (authority, certificate, key) = (self.authority(), self.node(id), self.node_key(id));
        let tls = match clients {
            None => Tls::from_files(id, &authority, &certificate, &key),
            Some(file) => Tls::from_files_with_clients(id, &authority, &certificate, &key, file),
        };
        tls.map_err(|error| Failure::Error(format!("{}: {error}", certificate.display())))
    }
}

fn make_authority(place: &Place<'_>, days: u32) -> Result<(), Failure> {
    std::fs::create_dir_all(place.0).map_err(|error| about(place.0, error))?;
    let key = KeyPair::generate().map_err(Failure::error)?;
    let mut params = authority_params()?;
    valid_for(&mut params, days);
    let certificate = params.self_signed(&key).map_err(Failure::error)?;
    // The key first: an authority without one would be of no use.
    write(&place.authority_key(), &key.serialize_pem(), SECRET, false)?;
    write(&place.authority(), &certificate.pem(), PUBLIC, false)?;
    output::print(&format!(
        "made the authority {} and its key {}\n",
        place.authority().display(),
        place.authority_key().display()
    ))
}

fn make_node(
    place: &Place<'_>,
    id: NodeId,
    hosts: &[String],
    days: u32,
    replace: bool,
) -> Result<(), Failure> {
    let (certificate_file, key_file) = (place.node(id), place.node_key(id));
    let authority = authority(place)?;
    let names = std::iter::once(format!("node-{id}")).chain(hosts.iter().cloned());
    let mut params = CertificateParams::new(names.collect::<Vec<_>>())
        .map_err(|error| Failure::Usage(format!("--host: {error}")))?;
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Folio node {id}"));
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    valid_for(&mut params, days);
    let key = KeyPair::generate().map_err(Failure::error)?;
    let certificate = params.signed_by(&key, &authority).map_err(Failure::error)?;
    write(&key_file, &key.serialize_pem(), SECRET, replace)?;
    write(&certificate_file, &certificate.pem(), PUBLIC, replace)?;
    // As the node will, so that an authority of other means than this command is noticed here.
    place.tls(id, None)?;
    output::print(&format!(
        "made {} and {}, good for {days} days: node {id} at {}\n",
        certificate_file.display(),
        key_file.display(),
        hosts.join(", ")
    ))
}

fn make_client(place: &Place<'_>, name: &str, days: u32, replace: bool) -> Result<(), Failure> {
    // Not an address, which would not be among the names of the certificate.
    let is_name = matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_)));
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    if !is_name || !name.chars().all(is_plain) {
        return Err(Failure::Usage(
            "--name: lower-case letters, digits, hyphens and dots, as in billing.example.com"
                .into(),
        ));
    }
    // Their files are in the same directory.
    if name.starts_with("node-") || name == "authority" {
        return Err(Failure::Usage(
            "--name: `authority` and names that begin with `node-` are those of the authority and of nodes; choose another"
                .into(),
        ));
    }
    let authority = authority(place)?;
    let mut params = CertificateParams::new([name.to_owned()]).map_err(Failure::error)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    valid_for(&mut params, days);
    let key = KeyPair::generate().map_err(Failure::error)?;
    let certificate = params.signed_by(&key, &authority).map_err(Failure::error)?;
    let [certificate_file, key_file] =
        ["pem", "key"].map(|kind| place.0.join(format!("{name}.{kind}")));
    write(&key_file, &key.serialize_pem(), SECRET, replace)?;
    write(&certificate_file, &certificate.pem(), PUBLIC, replace)?;
    output::print(&format!(
        "made {} and {}, good for {days} days\n",
        certificate_file.display(),
        key_file.display()
    ))
}

/// The authority in a directory, at work.
fn authority(place: &Place<'_>) -> Result<Issuer<'static, KeyPair>, Failure> {
    let file = place.authority_key();
    let secret = std::fs::read_to_string(&file).map_err(|error| {
        Failure::Error(format!(
            "{}: {error}; `folio cert authority` makes one",
            file.display()
        ))
    })?;
    let secret = KeyPair::from_pem(&secret).map_err(|error| about(&file, error))?;
    Ok(Issuer::new(authority_params()?, secret))
}

/// What is the same whenever the authority is at work.
fn authority_params() -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(Vec::new()).map_err(Failure::error)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .distinguished_name
        .push(DnType::CommonName, "Folio cluster authority");
    Ok(params)
}

fn valid_for(params: &mut CertificateParams, days: u32) {
    let now = SystemTime::now();
    params.not_before = (now - CLOCKS).into();
    params.not_after = (now + DAY * days).into();
}
