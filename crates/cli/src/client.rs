//! Talking to a node's API: a request, an answer, and no more.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use crate::run::Failure;

/// A node that does not answer within this time is not there.
const PATIENCE: Duration = Duration::from_secs(30);

/// No answer that is asked for here is longer.
const MAX_ANSWER: u64 = 16 << 20;

/// A node, by the address of its API.
pub struct Client {
    /// `HOST:PORT`
    address: String,
}

impl Client {
    /// The node at `http://HOST:PORT`, or just `HOST:PORT`.
    pub fn new(url: &str) -> Result<Self, Failure> {
        let address = url.strip_prefix("http://").unwrap_or(url);
        let address = address.strip_suffix('/').unwrap_or(address);
        let whole = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if !whole || !address.chars().all(plain) {
            return Err(Failure::Usage(format!(
                "`{url}` is no address of a node: write http://HOST:PORT"
            )));
        }
        Ok(Client {
            address: address.to_owned(),
        })
    }

    /// The status and the JSON of the answer.
    pub fn send(&self, method: &str, path: &str) -> Result<(u16, Value), Failure> {
        let unavailable =
            |error: std::io::Error| Failure::Unavailable(format!("{}: {error}", self.address));
        let answer = self.exchange(method, path).map_err(unavailable)?;
        parse(&answer).ok_or_else(|| {
            Failure::Error(format!("{}: what answers is no Folio node", self.address))
        })
    }

    fn exchange(&self, method: &str, path: &str) -> std::io::Result<Vec<u8>> {
        let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(mut stream) => {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    write!(
                        stream,
                        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                        self.address
                    )?;
                    let mut answer = Vec::new();
                    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
                    return Ok(answer);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The status and the body of an answer that came to its end.
fn parse(answer: &[u8]) -> Option<(u16, Value)> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let body = serde_json::from_slice(&answer[end + 4..]).ok()?;
    Some((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for right in ["http://127.0.0.1:7001", "localhost:7001", "http://[::1]:1/"] {
            assert!(Client::new(right).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "localhost",
            "https://a:1",
            "http://a:b",
            "a:1/v1",
            "a b:1",
            ":1",
        ] {
            assert!(Client::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_has_a_status_and_json() {
        let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
        assert_eq!(parse(answer), Some((202, serde_json::json!({"a": 1}))));
        for wrong in [&answer[..20], &answer[..50], b"", b"SSH-2.0\r\n\r\n{}"] {
            assert_eq!(parse(wrong), None);
        }
    }
}
