//! Paths of requests, in which everything is percent-encoded that may mean something else.

use std::fmt::{Display, Write};

/// A path with its query.
#[derive(Debug, Clone)]
pub(crate) struct Path(String);

impl Path {
    /// `/v1/` and a name.
    pub fn new(name: &str) -> Self {
        Path(format!("/v1/{name}"))
    }

    /// A path as it is.
    pub fn raw(path: &str) -> Self {
        Path(path.to_owned())
    }

    pub fn vault(vault: u64) -> Self {
        Path::new("vaults").push(vault)
    }

    /// With one more part.
    pub fn push(mut self, part: impl Display) -> Self {
        self.0.push('/');
        encode(&mut self.0, part.to_string().as_bytes());
        self
    }

    /// With a key, which may hold any bytes.
    pub fn key(mut self, key: &[u8]) -> Self {
        self.0.push('/');
        encode(&mut self.0, key);
        self
    }

    /// With a parameter.
    pub fn query(mut self, name: &str, value: impl Display) -> Self {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(name);
        self.0.push('=');
        encode(&mut self.0, value.to_string().as_bytes());
        self
    }

    pub fn into_text(self) -> String {
        self.0
    }
}

/// Whether a path asks for a level that any node serves.
pub(crate) fn is_anywhere(path: &str) -> bool {
    ["read=local", "read=follower", "read=at_least"]
        .iter()
        .any(|level| path.contains(level))
}

fn encode(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                text.push(char::from(*byte))
            }
            // A dot, too: alone between slashes it would be a step in the path.
            _ => {
                // Writing to a string does not fail.
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_a_key_stays_in_the_key() {
        let path = |key: &[u8]| Path::vault(1).push("entities").key(key).into_text();
        assert_eq!(path(b"customer-4"), "/v1/vaults/1/entities/customer-4");
        assert_eq!(
            path(b"../a b?c#d%"),
            "/v1/vaults/1/entities/%2E%2E%2Fa%20b%3Fc%23d%25"
        );
        assert_eq!(path(b"\xff\0\r\n"), "/v1/vaults/1/entities/%FF%00%0D%0A");
        let query = Path::new("vaults").query("after", "a&b=").query("limit", 2);
        assert_eq!(query.into_text(), "/v1/vaults?after=a%26b%3D&limit=2");
    }
}
