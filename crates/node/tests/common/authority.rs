//! An authority, and the certificates that it makes, as files.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use folio_raft::NodeId;
use folio_raft::transport::Tls;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

pub struct Authority {
    directory: PathBuf,
    made: AtomicUsize,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// One in a directory of its own.
    pub fn new(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = params.self_signed(&key).unwrap();
        std::fs::write(directory.join("authority.pem"), own.pem()).unwrap();
        Authority {
            directory: directory.to_owned(),
            made: AtomicUsize::new(0),
            issuer: Issuer::new(params, key),
        }
    }

    pub fn file(&self) -> PathBuf {
        self.directory.join("authority.pem")
    }

    /// A certificate with these DNS names, and its key.
    pub fn certificate(
        &self,
        names: &[&str],
        change: impl Fn(&mut CertificateParams),
    ) -> [PathBuf; 2] {
        let key = KeyPair::generate().unwrap();
        let all: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(all).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let files = ["pem", "key"].map(|kind| self.directory.join(format!("{number}.{kind}")));
        std::fs::write(&files[0], certificate.pem()).unwrap();
        std::fs::write(&files[1], key.serialize_pem()).unwrap();
        files
    }

    /// What a node speaks TLS with.
    pub fn node(&self, id: NodeId) -> Tls {
        let name = format!("node-{id}");
        let [certificate, key] = self.certificate(&[&name, "localhost"], |_| {});
        Tls::from_files(id, &self.file(), &certificate, &key).unwrap()
    }
}
