//! Raft's own messages, on top of a [`Transport`](crate::transport::Transport).

mod client;
mod handover;
mod link;
mod message;
mod sender;
mod server;
mod snapshot;
mod state;

pub(crate) use client::Peers;
pub(crate) use handover::show_vote;
pub(crate) use link::Link;
pub(crate) use message::Handover;
pub(crate) use server::RaftServer;

use std::time::Duration;

/// How long the two ends of an interrupted transfer are kept, so that it can go on from where it
/// was. Meanwhile one side keeps the pages of an old state, and the other what it has staged.
const RESUME_WINDOW: Duration = Duration::from_secs(300);
