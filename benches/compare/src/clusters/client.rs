//! Clients: one connection each, one request at a time.

use std::net::SocketAddr;

use h2::client::SendRequest;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::System;
use super::protobuf::{bytes_field, field_bytes, field_number};
use crate::data::VALUE;
use crate::engine::Result;

type Value = [u8; VALUE];

pub enum Client {
    /// The protocol of [`node`](super::node).
    Node(BufReader<TcpStream>),
    /// gRPC over HTTP/2, as etcd's own clients speak it.
    Etcd(SendRequest<bytes::Bytes>),
    /// RESP.
    Redis(BufReader<TcpStream>),
}

impl Client {
    pub async fn connect(system: System, address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(match system {
            System::Etcd => {
                let (sender, connection) = h2::client::handshake(stream).await?;
                // It ends when the sender is dropped, and what goes wrong shows in the requests.
                tokio::spawn(connection);
                Self::Etcd(sender)
            }
            System::Redis => Self::Redis(BufReader::new(stream)),
            _ => Self::Node(BufReader::new(stream)),
        })
    }

    /// Returns when the write is acknowledged.
    pub async fn put(&mut self, key: u64, value: &Value) -> Result<()> {
        match self {
            Self::Node(stream) => {
                let request = [&[1], &key.to_be_bytes()[..], value].concat();
                stream.write_all(&request).await?;
                stream.read_u8().await?;
            }
            Self::Etcd(sender) => {
                let request = [bytes_field(1, name(key).as_bytes()), bytes_field(2, value)];
                call(sender, "/etcdserverpb.KV/Put", request.concat()).await?;
            }
            Self::Redis(stream) => {
                let name = name(key);
                let mut request =
                    format!("*3\r\n$3\r\nSET\r\n$16\r\n{name}\r\n${VALUE}\r\n").into_bytes();
                request.extend_from_slice(value);
                request.extend_from_slice(b"\r\n");
                stream.write_all(&request).await?;
                let mut answer = String::new();
                stream.read_line(&mut answer).await?;
                if answer != "+OK\r\n" {
                    return Err(format!("Redis says {answer:?}").into());
                }
            }
        }
        Ok(())
    }

    pub async fn get(&mut self, key: u64) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Node(stream) => {
                let request = [&[0], &key.to_be_bytes()[..]].concat();
                stream.write_all(&request).await?;
                if stream.read_u8().await? == 0 {
                    return Ok(None);
                }
                let mut value = vec![0; VALUE];
                stream.read_exact(&mut value).await?;
                Ok(Some(value))
            }
            Self::Etcd(sender) => {
                let request = bytes_field(1, name(key).as_bytes());
                let answer = call(sender, "/etcdserverpb.KV/Range", request).await?;
                let row = field_bytes(&answer, 2);
                Ok(row.and_then(|row| field_bytes(row, 5)).map(<[u8]>::to_vec))
            }
            Self::Redis(stream) => {
                let request = format!("*2\r\n$3\r\nGET\r\n$16\r\n{}\r\n", name(key));
                stream.write_all(request.as_bytes()).await?;
                let mut head = String::new();
                stream.read_line(&mut head).await?;
                if head != format!("${VALUE}\r\n") {
                    return Ok(None);
                }
                let mut value = vec![0; VALUE + 2];
                stream.read_exact(&mut value).await?;
                value.truncate(VALUE);
                Ok(Some(value))
            }
        }
    }

    /// Whether the node of etcd at the other end leads.
    pub async fn leads(&mut self) -> Result<bool> {
        let Self::Etcd(sender) = self else {
            return Ok(true);
        };
        let answer = call(sender, "/etcdserverpb.Maintenance/Status", Vec::new()).await?;
        let member = field_bytes(&answer, 1).and_then(|header| field_number(header, 2));
        let leader = field_number(&answer, 4);
        Ok(leader.is_some() && member == leader)
    }
}

/// Keys as texts, of the same length for all.
fn name(key: u64) -> String {
    format!("{key:016x}")
}

/// A gRPC request with one message each way.
async fn call(
    sender: &mut SendRequest<bytes::Bytes>,
    path: &str,
    message: Vec<u8>,
) -> Result<Vec<u8>> {
    let request = http::Request::post(format!("http://etcd{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let mut ready = sender.clone().ready().await?;
    let (response, mut body) = ready.send_request(request, false)?;
    let length = u32::try_from(message.len())?;
    let frame = [&[0], &length.to_be_bytes()[..], &message].concat();
    body.send_data(frame.into(), true)?;
    let mut answer = response.await?.into_body();
    let mut received = Vec::new();
    while let Some(part) = answer.data().await {
        let part = part?;
        answer.flow_control().release_capacity(part.len())?;
        received.extend_from_slice(&part);
    }
    let trailers = answer.trailers().await?.unwrap_or_default();
    match trailers.get("grpc-status") {
        Some(status) if status == "0" => Ok(received.split_off(5.min(received.len()))),
        status => Err(format!("{path}: status {status:?}").into()),
    }
}
