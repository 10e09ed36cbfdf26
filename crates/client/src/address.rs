//! Addresses of nodes.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Where a node's API is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    /// Whether it speaks TLS.
    pub secure: bool,
    /// `HOST:PORT`
    pub authority: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let (secure, authority) = match url.strip_prefix("https://") {
            Some(authority) => (true, authority),
            None => (false, url.strip_prefix("http://").unwrap_or(url)),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        let parts = authority.rsplit_once(':');
        let sound = parts.is_some_and(|(host, port)| {
            !host.is_empty() && host.chars().all(plain) && port.parse::<u16>().is_ok()
        });
        match sound {
            true => Ok(Address {
                secure,
                authority: authority.to_owned(),
            }),
            false => Err(Error::Setting(format!(
                "`{}` is no address of a node: write http://HOST:PORT or https://HOST:PORT",
                url.escape_debug()
            ))),
        }
    }
}

impl Address {
    /// The host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or("", |(host, _)| host);
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        bare.unwrap_or(host)
    }

    /// The node that a `Location` is at, if one may go there from here: never from TLS to none.
    pub fn redirected(&self, location: &str) -> Option<Address> {
        let scheme = location.find("://")? + 3;
        let path = location[scheme..].find('/').map(|path| path + scheme);
        let address: Address = location[..path.unwrap_or(location.len())].parse().ok()?;
        (address.secure || !self.secure).then_some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let host = |url: &str| {
            url.parse::<Address>()
                .map(|address| address.host().to_owned())
        };
        for (right, expected) in [
            ("http://127.0.0.1:7001", "127.0.0.1"),
            ("localhost:7001", "localhost"),
            ("https://[::1]:1/", "::1"),
            ("node_1:7001", "node_1"),
        ] {
            assert_eq!(host(right).ok().as_deref(), Some(expected));
        }
        for wrong in [
            "",
            "localhost",
            "ftp://a:1",
            "http://a:b",
            "a:1/v1",
            "a b:1",
            ":1",
            "a@b:1",
        ] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_redirect_does_not_lead_out_of_tls() {
        let address = |url: &str| url.parse::<Address>().expect("an address");
        let from = address("https://a:1");
        let to = |location: &str| from.redirected(location);
        assert_eq!(
            to("https://b:2/v1/vaults?x=/y"),
            Some(address("https://b:2"))
        );
        assert_eq!(to("https://b:2"), Some(address("https://b:2")));
        for wrong in [
            "http://b:2/v1",
            "/v1",
            "https://",
            "https://b/v1",
            "https://u@b:2/",
        ] {
            assert_eq!(to(wrong), None, "{wrong}");
        }
    }
}
