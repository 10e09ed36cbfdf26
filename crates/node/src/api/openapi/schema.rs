//! What schemars says, in the form that generators of clients take best.

use serde_json::{Map, Value, json};

/// Says how large an integer of so many bits may be.
pub(super) fn bound_integers(value: &mut Value) {
    each_object(value, &mut |members| {
        let most = match members.get("format").and_then(Value::as_str) {
            Some("uint64") => u64::MAX,
            Some("uint32") => u64::from(u32::MAX),
            Some("uint16") => u64::from(u16::MAX),
            _ => return,
        };
        members.entry("maximum").or_insert(most.into());
    });
}

/// Makes one list of names of what schemars has as a choice between constants, each with its description.
pub(super) fn gather_constants(value: &mut Value) {
    each_object(value, &mut |members| {
        let Some(Value::Array(choices)) = members.get("oneOf") else {
            return;
        };
        let is_name = |choice: &&Value| choice["const"].is_string();
        let (names, mut others): (Vec<&Value>, Vec<&Value>) = choices.iter().partition(is_name);
        if names.is_empty() {
            return;
        }
        let lines = names.iter().map(|choice| {
            let name = choice["const"].as_str().unwrap_or_default();
            let about = choice["description"].as_str().unwrap_or_default();
            format!("- `{name}`: {about}")
        });
        let lines = lines.collect::<Vec<_>>().join("\n");
        let constants: Vec<&Value> = names.iter().map(|choice| &choice["const"]).collect();
        let mut list = json!({ "type": "string", "enum": constants, "description": lines });
        if !others.is_empty() {
            others.insert(0, &list);
            let choices = json!(others);
            members.insert("oneOf".into(), choices);
            return;
        }
        if let Some(Value::String(about)) = members.get("description") {
            list["description"] = format!("{about}\n\n{lines}").into();
        }
        members.remove("oneOf");
        if let Value::Object(list) = list {
            members.extend(list);
        }
    });
}

/// Does this with every object within a value, the outer ones first.
fn each_object(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each_object(item, change)),
        Value::Object(members) => {
            change(members);
            members
                .values_mut()
                .for_each(|member| each_object(member, change));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_become_one_list_and_stay_beside_what_else_there_is() {
        let name = |name: &str| json!({ "type": "string", "const": name, "description": "So." });
        let object = json!({ "type": "object" });
        let mut all = json!({ "description": "What.", "oneOf": [name("a"), name("b")] });
        gather_constants(&mut all);
        let expected = json!({
            "type": "string", "enum": ["a", "b"], "description": "What.\n\n- `a`: So.\n- `b`: So.",
        });
        assert_eq!(all, expected);
        let mut some = json!({ "x": [{ "oneOf": [object, name("a")] }] });
        gather_constants(&mut some);
        let list = json!({ "type": "string", "enum": ["a"], "description": "- `a`: So." });
        assert_eq!(some, json!({ "x": [{ "oneOf": [list, object] }] }));
    }

    #[test]
    fn integers_are_as_large_as_they_can_be_here() {
        let mut schema =
            json!({ "a": { "format": "uint64" }, "b": { "format": "uint32", "maximum": 7 } });
        bound_integers(&mut schema);
        assert_eq!(schema["a"]["maximum"], u64::MAX);
        assert_eq!(schema["b"]["maximum"], 7);
    }
}
