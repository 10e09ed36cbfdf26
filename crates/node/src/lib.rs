//! A Folio node: one member of a cluster, its HTTP API and its operations.
