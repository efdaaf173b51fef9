//! The OpenAPI document says all that a client has to know, and shows it.

use std::collections::BTreeSet;

use nightshift_client::types::ErrorCode;
use serde_json::Value;

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
