//! `GET /v1/backup`: a copy of this node's file, or what has changed since one.
//!
//! A whole copy is the same, byte for byte, for as long as the node keeps its moment, which is named by `ETag`. So a
//! client whose connection was lost asks for the rest, with `Range` and `If-Range`. A node that has given the moment up
//! answers with another one, from its beginning.
//!
//! The file is read as the client takes it: what is in memory is some pieces of [`PIECE`] bytes.

use std::io::{self, Write};
use std::ops::ControlFlow;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Query, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE,
    RANGE,
};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use folio_store::{BackupPoint, BackupReport};
use futures_util::stream::unfold;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::Api;
use super::openapi::{Input, Operation, Output};
use super::problem::Problem;
use super::routes::Params;

/// What is sent at once.
const PIECE: usize = 256 << 10;
/// Pieces that are read ahead of the client.
const PIECES: usize = 4;

const MEDIA_TYPE: &str = "application/octet-stream";

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// What has changed since the moment of this `ETag`; everything if it is absent.
    #[schemars(length(max = 400))]
    since: Option<String>,
    /// The most bytes to read in a second; 0 for as many as possible.
    #[serde(default)]
    rate: u64,
}

/// From where on a client lacks a copy of a moment.
pub(super) struct Rest(Option<(BackupPoint, u64)>);

impl<S: Sync> FromRequestParts<S> for Rest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let header = |name| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        // A range in another form, or of nobody knows which copy, is ignored, as it may be: the answer is a whole one.
        let rest = header(RANGE)
            .zip(header(IF_RANGE))
            .and_then(|(range, moment)| {
                let from = range.strip_prefix("bytes=")?.strip_suffix('-')?;
                let moment = moment.strip_prefix('"')?.strip_suffix('"')?;
                Some((named(moment)?, from.parse().ok()?))
            });
        Ok(Rest(rest))
    }
}

impl Input for Result<Rest, Problem> {
    fn describe(operation: &mut Operation<'_>) {
        let about =
            "`bytes=N-`, with `If-Range`: the rest of a copy whose transfer was interrupted.";
        let schema = json!({ "type": "string", "pattern": "^bytes=[0-9]{1,19}-$" });
        operation.header("Range", about, schema);
        let about = "The `ETag` of that copy. A node that has given its moment up answers with another one.";
        let schema = json!({ "type": "string", "maxLength": 400 });
        operation.header("If-Range", about, schema);
    }
}

/// The moment of an `ETag`.
fn named(text: &str) -> Option<BackupPoint> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    BackupPoint::from_bytes(&bytes).ok()
}

/// A copy on its way, or what has changed.
pub(super) struct Copy {
    point: BackupPoint,
    /// The first byte of it, and the length of the whole; of changes the length is known at their end.
    part: Option<(u64, u64)>,
    body: Body,
}

impl IntoResponse for Copy {
    fn into_response(self) -> Response {
        let mut response = self.body.into_response();
        let headers = response.headers_mut();
        let mut add = |name, value: String| {
            // Made of digits and letters.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        add(CONTENT_TYPE, MEDIA_TYPE.to_owned());
        add(CACHE_CONTROL, "no-store".to_owned());
        let name = BASE64_URL_SAFE_NO_PAD.encode(self.point.to_bytes());
        add(ETAG, format!("\"{name}\""));
        if let Some((from, length)) = self.part {
            add(ACCEPT_RANGES, "bytes".to_owned());
            add(CONTENT_LENGTH, (length - from).to_string());
            if from > 0 {
                let range = format!("bytes {from}-{}/{length}", length - 1);
                add(CONTENT_RANGE, range);
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            }
        }
        response
    }
}

impl Output for Copy {
    fn describe(operation: &mut Operation<'_>) {
        let content = json!({ "schema": { "type": "string", "format": "binary" } });
        let about = "A file, or changes for `folio apply`; `ETag` names the moment";
        operation.response(200, about, MEDIA_TYPE, content.clone());
        operation.response(206, "The rest of a file", MEDIA_TYPE, content);
    }
}

pub(super) async fn copy(
    State(api): State<Api>,
    params: Params<Which>,
    rest: Result<Rest, Problem>,
) -> Result<Copy, Problem> {
    let Query(Which { since, rate }) = params?;
    let base = since.map(|since| {
        named(&since).ok_or_else(|| Problem::malformed("`since` is not the `ETag` of a backup"))
    });
    let base = base.transpose()?;
    let place = api.node.backups().enter();
    let place = place.ok_or_else(Problem::too_many_backups)?;
    let rest = rest?.0.filter(|_| base.is_none());
    let found = rest.and_then(|(point, from)| {
        let moment = place.find(&point)?;
        (from < moment.bytes()).then_some((moment, from))
    });
    let (moment, from) = match found {
        Some(found) => found,
        None => {
            let moment = api.node.ledger().begin_backup().await?.into();
            if base.is_none() {
                place.keep(&moment);
            }
            (moment, 0)
        }
    };
    if let Some(base) = &base {
        moment.check_base(base).map_err(Problem::backup_base)?;
    }
    let (point, length) = (moment.point(), moment.bytes());
    let (sender, pieces) = mpsc::channel(PIECES);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        // A client that is gone is not waited for at the rate that it asked for.
        let client = sender.clone();
        let mut pieces = Pieces {
            sender,
            piece: Vec::new(),
        };
        let go_on = |_, _| match place.has_ended() || client.is_closed() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let written = match &base {
            None => moment.write(from, rate, &mut pieces, go_on),
            Some(base) => moment.write_since(base, rate, &mut pieces, go_on),
        };
        pieces.end(written);
        let _entered = runtime.enter();
        place.leave();
    });
    let pieces = unfold(pieces, async |mut pieces| {
        let piece = pieces.recv().await?;
        Some((piece, pieces))
    });
    Ok(Copy {
        point,
        part: base.is_none().then_some((from, length)),
        body: Body::from_stream(pieces),
    })
}

/// Hands what is written over to the connection, a piece at a time, and waits while there are enough.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Pieces {
    /// A backup that cannot go on breaks its connection off: the client has not got its end.
    fn end(mut self, written: folio_store::Result<BackupReport>) {
        let ended = written.map_err(io::Error::other).and_then(|_| self.send());
        if let Err(error) = ended
            && !self.sender.is_closed()
        {
            tracing::error!(%error, "a backup has ended early");
            // A client that is gone by now has no use for it.
            drop(self.sender.blocking_send(Err(error)));
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        let sent = self.sender.blocking_send(Ok(piece.into()));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
