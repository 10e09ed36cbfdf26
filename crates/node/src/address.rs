//! Where a member is found, by its peers and by clients.
//!
//! The membership keeps one text for each member. It is the address of its peers' side; if it is known where clients find
//! the member, that follows behind a comma. So every node can send a client to the leader, and nothing else has to be
//! kept in step.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use folio_raft::NodeId;
use folio_raft::transport::{BoxFuture, Handler, TcpTransport, Transport, TransportError};

/// The addresses of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberAddress {
    /// Where other nodes reach it: `HOST:PORT`.
    pub peers: String,
    /// Where clients reach it, if that is known: `HOST:PORT`.
    pub api: Option<String>,
}

impl MemberAddress {
    /// The addresses in the text that the membership has.
    pub fn parse(text: &str) -> Self {
        let (peers, api) = match text.split_once(',') {
            Some((peers, api)) => (peers, Some(api.to_owned())),
            None => (text, None),
        };
        MemberAddress {
            peers: peers.to_owned(),
            api,
        }
    }
}

impl fmt::Display for MemberAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.api {
            Some(api) => write!(f, "{},{api}", self.peers),
            None => f.write_str(&self.peers),
        }
    }
}

/// Whether this is `HOST:PORT`, so that nothing else can be read into it.
pub fn is_host_and_port(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    !host.is_empty()
        && text.len() <= 300
        && host.chars().all(plain)
        && port.parse().is_ok_and(|port: u16| port > 0)
}

/// Reaches members by the first of their addresses.
pub(crate) struct PeerTransport(pub Arc<TcpTransport>);

impl Transport for PeerTransport {
    fn call<'a>(
        &'a self,
        from: NodeId,
        to: NodeId,
        address: &'a str,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        let (peers, _) = address.split_once(',').unwrap_or((address, ""));
        self.0.call(from, to, peers, request, deadline)
    }

    fn serve(&self, node: NodeId, handler: Arc<dyn Handler>) -> Result<(), TransportError> {
        self.0.serve(node, handler)
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.0.stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_read_as_it_was_written() {
        for text in ["a:1", "a:1,b:2", "[::1]:7101,[::1]:7001"] {
            assert_eq!(MemberAddress::parse(text).to_string(), text);
        }
        let both = MemberAddress::parse("a:1,b:2");
        assert_eq!((&both.peers[..], both.api.as_deref()), ("a:1", Some("b:2")));
    }

    #[test]
    fn an_address_is_a_host_and_a_port_and_nothing_more() {
        for right in [
            "a:1",
            "127.0.0.1:7101",
            "[::1]:1",
            "node-1.example.com:65535",
        ] {
            assert!(is_host_and_port(right), "{right}");
        }
        for wrong in [
            "",
            "a",
            ":1",
            "a:",
            "a:65536",
            "a:1,b:2",
            "a b:1",
            "a/b:1",
            "http://a:1",
        ] {
            assert!(!is_host_and_port(wrong), "{wrong}");
        }
    }
}
