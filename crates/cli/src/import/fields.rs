//! What the fields of a row mean.

use std::str::FromStr;

use folio_ledger::state_key::Relationship;
use folio_ledger::transaction::Operation;
use serde_json::{Map, Value};

/// What a column can be.
const PARTS: [&str; 6] = [
    "resource",
    "relation",
    "subject",
    "key",
    "value",
    "expires_at",
];

/// What the columns are called, in the order of [`PARTS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names([String; 6]);

impl Default for Names {
    fn default() -> Self {
        Names(PARTS.map(str::to_owned))
    }
}

impl FromStr for Names {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut names = Names::default();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (part, column) = pair
                .split_once('=')
                .filter(|(_, column)| !column.is_empty())
                .ok_or_else(|| format!("`{pair}` is not of the form WHAT=COLUMN"))?;
            let place = PARTS.iter().position(|known| *known == part);
            let place = place.ok_or_else(|| format!("`{part}` is none of {}", PARTS.join(", ")))?;
            column.clone_into(&mut names.0[place]);
        }
        Ok(names)
    }
}

/// How rows become operations.
#[derive(Debug, Clone, Default)]
pub struct Meaning {
    names: Names,
    relation: Option<String>,
}

impl Meaning {
    pub fn new(names: Names, relation: Option<String>) -> Self {
        Meaning { names, relation }
    }

    /// Whether a row with these columns could mean something; else why not.
    pub fn check<'c>(&self, columns: impl Iterator<Item = &'c str>) -> Result<(), String> {
        let row = columns.map(|column| (column.to_owned(), Value::from("0")));
        self.operation(row.collect()).map(drop)
    }

    /// What a row asks for; else what is wrong with it.
    pub fn operation(&self, mut row: Map<String, Value>) -> Result<Operation, String> {
        let [resource, relation, subject, key, value, expires_at] = &self.names.0;
        if row.contains_key(key) {
            let key = text(&mut row, key)?;
            let expires_at = match row.remove(expires_at) {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) if text.is_empty() => None,
                Some(Value::String(text)) => Some(text.parse().map_err(|_| not_a_time(&text))?),
                Some(other) => Some(other.as_u64().ok_or_else(|| not_a_time(&other))?),
            };
            let value = match row.remove(value) {
                Some(Value::String(text)) => text,
                Some(other) => other.to_string(),
                None => Value::Object(row).to_string(),
            };
            return Ok(Operation::SetEntity {
                key: key.into_bytes(),
                value: value.into_bytes(),
                expires_at,
            });
        }
        for column in [resource, subject] {
            if !row.contains_key(column) {
                return Err(format!(
                    "it has neither the column `{key}` of an entity nor the column `{column}` of a relationship (--columns says \
                     what columns are called)"
                ));
            }
        }
        let relation = match &self.relation {
            Some(constant) if !row.contains_key(relation) => constant.clone(),
            _ => text(&mut row, relation)?,
        };
        Ok(Operation::CreateRelationship(Relationship {
            resource: text(&mut row, resource)?,
            relation,
            subject: text(&mut row, subject)?,
        }))
    }
}

/// A name: text, or a number as it is written.
fn text(row: &mut Map<String, Value>, column: &str) -> Result<String, String> {
    match row.remove(column) {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(_) => Err(format!(
            "its column `{column}` is neither text nor a number"
        )),
        None => Err(format!("it has no column `{column}`")),
    }
}

fn not_a_time(found: &dyn std::fmt::Display) -> String {
    format!("`{found}` is no time in microseconds since 1970")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(names: &str, relation: Option<&str>, row: Value) -> Result<Operation, String> {
        let meaning = Meaning::new(names.parse().expect("names"), relation.map(str::to_owned));
        let Value::Object(row) = row else {
            panic!("a row is an object")
        };
        meaning.operation(row)
    }

    #[test]
    fn a_row_with_a_key_is_an_entity() {
        let row = serde_json::json!({"key": 7, "value": {"a": 1}, "expires_at": "9"});
        let expected = Operation::SetEntity {
            key: b"7".to_vec(),
            value: br#"{"a":1}"#.to_vec(),
            expires_at: Some(9),
        };
        assert_eq!(operation("", None, row), Ok(expected));
        let row = serde_json::json!({"id": "a", "mail": "b", "age": 3});
        let expected = Operation::SetEntity {
            key: b"a".to_vec(),
            value: br#"{"age":3,"mail":"b"}"#.to_vec(),
            expires_at: None,
        };
        assert_eq!(operation("key=id", None, row), Ok(expected));
    }

    #[test]
    fn a_row_with_a_resource_and_a_subject_is_a_relationship() {
        let expected = Operation::CreateRelationship(Relationship::new("d", "owner", "u"));
        let row =
            serde_json::json!({"resource": "d", "relation": "owner", "subject": "u", "note": 1});
        assert_eq!(operation("", None, row.clone()), Ok(expected.clone()));
        assert_eq!(operation("", Some("viewer"), row), Ok(expected.clone()));
        let row = serde_json::json!({"doc": "d", "user": "u"});
        let named = operation("resource=doc,subject=user", Some("owner"), row);
        assert_eq!(named, Ok(expected));
    }

    #[test]
    fn what_a_row_lacks_is_named() {
        for (row, word) in [
            (
                serde_json::json!({"resource": "d", "relation": "o"}),
                "`subject`",
            ),
            (
                serde_json::json!({"resource": "d", "subject": "o"}),
                "`relation`",
            ),
            (serde_json::json!({"key": null}), "`key`"),
            (
                serde_json::json!({"key": "a", "expires_at": "soon"}),
                "`soon`",
            ),
            (serde_json::json!({"key": "a", "expires_at": -1}), "`-1`"),
        ] {
            let reason = operation("", None, row).expect_err(word);
            assert!(reason.contains(word), "{reason}");
        }
        for wrong in ["key", "key=", "keys=a"] {
            assert!(wrong.parse::<Names>().is_err(), "{wrong}");
        }
    }
}
