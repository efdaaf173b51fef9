use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

/// An instant: RFC 3339 in UTC with six digits, such as `2026-11-25T07:33:26.000000Z`.
///
/// Any offset is accepted and turned into UTC; a text without one is refused. Digits past the
/// sixth are dropped. From year -9999 to `9999-12-30T22:00:00Z`; a leap second is read as the
/// second before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-25T07:33:26.000000Z")]
pub struct Timestamp(jiff::Timestamp);

impl From<jiff::Timestamp> for Timestamp {
    fn from(instant: jiff::Timestamp) -> Self {
        let whole = jiff::Timestamp::from_microsecond(instant.as_microsecond());
        Self(whole.unwrap_or(instant))
    }
}

impl From<Timestamp> for jiff::Timestamp {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0)
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<jiff::Timestamp>().map(Self::from)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(|error| {
            de::Error::custom(format!("not an RFC 3339 time with an offset: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    fn read(text: &str) -> Result<String, serde_json::Error> {
        let timestamp: Timestamp = serde_json::from_value(text.into())?;
        Ok(timestamp.to_string())
    }

    #[test]
    fn b45_six_digits_are_kept_and_written() {
        assert_eq!(read("2026-01-02T03:04:05Z").unwrap(), "2026-01-02T03:04:05.000000Z");
        assert_eq!(read("2026-01-02T03:04:05.1+01:00").unwrap(), "2026-01-02T02:04:05.100000Z");
        assert_eq!(read("2026-01-02T03:04:05.123456789Z").unwrap(), "2026-01-02T03:04:05.123456Z");
    }

    #[test]
    fn b59_the_ends_of_time_are_read_or_refused_without_overflow() {
        assert_eq!(read("1970-01-01T00:00:00Z").unwrap(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(read("2038-01-19T03:14:08Z").unwrap(), "2038-01-19T03:14:08.000000Z");
        assert_eq!(read("2016-12-31T23:59:60Z").unwrap(), "2016-12-31T23:59:59.000000Z");
        assert!(read("9999-12-31T23:59:59Z").is_err());
        assert!(read("2026-01-02T24:00:01Z").is_err());
    }

    #[test]
    fn a_time_without_zone_is_refused() {
        assert!(read("2026-01-02T03:04:05").is_err());
        assert!(read("2026-01-02").is_err());
        assert!(read("").is_err());
    }
}
