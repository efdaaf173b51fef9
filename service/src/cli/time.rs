//! Times and durations, as people type them.

use std::time::Duration;

use anyhow::Context;
use jiff::SignedDuration;
use nightshift_client::types::Timestamp;

use crate::clock::{Clock, SystemClock, later};

/// Seconds, or a number with a unit: `90`, `90s`, `5m`, `1h 30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration, such as 90, 90s, 5m or 1h30m");
    if let Ok(seconds) = text.parse() {
        return Duration::try_from_secs_f64(seconds).map_err(|_negative| wrong());
    }
    let signed: SignedDuration = text.parse().map_err(|_malformed| wrong())?;
    Duration::try_from(signed).map_err(|_negative| wrong())
}

/// A duration as it may be typed.
pub(super) fn shown(duration: Duration) -> String {
    match SignedDuration::try_from(duration) {
        Ok(signed) => format!("{signed:#}"),
        Err(_too_long) => format!("{} s", duration.as_secs()),
    }
}

/// A time, or how much later than now.
pub(super) fn time(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let later_by: SignedDuration =
        text.parse().with_context(|| format!("{text:?} is neither a time nor a duration"))?;
    let later_by = Duration::try_from(later_by).context("the time lies in the past")?;
    Ok(later(SystemClock::default().now(), later_by).into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, shown};

    #[test]
    fn durations_are_seconds_or_have_units() {
        for (text, seconds) in
            [("90", 90.0), ("0.5", 0.5), ("90s", 90.0), ("5m", 300.0), ("1h30m", 5_400.0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "-1", "-5m", "inf", "nan", "soon", "demo.tasks.add", "5 parsecs"] {
            assert!(duration(text).unwrap_err().contains("such as 90, 90s, 5m"), "{text}");
        }
        assert_eq!(shown(Duration::from_mins(5)), "5m");
        assert_eq!(shown(Duration::from_secs(1)), "1s");
    }
}
