//! Certificates: `folio cert`, and nodes that speak TLS to each other and to their clients.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::served::{Served, Three, alone, host};
use common::{Run, folio, text};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, ClientConnection, Error, RootCertStore, StreamOwned,
};

/// Has the tool make an authority.
fn authority(directory: &Path) {
    let made = folio(["cert", "authority", text(directory)]);
    assert_eq!(made.code, Some(0), "{made:?}");
}

/// Has the tool make a certificate of node `id`.
fn certificate(directory: &Path, id: u64, more: &[&str]) -> Run {
    let id_text = id.to_string();
    let host = host(id);
    let mut arguments = vec!["cert", "node", text(directory), "--id", &id_text];
    arguments.extend(["--host", &host, "--host", "127.0.0.1"]);
    arguments.extend(more);
    folio(arguments)
}

/// A directory with an authority and the certificates of three nodes.
fn certificates() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    authority(directory.path());
    for id in 1..=3 {
        let made = certificate(directory.path(), id, &[]);
        assert_eq!(made.code, Some(0), "{made:?}");
    }
    directory
}

/// A client that trusts the authority in a directory.
struct Client(Arc<ClientConfig>);

impl Client {
    fn trusting(directory: &Path) -> Self {
        Self::showing(directory, None)
    }

    /// The same with a certificate and its key.
    fn showing(directory: &Path, own: Option<[&Path; 2]>) -> Self {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(directory.join("authority.pem")).unwrap() {
            roots.add(root.unwrap()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => config.with_no_client_auth(),
            Some([certificate, key]) => {
                let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
                let key = PrivateKeyDer::from_pem_file(key).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Self(Arc::new(config))
    }

    /// The answer to a request, and the certificate of whoever gave it.
    fn send(&self, node: &Served, request: &str) -> std::io::Result<(String, Vec<u8>)> {
        let (host, _) = node.address.rsplit_once(':').unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let session = ClientConnection::new(self.0.clone(), name).unwrap();
        let mut stream = StreamOwned::new(session, node.connect());
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let shown = stream.conn.peer_certificates().unwrap();
        Ok((answer, shown[0].to_vec()))
    }

    fn post(&self, node: &Served, path: &str, body: &str) -> String {
        self.send(node, &Served::request(path, body)).unwrap().0
    }

    fn shown(&self, node: &Served) -> std::io::Result<Vec<u8>> {
        let request = "GET /v1/health/ready HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        Ok(self.send(node, request)?.1)
    }
}

#[test]
fn a_cluster_speaks_tls_and_changes_its_authority_while_it_runs() {
    let directory = certificates();
    let place = directory.path();
    let mut three = Three::start(Some(place.to_path_buf()));
    let client = Client::trusting(place);
    let post = |node: &Served, path: &str, body: &str| client.post(node, path, body);
    let leader = three.leader(post);
    let follower = &three.nodes[&(leader % 3 + 1)];
    let redirect = post(follower, "/v1/vaults", r#"{"name": "any"}"#);
    let there = format!("location: https://{}:7001/v1/vaults", host(leader));
    assert!(
        redirect.starts_with("HTTP/1.1 307") && redirect.contains(&there),
        "{redirect}"
    );
    let verified = folio([
        "verify",
        "--node",
        &format!("https://{}", follower.address),
        "--ca",
        text(&place.join("authority.pem")),
    ]);
    assert_eq!(verified.code, Some(0), "{verified:?}");

    // Both authorities are trusted, then every node gets a certificate of the new one, then the old one goes.
    let other = tempfile::tempdir().unwrap();
    authority(other.path());
    let pem = |directory: &Path| std::fs::read_to_string(directory.join("authority.pem")).unwrap();
    let new_pem = pem(other.path());
    std::fs::write(place.join("authority.pem"), pem(place) + &new_pem).unwrap();
    std::fs::copy(
        other.path().join("authority.key"),
        place.join("authority.key"),
    )
    .unwrap();
    for id in 1..=3 {
        let made = certificate(place, id, &["--replace"]);
        assert_eq!(made.code, Some(0), "{made:?}");
    }
    std::fs::write(place.join("authority.pem"), new_pem).unwrap();
    let client = Client::trusting(place);
    // The one that starts again must be let in by one that did not, or there is no majority.
    let again = leader % 3 + 1;
    three.nodes.remove(&again).unwrap();
    three.bring_up(again);
    three.nodes.remove(&leader).unwrap();
    three.leader(|node, path, body| client.post(node, path, body));
}

/// Node 1 alone, with certificates.
fn serve(directory: &Path, place: &Path) -> Served {
    let file = directory.join("node.folio");
    let tls = ["--tls", text(place)];
    Served::start(alone(&file).into_iter().chain(tls))
}

#[test]
fn a_new_certificate_is_shown_to_the_next_client_and_a_broken_one_to_nobody() {
    let directory = certificates();
    let place = directory.path();
    let node = serve(place, place);
    let client = Client::trusting(place);
    let first = client.shown(&node).unwrap();
    assert_eq!(client.shown(&node).unwrap(), first);
    std::fs::write(place.join("node-1.key"), "not a key").unwrap();
    assert_eq!(client.shown(&node).unwrap(), first);
    let kept = certificate(place, 1, &[]);
    assert_eq!(kept.code, Some(1), "{kept:?}");
    assert!(kept.stderr.contains("is there already"), "{kept:?}");
    let made = certificate(place, 1, &["--replace"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    assert_ne!(client.shown(&node).unwrap(), first);

    // The first one was good for a year.
    let expiry = || {
        let request = "GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        let (metrics, _) = client.send(&node, request).unwrap();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("folio_certificate_expiry_seconds "));
        line.unwrap().parse::<u64>().unwrap()
    };
    let year = expiry();
    let made = certificate(place, 1, &["--replace", "--days", "100"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    client.shown(&node).unwrap();
    let days = (year - expiry()) / (24 * 60 * 60);
    assert!((264..=265).contains(&days), "{days} days less");
}

#[test]
fn a_client_that_does_not_encrypt_or_trusts_another_authority_is_told_so() {
    let directory = certificates();
    let node = serve(directory.path(), directory.path());
    let plain = node.post("/v1/vaults", "{}");
    assert!(plain.starts_with("HTTP/1.1 400"), "{plain}");
    assert!(plain.contains("https_required"), "{plain}");
    let verify = |scheme: &str, more: &[&str]| {
        let url = format!("{scheme}://{}", node.address);
        folio(["verify", "--node", &url].iter().chain(more))
    };
    let plain = verify("http", &[]);
    assert_eq!(plain.code, Some(1), "{plain:?}");
    assert!(plain.stderr.contains("write https://"), "{plain:?}");
    let nobody = verify("https", &[]);
    assert_eq!(nobody.code, Some(2), "{nobody:?}");
    assert!(nobody.stderr.contains("--ca"), "{nobody:?}");
    let other = tempfile::tempdir().unwrap();
    authority(other.path());
    let stranger = verify(
        "https",
        &["--ca", text(&other.path().join("authority.pem"))],
    );
    assert_eq!(stranger.code, Some(1), "{stranger:?}");
    assert!(
        stranger.stderr.contains("another authority"),
        "{stranger:?}"
    );
    let port = node.address.rsplit_once(':').unwrap().1;
    let url = format!("https://localhost:{port}");
    let ca = directory.path().join("authority.pem");
    let unnamed = folio(["verify", "--node", &url, "--ca", text(&ca)]);
    assert_eq!(unnamed.code, Some(1), "{unnamed:?}");
    assert!(unnamed.stderr.contains("not for this host"), "{unnamed:?}");
    // Others are served all the same, also while one says nothing.
    let _silent = node.connect();
    Client::trusting(directory.path()).shown(&node).unwrap();
}

#[test]
fn clients_that_never_finish_their_handshake_keep_nobody_waiting() {
    let directory = certificates();
    let place = directory.path();
    let file = place.join("node.folio");
    let few = ["--tls", text(place), "--max-connections", "4"];
    let node = Served::start([&common::served::alone(&file)[..], &few].concat());
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.extend((0..4).map(|_| node.connect()));
        Client::trusting(place).shown(&node).unwrap();
    }
}

/// What a node says that does not start with these certificates.
fn refused(place: &Path, id: &str) -> Run {
    // Where no file can be made, so that one that is not refused for its certificate ends, too.
    let file = place.join("nowhere/refused.folio");
    let refused = folio([
        "serve",
        "--id",
        id,
        "--file",
        text(&file),
        "--tls",
        text(place),
    ]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    refused
}

#[test]
fn a_node_does_not_start_with_a_certificate_that_nobody_would_take_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    std::fs::write(place.join("authority.pem"), pem).unwrap();
    let authority = Issuer::new(params, key);
    let missing = refused(place, "1");
    assert!(missing.stderr.contains("node-1.pem"), "{missing:?}");

    let mut params = CertificateParams::new(["node-1".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let key = KeyPair::generate().unwrap();
    let old = params.signed_by(&key, &authority).unwrap();
    std::fs::write(place.join("node-1.pem"), old.pem()).unwrap();
    std::fs::write(place.join("node-1.key"), key.serialize_pem()).unwrap();
    let expired = refused(place, "1");
    let told = expired.stderr.contains("the certificate of node 1 expired")
        && expired.stderr.contains("days ago")
        && expired.stderr.contains("node-1.pem");
    assert!(told, "{expired:?}");

    for extension in ["pem", "key"] {
        let at = |id: u64| place.join(format!("node-{id}.{extension}"));
        std::fs::copy(at(1), at(2)).unwrap();
    }
    let another = refused(place, "2");
    assert!(another.stderr.contains("node-2"), "{another:?}");
}

#[test]
fn peers_of_another_authority_are_told_in_the_log() {
    let (ours, theirs) = (certificates(), certificates());
    // Addresses that the other test's cluster does not have.
    let peer_address = |id: u64| format!("{}:7101", host(10 + id));
    let arguments = |id: u64, place: &Path| {
        let file = place.join("node.folio");
        [
            "--id",
            &id.to_string(),
            "--file",
            text(&file),
            "--listen",
            "127.0.0.1:0",
            "--peer-listen",
            &peer_address(id),
            "--tls",
            text(place),
        ]
        .map(str::to_owned)
    };
    let _second = Served::start(arguments(2, theirs.path()));
    let peers = [1, 2]
        .map(|id| format!("{id}={}", peer_address(id)))
        .join(",");
    let mut first = Command::new(env!("CARGO_BIN_EXE_folio"))
        .arg("serve")
        .args(arguments(1, ours.path()))
        .args(["--init", "--peers", &peers])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let errors = BufReader::new(first.stderr.take().unwrap());
    let told = errors
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains("node 2") && line.contains("made by another authority"));
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(told, "the log does not say why node 2 is not heard");
}

#[test]
fn addresses_that_others_can_reach_are_allowed_with_tls_and_to_clients_or_to_everybody() {
    let directory = certificates();
    let place = directory.path();
    let file = place.join("node.folio");
    let clients = place.join("clients");
    std::fs::write(&clients, "# nobody\n").unwrap();
    let listening = ["--id", "1", "--listen", "0.0.0.0:0", "--file", text(&file)];
    let listening = [&listening[..], &["--tls", text(place)]].concat();
    let refused = folio([&["serve"], &listening[..]].concat());
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("--open-to-everybody"),
        "{refused:?}"
    );
    drop(Served::start(
        [&listening[..], &["--clients", text(&clients)]].concat(),
    ));
    let node = Served::start([
        "--id",
        "1",
        "--listen",
        "0.0.0.0:0",
        "--peer-listen",
        "0.0.0.0:0",
        "--file",
        text(&file),
        "--tls",
        text(place),
        "--open-to-everybody",
    ]);
    assert!(node.address.starts_with("0.0.0.0:"), "{}", node.address);
    // As the address of a member it would lead each node to itself.
    let named = folio([
        "serve",
        "--id",
        "1",
        "--init",
        "--file",
        text(&file),
        "--peer-listen",
        "0.0.0.0:7101",
        "--tls",
        text(place),
    ]);
    assert_eq!(named.code, Some(2), "{named:?}");
    assert!(named.stderr.contains("--advertise HOST"), "{named:?}");
}

#[test]
fn keys_are_for_their_owner_only_and_an_authority_is_not_replaced() {
    let directory = certificates();
    let mode = |name: &str| {
        let metadata = std::fs::metadata(directory.path().join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    for (name, expected) in [
        ("authority.key", 0o600),
        ("node-1.key", 0o600),
        ("authority.pem", 0o644),
        ("node-1.pem", 0o644),
    ] {
        assert_eq!(mode(name), expected, "{name}");
    }
    let before = std::fs::read(directory.path().join("authority.key")).unwrap();
    let again = folio(["cert", "authority", text(directory.path())]);
    assert_eq!(again.code, Some(1), "{again:?}");
    let after = std::fs::read(directory.path().join("authority.key")).unwrap();
    assert_eq!(after, before);
}

#[test]
fn a_client_is_let_in_with_a_certificate_that_the_tool_made() {
    let directory = certificates();
    let place = directory.path();
    let own = tempfile::tempdir().unwrap();
    authority(own.path());
    let name = "billing.example.com";
    let made = folio(["cert", "client", text(own.path()), "--name", name]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let key = std::fs::read(own.path().join("authority.key")).unwrap();
    for wrong in [
        "node-2",
        "authority",
        "Billing",
        "../billing",
        "-",
        "a..b",
        "192.0.2.1",
        "",
    ] {
        let place = text(own.path());
        let made = folio(["cert", "client", place, "--replace", "--name", wrong]);
        assert_eq!(made.code, Some(2), "{wrong}");
    }
    assert_eq!(
        std::fs::read(own.path().join("authority.key")).unwrap(),
        key
    );
    let clients = place.join("clients");
    let add = |client: &str, how: &[&str]| {
        let added = folio([&["clients", "add", text(&clients), client], how].concat());
        assert_eq!(added.code, Some(0), "{added:?}");
        assert_eq!(added.stdout, "", "there is no token to show");
    };
    add("billing", &["--certificate-name", name, "--monitor"]);
    let listed = folio(["clients", "list", text(&clients)]);
    assert!(listed.stdout.contains(name), "{listed:?}");

    let file = place.join("node.folio");
    let ca = own.path().join("authority.pem");
    let asking = ["--tls", text(place), "--clients", text(&clients)];
    let asking = [&asking[..], &["--client-authority", text(&ca)]].concat();
    let node = Served::start([&alone(&file)[..], &asking].concat());
    let [certificate, key] = ["pem", "key"].map(|kind| own.path().join(format!("{name}.{kind}")));
    let known = Client::showing(place, Some([&certificate, &key]));
    // Nobody can pass for a server with it.
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(&ca).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let shown = CertificateDer::from_pem_file(&certificate).unwrap();
    let server = ServerName::try_from(name).unwrap();
    let verifier = verifier.build().unwrap();
    let verified = verifier.verify_server_cert(&shown, &[], &server, &[], UnixTime::now());
    let Err(Error::InvalidCertificate(reason)) = verified else {
        panic!("{verified:?}");
    };
    assert!(
        matches!(reason, CertificateError::InvalidPurposeContext { .. }),
        "{reason:?}"
    );
    let ask = |client: &Client, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        let answer = client.send(&node, &request).unwrap().0;
        answer[9..12].to_owned()
    };
    assert_eq!(ask(&known, "/v1/status"), "200");
    assert_eq!(ask(&known, "/v1/vaults"), "403");
    assert_eq!(ask(&Client::trusting(place), "/v1/status"), "401");
    // The one with this certificate, whatever its name is; the node looks at the file every second.
    add(
        "pinned",
        &["--certificate", text(&certificate), "--read", "all"],
    );
    while ask(&known, "/v1/vaults") != "200" {}
}
