//! The part of JSON Schema that the API's document uses. A keyword that is not known here is an error, so that nothing
//! passes unchecked.

use serde_json::{Map, Value};

/// The document that a node serves.
pub struct Document(pub Value);

impl Document {
    /// What is wrong with `value`, if anything: what `schema` refuses, and members that it does not know.
    pub fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        self.check_at(schema, value, "", true)
    }

    /// What a `$ref` refers to.
    pub fn resolve(&self, reference: &str) -> &Value {
        let pointer = reference.strip_prefix('#').expect("it is in here");
        let found = self.0.pointer(pointer);
        found.unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    fn check_at(&self, schema: &Value, value: &Value, at: &str, whole: bool) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{at}: {what}: {value} by {schema}"));
        let members = match schema {
            Value::Bool(true) => return Ok(()),
            Value::Object(members) => members,
            _ => return wrong("no such value"),
        };
        let among = |kinds: &Value| match kinds {
            Value::String(kind) => is(kind, value),
            kinds => list(kinds).iter().any(|kind| is(text(kind), value)),
        };
        if members.get("type").is_some_and(|kinds| !among(kinds)) {
            return wrong("another type");
        }
        // Members of an object may be named by several schemas together.
        let apart = members.contains_key("allOf");
        for (keyword, operand) in members {
            match keyword.as_str() {
                "$ref" => self.check_at(self.resolve(text(operand)), value, at, whole)?,
                "allOf" => {
                    for schema in list(operand) {
                        self.check_at(schema, value, at, false)?;
                    }
                }
                "oneOf" | "anyOf" => {
                    let fits = |schema: &&Value| self.check_at(schema, value, at, whole).is_ok();
                    let fitting = list(operand).iter().filter(fits).count();
                    if fitting == 0 || (keyword == "oneOf" && fitting > 1) {
                        return wrong("none or more than one of them");
                    }
                }
                "enum" if !list(operand).contains(value) => return wrong("none of these"),
                "const" if operand != value => return wrong("another value"),
                "minimum" if below(value, operand) => return wrong("too small"),
                "maximum" if below(operand, value) => return wrong("too large"),
                "required" => {
                    for name in list(operand) {
                        if value.get(text(name)).is_none() {
                            return wrong(&format!("{name} is missing"));
                        }
                    }
                }
                "properties" if value.is_object() => {
                    for (name, schema) in object(operand) {
                        if let Some(member) = value.get(name) {
                            self.check_at(schema, member, &format!("{at}/{name}"), true)?;
                        }
                    }
                    let open = members.contains_key("additionalProperties") || !whole || apart;
                    let unknown = object(value)
                        .keys()
                        .find(|name| operand.get(name).is_none());
                    if let (Some(name), false) = (unknown, open) {
                        return wrong(&format!("`{name}` is not in the document"));
                    }
                }
                "patternProperties" if value.is_object() => {
                    let (pattern, schema) = object(operand).iter().next().expect("a pattern");
                    assert_eq!(pattern, r"^\d+$", "no other one is known here");
                    for (name, member) in object(value).iter().filter(|(name, _)| numeric(name)) {
                        self.check_at(schema, member, &format!("{at}/{name}"), true)?;
                    }
                }
                "additionalProperties" if value.is_object() => {
                    let named = members.get("properties").map(object);
                    let patterned = members.contains_key("patternProperties");
                    for (name, member) in object(value) {
                        if patterned && numeric(name) {
                            continue;
                        }
                        if named.is_none_or(|named| !named.contains_key(name)) {
                            self.check_at(operand, member, &format!("{at}/{name}"), true)?;
                        }
                    }
                }
                "items" if value.is_array() => {
                    for (place, item) in list(value).iter().enumerate() {
                        self.check_at(operand, item, &format!("{at}/{place}"), true)?;
                    }
                }
                "pattern" if text(operand) == "^[0-9a-f]{64}$" => {
                    let digits = text(value);
                    let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
                    if digits.len() != 64 || !digits.chars().all(hexadecimal) {
                        return wrong("not a hash");
                    }
                }
                // Only what requests hold has other patterns and lengths.
                "pattern" | "minLength" | "maxLength" | "minItems" | "maxItems" => {}
                "properties" | "patternProperties" | "additionalProperties" | "items" => {}
                "type" | "enum" | "const" | "minimum" | "maximum" => {}
                "description" | "title" | "format" | "default" | "contentEncoding" => {}
                unknown => return wrong(&format!("the keyword `{unknown}` is not known here")),
            }
        }
        Ok(())
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

/// Whether both are whole numbers, the first the smaller one.
fn below(a: &Value, b: &Value) -> bool {
    let whole = |value: &Value| {
        value
            .as_u64()
            .map(i128::from)
            .or(value.as_i64().map(i128::from))
    };
    matches!((whole(a), whole(b)), (Some(a), Some(b)) if a < b)
}

fn numeric(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_digit())
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("an array")
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}
