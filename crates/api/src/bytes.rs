//! Byte strings in JSON.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A byte string. In JSON it is a string if it is UTF-8, else `{"base64": "..."}`; requests may use either form.
///
/// ```
/// use folio_api::Bytes;
/// assert_eq!(serde_json::to_string(&Bytes::from("blue"))?, r#""blue""#);
/// assert_eq!(serde_json::to_string(&Bytes(vec![0xff, 0]))?, r#"{"base64":"/wA="}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// The bytes as text, if they are UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        str::from_utf8(&self.0).ok()
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Bytes(text.into())
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Self {
        Bytes(text.into_bytes())
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Bytes(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes(bytes)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Base64 {
    base64: String,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or {\"base64\": \"...\"}")]
enum TextOrBase64 {
    Text(String),
    Base64(Base64),
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_text() {
            Some(text) => serializer.serialize_str(text),
            None => Base64 {
                base64: BASE64_STANDARD.encode(&self.0),
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match TextOrBase64::deserialize(deserializer)? {
            TextOrBase64::Text(text) => Ok(Bytes(text.into_bytes())),
            TextOrBase64::Base64(Base64 { base64 }) => {
                let decoded = BASE64_STANDARD.decode(base64);
                decoded
                    .map(Bytes)
                    .map_err(|error| D::Error::custom(format!("not base64: {error}")))
            }
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Bytes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A byte string: as it is if it is UTF-8, else in base64.",
            "oneOf": [
                { "type": "string" },
                {
                    "type": "object",
                    "properties": {
                        "base64": {
                            "type": "string",
                            "contentEncoding": "base64",
                            "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$",
                        },
                    },
                    "required": ["base64"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json, to_value};

    #[test]
    fn text_is_a_string_and_other_bytes_are_base64() {
        for (bytes, form) in [
            (&b"caf\xc3\xa9"[..], json!("caf\u{e9}")),
            (b"", json!("")),
            (b"\xff\x00", json!({ "base64": "/wA=" })),
        ] {
            let bytes = Bytes(bytes.to_vec());
            assert_eq!(to_value(&bytes).expect("it has a form"), form);
            assert_eq!(from_value::<Bytes>(form).expect("its own form"), bytes);
        }
    }

    #[test]
    fn what_is_neither_text_nor_base64_is_refused() {
        for form in [
            json!(1),
            json!(null),
            json!({}),
            json!({ "base64": "%" }),
            json!({ "base64": "", "more": 1 }),
        ] {
            assert!(from_value::<Bytes>(form.clone()).is_err(), "{form}");
        }
    }
}
