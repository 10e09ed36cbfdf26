//! What no cluster can do without: a sync on the leader, one on a follower, and a round trip between them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant;

use crate::engine::Result;

/// Seconds of each.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub sync: f64,
    pub round_trip: f64,
}

impl Limit {
    /// The least that a write of one client can wait.
    pub fn sum(&self) -> f64 {
        2.0 * self.sync + self.round_trip
    }
}

const TIMES: u64 = 500;

pub fn measure(directory: &Path) -> Result<Limit> {
    let flushed = crate::limit::measure(directory, 1, TIMES)?;
    Ok(Limit {
        sync: flushed.seconds / TIMES as f64,
        round_trip: round_trip()?,
    })
}

/// The mean of a request and an answer of the size of a write's over loopback, between two threads that sleep meanwhile.
fn round_trip() -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let echo = std::thread::spawn(move || {
        let mut message = [0; 256];
        while server.read_exact(&mut message).is_ok() && server.write_all(&message).is_ok() {}
    });
    let mut message = [0; 256];
    let began = Instant::now();
    for _ in 0..TIMES {
        client.write_all(&message)?;
        client.read_exact(&mut message)?;
    }
    let each = began.elapsed().as_secs_f64() / TIMES as f64;
    drop(client);
    echo.join()
        .map_err(|_| "the other end of the loopback failed")?;
    Ok(each)
}
