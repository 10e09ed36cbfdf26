//! Traces of requests, sent to a collector by OTLP over HTTP (the feature `otlp`).
//!
//! ```no_run
//! use folio_node::Traces;
//! use tracing_subscriber::prelude::*;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let traces = Traces::to("http://localhost:4318")?;
//! tracing_subscriber::registry().with(traces.layer()).init();
//! // ... serve ...
//! tokio::task::spawn_blocking(move || traces.end()).await?;
//! # Ok(())
//! # }
//! ```

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, Response, Uri, header::HOST};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use crate::api::spans::TARGET;

/// How long a collector may take for a batch. What it does not take is dropped, and requests do not wait for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer of a collector, in bytes.
const ANSWER: usize = 64 << 10;

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// Not a place that is reached over plain HTTP.
    #[error(
        "`{0}` is no place for traces: write http://HOST:PORT, as in http://localhost:4318; for one that is reached by TLS run a \
         collector on this machine"
    )]
    Endpoint(String),
    /// The exporter does not take the settings.
    #[error("traces cannot be sent: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Traces on their way to a collector. They are gathered and sent by a thread, a batch at a time.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// To the collector at `http://HOST:PORT`. Nothing is sent yet: that there is nobody is not noticed here. Has to be called
    /// within a runtime of tokio, which sends them.
    pub fn to(endpoint: &str) -> Result<Self, TracesError> {
        Self::check(endpoint)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector(Handle::current()))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(PATIENCE)
            .build()?;
        let resource = Resource::builder_empty()
            .with_service_name("folio")
            .with_attribute(opentelemetry::KeyValue::new(
                "service.version",
                env!("CARGO_PKG_VERSION"),
            ));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build());
        Ok(Traces(provider.build()))
    }

    /// Whether `endpoint` is `http://HOST:PORT`.
    pub fn check(endpoint: &str) -> Result<(), TracesError> {
        let uri = endpoint.parse::<Uri>().ok();
        let plain = uri.filter(|uri| uri.scheme_str() == Some("http") && uri.query().is_none());
        let is_root = |uri: &Uri| ["", "/"].contains(&uri.path());
        // Who asks is not said in the address.
        let is_bare = |uri: &Uri| uri.authority().is_some_and(|of| !of.as_str().contains('@'));
        match plain.filter(is_root).filter(is_bare) {
            Some(_) => Ok(()),
            None => Err(TracesError::Endpoint(endpoint.to_owned())),
        }
    }

    /// What takes the spans of requests from `tracing`, and nothing else of what is logged.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'s> LookupSpan<'s> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("folio"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(Targets::new().with_target(TARGET, LevelFilter::DEBUG))
    }

    /// Sends what there is, and no more. Waits for the collector: not to be called by a thread of the runtime.
    pub fn end(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Sends batches to a collector, a connection for each: they are seconds apart.
#[derive(Debug)]
struct Collector(Handle);

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The thread that sends batches belongs to no runtime.
        let sending = async { tokio::time::timeout(PATIENCE, send(request)).await };
        self.0.spawn(sending).await??
    }
}

async fn send(mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let authority = request.uri().authority().ok_or("there is no host")?.clone();
    let stream = TcpStream::connect((
        authority.host().trim_matches(['[', ']']),
        authority.port_u16().unwrap_or(80),
    ))
    .await?;
    let path = request.uri().path().parse()?;
    *request.uri_mut() = path;
    let host = authority.as_str().parse()?;
    request.headers_mut().insert(HOST, host);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request.map(Body::from)).await?;
    let (head, body) = answer.into_parts();
    let body = to_bytes(Body::new(body), ANSWER).await?;
    connection.abort();
    Ok(Response::from_parts(head, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_collector_that_is_not_there_keeps_nobody_waiting() {
        use tracing_subscriber::prelude::*;

        let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = nobody.local_addr().expect("it has one");
        drop(nobody);
        let traces = Traces::to(&format!("http://{address}")).expect("it is a place");
        let subscriber = tracing_subscriber::registry().with(traces.layer());
        tracing::subscriber::with_default(subscriber, || {
            drop(tracing::debug_span!(target: TARGET, "request"));
        });
        let ended = tokio::task::spawn_blocking(move || traces.end());
        ended.await.expect("it ends");
    }

    #[tokio::test]
    async fn only_a_place_that_is_reached_over_plain_http_is_taken() {
        for right in ["http://localhost:4318", "http://[::1]:4318/", "http://otel"] {
            Traces::to(right).expect(right);
        }
        for wrong in [
            "localhost:4318",
            "https://a:1",
            "http://a/v1/traces",
            "grpc://a:1",
            "http://a:1/?b",
            "http://me:secret@a:1",
            "",
            "/",
        ] {
            assert!(
                matches!(Traces::to(wrong), Err(TracesError::Endpoint(_))),
                "{wrong}"
            );
        }
    }
}
