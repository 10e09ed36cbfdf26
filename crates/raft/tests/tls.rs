//! Mutual TLS on the TCP transport: who is let in, who is not, and that a cluster works with it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/authority.rs"]
mod authority;
mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use authority::{Authority, expired};
use common::cluster::{Node, PATIENCE, quick};
use common::echo::Echo;
use common::{CounterMachine, add, counters};
use folio_raft::transport::{
    NetworkConfig, TcpTransport, Tls, TlsError, Transport, TransportError,
};
use folio_raft::{NodeId, ReadLevel};
use folio_store::Database;
use rcgen::date_time_ymd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

async fn bind(tls: Option<Tls>) -> Arc<TcpTransport> {
    let config = NetworkConfig {
        tls,
        ..NetworkConfig::new("c")
    };
    TcpTransport::bind("127.0.0.1:0", config).await.unwrap()
}

/// Node 2, and where it listens.
async fn serve(tls: Option<Tls>) -> (Arc<TcpTransport>, String, Arc<Echo>) {
    let transport = bind(tls).await;
    let echo = Arc::new(Echo::default());
    transport.serve(2, echo.clone()).unwrap();
    let address = transport.local_address().to_string();
    (transport, address, echo)
}

/// Node 1 calls node 2, and is not heard. Says why.
async fn refused(client: Option<Tls>, server: Option<Tls>) -> String {
    let (_server, address, echo) = serve(server).await;
    let client = bind(client).await;
    let outcome = client.call(1, 2, &address, vec![1], PATIENCE).await;
    assert_eq!(echo.handled(), 0);
    match outcome {
        Err(TransportError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nodes_of_one_authority_understand_each_other() {
    let authority = Authority::new();
    let (_server, address, echo) = serve(Some(authority.tls(2))).await;
    let client = bind(Some(authority.tls(1))).await;
    for round in 0..3u8 {
        let request = vec![round; 100_000];
        let answer = client.call(1, 2, &address, request.clone(), PATIENCE).await;
        assert_eq!(answer.unwrap(), request);
    }
    assert_eq!(echo.handled(), 3);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_either_side() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    // The client does not know who made the server's certificate.
    let reason = refused(Some(theirs.tls(1)), Some(ours.tls(2))).await;
    assert!(
        reason.contains("its certificate was made by another authority"),
        "{reason}"
    );
    // The client trusts the server, and has a certificate that the server does not know.
    let foreign = ours.tls_from(theirs.certificate(1, |_| ()));
    let reason = refused(Some(foreign), Some(ours.tls(2))).await;
    assert!(
        reason.contains("alert") || reason.contains("another authority"),
        "{reason}"
    );
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_either_side() {
    let authority = Authority::new();
    let old = |node| authority.tls_from(authority.certificate(node, expired));
    let reason = refused(Some(authority.tls(1)), Some(old(2))).await;
    assert!(reason.contains("its certificate has expired"), "{reason}");
    let reason = refused(Some(old(1)), Some(authority.tls(2))).await;
    assert!(
        reason.contains("this node's certificate has expired"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_certificate_is_good_for_its_own_node_only() {
    let authority = Authority::new();
    // Node 3 says that it is node 1.
    let reason = refused(Some(authority.tls(3)), Some(authority.tls(2))).await;
    assert!(
        reason.contains("certificate is that of another"),
        "{reason}"
    );
    // Node 3 listens where node 2 is looked for.
    let reason = refused(Some(authority.tls(1)), Some(authority.tls(3))).await;
    assert!(
        reason.contains("its certificate is that of another node"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_node_without_tls_is_refused_and_told_what_is_missing() {
    let authority = Authority::new();
    let reason = refused(None, Some(authority.tls(2))).await;
    assert!(reason.contains("expects TLS"), "{reason}");
}

#[tokio::test]
async fn a_node_with_tls_says_nothing_to_one_without() {
    let authority = Authority::new();
    let (_server, address, echo) = serve(None).await;
    let client = bind(Some(authority.tls(1))).await;
    let outcome = client.call(1, 2, &address, vec![1], PATIENCE).await;
    assert!(
        matches!(
            outcome,
            Err(TransportError::Unreachable { .. } | TransportError::Refused { .. })
        ),
        "{outcome:?}"
    );
    assert_eq!(echo.handled(), 0);
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let authority = Authority::new();
    let (_server, address, echo) = serve(Some(authority.tls(2))).await;
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(&address).await.unwrap();
    let name = ServerName::try_from("node-2").unwrap();
    // With TLS 1.3 the client is done before the server has seen that there is no certificate.
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    // Whether this still goes out depends on how soon the server closes.
    let _ = stream.write_all(b"FOLIORPC").await;
    let refused = stream.read_u8().await.unwrap_err().to_string();
    assert!(refused.contains("CertificateRequired"), "{refused}");
    assert_eq!(echo.handled(), 0);
}

#[tokio::test]
async fn a_server_goes_on_while_strangers_knock() {
    let authority = Authority::new();
    let (_server, address, _) = serve(Some(authority.tls(2))).await;
    let mut strangers = Vec::new();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 3, 1, 0xff, 0xff],
        &[],
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        // Left open: the server must not wait for what does not come.
        strangers.push(stream);
    }
    let client = bind(Some(authority.tls(1))).await;
    let answer = client.call(1, 2, &address, vec![7], PATIENCE).await;
    assert_eq!(answer.unwrap(), [7]);
}

#[test]
fn what_is_not_a_certificate_or_key_is_refused_by_name() {
    let authority = Authority::new();
    let (certificate, key) = authority.certificate(1, |_| ());
    let (_, other_key) = authority.certificate(1, |_| ());
    for (pem, certificate, key, word) in [
        ("", &certificate, &key, "authority"),
        (
            authority.pem.as_str(),
            &String::new(),
            &key,
            "node's certificate",
        ),
        (&authority.pem, &certificate, &certificate, "private key"),
        (&authority.pem, &certificate, &other_key, "cannot be used"),
    ] {
        let refused = Tls::from_pem(pem.as_bytes(), certificate.as_bytes(), key.as_bytes());
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
    let missing = std::path::Path::new("/nowhere/authority.pem");
    let refused = Tls::from_files(1, missing, missing, missing);
    assert!(matches!(refused, Err(TlsError::Read { .. })), "{refused:?}");
    let shown = format!("{:?}", authority.tls(1));
    assert_eq!(shown, "Tls { .. }", "the key is not shown");
}

/// The files of a node, which a test replaces.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, authority: &str, (certificate, key): &(String, String)) {
        for (name, pem) in [
            ("authority", authority),
            ("certificate", certificate),
            ("key", key),
        ] {
            // Another file in the place of the old one, which is there as a whole at once.
            let mut file = tempfile::NamedTempFile::new_in(self.0.path()).unwrap();
            std::io::Write::write_all(&mut file, pem.as_bytes()).unwrap();
            file.persist(self.0.path().join(name)).unwrap();
        }
    }

    fn tls(&self, node: NodeId) -> Result<Tls, TlsError> {
        let path = |name: &str| self.0.path().join(name);
        Tls::from_files(node, &path("authority"), &path("certificate"), &path("key"))
    }
}

#[test]
fn files_that_the_others_would_not_take_are_refused_with_the_reason() {
    let authority = Authority::new();
    let refused = |pem: &str, pair: &(String, String)| {
        let files = Files::new();
        files.put(pem, pair);
        files.tls(1).unwrap_err()
    };
    let error = refused(&authority.pem, &authority.certificate(1, expired));
    let message = error.to_string();
    let told = message.contains("node 1 expired") && message.contains("days ago");
    assert!(told, "{message}");
    let error = refused(
        &authority.pem,
        &authority.certificate(1, |params| params.not_before = date_time_ymd(4000, 1, 1)),
    );
    let message = error.to_string();
    assert!(message.contains("not valid yet"), "{message}");
    for error in [
        refused(&authority.pem, &authority.certificate(2, |_| ())),
        refused(&Authority::new().pem, &authority.certificate(1, |_| ())),
    ] {
        assert!(
            matches!(error, TlsError::NotOurs { node: 1, .. }),
            "{error}"
        );
    }
    let files = Files::new();
    files.put(&authority.pem, &authority.certificate(1, |_| ()));
    files.tls(1).unwrap();
}

#[tokio::test]
async fn certificates_that_change_are_taken_with_the_next_connection_and_wrong_ones_are_not() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::new();
    files.put(&old.pem, &old.certificate(2, |_| ()));
    let (_server, address, _) = serve(Some(files.tls(2).unwrap())).await;
    let call = async |authority: &Authority| {
        let client = bind(Some(authority.tls(1))).await;
        client.call(1, 2, &address, vec![7], PATIENCE).await
    };
    call(&old).await.unwrap();
    call(&new).await.unwrap_err();

    // The certificate of another node, one that has expired, a half of a pair, and none at all.
    let (_, other_key) = old.certificate(2, |_| ());
    let (certificate, _) = new.certificate(2, |_| ());
    for wrong in [
        new.certificate(3, |_| ()),
        new.certificate(2, expired),
        (certificate, other_key),
        ("rubbish".to_owned(), "rubbish".to_owned()),
    ] {
        files.put(&new.pem, &wrong);
        call(&old).await.unwrap();
        call(&new).await.unwrap_err();
    }
    files.put(&new.pem, &new.certificate(2, |_| ()));
    call(&new).await.unwrap();
    call(&old).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_works_over_tls() {
    let authority = Authority::new();
    let mut nodes = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for id in 1..=3 {
        let transport = bind(Some(authority.tls(id))).await;
        addresses.insert(id, transport.local_address().to_string());
        let database = Database::in_memory().unwrap();
        let node = Node::start(quick(), id, database, CounterMachine, transport).await;
        nodes.insert(id, node.unwrap());
    }
    nodes[&1].initialize(addresses).await.unwrap();
    let leader = nodes[&1].wait_for_leader(PATIENCE).await.unwrap();
    for _ in 0..20 {
        nodes[&leader].write(add("a", 1)).await.unwrap();
    }
    let successor = nodes[&leader].transfer_leadership(None).await.unwrap();
    let level = ReadLevel::Linearizable;
    let read = nodes[&successor].read(level, counters).await.unwrap();
    assert_eq!(read, [("a".to_owned(), 20)]);
    for node in nodes.values() {
        tokio::time::timeout(Duration::from_secs(60), node.shutdown())
            .await
            .unwrap()
            .unwrap();
    }
}
