//! Cursors: positions in a list, in base64, so that clients do not rely on their meaning.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nightshift_openapi::ErrorCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Error;
use crate::domain::limits::{PAGE_DEFAULT, PAGE_MAX};

fn invalid() -> Error {
    let detail = "the cursor is not one that an answer held";
    Error::new(ErrorCode::InvalidCursor, detail).about("cursor")
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

/// The bytes of the name after which the page begins. They need not be a valid name.
pub(super) fn to_name(cursor: &str) -> Result<Vec<u8>, Error> {
    URL_SAFE_NO_PAD.decode(cursor).map_err(|_malformed| invalid())
}

/// Which page of a list by name to show.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ByName {
    /// 1 to 1,000; 100 by default.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(
        pattern = r"^([A-Za-z0-9_\-]{4})*([A-Za-z0-9_\-][AQgw]|[A-Za-z0-9_\-]{2}[AEIMQUYcgkosw048])?$",
        example = "dG9t"
    )]
    cursor: Option<String>,
}

impl ByName {
    /// Cuts the page out of a list sorted by name. Returns it with the cursor of the next page.
    pub(super) fn page<T>(
        self,
        mut sorted: Vec<T>,
        name: impl Fn(&T) -> &str,
    ) -> Result<(Vec<T>, Option<String>), Error> {
        let limit = usize::try_from(limit(self.limit)?).unwrap_or(usize::MAX);
        if let Some(after) = self.cursor.as_deref().map(to_name).transpose()? {
            sorted.retain(|item| name(item).as_bytes() > after.as_slice());
        }
        let more = sorted.len() > limit;
        sorted.truncate(limit);
        let next = sorted.last().filter(|_| more).map(|last| from_name(name(last)));
        Ok((sorted, next))
    }
}

/// The number of rows of a page.
pub(super) fn limit(asked: Option<u32>) -> Result<u32, Error> {
    let limit = asked.unwrap_or(PAGE_DEFAULT);
    if (1..=PAGE_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Error::of_parameter("limit", format!("limit must be 1 to {PAGE_MAX}")))
}
