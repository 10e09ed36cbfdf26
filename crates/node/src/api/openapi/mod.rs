//! The routes of the API, and the OpenAPI 3.1 document that describes them.
//!
//! A route is said once, with its handler ([`Routes`]): parameters, bodies and answers of the document follow from the
//! types that the handler takes and gives ([`handler`]), and their schemas from the types of `folio-api`. What has to be
//! said beside that is a name, a sentence, and the problems that it may answer with.

mod handler;
mod schema;

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::handler::Handler;
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{MethodFilter, on};
use folio_api::{Code, MEDIA_TYPE, ProblemDocument};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::Api;
use crate::access::{Need, Role, Rules};
pub(super) use handler::{Accepted, Created, Documented, Input, Output, Text};

const ABOUT: &str = "\
Vaults of entities and relationships, replicated by Raft and provable by hashes.

Reads are linearizable unless `read` asks for another level. Lists come in pages: pass `next` of one as `after` to get the \
following one. A key or value is a string, or `{\"base64\": ...}` if it is not UTF-8. In a path a key is percent-encoded, \
slashes included, and may hold any bytes. Errors are problem documents (RFC 9457) with a stable `code`. A node that does \
not lead answers with the leader's address: a redirect (307) where it knows the leader's API, else in the problem (421). \
A write that is repeated with the same place in a `session` is carried out once.";

/// What any request may be answered with.
const ANY: &[Code] = &[
    Code::MalformedRequest,
    Code::HttpsRequired,
    Code::TooLarge,
    Code::UriTooLong,
    Code::BodyTimeout,
    Code::TooManyConnections,
    Code::TooManyBytes,
    Code::Internal,
    Code::Timeout,
];

/// What a request for which not everybody may ask may be answered with.
const REFUSED: &[Code] = &[Code::Unauthenticated, Code::UnknownClient, Code::Forbidden];

/// Parameters whose meaning is the same wherever they are.
const PARAMETERS: &[(&str, &str)] = &[
    ("vault", "The number of the vault."),
    (
        "key",
        "The key of the entity, percent-encoded; it may hold any bytes, `%FF` for one that is not text.",
    ),
    ("height", "The height of the block."),
    (
        "position",
        "The place of the transaction in the block, from 0.",
    ),
    (
        "session",
        "What the client was given when it opened the session.",
    ),
    ("member", "The number of the node."),
    (
        "after",
        "`next` of the page before; good at every node, for the same list only.",
    ),
    (
        "limit",
        "The most rows of the page, 100 if not given; fewer come if they are large.",
    ),
];

/// The routes, with what the document says of them.
pub(super) struct Routes {
    router: Router<Api>,
    rules: Rules,
    /// By path and method.
    paths: BTreeMap<String, Map<String, Value>>,
    section: &'static str,
    /// Schemas as requests have to be.
    requests: SchemaGenerator,
    /// Schemas as answers are.
    answers: SchemaGenerator,
}

/// What the document says of a route beside what its handler tells.
pub(super) struct About {
    /// The name of the operation.
    pub name: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// What it may be refused with.
    pub problems: &'static [&'static [Code]],
}

impl Routes {
    pub fn new() -> Self {
        let generator = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Routes {
            router: Router::new(),
            rules: Rules::default(),
            paths: BTreeMap::new(),
            section: "",
            requests: generator().for_deserialize().into_generator(),
            answers: generator().for_serialize().into_generator(),
        }
    }

    /// Routes that follow belong together under this name.
    pub fn section(mut self, name: &'static str) -> Self {
        self.section = name;
        self
    }

    pub fn get<H, M, D>(self, path: &str, need: Need, handler: H, about: About) -> Self
    where
        H: Handler<M, Api> + Documented<D>,
        M: 'static,
    {
        self.on((Method::GET, MethodFilter::GET), path, need, handler, about)
    }

    pub fn post<H, M, D>(self, path: &str, need: Need, handler: H, about: About) -> Self
    where
        H: Handler<M, Api> + Documented<D>,
        M: 'static,
    {
        self.on(
            (Method::POST, MethodFilter::POST),
            path,
            need,
            handler,
            about,
        )
    }

    pub fn patch<H, M, D>(self, path: &str, need: Need, handler: H, about: About) -> Self
    where
        H: Handler<M, Api> + Documented<D>,
        M: 'static,
    {
        self.on(
            (Method::PATCH, MethodFilter::PATCH),
            path,
            need,
            handler,
            about,
        )
    }

    pub fn delete<H, M, D>(self, path: &str, need: Need, handler: H, about: About) -> Self
    where
        H: Handler<M, Api> + Documented<D>,
        M: 'static,
    {
        self.on(
            (Method::DELETE, MethodFilter::DELETE),
            path,
            need,
            handler,
            about,
        )
    }

    fn on<H, M, D>(
        mut self,
        (method, filter): (Method, MethodFilter),
        path: &str,
        need: Need,
        handler: H,
        about: About,
    ) -> Self
    where
        H: Handler<M, Api> + Documented<D>,
        M: 'static,
    {
        // The one parameter that may have slashes is written `{*key}` for the router.
        let shown = path.replace("{*", "{");
        let names = shown.split('{').skip(1);
        let mut operation = Operation {
            path_names: names
                .filter_map(|part| Some(part.split_once('}')?.0.to_owned()))
                .collect(),
            parameters: Vec::new(),
            body: None,
            responses: BTreeMap::new(),
            requests: &mut self.requests,
            answers: &mut self.answers,
        };
        H::describe(&mut operation);
        let refused = match need {
            Need::Nothing => &[][..],
            _ => REFUSED,
        };
        let problems = about.problems.iter().copied().flatten();
        operation.problems(ANY.iter().chain(refused).chain(problems));
        let described = operation.finish(&about, need, self.section);
        self.rules.add(path, method.clone(), need);
        let methods = self.paths.entry(shown).or_default();
        methods.insert(method.as_str().to_lowercase(), described);
        self.router = self.router.route(path, on(filter, handler));
        self
    }

    /// The router, what each route needs, and the document.
    pub fn finish(mut self) -> (Router<Api>, Rules, Value) {
        let mut schemas = self.requests.take_definitions(false);
        // What goes both ways has one schema; the test below holds them together.
        schemas.extend(self.answers.take_definitions(false));
        let schemes = json!({ "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token that `folio clients add` made. A node that does not know its clients asks for none.",
        }, "certificate": {
            "type": "mutualTLS",
            "description": "A certificate of the authority for clients, if the node has one (`folio serve --client-authority`).",
        } });
        let mut document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Folio",
                "version": env!("CARGO_PKG_VERSION"),
                "description": ABOUT,
                "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            },
            "servers": [{ "url": "/", "description": "The node that serves this document." }],
            "paths": self.paths,
            "components": { "schemas": schemas, "securitySchemes": schemes },
        });
        schema::bound_integers(&mut document);
        schema::gather_constants(&mut document);
        (self.router, self.rules, document)
    }
}

/// An operation of the document while it is put together.
pub(super) struct Operation<'g> {
    path_names: Vec<String>,
    parameters: Vec<Value>,
    body: Option<Value>,
    /// By status.
    responses: BTreeMap<u16, Value>,
    requests: &'g mut SchemaGenerator,
    answers: &'g mut SchemaGenerator,
}

impl Operation<'_> {
    /// Has a JSON body.
    pub fn body<T: JsonSchema>(&mut self) {
        let schema = self.requests.subschema_for::<T>();
        self.body = Some(json!({
            "required": true,
            "content": { "application/json": { "schema": schema } },
        }));
    }

    /// Has a query with the members of `T`.
    pub fn query<T: JsonSchema>(&mut self) {
        let schema = T::json_schema(self.requests).to_value();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            let required = required.iter().any(|required| required == name);
            self.parameter(name, "query", required, member.clone());
        }
    }

    /// The next parameter of the path is a `T`.
    pub fn place<T: JsonSchema>(&mut self) {
        let known = |parameter: &&Value| parameter["in"] == "path";
        let next = self.parameters.iter().filter(known).count();
        if let Some(name) = self.path_names.get(next).cloned() {
            let schema = self.requests.subschema_for::<T>().to_value();
            self.parameter(&name, "path", true, schema);
        }
    }

    /// Takes a header.
    pub fn header(&mut self, name: &str, description: &str, mut schema: Value) {
        schema["description"] = description.into();
        self.parameter(name, "header", false, schema);
    }

    fn parameter(&mut self, name: &str, place: &str, required: bool, mut schema: Value) {
        let mut description = None;
        if let Some(members) = schema.as_object_mut() {
            description = members.remove("description");
            // What is absent from a query is not null there.
            if let Some(Value::Array(kinds)) = members.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [only] = kinds.as_slice() {
                    let only = only.clone();
                    members.insert("type".into(), only);
                }
            }
            if place == "path" && members.get("type") == Some(&json!("string")) {
                members.insert("minLength".into(), 1.into());
            }
        }
        let known = PARAMETERS.iter().find(|(known, _)| *known == name);
        let description = description.or_else(|| known.map(|(_, text)| (*text).into()));
        let mut parameter =
            json!({ "name": name, "in": place, "required": required, "schema": schema });
        if let Some(description) = description {
            parameter["description"] = description;
        }
        self.parameters.push(parameter);
    }

    /// Answers with JSON.
    pub fn json<T: JsonSchema>(&mut self, status: u16, description: &str) {
        let schema = self.answers.subschema_for::<T>().to_value();
        self.response(
            status,
            description,
            "application/json",
            json!({ "schema": schema }),
        );
    }

    /// Answers with something else.
    pub fn response(&mut self, status: u16, description: &str, media_type: &str, content: Value) {
        let response = json!({ "description": description, "content": { media_type: content } });
        self.responses.insert(status, response);
    }

    /// Where the schema of a `T` in an answer is.
    pub fn schema<T: JsonSchema>(&mut self) -> Value {
        self.answers.subschema_for::<T>().to_value()
    }

    fn problems<'c>(&mut self, codes: impl Iterator<Item = &'c Code>) {
        let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        for code in codes {
            let with = by_status.entry(code.status()).or_default();
            if !with.contains(code) {
                with.push(*code);
            }
            if *code == Code::NotLeader {
                by_status.insert(307, vec![*code]);
            }
        }
        for (status, codes) in by_status {
            let names: Vec<_> = codes.iter().map(|code| code.name()).collect();
            let lines = codes
                .iter()
                .map(|code| format!("`{code}`: {}", code.meaning()));
            let lines: Vec<_> = lines.collect();
            // One schema for all: clients that are generated have one type for problems.
            let schema = self.answers.subschema_for::<ProblemDocument>();
            let content = json!({ "schema": schema, "x-codes": names });
            self.response(status, &lines.join("\n\n"), MEDIA_TYPE, content);
            let header =
                |text: &str, kind: &str| json!({ "description": text, "schema": { "type": kind } });
            let headers = match status {
                307 => json!({ "Location": header("The same at the leader.", "string") }),
                429 | 503 => json!({ "Retry-After": header("Seconds to wait.", "integer") }),
                _ => continue,
            };
            if let Some(response) = self.responses.get_mut(&status) {
                response["headers"] = headers;
            }
        }
    }

    fn finish(self, about: &About, need: Need, section: &str) -> Value {
        let role = need.role().map_or("", Role::name);
        let takes = match need {
            Need::Nothing => "Everybody may ask for it.".to_owned(),
            Need::Everywhere(_) => format!("Takes the role `{role}` in all vaults."),
            Need::Somewhere(_) => format!("Takes the role `{role}` in some vault."),
            Need::InVault(_) => format!("Takes the role `{role}` in the vault."),
        };
        let security = match need {
            Need::Nothing => json!([]),
            _ => json!([{ "token": [role] }, { "certificate": [role] }, {}]),
        };
        let mut operation = json!({
            "operationId": about.name,
            "summary": about.summary,
            "description": takes,
            "security": security,
            "tags": [section],
            "responses": self.responses,
        });
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.into();
        }
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        operation
    }
}

/// `GET /v1/openapi.json`
pub(super) async fn serve(State(api): State<Api>) -> Described {
    Described(api.document.clone())
}

/// The document itself.
pub(super) struct Described(axum::body::Bytes);

impl IntoResponse for Described {
    fn into_response(self) -> axum::response::Response {
        ([(CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}

impl Output for Described {
    fn describe(operation: &mut Operation<'_>) {
        let schema = json!({ "schema": { "type": "object" } });
        operation.response(200, "An OpenAPI 3.1 document", "application/json", schema);
    }
}

#[cfg(test)]
mod tests {
    use crate::api::table;

    #[test]
    fn what_goes_both_ways_has_one_schema() {
        let mut routes = table::routes();
        let answers = routes.answers.take_definitions(false);
        for (name, asked) in routes.requests.take_definitions(false) {
            if let Some(answered) = answers.get(&name) {
                assert_eq!(asked, *answered, "{name}");
            }
        }
    }
}
