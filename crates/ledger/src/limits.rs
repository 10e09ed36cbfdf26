//! The limits of the ledger.
//!
//! They are part of the replicated behaviour: every replica must apply the same entry in the same
//! way, so a limit changes only together with the format of the commands.

pub use folio_proof::limits::{
    MAX_CONDITIONS, MAX_KEY_BYTES, MAX_NAME_BYTES, MAX_OPERATIONS, MAX_RELATION_BYTES,
    MAX_VALUE_BYTES,
};

/// The longest name of a vault, in bytes of UTF-8. It may be empty.
pub const MAX_VAULT_NAME_BYTES: usize = 255;

/// The size of a whole transaction in its canonical encoding, in bytes.
pub const MAX_TRANSACTION_BYTES: usize = 4 << 20;

/// A session that no command has used for this many log entries is expired.
pub const SESSION_LIFETIME_ENTRIES: u64 = 1_000_000;

/// How many sessions are remembered. Opening one more ends the session that has gone unused for
/// longest.
pub const MAX_SESSIONS: u64 = 65_536;

/// How many expired sessions one log entry removes at most.
pub const SESSIONS_REMOVED_PER_ENTRY: usize = 64;

/// How many expired entities one log entry removes at most.
pub const ENTITIES_EXPIRED_PER_ENTRY: usize = 256;

/// How much one log entry removes of what nobody can reach any more: rows of deleted vaults, and past
/// versions that their vault does not retain. A row counts one, and one more for every 4 KiB of its
/// value. An entry that keeps past versions removes twice as many more.
pub const CLEANUP_PER_ENTRY: u64 = 1024;

/// How many rows one listing returns at most, whatever the caller asks for.
pub const MAX_PAGE: usize = 10_000;

/// How many bytes of keys and values one listing returns at most, but for its first row.
pub const MAX_PAGE_BYTES: usize = 4 << 20;
