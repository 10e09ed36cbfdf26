//! Who may do what: every route, every role, in a client's own vault and in another one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use common::{Answer, PATIENCE, free_port, serve, start_cluster, start_node, until};
use folio_node::access::{Access, Client, Credential, Rights, Role, Vaults};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Every route, and what it takes: nothing, or a role in all vaults, in the one in the path, or in any.
const EXPECTED: &str = "
    GET     nothing                 /v1/health/started
    GET     nothing                 /v1/health/live
    GET     nothing                 /v1/health/ready
    GET     nothing                 /v1/openapi.json
    GET     nothing                 /
    GET     monitor everywhere      /v1/status
    GET     monitor everywhere      /metrics
    GET     monitor everywhere      /v1/members
    POST    admin everywhere        /v1/members
    PATCH   admin everywhere        /v1/members/{member}
    DELETE  admin everywhere        /v1/members/{member}
    POST    admin everywhere        /v1/invitations
    POST    nothing                 /v1/join
    POST    nothing                 /v1/join/{member}
    POST    admin everywhere        /v1/leader
    GET     monitor everywhere      /v1/verification
    POST    admin everywhere        /v1/verification
    DELETE  admin everywhere        /v1/verification
    GET     admin everywhere        /v1/backup
    POST    admin everywhere        /v1/snapshot
    POST    admin everywhere        /v1/rebuild
    POST    write somewhere         /v1/sessions
    DELETE  write somewhere         /v1/sessions/{session}
    GET     read everywhere         /v1/numbers
    POST    write everywhere        /v1/numbers
    GET     read somewhere          /v1/vaults
    POST    admin everywhere        /v1/vaults
    GET     read here               /v1/vaults/{vault}
    PATCH   admin here              /v1/vaults/{vault}
    DELETE  admin here              /v1/vaults/{vault}
    POST    write here              /v1/vaults/{vault}/transactions
    GET     read here               /v1/vaults/{vault}/entities
    GET     read here               /v1/vaults/{vault}/entities/{*key}
    GET     read here               /v1/vaults/{vault}/history/{*key}
    GET     read here               /v1/vaults/{vault}/relationships
    GET     read here               /v1/vaults/{vault}/blocks/{height}
    GET     read here               /v1/vaults/{vault}/changes
    GET     read here               /v1/vaults/{vault}/proofs/entities/{*key}
    GET     read here               /v1/vaults/{vault}/proofs/relationships
    GET     read here               /v1/vaults/{vault}/proofs/transactions/{height}/{position}
    GET     read here               /v1/vaults/{vault}/proofs/blocks/{height}
    GET     read here               /v1/vaults/{vault}/proofs/extensions
";

/// A route of the table: method, what it takes and where, path.
type Route = (&'static str, Option<(Role, &'static str)>, &'static str);

fn expected() -> Vec<Route> {
    let lines = EXPECTED
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let route = |line: &'static str| {
        let mut words = line.split_whitespace();
        let (method, role) = (words.next().unwrap(), words.next().unwrap());
        let role = match role {
            "nothing" => return (method, None, words.next().unwrap()),
            "monitor" => Role::Monitor,
            "read" => Role::Read,
            "write" => Role::Write,
            "admin" => Role::Admin,
            other => panic!("{other}"),
        };
        let place = words.next().unwrap();
        (method, Some((role, place)), words.next().unwrap())
    };
    lines.map(route).collect()
}

/// A node that knows its clients, and their tokens.
struct Guarded {
    _directory: tempfile::TempDir,
    file: PathBuf,
    address: SocketAddr,
    tokens: BTreeMap<&'static str, String>,
}

/// Clients with their role, and the vaults in which they have it; none for all.
const CLIENTS: &[(&str, Role, &[u64])] = &[
    ("monitor", Role::Monitor, &[]),
    ("reads-all", Role::Read, &[]),
    ("writes-all", Role::Write, &[]),
    ("admin-all", Role::Admin, &[]),
    ("reads-1", Role::Read, &[1]),
    ("writes-1", Role::Write, &[1]),
    ("admin-1", Role::Admin, &[1]),
];

fn rights(role: Role, vaults: &[u64]) -> Rights {
    let mut rights = Rights::default();
    let vaults = match vaults.is_empty() {
        true => Vaults::All,
        false => Vaults::Some(vaults.to_vec()),
    };
    rights.grant(role, &vaults);
    rights
}

impl Guarded {
    /// One node with vaults 1, 2 and 3.
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let node = start_node(directory.path(), 1).await;
        let members = [(1, node.peer_address().to_string())].into();
        node.form_cluster(members).await.unwrap();
        node.ledger().wait_for_leader(PATIENCE).await.unwrap();
        let mut tokens = BTreeMap::new();
        let mut lines = String::from("# all kinds of clients\n");
        for (name, role, vaults) in CLIENTS {
            let (token, credential) = Credential::new_token().unwrap();
            let client = Client {
                name: (*name).to_owned(),
                credential,
                rights: rights(*role, vaults),
            };
            tokens.insert(*name, token);
            lines += &format!("{client}\n");
        }
        let file = directory.path().join("clients");
        std::fs::write(&file, lines).unwrap();
        let access = Access::from_file(&file).unwrap();
        let address = serve(free_port().await, &node, BTreeMap::new(), access);
        let guarded = Guarded {
            _directory: directory,
            file,
            address,
            tokens,
        };
        for _ in 0..3 {
            let vault = json!({ "name": "v" });
            let made = guarded
                .send("admin-all", "POST", "/v1/vaults", &vault)
                .await;
            assert_eq!(made.status, 201, "{made:?}");
        }
        guarded
    }

    /// The header that shows who a client is. `nobody` has none.
    fn header(&self, client: &str) -> String {
        match (client, self.tokens.get(client)) {
            ("nobody", _) => String::new(),
            (_, Some(token)) => format!("Authorization: Bearer {token}\r\n"),
            _ => "Authorization: Bearer folio_of-no-client\r\n".to_owned(),
        }
    }

    async fn send(&self, client: &str, method: &str, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        let header = self.header(client);
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{header}\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        common::send(self.address, &request).await
    }

    /// The status that a request without a body is answered with, and the rest of the connection.
    async fn ask(&self, client: &str, method: &str, path: &str) -> (u16, BufReader<TcpStream>) {
        let header = self.header(client);
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{header}Content-Length: 0\r\n\r\n"
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        (line.split(' ').nth(1).unwrap().parse().unwrap(), stream)
    }

    /// Takes a client out of the file.
    fn remove(&self, client: &str) {
        let text = std::fs::read_to_string(&self.file).unwrap();
        let rest: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with(client))
            .collect();
        std::fs::write(&self.file, rest.join("\n")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_expected_and_takes_what_its_document_says() {
    let guarded = Guarded::start().await;
    let document = guarded
        .send("nobody", "GET", "/v1/openapi.json", &json!({}))
        .await;
    let mut described = BTreeSet::new();
    for (path, methods) in document.body["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let takes = operation["description"].as_str().unwrap();
            let role = operation["security"][0]["token"][0].as_str();
            let problems = &operation["responses"];
            assert_eq!(
                role.is_some(),
                problems.get("401").is_some(),
                "{method} {path}"
            );
            assert!(
                role.is_none_or(|role| takes.contains(role)),
                "{method} {path}"
            );
            described.insert((method.to_uppercase(), path.clone(), takes.to_owned()));
        }
    }
    let expected: BTreeSet<_> = expected()
        .into_iter()
        .map(|(method, need, path)| {
            let takes = match need {
                None => "Everybody may ask for it.".to_owned(),
                Some((role, place)) => {
                    let place = match place {
                        "everywhere" => "all vaults",
                        "somewhere" => "some vault",
                        _ => "the vault",
                    };
                    format!("Takes the role `{}` in {place}.", role.name())
                }
            };
            (method.to_owned(), path.replace("{*", "{"), takes)
        })
        .collect();
    assert_eq!(described, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_takes_the_role_that_it_should_in_the_vault_that_it_names() {
    let guarded = Guarded::start().await;
    for (method, need, path) in expected() {
        let vaults: &[u64] = match path.contains("{vault}") {
            true => &[1, 2],
            false => &[0],
        };
        for vault in vaults {
            let path = path
                .replace("{vault}", &vault.to_string())
                .replace("{*key}", "a")
                .replace("{member}", "9")
                .replace("{session}", "none")
                .replace("{height}", "0")
                .replace("{position}", "0");
            for unknown in ["nobody", "stranger"] {
                let (status, _) = guarded.ask(unknown, method, &path).await;
                assert_eq!(
                    status == 401,
                    need.is_some(),
                    "{unknown} {method} {path}: {status}"
                );
            }
            for (client, held, vaults) in CLIENTS {
                let may = need.is_none_or(|(role, place)| {
                    let enough = match place {
                        "everywhere" => vaults.is_empty(),
                        "somewhere" => true,
                        "here" => vaults.is_empty() || vaults.contains(vault),
                        other => panic!("{other}"),
                    };
                    *held >= role && enough
                });
                let (status, _) = guarded.ask(client, method, &path).await;
                let refused = [401, 403, 405, 500].contains(&status);
                assert_eq!(refused, !may, "{client} {method} {path}: {status}");
                assert_eq!(status == 403, !may, "{client} {method} {path}: {status}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_good_for_the_client_that_opened_it_only() {
    let guarded = Guarded::start().await;
    let opened = guarded
        .send("writes-1", "POST", "/v1/sessions", &Value::Null)
        .await
        .body;
    let session = opened["session"].as_str().unwrap();
    let write = |key: &str| {
        json!({
            "session": { "id": session, "sequence": 1 },
            "operations": [{ "set": { "key": key, "value": "v" } }],
        })
    };
    let submit = async |client, key| {
        let path = "/v1/vaults/1/transactions";
        guarded.send(client, "POST", path, &write(key)).await
    };
    let first = submit("writes-1", "a").await;
    assert_eq!(first.status, 200, "{first:?}");
    // Neither is it told what the other was answered, nor can it use the session, nor end it.
    for client in ["admin-all", "admin-1"] {
        let refused = submit(client, "b").await;
        assert_eq!((refused.status, refused.code()), (404, "session_unknown"));
        for id in [session, &opened["number"].to_string(), "AAAA"] {
            for path in [
                "/v1/sessions/{id}?sequence=2",
                "/v1/vaults/1?session={id}&sequence=2",
            ] {
                let path = path.replace("{id}", id);
                let refused = guarded.send(client, "DELETE", &path, &Value::Null).await;
                assert_eq!((refused.status, refused.code()), (404, "session_unknown"));
            }
        }
    }
    assert_eq!(submit("writes-1", "a").await.body, first.body, "a retry");
    let path = format!("/v1/sessions/{session}?sequence=2");
    let closed = guarded
        .send("writes-1", "DELETE", &path, &Value::Null)
        .await;
    assert_eq!((closed.status, closed.body), (200, json!({ "closed": 1 })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_is_named_in_one_way_by_whoever_has_a_role_in_another() {
    let guarded = Guarded::start().await;
    for path in [
        "/v1/vaults/%32",
        "/v1/vaults/%32/entities",
        "/v1/vaults/%31",
        "/v1/vaults/+2",
        "/v1/vaults/02/entities/a",
        "/v1/vaults/%32/entities/%ff",
        "/v1/vaults/two",
        "/v1/vaults/1%2f..%2f2",
    ] {
        let (status, _) = guarded.ask("admin-1", "GET", path).await;
        assert_eq!(status, 403, "{path}");
    }
    for path in [
        "/v1/vaults/1/../2",
        "//v1/vaults/2",
        "/v1//vaults/2",
        "/V1/vaults/2",
    ] {
        let (status, _) = guarded.ask("admin-all", "GET", path).await;
        assert_eq!(status, 404, "{path}");
    }
    for method in ["HEAD", "OPTIONS", "PUT", "TRACE", "get"] {
        let (status, _) = guarded.ask("nobody", method, "/v1/status").await;
        let expected = if method == "HEAD" { 401 } else { 405 };
        assert_eq!(status, expected, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_is_told_why() {
    let guarded = Guarded::start().await;
    let nobody = guarded
        .send("nobody", "GET", "/v1/vaults/1", &json!({}))
        .await;
    assert_eq!((nobody.status, nobody.code()), (401, "unauthenticated"));
    assert_eq!(nobody.headers["www-authenticate"], "Bearer realm=\"folio\"");
    let stranger = guarded
        .send("stranger", "GET", "/v1/vaults/1", &json!({}))
        .await;
    assert_eq!((stranger.status, stranger.code()), (401, "unknown_client"));
    assert_eq!(
        stranger.headers["www-authenticate"],
        "Bearer realm=\"folio\", error=\"invalid_token\""
    );
    let reads = guarded
        .send("reads-1", "PATCH", "/v1/vaults/1", &json!({}))
        .await;
    assert_eq!((reads.status, reads.code()), (403, "forbidden"));
    let detail = reads.body["detail"].as_str().unwrap();
    let told = ["`admin`", "vault 1", "`reads-1`"].map(|word| detail.contains(word));
    assert_eq!(told, [true; 3], "{detail}");
    let put = guarded
        .send("nobody", "PUT", "/v1/vaults/1", &json!({}))
        .await;
    assert_eq!((put.status, put.code()), (405, "method_not_allowed"));
    assert_eq!(put.headers["allow"], "GET, PATCH, DELETE");
    let basic = "GET /v1/status HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Basic YTpi\r\n\r\n";
    let basic = common::send(guarded.address, basic).await;
    assert_eq!((basic.status, basic.code()), (401, "unknown_client"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_vaults_has_those_that_a_client_may_read() {
    let guarded = Guarded::start().await;
    let mut file = std::fs::read_to_string(&guarded.file).unwrap();
    let (token, credential) = Credential::new_token().unwrap();
    file += &format!("some {credential} write=3 read=1,77\n");
    std::fs::write(&guarded.file, file).unwrap();
    until("the new client is known", async || {
        let request = format!(
            "GET /v1/vaults HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        common::send(guarded.address, &request).await.status == 200
    })
    .await;
    let list = async |header: String, query: &str| {
        let request = format!(
            "GET /v1/vaults{query} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{header}\r\n"
        );
        let page = common::send(guarded.address, &request).await.body;
        let items = page["items"].as_array().unwrap();
        let vaults: Vec<_> = items
            .iter()
            .map(|item| item["vault"].as_u64().unwrap())
            .collect();
        (vaults, page["next"].as_str().map(str::to_owned))
    };
    let some = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(list(some.clone(), "").await, (vec![1, 3], None));
    let (first, next) = list(some.clone(), "?limit=1").await;
    assert_eq!(first, [1]);
    let query = format!("?after={}", next.unwrap());
    assert_eq!(list(some.clone(), &query).await, (vec![3], None));
    // The place of somebody who may see more leads to nothing more.
    let (all, next) = list(guarded.header("reads-all"), "?limit=1").await;
    assert_eq!(all, [1]);
    let query = format!("?after={}", next.unwrap());
    assert_eq!(list(some, &query).await, (vec![3], None));
    assert_eq!(list(guarded.header("reads-all"), "").await.0, [1, 2, 3]);
    // A page token is good for its own vault only, whoever has it.
    let set = |key: &str| json!({ "set": { "key": key, "value": "" } });
    let two = json!({ "operations": [set("a"), set("b")] });
    let path = "/v1/vaults/2/transactions";
    assert_eq!(
        guarded.send("writes-all", "POST", path, &two).await.status,
        200
    );
    let page = guarded
        .send(
            "reads-all",
            "GET",
            "/v1/vaults/2/entities?limit=1",
            &json!({}),
        )
        .await;
    let next = page.body["next"].as_str().unwrap();
    let elsewhere = format!("/v1/vaults/1/entities?after={next}");
    let refused = guarded.send("reads-1", "GET", &elsewhere, &json!({})).await;
    assert_eq!((refused.status, refused.code()), (400, "malformed_request"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_taken_out_of_the_file_is_refused_on_connections_that_are_open_and_its_feeds_end() {
    let guarded = Guarded::start().await;
    let (status, mut feed) = guarded.ask("reads-1", "GET", "/v1/vaults/1/changes").await;
    assert_eq!(status, 200);
    // What is there already has arrived before the client is taken out.
    let mut line = String::new();
    while !line.starts_with("event: block") {
        line.clear();
        assert!(feed.read_line(&mut line).await.unwrap() > 0);
    }
    let header = guarded.header("reads-1");
    let request = format!("GET /v1/vaults/1 HTTP/1.1\r\nHost: t\r\n{header}\r\n");
    let mut stream = TcpStream::connect(guarded.address).await.unwrap();
    let mut ask = async || {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    let before = ask().await;
    assert!(before.starts_with("HTTP/1.1 200"), "{before}");

    guarded.remove("reads-1");
    until("it is refused", async || {
        ask().await.starts_with("HTTP/1.1 401")
    })
    .await;
    let set = json!({ "operations": [{ "set": { "key": "secret", "value": "" } }] });
    let path = "/v1/vaults/1/transactions";
    assert_eq!(
        guarded.send("writes-1", "POST", path, &set).await.status,
        200
    );
    let rest = end(&mut feed).await;
    assert!(
        rest.contains("event: problem") && rest.contains("unknown_client"),
        "{rest}"
    );
    assert!(!rest.contains("secret"), "{rest}");
}

/// What comes until a feed ends.
async fn end(feed: &mut BufReader<TcpStream>) -> String {
    let mut rest = String::new();
    let reading = tokio::time::timeout(PATIENCE, feed.read_to_string(&mut rest));
    reading.await.expect("the feed ends").unwrap();
    rest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_ends_when_its_client_may_not_read_any_more_although_nothing_happens_in_the_vault() {
    let guarded = Guarded::start().await;
    let mut feeds = Vec::new();
    for client in ["reads-1", "writes-1", "admin-all"] {
        let (status, feed) = guarded.ask(client, "GET", "/v1/vaults/1/changes").await;
        assert_eq!(status, 200);
        feeds.push(feed);
    }
    // One may read another vault now, one sees only the node, and one stays.
    let text = std::fs::read_to_string(&guarded.file).unwrap();
    let fewer = text
        .replace("read=1", "read=2")
        .replace("write=1", "monitor");
    std::fs::write(&guarded.file, fewer).unwrap();
    let mut last = feeds.pop().unwrap();
    for mut feed in feeds {
        let rest = end(&mut feed).await;
        assert!(rest.contains("\"code\":\"forbidden\""), "{rest}");
    }
    let path = "/v1/vaults/1/transactions";
    let set = json!({ "operations": [{ "set": { "key": "later", "value": "" } }] });
    let done = guarded.send("admin-all", "POST", path, &set).await;
    assert_eq!(done.status, 200);
    let mut line = String::new();
    while !line.contains("later") {
        line.clear();
        let read = tokio::time::timeout(PATIENCE, last.read_line(&mut line));
        assert!(read.await.expect("it goes on").unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_changes_nothing_and_that_is_told() {
    let guarded = Guarded::start().await;
    let outdated = async || {
        let (status, mut page) = guarded.ask("monitor", "GET", "/metrics").await;
        assert_eq!(status, 200);
        let mut line = String::new();
        while !line.starts_with("folio_clients_outdated ") {
            line.clear();
            assert!(page.read_line(&mut line).await.unwrap() > 0);
        }
        line.trim().ends_with('1')
    };
    assert!(!outdated().await);
    let right = std::fs::read_to_string(&guarded.file).unwrap();
    std::fs::write(&guarded.file, "monitor").unwrap();
    until("a wrong file is told", outdated).await;
    std::fs::write(&guarded.file, &right).unwrap();
    until("the right one is used", async || !outdated().await).await;
    std::fs::remove_file(&guarded.file).unwrap();
    until("that there is none is told", outdated).await;
    std::fs::write(&guarded.file, right).unwrap();
    until("the right one is used again", async || !outdated().await).await;
    // An empty file is one: nobody is a client.
    std::fs::write(&guarded.file, "").unwrap();
    until("nobody is known", async || {
        guarded.ask("monitor", "GET", "/metrics").await.0 == 401
    })
    .await;
}

#[test]
fn a_file_that_everybody_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let file = tempfile::NamedTempFile::new().unwrap();
    let mode = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(file.path(), permissions).unwrap();
    };
    mode(0o644);
    assert!(Access::from_file(file.path()).is_ok());
    mode(0o646);
    let refused = Access::from_file(file.path()).err().unwrap();
    assert!(refused.to_string().contains("chmod o-w"), "{refused}");
    std::fs::write(file.path(), vec![b'\n'; (1 << 20) + 1]).unwrap();
    mode(0o600);
    let refused = Access::from_file(file.path()).err().unwrap();
    assert!(refused.to_string().contains("larger than"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_asks_who_a_client_is_before_it_says_who_leads() {
    let directory = tempfile::tempdir().unwrap();
    let servers = start_cluster(directory.path(), 3, true).await;
    let leads = common::leader(&servers).await.node.id();
    let follower = servers
        .iter()
        .find(|server| server.node.id() != leads)
        .unwrap();
    let (token, credential) = Credential::new_token().unwrap();
    let file = directory.path().join("clients");
    std::fs::write(&file, format!("ana {credential} admin=all")).unwrap();
    let access = Access::from_file(&file).unwrap();
    let apis = [(leads, "leader:7001".to_owned())].into();
    let address = serve(free_port().await, &follower.node, apis, access);
    let ask = async |header: &str| {
        let request =
            format!("GET /v1/numbers HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{header}\r\n");
        common::send(address, &request).await
    };
    assert_eq!(ask("").await.status, 401);
    let redirected = ask(&format!("Authorization: bearer {token}\r\n")).await;
    assert_eq!((redirected.status, redirected.code()), (307, "not_leader"));
    assert_eq!(
        redirected.headers["location"],
        "http://leader:7001/v1/numbers"
    );
}
