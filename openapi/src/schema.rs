//! Texts and maps whose rules the service checks itself: what the document says of them. Where the
//! code has a `String`, a field names one of these as its `value_type`.
#![expect(dead_code, reason = "their descriptions are read, not their values")]

use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema,
        schema::{AdditionalProperties, SchemaType, Type},
    },
};

/// Names the work, such as `myapp.tasks.extract_sources`: 1 to 255 visible characters, without
/// white space or `*`. Executors register for task paths.
#[derive(ToSchema)]
#[schema(
    min_length = 1,
    max_length = 255,
    pattern = r"^[^\u0000-\u0020*\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+$",
    example = "myapp.tasks.extract_sources"
)]
pub struct TaskPath(String);

/// Task paths: one as it is, those that begin with the same (`myapp.tasks.*`), or all (`*`).
#[derive(ToSchema)]
#[schema(
    min_length = 1,
    max_length = 256,
    pattern = r"^([^\u0000-\u0020*\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]{1,255}\*?|\*)$",
    example = "myapp.tasks.*"
)]
pub struct TaskPathPattern(String);

/// The line that a task waits in: 1 to 255 visible characters, without white space or `*`.
#[derive(ToSchema)]
#[schema(
    min_length = 1,
    max_length = 255,
    pattern = r"^[^\u0000-\u0020*\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+$",
    example = "images"
)]
pub struct QueueName(String);

/// A queue's name, or `*` for all.
#[derive(ToSchema)]
#[schema(
    min_length = 1,
    max_length = 255,
    pattern = r"^([^\u0000-\u0020*\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+|\*)$",
    example = "images"
)]
pub struct QueuePattern(String);

/// 1 to 100 of `A-Z a-z 0-9 . _ -`, the first not a dot. Names an executor or a plugin.
#[derive(ToSchema)]
#[schema(
    min_length = 1,
    max_length = 100,
    pattern = r"^[A-Za-z0-9_\-][A-Za-z0-9._\-]*$",
    example = "source-extraction"
)]
pub struct Name(String);

/// 1 to 255 characters, none of them a control character.
#[derive(ToSchema)]
#[schema(
    min_length = 1,
    max_length = 255,
    pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$",
    example = "m31-nightly"
)]
pub struct Key(String);

/// `whsec_` and the base64 of 24 to 64 bytes, as Standard Webhooks has it.
#[derive(ToSchema)]
#[schema(
    pattern = "^whsec_([A-Za-z0-9+/]{4}){8,20}([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/]{4}([A-Za-z0-9+/][AQgw]==)?)?$",
    example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)]
pub struct Secret(String);

/// A SHA-256 in hexadecimal digits.
#[derive(ToSchema)]
#[schema(
    pattern = "^[0-9A-Fa-f]{64}$",
    example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
)]
pub struct Digest(String);

/// Keyword arguments by name: any JSON.
pub struct Kwargs;

impl PartialSchema for Kwargs {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .description(Some("Keyword arguments by name, any JSON; nested at most 128 deep."))
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .examples([json!({"threshold": 5})])
            .into()
    }
}

impl ToSchema for Kwargs {}

/// Labels by key.
pub struct Labels;

/// Labels of one task.
const LABELS_MAX: usize = 32;
/// Characters of a label's key, and of its value.
const KEY_CHARS_MAX: usize = 63;
const VALUE_CHARS_MAX: usize = 255;

impl PartialSchema for Labels {
    fn schema() -> RefOr<Schema> {
        let text = |chars_min, chars_max, pattern: &str| {
            Schema::Object(
                ObjectBuilder::new()
                    .schema_type(SchemaType::new(Type::String))
                    .min_length(chars_min)
                    .max_length(Some(chars_max))
                    .pattern(Some(pattern))
                    .build(),
            )
        };
        let key = text(Some(1), KEY_CHARS_MAX, r"^[^=\u0000-\u001f\u007f-\u009f]+$");
        let value = text(None, VALUE_CHARS_MAX, r"^[^\u0000-\u001f\u007f-\u009f]*$");
        ObjectBuilder::new()
            .description(Some(
                "What the task may be found by: at most 32 labels, keys of 1 to 63 characters \
                 without `=`, values of up to 255; no control characters.",
            ))
            .max_properties(Some(LABELS_MAX))
            .property_names(Some(key))
            .additional_properties(Some(value))
            .examples([json!({"target": "m31"})])
            .into()
    }
}

impl ToSchema for Labels {}
