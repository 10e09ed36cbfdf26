//! `folio serve` as a process.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The program that is tested.
pub const FOLIO: &str = env!("CARGO_BIN_EXE_folio");

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

/// The arguments of node 1, alone in its cluster, on ports of its own.
pub fn alone(file: &Path) -> [&str; 9] {
    [
        "--id",
        "1",
        "--init",
        "--listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
        "--file",
        super::text(file),
    ]
}

/// A node on an address of its own, by a number that no other test has: tests run beside each other.
pub fn start(number: u64, data: &Path, more: &[&str]) -> Served {
    let host = host(number);
    let (api, peers) = (format!("{host}:7001"), format!("{host}:7101"));
    let arguments = [
        "--data",
        super::text(data),
        "--listen",
        &api,
        "--peer-listen",
        &peers,
    ];
    Served::start(arguments.iter().chain(more))
}

impl Served {
    /// Runs a command of the tool with this node.
    pub fn run(&self, command: &str) -> super::Run {
        let url = format!("http://{}", self.address);
        let arguments = command.split_whitespace().map(str::to_owned);
        super::folio(arguments.chain(["--node".to_owned(), url]))
    }

    /// The same for one that succeeds; gives what it prints.
    pub fn done(&self, command: &str) -> String {
        let run = self.run(command);
        assert_eq!(run.code, Some(0), "{command}: {run:?}");
        run.stdout
    }

    /// Starts a node and waits until it says where it listens.
    pub fn start<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        Self::start_by(Path::new(FOLIO), arguments)
    }

    /// The same for a node of another build.
    pub fn start_by<S: AsRef<std::ffi::OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let process = Command::new(program)
            .arg("serve")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn();
        Self::of(process.expect("the binary was built"))
    }

    /// A node that was started: waits until it says where it listens.
    pub fn of(mut process: Child) -> Self {
        let stdout = process.stdout.take().expect("it is piped");
        let lines = BufReader::new(stdout).lines();
        let line = lines
            .map(|line| line.expect("it prints text"))
            .find(|line| line.starts_with("node "))
            .unwrap_or_default();
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
        self.send(&Self::request(path, body))
    }

    /// A POST of JSON.
    pub fn request(path: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
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

    /// Limits what the process may take from now on; `None` is no limit.
    #[cfg(target_os = "linux")]
    pub fn limit(&self, what: rustix::process::Resource, current: Option<u64>) {
        use rustix::process::{Pid, Rlimit, getrlimit, prlimit};
        let process = Pid::from_child(&self.process);
        let limit = Rlimit {
            current,
            maximum: getrlimit(what).maximum,
        };
        prlimit(Some(process), what, limit).expect("it is ours");
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let told = Command::new("kill")
            .args(["-TERM", &self.process.id().to_string()])
            .status();
        assert!(told.expect("there is a kill command").success());
    }
}

/// Three nodes that form a cluster.
pub struct Three {
    /// Where their files are.
    pub directory: tempfile::TempDir,
    /// By id.
    pub nodes: BTreeMap<u64, Served>,
    /// The directory of their certificates, if they have any.
    pub tls: Option<PathBuf>,
    /// What nodes are started with from now on.
    pub program: PathBuf,
}

/// The loopback address of node `id`, which is nobody else's while this process lives and tests one cluster.
pub fn host(id: u64) -> String {
    let process = std::process::id();
    format!("127.{}.{}.{id}", process >> 8 & 0xff, process & 0xff)
}

impl Three {
    pub fn start(tls: Option<PathBuf>) -> Self {
        Self::start_by(Path::new(FOLIO), tls)
    }

    pub fn start_by(program: &Path, tls: Option<PathBuf>) -> Self {
        let mut three = Self {
            directory: tempfile::tempdir().expect("a directory"),
            nodes: BTreeMap::new(),
            tls,
            program: program.to_owned(),
        };
        for id in [3, 2, 1] {
            three.bring_up(id);
        }
        three
    }

    pub fn file(&self, id: u64) -> PathBuf {
        self.directory.path().join(format!("{id}.folio"))
    }

    /// Starts a node that is not running.
    pub fn bring_up(&mut self, id: u64) {
        let all = |port: u16| {
            [1, 2, 3]
                .map(|id| format!("{id}={}:{port}", host(id)))
                .join(",")
        };
        let file = self.file(id);
        let mut arguments = vec![
            "--id".to_owned(),
            id.to_string(),
            "--file".to_owned(),
            super::text(&file).to_owned(),
            "--listen".to_owned(),
            format!("{}:7001", host(id)),
            "--peer-listen".to_owned(),
            format!("{}:7101", host(id)),
            "--apis".to_owned(),
            all(7001),
        ];
        if let Some(directory) = &self.tls {
            arguments.extend(["--tls".to_owned(), super::text(directory).to_owned()]);
        }
        if id == 1 {
            arguments.extend(["--init".to_owned(), "--peers".to_owned(), all(7101)]);
        }
        let served = Served::start_by(&self.program, arguments);
        self.nodes.insert(id, served);
    }

    /// Has one of the running nodes carry out a write; says which it was. `post` sends a body to a path of a node.
    pub fn leader(&self, post: impl Fn(&Served, &str, &str) -> String) -> u64 {
        loop {
            for (id, node) in &self.nodes {
                let answer = post(node, "/v1/vaults", r#"{"name": "any"}"#);
                if answer.starts_with("HTTP/1.1 201") {
                    return *id;
                }
            }
            std::thread::yield_now();
        }
    }
}
