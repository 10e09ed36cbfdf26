//! Reads that are proved: nothing is believed that does not follow from a block hash that the client trusts.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use folio_api::{BlockHead, Entity, ReadLevel, RecordedTransaction, Relationship};
use folio_proof::block::BlockHeader;
use folio_proof::digest::Digest;
use folio_proof::record::Record;
use folio_proof::state_key::{self, StateKey};

use crate::client::Client;
use crate::error::{Error, Result};

/// A vault whose answers are checked.
///
/// It begins with a block that the client trusts, and remembers the newest block that was proved to go on from there: a
/// node that changed the past, or showed a state that is not that of the chain, is found out, whatever it answers. What
/// a node can still do is to answer with a state that is no older than the last one and not the newest.
#[derive(Debug)]
pub struct VerifiedVault {
    client: Client,
    vault: u64,
    head: BlockHeader,
}

impl Client {
    /// Checks a vault's answers from the block of this height and hash on, which came from somewhere the client trusts:
    /// a receipt that somebody signed, another node, [`VerifiedVault::head`] of an earlier run.
    pub async fn verified(&self, vault: u64, height: u64, hash: Digest) -> Result<VerifiedVault> {
        let answer = self.prove_block(vault, height).await?;
        let head = checked(vault, &answer.block)?;
        if head.hash() != hash || head.height != height {
            return Err(not_proved(format!("block {height} is not {hash}")));
        }
        Ok(VerifiedVault {
            client: self.clone(),
            vault,
            head,
        })
    }

    /// Checks a vault's answers from now on: trusts the newest block that a node has, this once.
    pub async fn verified_from_here(&self, vault: u64) -> Result<VerifiedVault> {
        let now = self.vault(vault, ReadLevel::Linearizable).await?;
        self.verified(vault, now.height, now.block_hash).await
    }
}

impl VerifiedVault {
    /// The newest block that is proved.
    pub fn head(&self) -> &BlockHeader {
        &self.head
    }

    /// An entity, or that there is none: both are proved.
    pub async fn entity(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Entity>> {
        let key = key.as_ref();
        let answer = self.client.prove_entity(self.vault, key).await?;
        let header = self.advance(&answer.block).await?;
        let proved = match &answer.entity {
            None => answer
                .proof
                .verify_absent(&header.state_root, &StateKey::Entity(key.to_vec())),
            Some(entity) => {
                if entity.key.0 != key {
                    return Err(not_proved("the entity is another one".into()));
                }
                let content = state_key::Entity {
                    version: entity.version,
                    expires_at: entity.expires_at,
                    value: entity.value.0.clone(),
                };
                answer
                    .proof
                    .verify_entity(&header.state_root, key, &content)
            }
        };
        proved.map_err(|error| not_proved(error.to_string()))?;
        Ok(answer.entity)
    }

    /// Whether a relationship is there: either is proved.
    pub async fn relationship(&mut self, relationship: &Relationship) -> Result<bool> {
        let client = &self.client;
        let answer = client.prove_relationship(self.vault, relationship).await?;
        let header = self.advance(&answer.block).await?;
        let key = StateKey::Relationship(relationship.clone().into());
        let proved = match answer.exists {
            true => answer.proof.verify_present(&header.state_root, &key),
            false => answer.proof.verify_absent(&header.state_root, &key),
        };
        proved.map_err(|error| not_proved(error.to_string()))?;
        Ok(answer.exists)
    }

    /// A transaction that a block of the chain records.
    pub async fn transaction(&mut self, height: u64, position: u32) -> Result<RecordedTransaction> {
        let (client, vault) = (&self.client, self.vault);
        let answer = client.prove_transaction(vault, height, position).await?;
        let block = checked(vault, &answer.block)?;
        let chain = client.prove_block(vault, height).await?;
        let head = self.advance(&chain.head).await?;
        if block.height != height
            || chain.proof.height != height
            || !chain.proof.verify(&head, &block.hash())
        {
            return Err(not_proved(format!("block {height} is not in the chain")));
        }
        let encoded = BASE64_STANDARD.decode(&answer.record);
        let encoded = encoded.map_err(|error| not_proved(error.to_string()))?;
        let record = Record::decode(&encoded).map_err(|error| not_proved(error.to_string()))?;
        if answer.proof.position != position
            || record.transaction.vault != self.vault
            || !answer.proof.verify(&block, &encoded)
        {
            return Err(not_proved(format!(
                "the record is not {position} of block {height}"
            )));
        }
        Ok(record.into())
    }

    /// Goes on to a block that a node showed, if the chain does.
    async fn advance(&mut self, shown: &BlockHead) -> Result<BlockHeader> {
        let header = checked(self.vault, shown)?;
        if header.hash() == self.head.hash() {
            return Ok(header);
        }
        if header.height <= self.head.height {
            return Err(not_proved(format!(
                "block {} is not after block {}, which was proved before",
                header.height, self.head.height
            )));
        }
        let (from, to) = (self.head.height, Some(header.height));
        let answer = self.client.prove_extension(self.vault, from, to).await?;
        if !answer.proof.verify(&self.head, &header) {
            return Err(not_proved(format!(
                "the chain does not go on from block {} to block {}",
                self.head.height, header.height
            )));
        }
        self.head = header.clone();
        Ok(header)
    }
}

/// The header of a block, which has the hash that it came with and is of this vault.
fn checked(vault: u64, shown: &BlockHead) -> Result<BlockHeader> {
    if shown.header.hash() != shown.hash || shown.header.vault != vault {
        return Err(not_proved(format!(
            "block {} is not what its hash says",
            shown.header.height
        )));
    }
    Ok(shown.header.clone())
}

fn not_proved(reason: String) -> Error {
    Error::NotProved(reason)
}
