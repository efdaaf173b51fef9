//! Converts the OpenAPI document to version 3.0, for tools that cannot read 3.1.
//!
//! Webhooks, scopes of bearer tokens, rules for the keys of maps, and the schema of an event
//! stream's text cannot be expressed in 3.0, so they are left out. Members beside a `$ref` are
//! ignored by 3.0, so the reference is wrapped in `allOf`. A null is expressed by `nullable`, which
//! needs a `type` beside it: the type of the referenced schema, or, unless that is an object, the
//! whole referenced schema, copied.

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi as Document;

/// Converts the document.
///
/// # Panics
/// Never: a document of plain data can always be written as JSON.
pub fn convert(document: &Document) -> Value {
    let mut document = serde_json::to_value(document).expect("a document of plain data is JSON");
    if let Some(root) = document.as_object_mut() {
        root.insert("openapi".to_owned(), "3.0.3".into());
        root.remove("webhooks");
    }
    if let Some(license) = document.pointer_mut("/info/license").and_then(Value::as_object_mut)
        && license.remove("identifier").is_some()
    {
        license.insert("url".to_owned(), "https://www.apache.org/licenses/LICENSE-2.0".into());
    }
    let named = document.pointer("/components/schemas").and_then(Value::as_object);
    let named = named.cloned().unwrap_or_default();
    walk(&mut document, &named);
    document
}

/// Schemas by name, before the conversion.
type Schemas = Map<String, Value>;

/// Members that hold values of the API. A key inside of them is data, and not a keyword of a
/// schema.
const VALUES: [&str; 4] = ["example", "examples", "default", "enum"];
/// Keywords that 3.0 does not have.
const UNKNOWN: [&str; 4] =
    ["propertyNames", "contentSchema", "contentEncoding", "contentMediaType"];

fn walk(value: &mut Value, named: &Schemas) {
    let walk_on = |part: &mut Value| walk(part, named);
    match value {
        Value::Array(items) => items.iter_mut().for_each(walk_on),
        Value::Object(object) => {
            for (name, part) in object.iter_mut() {
                match (name.as_str(), part) {
                    // Its keys are names of fields, even if they look like keywords.
                    ("properties", Value::Object(fields)) => fields.values_mut().for_each(walk_on),
                    ("security", part) => without_scopes(part),
                    (name, part) if !VALUES.contains(&name) => walk_on(part),
                    _ => {}
                }
            }
            convert_schema(object, named);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// In 3.0, only OAuth has scopes.
fn without_scopes(security: &mut Value) {
    for requirement in security.as_array_mut().into_iter().flatten() {
        for scopes in requirement.as_object_mut().into_iter().flat_map(Map::values_mut) {
            *scopes = json!([]);
        }
    }
}

/// Converts a schema. An object that is no schema has none of these keywords, and stays as it is.
fn convert_schema(schema: &mut Map<String, Value>, named: &Schemas) {
    for word in UNKNOWN {
        schema.remove(word);
    }
    if let Some(Value::Array(examples)) = schema.get("examples") {
        let first = examples.first().cloned();
        schema.remove("examples");
        schema.extend(first.map(|example| ("example".to_owned(), example)));
    }
    if let Some(limit @ Value::Number(_)) = schema.get("exclusiveMinimum").cloned() {
        schema.insert("minimum".to_owned(), limit);
        schema.insert("exclusiveMinimum".to_owned(), true.into());
    }
    let mut nullable = false;
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        let before = types.len();
        types.retain(|name| name != "null");
        nullable = types.len() < before;
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(either)) = schema.get_mut("oneOf") {
        let before = either.len();
        either.retain(|one| *one != json!({"type": "null"}));
        nullable |= either.len() < before;
        // If there was one schema beside null, its members are moved into this one.
        if before == 2
            && either.len() == 1
            && let Value::Object(only) = either.swap_remove(0)
        {
            schema.remove("oneOf");
            schema.extend(only);
        }
    }
    if nullable {
        give_type(schema, named);
        schema.insert("nullable".to_owned(), true.into());
        if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.push(Value::Null);
        }
    }
    if schema.len() > 1
        && let Some(reference) = schema.remove("$ref")
    {
        schema.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
}

/// Gives the schema the type of the schema that it refers to.
fn give_type(schema: &mut Map<String, Value>, named: &Schemas) {
    let around = schema.get("allOf").and_then(|all| all.pointer("/0/$ref"));
    let reference = around.or_else(|| schema.get("$ref")).and_then(Value::as_str);
    let name = reference.and_then(|reference| reference.rsplit('/').next());
    let Some(Value::Object(other)) = name.and_then(|name| named.get(name)) else {
        return;
    };
    let mut other = other.clone();
    if other.get("type").is_some_and(|kind| kind == "object") {
        schema.insert("type".to_owned(), "object".into());
        return;
    }
    schema.remove("allOf");
    schema.remove("$ref");
    convert_schema(&mut other, named);
    for (word, value) in other {
        schema.entry(word).or_insert(value);
    }
}
