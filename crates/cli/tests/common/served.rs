//! `folio serve` as a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// A running node, killed when the test is over.
pub struct Served {
    pub process: Child,
    /// That of its API.
    pub address: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already, as the test wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Served {
    /// Starts a node and waits until it says where it listens.
    pub fn start<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_folio"))
            .arg("serve")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it prints text");
        let address = line
            .split("://")
            .nth(1)
            .and_then(|rest| rest.split(',').next());
        Served {
            address: address
                .unwrap_or_else(|| panic!("it says where it listens: {line:?}"))
                .to_owned(),
            process,
        }
    }

    pub fn post(&self, path: &str, body: &str) -> String {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.send(&request)
    }

    pub fn send(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).expect("it listens")
    }

    /// Creates a vault as soon as the node leads.
    pub fn create_vault(&self) {
        loop {
            let answer = self.post("/v1/vaults", r#"{"name": "first"}"#);
            if answer.starts_with("HTTP/1.1 201") {
                return;
            }
            assert!(answer.contains("no_leader"), "{answer}");
            std::thread::yield_now();
        }
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let told = Command::new("kill")
            .args(["-TERM", &self.process.id().to_string()])
            .status();
        assert!(told.expect("there is a kill command").success());
    }
}
