//! Who a client trusts, and who it says it is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../node/tests/common/authority.rs"]
mod authority;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use authority::Authority;
use folio_client::{Client, Error, ReadLevel, Settings};
use rcgen::date_time_ymd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto::ring};

/// Answers each request of a client of `clients`, or of anybody, with the status that the request's headers deserve: 200 with
/// the right token, else 404.
async fn serve([certificate, key]: &[PathBuf; 2], clients: Option<&Authority>) -> String {
    let chain = CertificateDer::pem_file_iter(certificate).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_file(authority.file()).unwrap())
                .unwrap();
            let roots = Arc::new(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever is refused, is.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = vec![0; 1 << 14];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).to_lowercase();
            let body = r#"{"vault":1,"name":"n","height":0,"block_hash":"HASH","time":0,"state_root":"HASH","entities":0,"relationships":0,"retention":0,"retained_from":0}"#;
            let body = body.replace("HASH", &"0".repeat(64));
            let status = match request.contains("\r\nauthorization: bearer right\r\n") {
                true => "200 OK",
                false => "404 Not Found",
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            // The client may have gone.
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    format!("https://localhost:{port}")
}

fn settings(url: &str, authority: &Authority) -> Settings {
    let settings = Settings::new([url])
        .unwrap()
        .deadline(Duration::from_secs(2));
    settings.token("right").authority(authority.file()).unwrap()
}

async fn ask(settings: Settings) -> Result<u64, Error> {
    let vault = Client::new(settings)?
        .vault(1, ReadLevel::Linearizable)
        .await?;
    Ok(vault.vault)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_who_it_should_be_or_is_told_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let other = Authority::new(&directory.path().join("other"));
    let right = serve(&authority.certificate(&["localhost"], |_| ()), None).await;
    assert_eq!(ask(settings(&right, &authority)).await.unwrap(), 1);

    let strange = serve(&other.certificate(&["localhost"], |_| ()), None).await;
    let elsewhere = serve(&authority.certificate(&["elsewhere"], |_| ()), None).await;
    let expired = authority.certificate(&["localhost"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let expired = serve(&expired, None).await;
    for (url, reason) in [
        (strange, "another authority"),
        (elsewhere, "not for this host"),
        (expired, "expired"),
    ] {
        let failed = ask(settings(&url, &authority)).await.unwrap_err();
        let told = matches!(&failed, Error::Tls { reason: told, .. } if told.contains(reason));
        assert!(told, "{reason}: {failed}");
        // Where one node is wrong, another is asked.
        let both = Settings::new([&url, &right]).unwrap().token("right");
        let both = both.authority(authority.file()).unwrap();
        assert_eq!(ask(both).await.unwrap(), 1, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_says_who_it_is_by_a_token_and_by_a_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let node = authority.certificate(&["localhost"], |_| ());
    let url = serve(&node, Some(&authority)).await;
    let [certificate, key] = authority.certificate(&["client"], |_| ());
    let known = settings(&url, &authority)
        .identity(&certificate, &key)
        .unwrap();
    assert_eq!(ask(known.clone()).await.unwrap(), 1);
    assert!(ask(known.token("wrong")).await.is_err());
    assert!(
        ask(settings(&url, &authority)).await.is_err(),
        "it has no certificate"
    );
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let client = |settings: Settings| Client::new(settings).map(drop);
    let open = Settings::new(["http://localhost:1"]).unwrap();
    assert!(client(open.clone()).is_ok());
    assert!(client(open.clone().authority(authority.file()).unwrap()).is_err());
    assert!(client(open.clone().token("a\r\nb")).is_err());
    assert!(
        client(Settings::new(["https://localhost:1"]).unwrap()).is_err(),
        "nobody is trusted"
    );
    assert!(Settings::new(Vec::<String>::new()).is_err());
    let [certificate, key] = authority.certificate(&["client"], |_| ());
    for (certificate, key) in [(&key, &key), (&certificate, &certificate)] {
        assert!(open.clone().identity(certificate, key).is_err());
    }
    let shown = format!("{:?}", open.token("secret"));
    assert!(!shown.contains("secret"), "{shown}");
}
