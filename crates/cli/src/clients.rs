//! `folio clients`: the file that says which clients a node knows, and what they may do.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use folio_node::access::{Client, Clients, Credential, Rights, Role, Vaults};
use folio_raft::transport::certificate_from_pem;
use tempfile::NamedTempFile;

use crate::files::{SECRET, about, directory_of};
use crate::output::{self, Format, Table};
use crate::run::Failure;

#[derive(Args)]
#[command(after_help = "\
The file has a line for each client: its name, the SHA-256 of its token or its certificate, and its roles. `folio serve --clients FILE`
reads it again whenever it changes; give every node of the cluster the same one. A token is shown once, by `add`, and
kept nowhere.

Roles, each with those before it:
  monitor  status, counters and members of the cluster
  read     what is in a vault, its blocks and proofs, its feed
  write    transactions and sessions
  admin    a vault's retention and end; in all vaults also new vaults, members, leadership, verification, rebuilding

Examples:
  folio clients add clients ana --admin all > ana.token
  folio clients add clients shop --read all --write 3,4 > shop.token
  folio clients add clients prometheus --monitor > prometheus.token
  folio clients add clients billing --certificate-name billing.example.com --read 3
  folio clients remove clients shop
  curl -H \"Authorization: Bearer $(cat ana.token)\" localhost:7001/v1/status")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Add a client, and print its token, if it is not known by a certificate
    Add {
        /// The file of clients; it is created when it is not there
        file: PathBuf,
        /// The client's name: lower-case letters, digits and hyphens
        name: String,
        #[command(flatten)]
        proof: Proof,
        #[command(flatten)]
        roles: Roles,
    },
    /// Take a client out: it is refused from then on, and the feeds that it follows end
    Remove {
        /// The file of clients
        file: PathBuf,
        /// The client's name
        name: String,
    },
    /// Show the clients and their roles
    List {
        /// The file of clients
        file: PathBuf,
        /// How to print them
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
}

/// How a client proves who it is: by a new token, if nothing is said.
#[derive(Args)]
#[group(multiple = false)]
struct Proof {
    /// It shows the certificate in this file, and no other, a renewed one neither
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// It shows a certificate for this DNS name
    #[arg(long, value_name = "NAME")]
    certificate_name: Option<String>,
}

impl Proof {
    /// What proves it, and the token if that is one.
    fn credential(&self) -> Result<(Credential, Option<String>), Failure> {
        match (&self.certificate, &self.certificate_name) {
            (Some(file), _) => {
                let pem = fs::read(file).map_err(|error| about(file, error))?;
                let der = certificate_from_pem(&pem).map_err(|error| about(file, error))?;
                Ok((Credential::of_certificate(&der), None))
            }
            (None, Some(name)) => Ok((Credential::Name(name.to_ascii_lowercase()), None)),
            (None, None) => {
                let (token, credential) = Credential::new_token().map_err(Failure::error)?;
                Ok((credential, Some(token)))
            }
        }
    }
}

/// What a client may do.
#[derive(Args)]
#[group(required = true, multiple = true)]
struct Roles {
    /// See status, counters and members
    #[arg(long)]
    monitor: bool,
    /// Read these vaults: all, or numbers such as 1,2
    #[arg(long, value_name = "VAULTS")]
    read: Option<Vaults>,
    /// Read and write these vaults
    #[arg(long, value_name = "VAULTS")]
    write: Option<Vaults>,
    /// Administer these vaults; with `all` the cluster, too
    #[arg(long, value_name = "VAULTS")]
    admin: Option<Vaults>,
}

impl Roles {
    fn rights(&self) -> Rights {
        let mut rights = Rights::default();
        if self.monitor {
            rights.grant(Role::Monitor, &Vaults::All);
        }
        for (role, vaults) in [
            (Role::Read, &self.read),
            (Role::Write, &self.write),
            (Role::Admin, &self.admin),
        ] {
            if let Some(vaults) = vaults {
                rights.grant(role, vaults);
            }
        }
        rights
    }
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Add {
            file,
            name,
            proof,
            roles,
        } => add(file, name, proof, roles.rights()),
        Command::Remove { file, name } => remove(file, name),
        Command::List { file, format } => list(file, *format),
    }
}

fn add(file: &Path, name: &str, proof: &Proof, rights: Rights) -> Result<(), Failure> {
    let mut text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            "# name, hash of the token or certificate, roles\n".to_owned()
        }
        Err(error) => return Err(about(file, error)),
    };
    let (credential, token) = proof.credential()?;
    let client = Client {
        name: name.to_owned(),
        credential,
        rights,
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text += &format!("{client}\n");
    // As a node will: what it would not take is not written.
    parse(file, &text)?;
    write(file, &text)?;
    let file = file.display();
    match token {
        Some(token) => {
            eprintln!("added `{name}` to {file}; its token is shown only now:");
            output::print(&format!("{token}\n"))
        }
        None => {
            eprintln!(
                "added `{name}` to {file}; nodes ask for certificates with --client-authority"
            );
            Ok(())
        }
    }
}

fn remove(file: &Path, name: &str) -> Result<(), Failure> {
    let text = fs::read_to_string(file).map_err(|error| about(file, error))?;
    if !parse(file, &text)?.iter().any(|client| client.name == name) {
        return Err(about(file, format!("there is no client `{name}`")));
    }
    let others = text.split_inclusive('\n');
    let others: String = others
        .filter(|line| line.split_ascii_whitespace().next() != Some(name))
        .collect();
    write(file, &others)?;
    eprintln!("took `{name}` out of {}", file.display());
    Ok(())
}

fn list(file: &Path, format: Format) -> Result<(), Failure> {
    let text = fs::read_to_string(file).map_err(|error| about(file, error))?;
    let clients = parse(file, &text)?;
    match format {
        Format::Json => {
            let rows = clients.iter().map(|client| {
                serde_json::json!({
                    "name": client.name,
                    "certificate": client.credential.is_certificate(),
                    "roles": client.rights.to_string(),
                })
            });
            output::print_json(&serde_json::json!({ "clients": rows.collect::<Vec<_>>() }))
        }
        Format::Table => {
            let mut table = Table::new(&["name", "shows", "roles"]);
            for client in clients.iter() {
                let shows = match &client.credential {
                    Credential::Token(_) => "a token".to_owned(),
                    certificate => certificate.to_string(),
                };
                table.row([client.name.clone(), shows, client.rights.to_string()]);
            }
            output::print(&table.to_string())
        }
    }
}

fn parse(file: &Path, text: &str) -> Result<Clients, Failure> {
    text.parse().map_err(|error| about(file, error))
}

/// Replaces the file by one that is as a whole there, and everybody's whose the old one was.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error| about(file, error);
    let mut new = NamedTempFile::new_in(directory_of(file)).map_err(failed)?;
    new.write_all(text.as_bytes()).map_err(failed)?;
    let mode = match fs::metadata(file) {
        Ok(old) => {
            let own = new.as_file().metadata().map_err(failed)?;
            if (old.uid(), old.gid()) != (own.uid(), own.gid()) {
                chown(new.path(), Some(old.uid()), Some(old.gid())).map_err(failed)?;
            }
            old.mode() & 0o777
        }
        // A new one is its owner's.
        Err(_) => SECRET,
    };
    let permissions = fs::Permissions::from_mode(mode);
    new.as_file().set_permissions(permissions).map_err(failed)?;
    new.as_file().sync_all().map_err(failed)?;
    new.persist(file).map_err(|error| failed(error.error))?;
    Ok(())
}
