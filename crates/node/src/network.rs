//! Which addresses a node listens on.

use std::net::SocketAddr;

/// Why a node does not listen on an address.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The address does not resolve.
    #[error(
        "{address} is not an address to listen on: {reason}; write host:port, for example 127.0.0.1:7001"
    )]
    Unresolved {
        /// What was given.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The address can be reached from other machines.
    #[error(
        "{address} can be reached from other machines, and there is neither encryption nor authentication: whoever \
         reaches it can read and change everything; listen on 127.0.0.1, give the node certificates with --tls, or \
         allow it with --insecure-network"
    )]
    Exposed {
        /// The address it resolves to.
        address: SocketAddr,
    },
    /// The API can be reached from other machines, and clients are not asked who they are.
    #[error(
        "{address} can be reached from other machines, and clients are not asked who they are: whoever reaches it can \
         read and change everything; name the clients in a file with --clients, listen on 127.0.0.1, or allow it with \
         --open-to-everybody"
    )]
    Open {
        /// The address it resolves to.
        address: SocketAddr,
    },
}

/// The socket address behind `address`, which has to be a loopback address unless others are `allowed`: because
/// connections are encrypted, or because the operator says so.
pub async fn resolve(address: &str, allowed: bool) -> Result<SocketAddr, AddressError> {
    let unresolved = |reason: String| AddressError::Unresolved {
        address: address.to_owned(),
        reason,
    };
    let found = tokio::net::lookup_host(address)
        .await
        .map_err(|error| unresolved(error.to_string()))?;
    let address = found
        .into_iter()
        .next()
        .ok_or_else(|| unresolved("the name has no address".to_owned()))?;
    if allowed || address.ip().is_loopback() {
        return Ok(address);
    }
    Err(AddressError::Exposed { address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_is_fine_and_anything_else_needs_permission() {
        for address in ["127.0.0.1:0", "127.8.8.8:1", "[::1]:7001"] {
            resolve(address, false).await.expect(address);
        }
        for address in ["0.0.0.0:0", "192.0.2.1:1", "[::]:7001"] {
            let refused = resolve(address, false).await;
            assert!(
                matches!(refused, Err(AddressError::Exposed { .. })),
                "{address}: {refused:?}"
            );
            resolve(address, true).await.expect(address);
        }
    }

    #[tokio::test]
    async fn what_is_no_address_is_refused() {
        for address in ["", "127.0.0.1", "127.0.0.1:99999", "::::"] {
            let refused = resolve(address, true).await;
            assert!(
                matches!(refused, Err(AddressError::Unresolved { .. })),
                "{address}: {refused:?}"
            );
        }
    }
}
