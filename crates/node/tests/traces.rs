//! Traces: what a collector is told of a request.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::{free_port, post, send, start_cluster};
use folio_node::Traces;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing_subscriber::prelude::*;

/// Takes what is sent to it, and hands it on.
async fn collect(listener: TcpListener, taken: mpsc::UnboundedSender<Vec<u8>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut head).await.unwrap() > 0);
        }
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        let head = head.to_lowercase();
        assert!(
            head.contains("content-type: application/x-protobuf"),
            "{head}"
        );
        let length = head.split("content-length: ").nth(1).unwrap();
        let length = length.lines().next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        taken.send(body).unwrap();
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let all = span.attributes.iter();
    all.map(|one| {
        let value = one.value.as_ref().and_then(|value| value.value.as_ref());
        (&one.key[..], value.map_or(String::new(), text))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_its_write_are_spans_in_the_trace_of_who_sends_it() {
    let listener = free_port().await;
    let collector = format!("http://{}", listener.local_addr().unwrap());
    let (sender, mut taken) = mpsc::unbounded_channel();
    tokio::spawn(collect(listener, sender));
    let traces = Traces::to(&collector).unwrap();
    tracing_subscriber::registry().with(traces.layer()).init();

    let directory = tempfile::tempdir().unwrap();
    let servers = start_cluster(directory.path(), 1, false).await;
    let address = servers[0].address;
    post(address, "/v1/vaults", &json!({ "name": "v" })).await;
    let body =
        json!({ "operations": [{ "set": { "key": "secret-key", "value": "" } }] }).to_string();
    let request = format!(
        "POST /v1/vaults/1/transactions HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let done = send(address, &request).await;
    assert_eq!(done.status, 200, "{done:?}");
    common::get(address, "/v1/vaults/1/entities/secret-key?read=local").await;
    common::get(address, "/nowhere").await;
    let unsampled = "GET /v1/numbers HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n\r\n";
    assert_eq!(send(address, unsampled).await.status, 200);
    servers[0].node.leave();
    common::get(address, "/v1/health/ready").await;
    tokio::task::spawn_blocking(move || traces.end())
        .await
        .unwrap();

    // What was sent has been answered, so it is all there.
    let mut spans = Vec::new();
    while let Ok(batch) = taken.try_recv() {
        let told = String::from_utf8_lossy(&batch).into_owned();
        assert!(!told.contains("secret-key"), "keys are nobody's business");
        let batch = ExportTraceServiceRequest::decode(&batch[..]).unwrap();
        for resource in batch.resource_spans {
            let named = format!("{:?}", resource.resource);
            assert!(
                named.contains("service.name") && named.contains("folio"),
                "{named}"
            );
            spans.extend(
                resource
                    .scope_spans
                    .into_iter()
                    .flat_map(|scope| scope.spans),
            );
        }
    }
    let named = |name: &str| {
        let found = spans.iter().filter(|span| span.name == name);
        found.collect::<Vec<_>>()
    };
    let [request] = named("POST /v1/vaults/{vault}/transactions")[..] else {
        panic!("{spans:?}");
    };
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(hex(&request.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&request.parent_span_id), "b7ad6b7169203331");
    assert_eq!(request.kind, 2, "that of a server");
    let told = attributes(request);
    assert_eq!(told["http.request.method"], "POST");
    assert_eq!(told["http.route"], "/v1/vaults/{vault}/transactions");
    assert_eq!(told["http.response.status_code"], "200");
    assert_eq!(told["folio.node"], "1");

    let writes = named("raft write");
    let beneath: Vec<_> = writes
        .iter()
        .filter(|span| span.parent_span_id == request.span_id)
        .collect();
    let [write] = beneath[..] else {
        panic!("{writes:?}");
    };
    assert_eq!(write.trace_id, request.trace_id);
    assert_eq!(
        attributes(write)["folio.log_index"],
        done.body["log_index"].to_string()
    );
    assert!(write.start_time_unix_nano >= request.start_time_unix_nano);
    assert!(write.end_time_unix_nano <= request.end_time_unix_nano);

    // Without the header each is a trace of its own.
    let [created] = named("POST /v1/vaults")[..] else {
        panic!("{spans:?}");
    };
    assert!(created.parent_span_id.is_empty() && created.trace_id != request.trace_id);
    let [read] = named("GET /v1/vaults/{vault}/entities/{*key}")[..] else {
        panic!("{spans:?}");
    };
    let below = spans
        .iter()
        .find(|span| span.parent_span_id == read.span_id);
    assert_eq!(attributes(below.unwrap())["folio.read_level"], "local");
    let status = |span: &Span| {
        let status = span.status.as_ref().map(|status| status.code());
        let answered = attributes(span)["http.response.status_code"].clone();
        (answered, status == Some(StatusCode::Error))
    };
    assert_eq!(status(named("GET ")[0]), ("404".to_owned(), false));
    let failed = named("GET /v1/health/ready")[0];
    assert_eq!(status(failed), ("503".to_owned(), true));
    // Whoever sends it does not want it traced.
    assert!(named("GET /v1/numbers").is_empty());
    // What is logged is not in traces, nor what others have spans for.
    for span in &spans {
        assert!(span.events.is_empty(), "{span:?}");
        let is_ours = ["GET ", "POST ", "raft write", "read"];
        assert!(is_ours.iter().any(|name| span.name.starts_with(name)));
    }
}
