//! `GET /`: a page for people who would rather look than type. It is one file, asks this node with the API's own GET
//! requests at the level `local`, and changes nothing.
//!
//! Its policy allows the script and the style that are in it, by their hashes, and requests to this node: nothing that a
//! vault holds can become code, and nothing leaves for elsewhere.

use std::sync::LazyLock;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use folio_ledger::digest::Digest;
use serde_json::json;

use super::openapi::{Operation, Output};

const PAGE: &str = include_str!("page.html");

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let (script, style) = (hash_of("script"), hash_of("style"));
    format!(
        "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The hash of what is in the one element of this name.
fn hash_of(element: &str) -> String {
    let (begin, end) = (format!("<{element}>"), format!("</{element}>"));
    let inside = PAGE.split_once(&begin);
    let inside = inside.and_then(|(_, rest)| rest.split_once(&end));
    let inside = inside.map_or("", |(inside, _)| inside);
    let hash = Digest::of(&[inside.as_bytes()]);
    format!("sha256-{}", BASE64_STANDARD.encode(hash.as_bytes()))
}

/// The page.
pub(super) struct Page;

pub(super) async fn show() -> Page {
    Page
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let headers = [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CONTENT_SECURITY_POLICY, POLICY.as_str()),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (CACHE_CONTROL, "no-cache"),
        ];
        (headers, PAGE).into_response()
    }
}

impl Output for Page {
    fn describe(operation: &mut Operation<'_>) {
        let schema = json!({ "schema": { "type": "string" } });
        operation.response(200, "A page", "text/html", schema);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_in_itself_and_makes_no_markup_of_what_it_is_told() {
        for element in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1, "{element}");
            assert_eq!(
                PAGE.matches(&format!("</{element}>")).count(),
                1,
                "{element}"
            );
        }
        for wrong in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "http://",
            "src=",
            " style=\"",
            "onclick=\"",
        ] {
            assert!(!PAGE.contains(wrong), "{wrong}");
        }
        assert!(!POLICY.contains("unsafe"), "{}", *POLICY);
    }
}
