use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Any JSON value, carried as the text that it came in.
///
/// Numbers keep every digit, objects keep their key order and repeated keys, strings keep their
/// escapes: a value read into this type and written again is the same bytes (RFC 8259 leaves all
/// of that to the implementation, and most parsers lose some of it).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Value)]
pub struct Json(Box<RawValue>);

impl Json {
    /// Wraps text that is already known to be one JSON value, without reading it again.
    ///
    /// # Errors
    /// Text that is not exactly one JSON value.
    pub fn from_text(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self)
    }

    /// The JSON text of any serialisable value.
    ///
    /// # Errors
    /// A value that JSON cannot hold, such as a map whose keys are not strings.
    pub fn from_value(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self)
    }

    /// JSON's null.
    #[must_use]
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    /// The text, without surrounding white space.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The text, owned.
    #[must_use]
    pub fn into_text(self) -> String {
        String::from(Box::<str>::from(self.0))
    }

    /// Reads the value as `T`.
    ///
    /// # Errors
    /// The value is not a `T`.
    pub fn parse_as<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }
}

impl FromStr for Json {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text).map(Self)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Equal when the text is equal.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}
