//! The file of clients.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use folio_ledger::digest::Digest;

use super::Need;

/// What every token begins with, so that people and scanners for secrets know one when they see it.
const TOKEN_PREFIX: &str = "folio_";
/// What stands before the SHA-256 of a token, that of a certificate, and a name in one.
const TOKEN: &str = "sha256:";
const CERTIFICATE: &str = "certificate-sha256:";
const CERTIFICATE_NAME: &str = "certificate-name:";
/// The longest DNS name.
const MAX_DNS_NAME: usize = 253;
/// The longest name of a client, in bytes.
const MAX_NAME: usize = 64;

/// What a client may do. Each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// See the status and the counters of a node, and who belongs to the cluster.
    Monitor,
    /// Read.
    Read,
    /// Carry out transactions.
    Write,
    /// Create, change and delete vaults; in all vaults also change the cluster.
    Admin,
}

impl Role {
    const ALL: [Role; 4] = [Role::Monitor, Role::Read, Role::Write, Role::Admin];

    /// The word for it in a file of clients.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Monitor => "monitor",
            Role::Read => "read",
            Role::Write => "write",
            Role::Admin => "admin",
        }
    }
}

/// The vaults that a role is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vaults {
    /// All of them, those to come as well.
    All,
    /// These.
    Some(Vec<u64>),
}

impl FromStr for Vaults {
    type Err = String;

    /// `all`, or numbers with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Vaults::All);
        }
        let number = |part: &str| part.parse().ok().filter(|vault| *vault > 0);
        let numbers = text.split(',').map(number).collect::<Option<_>>();
        numbers.map(Vaults::Some).ok_or_else(|| {
            format!("`{text}` is neither `all` nor numbers of vaults, such as `1,2`")
        })
    }
}

/// The roles of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    everywhere: Option<Role>,
    vaults: BTreeMap<u64, Role>,
}

impl Rights {
    /// Adds a role. The highest one in a vault is what counts there.
    pub fn grant(&mut self, role: Role, vaults: &Vaults) {
        match vaults {
            Vaults::All => self.everywhere = self.everywhere.max(Some(role)),
            Vaults::Some(vaults) => {
                for vault in vaults {
                    let held = self.vaults.entry(*vault).or_insert(role);
                    *held = role.max(*held);
                }
            }
        }
    }

    /// Whether they are enough.
    pub(super) fn meet(&self, need: Need, vault: Option<u64>) -> bool {
        let here = |vault| self.vaults.get(&vault).copied();
        match need {
            Need::Nothing => true,
            Need::Everywhere(role) => self.everywhere >= Some(role),
            Need::Somewhere(role) => {
                self.everywhere >= Some(role) || self.vaults.values().any(|held| *held >= role)
            }
            Need::InVault(role) => {
                self.everywhere >= Some(role) || vault.and_then(here) >= Some(role)
            }
        }
    }

    /// The vaults that can be read with them, in order; `None` for all.
    pub(super) fn readable(&self) -> Option<Vec<u64>> {
        if self.everywhere >= Some(Role::Read) {
            return None;
        }
        Some(self.vaults.keys().copied().collect())
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match self.everywhere {
            None => {}
            Some(Role::Monitor) => parts.push("monitor".to_owned()),
            Some(role) => parts.push(format!("{}=all", role.name())),
        }
        for role in Role::ALL {
            let vaults = self.vaults.iter().filter(|(_, held)| **held == role);
            let vaults: Vec<_> = vaults.map(|(vault, _)| vault.to_string()).collect();
            if !vaults.is_empty() {
                parts.push(format!("{}={}", role.name(), vaults.join(",")));
            }
        }
        f.write_str(&parts.join(" "))
    }
}

/// What proves who a client is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// The token with this SHA-256. A token is 32 random bytes, so nobody finds it by trying, and a slow hash, as passwords
    /// need it, would only cost time.
    Token(Digest),
    /// The certificate with this SHA-256, of its DER, as `openssl x509 -fingerprint -sha256` shows it. A new certificate of the
    /// same client is another one.
    Certificate(Digest),
    /// A certificate for this DNS name, in lower case, whichever it is.
    Name(String),
}

impl Credential {
    /// A new token, which is known to nobody else, and the credential that it is.
    pub fn new_token() -> Result<(String, Self), getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        let token = format!("{TOKEN_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
        let credential = Self::of_token(token.as_bytes());
        Ok((token, credential))
    }

    pub(super) fn of_token(token: &[u8]) -> Self {
        Credential::Token(Digest::of(&[token]))
    }

    /// That of a certificate in DER.
    #[must_use]
    pub fn of_certificate(der: &[u8]) -> Self {
        Credential::Certificate(Digest::of(&[der]))
    }

    /// Whether it is a certificate, which takes TLS, and an authority for clients.
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        !matches!(self, Credential::Token(_))
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::Token(digest) => write!(f, "{TOKEN}{digest}"),
            Credential::Certificate(digest) => write!(f, "{CERTIFICATE}{digest}"),
            Credential::Name(name) => write!(f, "{CERTIFICATE_NAME}{name}"),
        }
    }
}

impl FromStr for Credential {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let digest = |text: &str| {
            let digest = text.parse().ok();
            digest.ok_or_else(|| "a SHA-256 has 64 hexadecimal digits".to_owned())
        };
        if let Some(text) = word.strip_prefix(TOKEN) {
            return digest(text).map(Credential::Token);
        }
        if let Some(text) = word.strip_prefix(CERTIFICATE) {
            return digest(text).map(Credential::Certificate);
        }
        // It may be a token that somebody wrote there, so it is not repeated.
        let name = word.strip_prefix(CERTIFICATE_NAME).ok_or_else(|| {
            format!("the second word must be `{TOKEN}` or `{CERTIFICATE}` and 64 digits, or `{CERTIFICATE_NAME}` and a name")
        })?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        if name.is_empty() || name.len() > MAX_DNS_NAME || !name.chars().all(plain) {
            return Err(format!(
                "what follows `{CERTIFICATE_NAME}` is no DNS name: up to {MAX_DNS_NAME} lower-case letters, digits, hyphens and dots"
            ));
        }
        Ok(Credential::Name(name.to_owned()))
    }
}

/// A line in the file of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its name, in the log and in what it is told.
    pub name: String,
    /// What proves that it is the client.
    pub credential: Credential,
    /// What it may do.
    pub rights: Rights,
}

impl FromStr for Client {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
            return Err(format!(
                "`{}` is no name: up to {MAX_NAME} lower-case letters, digits and hyphens",
                name.escape_debug()
            ));
        }
        let credential = match words.next() {
            Some(word) => word.parse()?,
            None => return Err(format!("`{name}` has neither a token nor a certificate")),
        };
        let mut rights = Rights::default();
        let mut roles = 0;
        for word in words {
            if word == "monitor" {
                rights.grant(Role::Monitor, &Vaults::All);
            } else {
                let (role, vaults) = word.split_once('=').ok_or_else(|| unknown_role(word))?;
                let role = match role {
                    "read" => Role::Read,
                    "write" => Role::Write,
                    "admin" => Role::Admin,
                    _ => return Err(unknown_role(word)),
                };
                rights.grant(role, &vaults.parse()?);
            }
            roles += 1;
        }
        if roles == 0 {
            return Err(format!("`{name}` has no role"));
        }
        Ok(Client {
            name: name.to_owned(),
            credential,
            rights,
        })
    }
}

fn unknown_role(word: &str) -> String {
    format!(
        "`{}` is no role: `monitor`, or `read=`, `write=` or `admin=` with `all` or numbers of vaults",
        word.escape_debug()
    )
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.credential, self.rights)
    }
}

/// What is wrong with a file of clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ParseError {
    /// The number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// The clients in a file. Each has a line of its own; empty lines and those that begin with `#` mean nothing.
///
/// ```
/// use folio_node::access::Clients;
///
/// let clients: Clients = "
/// ## name    hash of the token, or certificate                                       roles
/// ana        sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 admin=all
/// shop       sha256:1b4f0e9851971998e732078544c96b36c3d01cedf7caa332359d6f1d83567014 read=all write=3,4
/// prometheus sha256:486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7 monitor
/// ".parse()?;
/// assert_eq!(clients.iter().count(), 3);
/// # Ok::<(), folio_node::access::ParseError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Clients {
    list: Vec<Client>,
    /// By what they prove themselves with. How long it takes to find a token tells something about its digest, and that
    /// nothing about the token.
    places: HashMap<Credential, usize>,
}

impl Clients {
    /// In the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.list.iter()
    }

    pub(super) fn with(&self, credential: &Credential) -> Option<&Client> {
        self.list.get(*self.places.get(credential)?)
    }

    fn add(&mut self, client: Client) -> Result<(), String> {
        let index = self.list.len();
        if self.list.iter().any(|other| other.name == client.name) {
            return Err(format!("`{}` is named twice", client.name));
        }
        if let Some(other) = self.places.insert(client.credential.clone(), index) {
            let other = &self.list[other].name;
            return Err(format!("`{}` proves itself as `{other}` does", client.name));
        }
        self.list.push(client);
        Ok(())
    }
}

impl FromStr for Clients {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut clients = Clients::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let client = line.parse().and_then(|client| clients.add(client));
            client.map_err(|reason| ParseError {
                line: number + 1,
                reason,
            })?;
        }
        Ok(clients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn client(text: &str) -> Client {
        text.parse().expect("a client")
    }

    #[test]
    fn a_client_is_written_as_it_is_read() {
        for line in [
            &format!("ana {DIGEST} admin=all"),
            &format!("shop-2 {DIGEST} read=all write=3,4 admin=5"),
            &format!("prometheus {DIGEST} monitor"),
            &format!("audit {DIGEST} monitor read=1"),
            &format!("pinned certificate-{DIGEST} read=1"),
            "named certificate-name:a-1.example.com read=1",
        ] {
            assert_eq!(client(line).to_string(), *line);
        }
        let mixed = client(&format!("a {DIGEST} write=1 read=1,2 monitor read=all"));
        assert_eq!(mixed.rights.to_string(), "read=all read=2 write=1");
    }

    #[test]
    fn a_line_that_says_less_or_something_else_is_refused_with_its_number() {
        for wrong in [
            "ana",
            &format!("ana {DIGEST}"),
            &format!("ana {DIGEST} root"),
            &format!("ana {DIGEST} admin"),
            &format!("ana {DIGEST} admin="),
            &format!("ana {DIGEST} admin=*"),
            &format!("ana {DIGEST} read=1,,2"),
            &format!("ana {DIGEST} read=0"),
            &format!("ana {DIGEST} monitor=all"),
            &format!("ana {} read=all", &DIGEST[..70]),
            "ana folio_secret read=all",
            "ana certificate-sha256:12 read=all",
            "ana certificate-name: read=all",
            "ana certificate-name:*.example.com read=all",
            "ana certificate-name:Example.com read=all",
            &format!("ana certificate-name:{} read=all", "a".repeat(254)),
            &format!("Ana {DIGEST} read=all"),
            &format!("{} {DIGEST} read=all", "a".repeat(65)),
        ] {
            let file = format!("# clients\n\n{wrong}\n");
            let refused = file.parse::<Clients>().expect_err(wrong);
            assert_eq!(refused.line, 3, "{wrong}");
            assert!(!refused.reason.contains("folio_secret"), "{refused}");
        }
        let twice = format!("a {DIGEST} read=all\nb {DIGEST} read=all");
        assert_eq!(twice.parse::<Clients>().expect_err("one token").line, 2);
        let other = DIGEST.replace('2', "3");
        let twice = format!("a {DIGEST} read=all\na {other} read=1");
        assert_eq!(twice.parse::<Clients>().expect_err("one name").line, 2);
    }

    #[test]
    fn a_role_includes_those_below_it_and_is_for_its_vaults_only() {
        let shop = client(&format!("shop {DIGEST} read=2 write=3")).rights;
        let in_vault = |role, vault| shop.meet(Need::InVault(role), vault);
        assert!(in_vault(Role::Read, Some(2)) && in_vault(Role::Read, Some(3)));
        assert!(in_vault(Role::Write, Some(3)) && !in_vault(Role::Write, Some(2)));
        assert!(!in_vault(Role::Admin, Some(3)));
        assert!(!in_vault(Role::Read, Some(1)) && !in_vault(Role::Read, None));
        assert!(shop.meet(Need::Somewhere(Role::Write), None));
        assert!(!shop.meet(Need::Somewhere(Role::Admin), None));
        assert!(!shop.meet(Need::Everywhere(Role::Monitor), None));
        assert_eq!(shop.readable(), Some(vec![2, 3]));

        let monitor = client(&format!("m {DIGEST} monitor")).rights;
        assert!(monitor.meet(Need::Everywhere(Role::Monitor), None));
        assert!(!monitor.meet(Need::Everywhere(Role::Read), None));
        assert!(!monitor.meet(Need::Somewhere(Role::Read), None));
        assert!(!monitor.meet(Need::InVault(Role::Read), Some(1)));
        assert_eq!(monitor.readable(), Some(vec![]));

        let admin = client(&format!("a {DIGEST} admin=all")).rights;
        assert!(admin.meet(Need::InVault(Role::Admin), Some(7)));
        assert!(admin.meet(Need::Everywhere(Role::Admin), None));
        assert_eq!(admin.readable(), None);
    }

    #[test]
    fn only_the_token_itself_finds_its_client() {
        let (token, credential) = Credential::new_token().expect("random bytes");
        let (other, _) = Credential::new_token().expect("random bytes");
        let clients: Clients = format!("a {credential} monitor").parse().expect("a file");
        let found = |token: &str| clients.with(&Credential::of_token(token.as_bytes()));
        assert_eq!(found(&token).map(|client| &*client.name), Some("a"));
        assert!(found(&other).is_none() && found("").is_none() && found(&token[1..]).is_none());
        assert!(token.starts_with("folio_") && token.len() == 49, "{token}");
    }
}
