//! Proofs as a node gives them. [`VerifiedVault`](crate::VerifiedVault) checks them; so does whoever keeps them.

use folio_api::{
    BlockAnswer, EntityAnswer, ExtensionAnswer, ReadLevel, Relationship, RelationshipAnswer,
    TransactionAnswer,
};

use crate::client::Client;
use crate::error::Result;
use crate::path::Path;

/// Nothing of what these answer is checked.
impl Client {
    /// An entity or its absence, and what proves that.
    pub async fn prove_entity(&self, vault: u64, key: impl AsRef<[u8]>) -> Result<EntityAnswer> {
        let path = proofs(vault, "entities").key(key.as_ref());
        self.read(path, ReadLevel::Linearizable).await
    }

    /// Whether a relationship is there, and what proves that.
    pub async fn prove_relationship(
        &self,
        vault: u64,
        relationship: &Relationship,
    ) -> Result<RelationshipAnswer> {
        let path = proofs(vault, "relationships")
            .query("resource", &relationship.resource)
            .query("relation", &relationship.relation)
            .query("subject", &relationship.subject);
        self.read(path, ReadLevel::Linearizable).await
    }

    /// The record of a transaction, and what proves that it is in its block.
    pub async fn prove_transaction(
        &self,
        vault: u64,
        height: u64,
        position: u32,
    ) -> Result<TransactionAnswer> {
        let path = proofs(vault, "transactions").push(height).push(position);
        self.read(path, ReadLevel::Linearizable).await
    }

    /// A block, and what proves that it is in the chain.
    pub async fn prove_block(&self, vault: u64, height: u64) -> Result<BlockAnswer> {
        let path = proofs(vault, "blocks").push(height);
        self.read(path, ReadLevel::Linearizable).await
    }

    /// What proves that a chain goes on from its block `from` to the block `to`, or to its end.
    pub async fn prove_extension(
        &self,
        vault: u64,
        from: u64,
        to: Option<u64>,
    ) -> Result<ExtensionAnswer> {
        let mut path = proofs(vault, "extensions").query("from", from);
        if let Some(to) = to {
            path = path.query("to", to);
        }
        self.read(path, ReadLevel::Linearizable).await
    }
}

fn proofs(vault: u64, of: &str) -> Path {
    Path::vault(vault).push("proofs").push(of)
}
