//! A client of Folio nodes.
//!
//! It knows several nodes and finds the leader by itself, repeats what may be repeated with growing pauses until a deadline,
//! and carries a write out once however often it has to be sent ([`Session`]). Lists come page by page ([`Pages`]), changes as
//! they happen ([`Feed`]), and answers can be proved instead of believed ([`VerifiedVault`]). Requests and answers are
//! the types of [`folio_api`], which the node uses, too.
//!
//! ```no_run
//! use folio_client::{Client, ReadLevel, Settings, transaction};
//!
//! # async fn example() -> folio_client::Result<()> {
//! let settings = Settings::new(["http://127.0.0.1:7001", "http://127.0.0.1:7002"])?;
//! let client = Client::new(settings)?;
//! let vault = client.create_vault("first", 0).await?.vault;
//!
//! let mut session = client.open_session().await?;
//! session.submit(vault, &transaction().set("colour", "blue")).await?;
//!
//! let colour = client.entity(vault, "colour", ReadLevel::Linearizable).await?;
//! assert_eq!(colour.and_then(|entity| entity.value.as_text().map(str::to_owned)).as_deref(), Some("blue"));
//! # Ok(())
//! # }
//! ```
//!
//! `cargo run -p folio-client --example quickstart` does that and more with a node of its own.

mod address;
mod backup;
mod client;
mod connection;
mod error;
mod feed;
mod pages;
mod path;
mod prove;
mod route;
mod session;
mod settings;
mod verified;

pub use backup::{Download, Resume};
pub use client::{Client, Relationships};
pub use error::{Error, Result};
pub use feed::{Event, Feed};
pub use folio_api as api;
pub use folio_api::{Code, NewTransaction, ReadLevel};
pub use pages::Pages;
pub use session::Session;
pub use settings::Settings;
pub use verified::VerifiedVault;

/// A transaction that does nothing yet.
pub fn transaction() -> NewTransaction {
    NewTransaction::default()
}
