//! The spans of a request: what is seen of it in a trace. The names follow the conventions of OpenTelemetry.
//!
//! A span has the route, and neither path nor query: keys may be nobody's business. Without a subscriber that takes them
//! (the feature `otlp` has one), spans cost next to nothing.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tracing::field::Empty;
use tracing::{Instrument, Span, debug_span};

use super::Api;

/// What these spans have as their target, and nothing else has.
pub(crate) const TARGET: &str = "folio_node::spans";

/// Puts a span around a request, within the trace of whoever sends it (`traceparent`).
pub(super) async fn traced(State(api): State<Api>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("", MatchedPath::as_str);
    let method = request.method().as_str();
    let span = debug_span!(
        target: TARGET,
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        folio.node = api.node.id(),
    );
    #[cfg(feature = "otlp")]
    continue_trace(&span, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}

#[cfg(feature = "otlp")]
fn continue_trace(span: &Span, headers: &axum::http::HeaderMap) {
    use opentelemetry::propagation::TextMapPropagator;
    use opentelemetry_http::HeaderExtractor;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    if span.is_disabled() {
        return;
    }
    let sender = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    if let Err(error) = span.set_parent(sender) {
        tracing::debug!(%error, "a request is in no trace but its own");
    }
}

/// Around a command, from when it waits to be proposed until it is applied.
pub(super) fn write() -> Span {
    debug_span!(target: TARGET, "raft write", folio.log_index = Empty)
}

/// Around a read, with what has to be waited for at its level.
pub(super) fn read(level: folio_api::ReadLevel) -> Span {
    debug_span!(target: TARGET, "read", folio.read_level = %level)
}
