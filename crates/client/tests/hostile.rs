//! What answers may be anything, or nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use folio_client::{Client, Error, ReadLevel, Resume, Settings, transaction};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers every request with these bytes, and counts the requests.
async fn answering(bytes: impl Into<Vec<u8>>) -> (String, Arc<AtomicUsize>) {
    answering_in_turn(vec![bytes.into()]).await
}

/// Answers the first request with the first of these, and so on; the last of them is for all that come then.
async fn answering_in_turn(answers: Vec<Vec<u8>>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 1 << 16];
            if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                let before = counted.fetch_add(1, Ordering::Relaxed);
                let answer = &answers[before.min(answers.len() - 1)];
                // The client may have gone.
                let _ = stream.write_all(answer).await;
            }
        }
    });
    (address, count)
}

fn client(addresses: &[&str]) -> Client {
    let settings = Settings::new(addresses).unwrap();
    Client::new(settings.deadline(Duration::from_millis(700))).unwrap()
}

fn problem(status: u16, code: &str, more: &str) -> String {
    let body = format!(
        r#"{{"type": "", "title": "", "status": {status}, "code": "{code}", "detail": ""}}"#
    );
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/problem+json\r\nContent-Length: {length}\r\n{more}\r\n{body}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_folio_node_is_told_so() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
    ] {
        let (address, _) = answering(bytes).await;
        let failed = client(&[&address])
            .vault(1, ReadLevel::Local)
            .await
            .unwrap_err();
        let told = matches!(failed, Error::NotFolio { .. } | Error::Unavailable { .. });
        assert!(told, "{bytes}: {failed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_may_have_been_done_is_not_sent_again_outside_a_session() {
    for bytes in [
        String::new(),
        "SSH-2.0\r\n".into(),
        problem(504, "outcome_unknown", ""),
        problem(504, "timeout", ""),
        problem(500, "storage_failed", ""),
    ] {
        let (address, count) = answering(bytes.clone()).await;
        let write = transaction().set("a", "b");
        let failed = client(&[&address]).submit(1, &write).await.unwrap_err();
        assert!(
            matches!(failed, Error::OutcomeUnknown { .. }),
            "{bytes}: {failed}"
        );
        assert_eq!(count.load(Ordering::Relaxed), 1, "{bytes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_not_done_is_sent_again_until_the_deadline() {
    for (status, code) in [
        (503, "no_leader"),
        (503, "of_tomorrow"),
        (421, "not_leader"),
        (408, "body_timeout"),
        (507, "disk_full"),
    ] {
        let (address, count) = answering(problem(status, code, "")).await;
        let write = transaction().set("a", "b");
        let failed = client(&[&address]).submit(1, &write).await.unwrap_err();
        assert!(
            matches!(failed, Error::Unavailable { .. }),
            "{code}: {failed}"
        );
        assert!(count.load(Ordering::Relaxed) > 1, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_closed_although_the_answer_to_that_was_lost() {
    let opened = r#"{"session": "an id", "number": 1}"#;
    let length = opened.len();
    let opened = format!("HTTP/1.1 201 Created\r\nContent-Length: {length}\r\n\r\n{opened}");
    let lost = String::new();
    for (last, closed) in [("session_expired", true), ("session_unknown", false)] {
        let answers = [opened.clone(), lost.clone(), problem(410, last, "")];
        let (address, count) = answering_in_turn(answers.map(String::into_bytes).into()).await;
        let session = client(&[&address]).open_session().await.unwrap();
        assert_eq!(session.close().await.is_ok(), closed, "{last}");
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_that_lead_in_a_circle_are_not_followed_without_end_nor_in_haste() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let itself = listener.local_addr().unwrap();
    drop(listener);
    let there = format!("Location: http://{itself}/v1/vaults/1\r\n");
    let (address, count) = answering(problem(307, "not_leader", &there)).await;
    let back = format!("Location: {address}/v1/vaults/1\r\n");
    let (circle, _) = answering(problem(307, "not_leader", &back)).await;
    for first in [&address, &circle] {
        let failed = client(&[first])
            .vault(1, ReadLevel::Linearizable)
            .await
            .unwrap_err();
        assert!(matches!(failed, Error::Unavailable { .. }), "{failed}");
    }
    assert!(count.load(Ordering::Relaxed) < 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_no_doubt_about_a_write() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let failed = client(&[&nobody])
        .submit(1, &transaction().set("a", "b"))
        .await;
    assert!(
        matches!(failed, Err(Error::Unavailable { .. })),
        "{failed:?}"
    );
}

/// A copy that is asked for from its middle on. `rest` is what the node answers to that, first and ever after.
async fn interrupted(rest: [&'static str; 2]) -> (Error, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = rest[counted.fetch_add(1, Ordering::Relaxed).min(1)];
            let _ = stream.read(&mut [0; 1 << 16]).await;
            // The client may have gone.
            let _ = stream.write_all(answer.as_bytes()).await;
            if answer.is_empty() {
                silent.push(stream);
            }
        }
    });
    let there = Resume {
        moment: "moment".to_owned(),
        bytes: 10,
    };
    let client = client(&[&address]);
    let mut copy = client.backup(None, 0, Some(&there)).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), copy.next()).await;
    let failed = ended.expect("it is given up").unwrap_err();
    (failed, count.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_which_nothing_more_comes_is_given_up_at_the_deadline() {
    let head = "HTTP/1.1 206 X\r\nETag: \"moment\"\r\nContent-Length: 990\r\n\r\n";
    // A node with a damaged page answers each time, and breaks off at that page.
    for [first, later] in [[head, head], [head, ""]] {
        let (failed, count) = interrupted([first, later]).await;
        assert!(matches!(failed, Error::Unavailable { .. }), "{failed}");
        assert!(failed.to_string().contains("after 10 bytes"), "{failed}");
        assert!(count > 1, "{later}: asked {count} times");
    }
}
