//! Translates serde's error messages into words about JSON. Serde's own messages name Rust types,
//! and those for query parameters do not name the parameter.

use nightshift_openapi::ErrorCode;

/// The message for an error in a body. It is about the value at `pointer`.
pub(super) fn of_body(error: &serde_json::Error, pointer: &str, code: ErrorCode) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let (message, place) = match text.strip_suffix(&place) {
        Some(message) => (message, place.as_str()),
        None => (text.as_str(), ""),
    };
    let name = pointer.strip_prefix('/').unwrap_or("the body");
    let said = match (code, message) {
        // A text from a fixed list is expected, and the value is not a string.
        (ErrorCode::InvalidField, NO_VALUE) => format!("{name} must be a string"),
        _ => wrong_value(name, message).unwrap_or_else(|| wrong_text(message)),
    };
    format!("{said}{place}")
}

/// The parser's message at a place where no value begins.
const NO_VALUE: &str = "expected value";

pub(super) fn says_no_value(error: &serde_json::Error) -> bool {
    error.is_syntax() && error.to_string().starts_with(NO_VALUE)
}

/// The message for an error in the query parameter `name`.
pub(super) fn of_parameter(name: &str, message: &str) -> String {
    match message {
        // Messages of the standard library and of serde_urlencoded.
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            format!("{name} must be a whole number of 0 or more")
        }
        "number too large to fit in target type" => format!("{name} is too large"),
        "provided string was not `true` or `false`" => format!("{name} must be true or false"),
        _ => wrong_value(name, message).unwrap_or_else(|| format!("{name}: {message}")),
    }
}

/// The message for a value of a wrong type or outside of a list.
fn wrong_value(name: &str, message: &str) -> Option<String> {
    // Split at the last separator: the value is quoted before it, and may contain the same words.
    let values = ["invalid type: ", "invalid value: "];
    if let Some(rest) = values.iter().find_map(|start| message.strip_prefix(start)) {
        let (found, wanted) = rest.rsplit_once(", expected ")?;
        return Some(format!("{name} must be {}, not {}", kind(wanted), value(found)));
    }
    let (found, words) = message.strip_prefix("unknown variant `")?.rsplit_once("`, expected ")?;
    Some(format!("{name} must be {words}, not `{found}`"))
}

/// The JSON name of the expected type.
fn kind(wanted: &str) -> &str {
    match wanted {
        "f32" | "f64" => "a number",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more",
        "a boolean" => "true or false",
        "a borrowed string" | "string" | "str" => "a string",
        "a formatted UUID string" => "a UUID",
        "a sequence" => "an array",
        "a map" => "an object",
        "unit" => "null",
        _ if wanted.starts_with("struct ") => "an object",
        _ if wanted.starts_with("enum ") || wanted.starts_with("variant ") => "a string",
        _ => wanted,
    }
}

/// The JSON name of the value that was found.
fn value(found: &str) -> String {
    match found {
        "sequence" => return "an array".to_owned(),
        "map" => return "an object".to_owned(),
        "unit value" => return "null".to_owned(),
        _ => {}
    }
    let number = ["integer `", "floating point `", "boolean `"];
    match number.iter().find_map(|start| found.strip_prefix(start)?.strip_suffix('`')) {
        Some(number) => number.to_owned(),
        None if found.starts_with("string ") => format!("the {found}"),
        None => found.to_owned(),
    }
}

/// The message for an error about the fields of an object, or in the text.
fn wrong_text(message: &str) -> String {
    let field = |start: &str| message.strip_prefix(start)?.strip_suffix('`');
    if let Some(field) = field("missing field `") {
        return format!("the field `{field}` is missing");
    }
    if let Some(field) = field("duplicate field `") {
        return format!("the field `{field}` is there twice");
    }
    match message {
        "expected ident" => "expected null, true or false".to_owned(),
        _ => message.to_owned(),
    }
}
