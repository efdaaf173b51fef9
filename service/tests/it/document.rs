//! The OpenAPI document says all that a client has to know, and shows it.

use std::collections::BTreeSet;

use nightshift_client::types::ErrorCode;
use serde_json::Value;

use crate::support::{process::binary, soon};

/// The operations with their ids.
fn operations() -> Vec<(String, Value)> {
    let document = serde_json::to_value(nightshift::api::document()).unwrap();
    let items = document["paths"].as_object().unwrap().values();
    let operations = items.flat_map(|item| item.as_object().unwrap().values());
    operations
        .map(|operation| (operation["operationId"].as_str().unwrap().to_owned(), operation.clone()))
        .collect()
}

/// The answers of an operation by status.
fn answers(operation: &Value) -> impl Iterator<Item = (&String, &Value)> {
    operation["responses"].as_object().unwrap().iter()
}

#[test]
fn each_answer_and_each_body_has_an_example() {
    for (id, operation) in operations() {
        let parts = answers(&operation)
            .map(|(status, answer)| (status.as_str(), answer))
            .chain([("body", &operation["requestBody"])]);
        for (part, answer) in parts {
            for (media_type, content) in answer["content"].as_object().into_iter().flatten() {
                let shown = content.get("example").or_else(|| content.get("examples"));
                // Nobody would read the bytes of a component.
                assert!(shown.is_some() || media_type == "application/wasm", "{id} {part}");
            }
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter.get("example").is_some(), "{id} {parameter}");
            assert!(parameter["description"].is_string(), "{id} {parameter}");
        }
    }
}

#[test]
fn errors_are_listed_by_status_with_all_their_codes() {
    let mut listed = BTreeSet::new();
    for (id, operation) in operations() {
        for (status, answer) in answers(&operation) {
            let Ok(status) = status.parse::<u16>() else { panic!("{id} {status} is a range") };
            let content = answer["content"].as_object();
            let problems = content.and_then(|content| content.get("application/problem+json"));
            assert_eq!(problems.is_some(), status >= 400, "{id} {status}");
            for (code, example) in
                problems.into_iter().flat_map(|content| content["examples"].as_object().unwrap())
            {
                let problem = &example["value"];
                assert_eq!(problem["code"], code.as_str(), "{id} {status}");
                assert_eq!(problem["status"], status, "{id} {code}");
                let description = answer["description"].as_str().unwrap();
                assert!(description.contains(&format!("`{code}`")), "{id} {status} {code}");
                listed.insert(code.clone());
            }
        }
    }
    // Answers to what is no operation, or comes in by a wrong door; the document's head has them.
    let elsewhere = [
        ErrorCode::UnknownRoute,
        ErrorCode::MethodNotAllowed,
        ErrorCode::UnknownHost,
        ErrorCode::OriginRefused,
    ];
    let all = ErrorCode::ALL.iter().filter(|code| !elsewhere.contains(code));
    assert_eq!(listed, all.map(|code| code.name().to_owned()).collect());
}

#[test]
fn who_is_asked_to_wait_is_told_how_long() {
    for (id, operation) in operations() {
        for (status, answer) in answers(&operation).filter(|(status, _)| *status == "503") {
            assert!(answer["headers"]["Retry-After"].is_object(), "{id} {status}");
        }
    }
}

#[test]
fn an_executor_is_one_of_three_kinds() {
    let document = serde_json::to_value(nightshift::api::document()).unwrap();
    let schemas = &document["components"]["schemas"];
    let kinds = schemas["ExecutorRequest"]["oneOf"].as_array().unwrap();
    let fields = |schema: &Value| -> Vec<String> {
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let mut seen = BTreeSet::new();
    for kind in kinds {
        let name = kind["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        assert_eq!(schemas[name]["additionalProperties"], false);
        let of_one = fields(&schemas[name]);
        assert_eq!(of_one.contains(&"url".to_owned()), name == "HttpExecutorRequest");
        assert_eq!(of_one.contains(&"plugin".to_owned()), name == "WasmExecutorRequest");
        seen.extend(of_one);
    }
    // Whatever field the code takes stands in one of them.
    let request = nightshift_client::types::examples::wasm_request();
    let sent = serde_json::to_value(request).unwrap();
    assert!(sent.as_object().unwrap().keys().all(|field| seen.contains(field)), "{seen:?}");
    assert_eq!(seen.len(), 15, "{seen:?}");
}

/// Everything in a document that is read as OpenAPI's own word, with where it stands.
fn words(value: &Value, at: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| words(item, &format!("{at}/{n}"), found));
        }
        Value::Object(object) => {
            // Their keys are names, and the values of examples are anything.
            let names = at.ends_with("/properties");
            for (key, part) in object {
                let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                if !names {
                    found.push((at.clone(), part.clone()));
                }
                if names || !matches!(key.as_str(), "example" | "examples" | "default" | "enum") {
                    words(part, &at, found);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_document_for_older_tools_has_no_newer_words() {
    let document = nightshift::api::document();
    let newer = serde_json::to_value(&document).unwrap();
    let older = nightshift::api::document_3_0(&document);
    assert_eq!(older["openapi"], "3.0.3");
    assert!(older["webhooks"].is_null() && newer["webhooks"].is_object());
    assert_eq!(
        older["paths"].as_object().unwrap().keys().collect::<Vec<_>>(),
        newer["paths"].as_object().unwrap().keys().collect::<Vec<_>>(),
    );
    let mut found = Vec::new();
    words(&older, "", &mut found);
    for (at, value) in &found {
        let (above, word) = at.rsplit_once('/').unwrap();
        match word {
            "type" => assert!(value.is_string() && value != "null", "{at}: {value}"),
            "nullable" => {
                let there = older.pointer(above).unwrap();
                assert!(there["type"].is_string(), "{at} needs a type beside it: {there}");
            }
            "exclusiveMinimum" => assert!(value.is_boolean(), "{at}: {value}"),
            "examples" => assert!(value.is_object(), "{at}: {value}"),
            "$ref" => {
                let beside = older.pointer(above).unwrap().as_object().unwrap().len();
                assert_eq!(beside, 1, "{at} hides what stands beside it");
            }
            "identifier" | "propertyNames" | "contentSchema" | "const" | "prefixItems" => {
                panic!("{at}")
            }
            "bearer" if above.contains("/security/") => {
                assert_eq!(value.as_array().unwrap().len(), 0);
            }
            _ => {}
        }
    }
    // The same members may be null.
    let task = &older["components"]["schemas"]["Task"]["properties"];
    assert_eq!(
        (&task["executor"]["type"], &task["executor"]["nullable"]),
        (&"string".into(), &true.into())
    );
    assert_eq!(task["finished_at"]["nullable"], true);
    assert_eq!(task["finished_at"]["format"], "date-time");
    assert_eq!(task["progress"]["allOf"][0]["$ref"], "#/components/schemas/Progress");
    assert!(task["finished_at"]["description"].is_string());
    assert!(task["status"].get("nullable").is_none());
    let seconds = &older["components"]["schemas"]["TaskRequest"]["properties"]["timeout_seconds"];
    assert_eq!((&seconds["minimum"], &seconds["exclusiveMinimum"]), (&0.into(), &true.into()));
}

#[tokio::test]
async fn the_command_line_prints_each_form_of_the_document() {
    let document = nightshift::api::document();
    for (arguments, expected) in [
        (["openapi"].as_slice(), serde_json::to_value(&document).unwrap()),
        (&["openapi", "--version", "3.1"], serde_json::to_value(&document).unwrap()),
        (&["openapi", "--version", "3.0"], nightshift::api::document_3_0(&document)),
    ] {
        let output = soon("a document", binary().args(arguments).output()).await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(printed == expected, "{arguments:?}");
    }
}
