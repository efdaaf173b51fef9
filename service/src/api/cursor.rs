//! Cursors are opaque to clients: the place to read on from, in base64.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nightshift_openapi::ErrorCode;

use super::Error;
use crate::domain::limits::{PAGE_DEFAULT, PAGE_MAX};

fn invalid() -> Error {
    Error::new(ErrorCode::InvalidCursor, "the cursor is not one that an answer held")
}

pub(super) fn from_place(place: i64) -> String {
    URL_SAFE_NO_PAD.encode(place.to_be_bytes())
}

pub(super) fn to_place(cursor: &str) -> Result<i64, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_malformed| invalid())?;
    bytes.try_into().map(i64::from_be_bytes).map_err(|_malformed| invalid())
}

pub(super) fn from_name(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(name)
}

pub(super) fn to_name(cursor: &str) -> Result<String, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_malformed| invalid())?;
    String::from_utf8(bytes).map_err(|_malformed| invalid())
}

/// How many rows a page is to have.
pub(super) fn limit(asked: Option<u32>) -> Result<u32, Error> {
    let limit = asked.unwrap_or(PAGE_DEFAULT);
    if (1..=PAGE_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Error::new(ErrorCode::InvalidQuery, format!("limit must be 1 to {PAGE_MAX}")))
}
