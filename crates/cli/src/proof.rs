//! `folio proof`: gets a proof as a file, and checks one with nothing but a hash.

use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::{Args, Subcommand};
use folio_client::Client;
use folio_ledger::LedgerView;
use folio_ledger::digest::Digest;
use folio_ledger::document::{Claim, Content, Document, Trusted, VERSION};
use folio_ledger::record::Record;
use folio_ledger::state_key::{Relationship, StateKey};
use folio_node::offline::OpenError;
use folio_store::Database;

use crate::output::{self, Format, Table, grouped};
use crate::remote::{FileOrNode, Source};
use crate::run::{self, Failure};

/// No proof file is longer: the largest record, in hexadecimal, and room for hashes.
const MAX_FILE: u64 = 32 << 20;

#[derive(Args)]
#[command(after_help = "\
Examples:
  folio proof get node-1.folio --vault 1 --entity 'customer/7' --out proof.json
  folio proof verify proof.json --block 4e96cef4a1b0c2a187e3b25d87e323fddba6f4d0b50d5c1d10b7617e7a75ed80")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a proof, from a file or from a node
    Get(GetArguments),
    /// Check a proof with nothing but a hash that you trust
    Verify(VerifyArguments),
}

#[derive(Args)]
#[command(after_help = "\
Writes a JSON file with what is asked for and the hashes that prove it. An entity or relationship that is not there is
proved not to be there. Whoever has the file and trusts a hash checks it with `folio proof verify`, or with the crate
folio-proof.

Examples:
  folio proof get node-1.folio --vault 1 --entity 'customer/7' --out proof.json
  folio proof get --node http://127.0.0.1:7001 --vault 1 --relationship doc:1 viewer user:7
  folio proof get node-1.folio --vault 1 --transaction 12 0
  folio proof get node-1.folio --vault 1 --extends 100      # that the chain has only grown since block 100

Exit codes: 0 success, 1 error, 3 the file is damaged, 4 it is in use or the node does not answer.")]
struct GetArguments {
    #[command(flatten)]
    from: FileOrNode,
    /// The vault
    #[arg(long, value_name = "NUMBER")]
    vault: u64,
    #[command(flatten)]
    what: What,
    /// Where to write it, a new file; standard output if there is none
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What is to be proved.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct What {
    /// What is at a key, or that nothing is
    #[arg(long, value_name = "KEY")]
    entity: Option<String>,
    /// The same for a key in hexadecimal
    #[arg(long, value_name = "DIGITS")]
    entity_hex: Option<String>,
    /// Whether a relationship is there
    #[arg(long, num_args = 3, value_names = ["RESOURCE", "RELATION", "SUBJECT"])]
    relationship: Option<Vec<String>>,
    /// That a transaction is in its block, and the block in the chain
    #[arg(long, num_args = 2, value_names = ["HEIGHT", "POSITION"])]
    transaction: Option<Vec<u64>>,
    /// That a block is in the chain
    #[arg(long, value_name = "HEIGHT")]
    block: Option<u64>,
    /// That the chain goes on from the one that ended with this block
    #[arg(long, value_name = "HEIGHT")]
    extends: Option<u64>,
}

#[derive(Args)]
#[command(after_help = "\
Needs no node and no file but the proof. The hash has to come from somebody you trust: the hash of a block that a
receipt, another node or `folio stat` showed, or a state root.

Examples:
  folio proof verify proof.json --block 4e96cef4a1b0c2a187e3b25d87e323fddba6f4d0b50d5c1d10b7617e7a75ed80
  folio proof verify grown.json --earlier 114afc477aeb5199b091c55ffb3da802e2fda1ce9e9c49215546a1dc92d1b124

Exit codes: 0 it is proved, 1 error, 3 it is not.")]
struct VerifyArguments {
    /// The proof
    proof: PathBuf,
    #[command(flatten)]
    trusted: TrustedHash,
    /// How to print what is proved
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// The hash that is trusted.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct TrustedHash {
    /// The hash of the block that the proof leads to: the last one of the chain when the proof was made
    #[arg(long, value_name = "HASH")]
    block: Option<Digest>,
    /// The state root of that block; says nothing of vault and height
    #[arg(long, value_name = "HASH")]
    state_root: Option<Digest>,
    /// The hash of an earlier last block, for a proof that the chain has only grown since
    #[arg(long, value_name = "HASH")]
    earlier: Option<Digest>,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Get(arguments) => get(arguments),
        Command::Verify(arguments) => verify(arguments),
    }
}

/// What is asked for.
enum Question {
    Entity(Vec<u8>),
    Relationship(Relationship),
    Transaction(u64, u32),
    Block(u64),
    Extension(u64),
}

impl What {
    fn question(&self) -> Result<Question, Failure> {
        if let Some(key) = &self.entity {
            return Ok(Question::Entity(key.clone().into_bytes()));
        }
        if let Some(digits) = &self.entity_hex {
            return unhex(digits).map(Question::Entity);
        }
        if let Some([resource, relation, subject]) = self.relationship.as_deref() {
            return Ok(Question::Relationship(Relationship::new(
                resource, relation, subject,
            )));
        }
        if let Some([height, position]) = self.transaction.as_deref() {
            let position = u32::try_from(*position)
                .map_err(|_| Failure::Usage(format!("no block has a transaction {position}")))?;
            return Ok(Question::Transaction(*height, position));
        }
        let extends = self.extends.map(Question::Extension);
        let other = self.block.map(Question::Block).or(extends);
        other.ok_or_else(|| Failure::Usage("say what is to be proved".to_owned()))
    }
}

fn unhex(digits: &str) -> Result<Vec<u8>, Failure> {
    let wrong = || {
        Failure::Usage(format!(
            "`{digits}` is not an even number of hexadecimal digits"
        ))
    };
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong());
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn get(arguments: &GetArguments) -> Result<(), Failure> {
    let question = arguments.what.question()?;
    let vault = arguments.vault;
    let document = match arguments.from.source()? {
        Source::File(file) => from_file(&Database::open_read_only(file)?, vault, question)?,
        Source::Node(_, client) => run::runtime()?.block_on(from_node(&client, vault, question))?,
    };
    let Some(path) = &arguments.out else {
        return output::print_json(&document);
    };
    let mut text = serde_json::to_string_pretty(&document).map_err(Failure::error)?;
    text.push('\n');
    let written = std::fs::File::create_new(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|error| Failure::Error(format!("{}: {error}", path.display())))
}

/// A document of what a file holds.
fn from_file(database: &Database, vault: u64, question: Question) -> Result<Document, Failure> {
    let view = database.begin_read()?;
    let ledger = LedgerView::new(&view);
    let failed = |error| Failure::from(OpenError::from(error));
    let info = ledger.vault(vault).map_err(failed)?;
    let info = info.ok_or_else(|| Failure::Error(format!("there is no vault {vault}")))?;
    let header = |height| {
        let header = ledger.block(vault, height).map_err(failed)?;
        header.ok_or_else(|| {
            Failure::Error(format!(
                "vault {vault} has no block {height}: the last one is {}",
                info.height
            ))
        })
    };
    let chain = |height| {
        header(height)?;
        let proof = ledger
            .prove_block(vault, height, info.height)
            .map_err(failed)?;
        proof.ok_or_else(|| Failure::Error(format!("there is no proof of block {height}")))
    };
    let claim = match question {
        Question::Entity(key) => Claim::Entity {
            entity: ledger
                .entity(vault, &key)
                .map_err(failed)?
                .map(Content::from),
            proof: ledger
                .prove(vault, &StateKey::Entity(key.clone()))
                .map_err(failed)?,
            key,
        },
        Question::Relationship(relationship) => Claim::Relationship {
            exists: ledger
                .relationship_exists(vault, &relationship)
                .map_err(failed)?,
            proof: ledger
                .prove(vault, &StateKey::Relationship(relationship.clone()))
                .map_err(failed)?,
            relationship,
        },
        Question::Transaction(height, position) => {
            let block = header(height)?;
            let record = ledger
                .encoded_record(vault, height, position)
                .map_err(failed)?;
            let proof = ledger
                .prove_transaction(vault, height, position)
                .map_err(failed)?;
            let (Some(record), Some(proof)) = (record, proof) else {
                return Err(Failure::Error(format!(
                    "block {height} has no transaction {position}"
                )));
            };
            Claim::Transaction {
                chain: chain(height)?,
                block,
                record,
                proof,
            }
        }
        Question::Block(height) => Claim::Block {
            block: header(height)?,
            proof: chain(height)?,
        },
        Question::Extension(height) => {
            let earlier = header(height)?;
            let proof = ledger
                .prove_extension(vault, height, info.height)
                .map_err(failed)?;
            let proof = proof
                .ok_or_else(|| Failure::Error(format!("there is no proof of block {height}")))?;
            Claim::Extension { earlier, proof }
        }
    };
    Ok(Document {
        folio_proof: VERSION,
        head: header(info.height)?,
        claim,
    })
}

/// A document of what a node answers.
async fn from_node(client: &Client, vault: u64, question: Question) -> Result<Document, Failure> {
    let (head, claim) = match question {
        Question::Entity(key) => {
            let answer = client.prove_entity(vault, &key).await?;
            let entity = answer.entity.map(|entity| Content {
                version: entity.version,
                expires_at: entity.expires_at,
                value: entity.value.0,
            });
            let proof = answer.proof;
            (answer.block, Claim::Entity { key, entity, proof })
        }
        Question::Relationship(relationship) => {
            let asked = relationship.clone().into();
            let answer = client.prove_relationship(vault, &asked).await?;
            let claim = Claim::Relationship {
                relationship,
                exists: answer.exists,
                proof: answer.proof,
            };
            (answer.block, claim)
        }
        Question::Transaction(height, position) => {
            let answer = client.prove_transaction(vault, height, position).await?;
            let chain = client.prove_block(vault, height).await?;
            let record = BASE64_STANDARD.decode(answer.record);
            let claim = Claim::Transaction {
                block: answer.block.header,
                chain: chain.proof,
                record: record.map_err(Failure::error)?,
                proof: answer.proof,
            };
            (chain.head, claim)
        }
        Question::Block(height) => {
            let answer = client.prove_block(vault, height).await?;
            let (block, proof) = (answer.block.header, answer.proof);
            (answer.head, Claim::Block { block, proof })
        }
        Question::Extension(height) => {
            let answer = client.prove_extension(vault, height, None).await?;
            let (earlier, proof) = (answer.from.header, answer.proof);
            (answer.to, Claim::Extension { earlier, proof })
        }
    };
    Ok(Document {
        folio_proof: VERSION,
        head: head.header,
        claim,
    })
}

fn verify(arguments: &VerifyArguments) -> Result<(), Failure> {
    let path = &arguments.proof;
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let length = std::fs::metadata(path)
        .map_err(|error| Failure::Error(named(&error)))?
        .len();
    if length > MAX_FILE {
        return Err(Failure::Error(named(&"it is larger than any proof")));
    }
    let text = std::fs::read(path).map_err(|error| Failure::Error(named(&error)))?;
    let document: Document = serde_json::from_slice(&text)
        .map_err(|error| Failure::Error(named(&format!("it is no proof: {error}"))))?;
    let TrustedHash {
        block,
        state_root,
        earlier,
    } = &arguments.trusted;
    let trusted = (block.map(Trusted::Block))
        .or(state_root.map(Trusted::StateRoot))
        .or(earlier.map(Trusted::Earlier))
        .ok_or_else(|| Failure::Usage("say which hash you trust".to_owned()))?;
    document
        .verify(&trusted)
        .map_err(|error| Failure::Corruption(Some(format!("not proved: {error}"))))?;
    match arguments.format {
        Format::Table => output::print(&describe(&document, &trusted)),
        Format::Json => output::print_json(&document),
    }
}

/// What is proved, in words.
fn describe(document: &Document, trusted: &Trusted) -> String {
    let head = &document.head;
    let mut table = Table::list();
    match trusted {
        Trusted::StateRoot(root) => table.row(["state root".to_owned(), root.to_string()]),
        Trusted::Block(_) | Trusted::Earlier(_) => table
            .row(["vault".to_owned(), head.vault.to_string()])
            .row(["last block".to_owned(), grouped(head.height)])
            .row(["its hash".to_owned(), head.hash().to_string()]),
    };
    match &document.claim {
        Claim::Entity { key, entity, .. } => {
            table.row(["key".to_owned(), key.escape_ascii().to_string()]);
            match entity {
                None => table.row(["entity", "there is none"]),
                Some(content) => table
                    .row(["version".to_owned(), content.version.to_string()])
                    .row(["value".to_owned(), content.value.escape_ascii().to_string()]),
            };
        }
        Claim::Relationship {
            relationship,
            exists,
            ..
        } => {
            let key = StateKey::Relationship(relationship.clone());
            let there = if *exists {
                "it is there"
            } else {
                "there is none"
            };
            table.row([key.to_string(), there.to_owned()]);
        }
        Claim::Transaction {
            block,
            record,
            proof,
            ..
        } => {
            table
                .row(["in block".to_owned(), grouped(block.height)])
                .row(["transaction".to_owned(), proof.position.to_string()]);
            if let Ok(record) = Record::decode(record) {
                let operations = record.transaction.operations.len();
                table.row(["operations".to_owned(), operations.to_string()]);
            }
        }
        Claim::Block { block, .. } => {
            table
                .row(["has block".to_owned(), grouped(block.height)])
                .row(["with the hash".to_owned(), block.hash().to_string()]);
        }
        Claim::Extension { earlier, .. } => {
            table
                .row(["goes on from block".to_owned(), grouped(earlier.height)])
                .row(["with the hash".to_owned(), earlier.hash().to_string()]);
        }
    }
    format!("{table}\nProved.\n")
}
