//! Raft's own messages, on top of a [`Transport`](crate::transport::Transport).

mod client;
mod link;
mod message;
mod server;
mod snapshot;

pub(crate) use client::Peers;
pub(crate) use link::Link;
pub(crate) use server::RaftServer;
