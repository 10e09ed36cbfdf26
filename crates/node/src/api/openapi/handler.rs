//! What a handler takes and gives, told by its types.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Json, Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::Operation;
use crate::access::Caller;
use crate::api::Api;
use crate::api::problem::Problem;
use crate::api::session::Client;

/// A handler that the document can describe; `D` are the types of its arguments.
pub(in crate::api) trait Documented<D> {
    fn describe(operation: &mut Operation<'_>);
}

macro_rules! documented {
    ($($argument:ident),*) => {
        impl<F, G, $($argument),*> Documented<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> G,
            G: Future<Output: Output>,
            $($argument: Input),*
        {
            fn describe(operation: &mut Operation<'_>) {
                $($argument::describe(operation);)*
                <G::Output as Output>::describe(operation);
            }
        }
    };
}

documented!();
documented!(A);
documented!(A, B);
documented!(A, B, C);
documented!(A, B, C, D);
documented!(A, B, C, D, E);

/// An argument of a handler.
pub(in crate::api) trait Input {
    fn describe(operation: &mut Operation<'_>);
}

impl Input for State<Api> {
    fn describe(_: &mut Operation<'_>) {}
}

impl Input for Extension<Caller> {
    fn describe(_: &mut Operation<'_>) {}
}

impl Input for Extension<Client> {
    fn describe(_: &mut Operation<'_>) {}
}

impl Input for Uri {
    fn describe(_: &mut Operation<'_>) {}
}

impl<T: JsonSchema> Input for Result<Json<T>, JsonRejection> {
    fn describe(operation: &mut Operation<'_>) {
        operation.body::<T>();
    }
}

impl<T: JsonSchema> Input for Result<Query<T>, QueryRejection> {
    fn describe(operation: &mut Operation<'_>) {
        operation.query::<T>();
    }
}

impl<T: Places> Input for Result<Path<T>, PathRejection> {
    fn describe(operation: &mut Operation<'_>) {
        T::describe(operation);
    }
}

/// The parameters of a path.
pub(in crate::api) trait Places {
    fn describe(operation: &mut Operation<'_>);
}

impl Places for u64 {
    fn describe(operation: &mut Operation<'_>) {
        operation.place::<u64>();
    }
}

impl Places for String {
    fn describe(operation: &mut Operation<'_>) {
        operation.place::<String>();
    }
}

impl<A: JsonSchema, B: JsonSchema> Places for (A, B) {
    fn describe(operation: &mut Operation<'_>) {
        operation.place::<A>();
        operation.place::<B>();
    }
}

impl<A: JsonSchema, B: JsonSchema, C: JsonSchema> Places for (A, B, C) {
    fn describe(operation: &mut Operation<'_>) {
        operation.place::<A>();
        operation.place::<B>();
        operation.place::<C>();
    }
}

/// What a handler answers with when all is well.
pub(in crate::api) trait Output {
    fn describe(operation: &mut Operation<'_>);
}

impl<T: Output> Output for Result<T, Problem> {
    fn describe(operation: &mut Operation<'_>) {
        T::describe(operation);
    }
}

impl<T: JsonSchema> Output for Json<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.json::<T>(200, "Done");
    }
}

/// JSON with the status 201.
pub(in crate::api) struct Created<T>(pub T);

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Json(self.0)).into_response()
    }
}

impl<T: JsonSchema> Output for Created<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.json::<T>(201, "Created");
    }
}

/// JSON with the status 202: what was asked for goes on.
pub(in crate::api) struct Accepted<T>(pub T);

impl<T: Serialize> IntoResponse for Accepted<T> {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self.0)).into_response()
    }
}

impl<T: JsonSchema> Output for Accepted<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.json::<T>(202, "Under way");
    }
}

/// Text in the format of Prometheus.
pub(in crate::api) struct Text(pub String);

impl Text {
    const MEDIA_TYPE: &str = "text/plain; version=0.0.4";
}

impl IntoResponse for Text {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, Text::MEDIA_TYPE)], self.0).into_response()
    }
}

impl Output for Text {
    fn describe(operation: &mut Operation<'_>) {
        let schema = json!({ "schema": { "type": "string" } });
        operation.response(200, "The counters", "text/plain", schema);
    }
}
