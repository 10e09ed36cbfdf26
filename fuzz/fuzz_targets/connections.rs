//! What comes on a connection between nodes before and around the messages: greetings, lengths, and pieces of either, to the
//! node that is called and to the one that calls. The connection ends, and others are served.
//!
//! Run with `cargo +nightly fuzz run connections`.
#![no_main]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use folio_raft::NodeId;
use folio_raft::transport::{BoxFuture, Handler, NetworkConfig, TcpTransport, Transport};
use libfuzzer_sys::fuzz_target;

const CLUSTER: &str = "fuzz";
/// Above every frame here, and little to wait for where a length promises more than comes.
const FRAME_LIMIT: usize = 1 << 16;
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers with what it was asked.
struct Echo;

impl Handler for Echo {
    fn handle(&self, _: NodeId, request: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        Box::pin(async { request })
    }
}

struct World {
    runtime: tokio::runtime::Runtime,
    /// Node 1.
    called: Arc<TcpTransport>,
    /// Node 2.
    calling: Arc<TcpTransport>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let runtime = folio_fuzz::runtime();
        let bind = || {
            let config = NetworkConfig {
                frame_limit: FRAME_LIMIT,
                ..NetworkConfig::new(CLUSTER)
            };
            let bound = runtime.block_on(TcpTransport::bind("127.0.0.1:0", config));
            bound.expect("a port")
        };
        let (called, calling) = (bind(), bind());
        let within = runtime.enter();
        called.serve(1, Arc::new(Echo)).expect("for the first time");
        drop(within);
        World {
            runtime,
            called,
            calling,
        }
    })
}

impl World {
    fn call(&self, to: SocketAddr, request: Vec<u8>) -> Option<Vec<u8>> {
        let to = to.to_string();
        let call = self.calling.call(2, 1, &to, request, PATIENCE);
        self.runtime.block_on(call).ok()
    }
}

/// The greeting of node 2 to node 1.
fn greeting() -> Vec<u8> {
    let name = CLUSTER.as_bytes();
    let mut greeting = b"FOLIORPC".to_vec();
    greeting.extend_from_slice(&1_u16.to_le_bytes());
    greeting.extend_from_slice(&2_u64.to_le_bytes());
    greeting.extend_from_slice(&1_u64.to_le_bytes());
    greeting.push(name.len() as u8);
    greeting.extend_from_slice(name);
    greeting
}

/// Sends everything there is to send. The other end may have heard enough before.
fn send(mut stream: &TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
}

/// What the other end says until it has no more to say.
fn listen(mut stream: TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let ended = [ErrorKind::ConnectionReset, ErrorKind::NotConnected];
        assert!(ended.contains(&error.kind()), "{error}");
    }
    answer
}

fuzz_target!(|case: (bool, bool, Vec<u8>)| {
    let (to_called, greeted, bytes) = case;
    let world = world();
    let called = world.called.local_address();
    if to_called {
        let first = if greeted { greeting() } else { Vec::new() };
        let stream = TcpStream::connect(called).expect("it listens");
        send(&stream, &[&first[..], &bytes].concat());
        let answer = listen(stream);
        assert!(!greeted || answer.first() == Some(&0), "it was welcome");
    } else {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let answering = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("somebody calls");
            let welcome: &[u8] = if greeted { &[0] } else { &[] };
            send(&stream, &[welcome, &bytes].concat());
            stream
        });
        // Answered or not: what counts is that it ends.
        world.call(address, vec![7; 10]);
        drop(answering.join());
    }
    assert_eq!(world.call(called, vec![1, 2, 3]), Some(vec![1, 2, 3]));
});
