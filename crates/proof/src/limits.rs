//! The limits of what is encoded. They are part of the format: what is longer does not decode.

/// The longest key of an entity, in bytes. The shortest is one byte.
pub const MAX_KEY_BYTES: usize = 256;

/// The largest value of an entity, in bytes. A value may be empty.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// The longest name of a resource or of a subject, in bytes of UTF-8. The shortest is one byte.
pub const MAX_NAME_BYTES: usize = 255;

/// The longest name of a relation, in bytes of UTF-8. The shortest is one byte.
pub const MAX_RELATION_BYTES: usize = 64;

/// How many operations a transaction may have. It has at least one.
pub const MAX_OPERATIONS: usize = 1024;

/// How many conditions a transaction may have.
pub const MAX_CONDITIONS: usize = 1024;
