//! Clients that prove who they are by certificates, over TLS as it is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/authority.rs"]
mod authority;
mod common;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use authority::Authority;
use common::{PATIENCE, free_port, start_node, until};
use folio_node::access::{Access, Credential};
use folio_node::{Limits, api, serve};
use folio_raft::transport::{Tls, certificate_from_pem};
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, RootCertStore};

/// A node with one vault that asks its clients for certificates.
struct Guarded {
    directory: tempfile::TempDir,
    /// That of the cluster.
    cluster: Authority,
    /// That of the clients.
    clients: Authority,
    address: SocketAddr,
}

impl Guarded {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Authority::new(&directory.path().join("cluster"));
        let clients = Authority::new(&directory.path().join("authority"));
        let node = start_node(directory.path(), 1).await;
        let members = [(1, node.peer_address().to_string())].into();
        node.form_cluster(members).await.unwrap();
        node.ledger().wait_for_leader(PATIENCE).await.unwrap();
        let file = directory.path().join("clients");
        std::fs::write(&file, "").unwrap();
        let access = Access::from_file(&file).unwrap();
        let [certificate, key] = cluster.certificate(&["node-1", "localhost"], |_| {});
        let tls =
            Tls::from_files_with_clients(1, &cluster.file(), &certificate, &key, &clients.file());
        let limits = Limits::default();
        let router = api::router(node, BTreeMap::new(), access, &limits);
        let listener = free_port().await;
        let address = listener.local_addr().unwrap();
        let stop = std::future::pending();
        tokio::spawn(serve(listener, router, Some(tls.unwrap()), limits, stop));
        Guarded {
            directory,
            cluster,
            clients,
            address,
        }
    }

    /// Replaces the clients.
    fn let_in(&self, clients: &[(&str, Credential, &str)]) {
        let lines = clients
            .iter()
            .map(|(name, credential, roles)| format!("{name} {credential} {roles}\n"));
        let file = self.directory.path().join("clients");
        std::fs::write(file, lines.collect::<String>()).unwrap();
    }

    /// What a client with this certificate connects with.
    fn client(&self, certificate: Option<&[PathBuf; 2]>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(self.cluster.file()).unwrap();
        roots.add(root).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match certificate {
            None => config.with_no_client_auth(),
            Some([certificates, key]) => {
                let chain = CertificateDer::pem_file_iter(certificates).unwrap();
                let key = PrivateKeyDer::from_pem_file(key).unwrap();
                let chain = chain.map(Result::unwrap).collect();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }

    /// The status and the code of what a client is answered on a connection of its own, and how that began.
    async fn exchange(
        &self,
        client: &TlsConnector,
        request: &str,
    ) -> io::Result<(u16, String, HandshakeKind)> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = client.connect(name, stream).await?;
        let request = format!("{request}\r\nHost: t\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let code = body["code"].as_str().unwrap_or_default().to_owned();
        Ok((status, code, stream.get_ref().1.handshake_kind().unwrap()))
    }

    /// The status and the code of what a client with this certificate is answered.
    async fn ask(
        &self,
        certificate: Option<&[PathBuf; 2]>,
        request: &str,
    ) -> io::Result<(u16, String)> {
        let client = self.client(certificate);
        let (status, code, _) = self.exchange(&client, request).await?;
        Ok((status, code))
    }

    /// Waits until the node knows the clients that it was given last.
    async fn knows(&self, certificate: &[PathBuf; 2]) {
        until("the client is known", async || {
            self.ask(Some(certificate), LIST).await.unwrap().0 == 200
        })
        .await;
    }
}

const LIST: &str = "GET /v1/vaults HTTP/1.1";
const STATUS: &str = "GET /v1/status HTTP/1.1";

fn of_file(certificate: &Path) -> Credential {
    let pem = std::fs::read(certificate).unwrap();
    Credential::of_certificate(&certificate_from_pem(&pem).unwrap())
}

fn known(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_who_its_certificate_says_and_may_do_what_the_file_says() {
    let guarded = Guarded::start().await;
    let ana = guarded.clients.certificate(&["ana.example.com"], |_| {});
    let shop = guarded
        .clients
        .certificate(&["shop", "shop.example.com"], |_| {});
    let other = guarded.clients.certificate(&["other"], |_| {});
    let (token, secret) = Credential::new_token().unwrap();
    guarded.let_in(&[
        ("ana", of_file(&ana[0]), "admin=all"),
        (
            "shop",
            Credential::Name("shop.example.com".to_owned()),
            "read=1",
        ),
        ("monitor", secret, "monitor"),
    ]);
    guarded.knows(&ana).await;
    let ask = async |certificate, request| guarded.ask(certificate, request).await.unwrap();
    assert_eq!(ask(Some(&ana), STATUS).await, known(200, ""));
    assert_eq!(ask(Some(&shop), LIST).await, known(200, ""));
    // Its role is too small for that.
    assert_eq!(ask(Some(&shop), STATUS).await, known(403, "forbidden"));
    let change = "DELETE /v1/vaults/1 HTTP/1.1";
    assert_eq!(ask(Some(&shop), change).await, known(403, "forbidden"));
    assert_eq!(ask(Some(&ana), change).await.0, 404);
    // A good certificate of nobody in the file, and none.
    assert_eq!(ask(Some(&other), LIST).await, known(401, "unknown_client"));
    assert_eq!(ask(None, LIST).await, known(401, "unauthenticated"));
    // Tokens go on as before, and go before certificates.
    let [with_token, with_another] =
        [&token[..], "folio_x"].map(|token| format!("{STATUS}\r\nAuthorization: Bearer {token}"));
    assert_eq!(ask(None, &with_token).await, known(200, ""));
    assert_eq!(ask(Some(&shop), &with_token).await, known(200, ""));
    assert_eq!(
        ask(Some(&ana), &with_another).await,
        known(401, "unknown_client")
    );
    // A new certificate has the same name, and another hash.
    let ana = guarded.clients.certificate(&["ana.example.com"], |_| {});
    let shop = guarded
        .clients
        .certificate(&["shop", "shop.example.com"], |_| {});
    assert_eq!(ask(Some(&ana), LIST).await, known(401, "unknown_client"));
    assert_eq!(ask(Some(&shop), LIST).await, known(200, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_who_the_first_of_its_certificates_says_whatever_the_case_of_its_name() {
    let guarded = Guarded::start().await;
    let ana = guarded.clients.certificate(&["Ana.Example.COM"], |_| {});
    let other = guarded.clients.certificate(&["other"], |_| {});
    let name = Credential::Name("ana.example.com".to_owned());
    guarded.let_in(&[("ana", name, "read=all")]);
    guarded.knows(&ana).await;
    // Certificates are no secrets: anybody may have that of another client.
    let own_and_anas = [&other[0], &ana[0]].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(&other[0], own_and_anas.concat()).unwrap();
    assert_eq!(
        guarded.ask(Some(&other), LIST).await.unwrap(),
        known(401, "unknown_client")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_shown_and_checked_with_each_connection() {
    let guarded = Guarded::start().await;
    let ana = guarded.clients.certificate(&["ana"], |_| {});
    guarded.let_in(&[("ana", of_file(&ana[0]), "read=all")]);
    guarded.knows(&ana).await;
    let client = guarded.client(Some(&ana));
    for _ in 0..2 {
        let (status, _, began) = guarded.exchange(&client, LIST).await.unwrap();
        // A session that is resumed is not asked for the end of its certificate.
        assert_eq!((status, began), (200, HandshakeKind::Full));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_taken_out_of_the_file_is_refused_whatever_certificate_it_has() {
    let guarded = Guarded::start().await;
    let [ana, shop] = ["ana", "shop"].map(|name| guarded.clients.certificate(&[name], |_| {}));
    let named = |name: &'static str| (name, Credential::Name(name.to_owned()), "read=all");
    guarded.let_in(&[named("ana"), named("shop")]);
    guarded.knows(&ana).await;
    guarded.knows(&shop).await;
    guarded.let_in(&[named("shop")]);
    until("it is refused", async || {
        guarded.ask(Some(&ana), LIST).await.unwrap() == known(401, "unknown_client")
    })
    .await;
    assert_eq!(guarded.ask(Some(&shop), LIST).await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_others_and_of_other_times_do_not_get_in() {
    let guarded = Guarded::start().await;
    let ana = guarded.clients.certificate(&["ana"], |_| {});
    let named = ("ana", Credential::Name("ana".to_owned()), "admin=all");
    guarded.let_in(&[named]);
    guarded.knows(&ana).await;
    let elsewhere = Authority::new(&guarded.directory.path().join("elsewhere"));
    let foreign = elsewhere.certificate(&["ana"], |_| {});
    // The authority of the cluster makes nodes, and no clients.
    let node = guarded.cluster.certificate(&["ana"], |_| {});
    let expired = guarded.clients.certificate(&["ana"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let early = guarded.clients.certificate(&["ana"], |params| {
        params.not_before = date_time_ymd(2090, 1, 1);
        params.not_after = date_time_ymd(2091, 1, 1);
    });
    let server = guarded.clients.certificate(&["ana"], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    for (what, wrong) in [
        ("foreign", foreign),
        ("node", node),
        ("for servers", server),
        ("expired", expired),
        ("early", early),
    ] {
        // The handshake fails, so nothing is answered.
        let answered = guarded.ask(Some(&wrong), LIST).await;
        assert!(answered.is_err(), "{what}: {answered:?}");
    }
    assert_eq!(guarded.ask(None, LIST).await.unwrap().0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_for_clients_is_taken_with_the_next_connection() {
    let guarded = Guarded::start().await;
    let ana = guarded.clients.certificate(&["ana"], |_| {});
    guarded.let_in(&[("ana", Credential::Name("ana".to_owned()), "admin=all")]);
    guarded.knows(&ana).await;
    let next = Authority::new(&guarded.directory.path().join("next"));
    std::fs::copy(next.file(), guarded.clients.file()).unwrap();
    assert!(guarded.ask(Some(&ana), LIST).await.is_err());
    let ana = next.certificate(&["ana"], |_| {});
    assert_eq!(guarded.ask(Some(&ana), LIST).await.unwrap().0, 200);
    // What is no certificate changes nothing.
    std::fs::write(guarded.clients.file(), "nothing").unwrap();
    assert_eq!(guarded.ask(Some(&ana), LIST).await.unwrap().0, 200);
}
