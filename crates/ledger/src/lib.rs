//! A replicated, provable ledger: vaults, entities, relationships, blocks, state roots.
