//! What a task asks for: read from JSON, and checked.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::ops::RangeInclusive;

/// A year in steps of ten minutes, with some to spare: the result stays under 4 MiB.
const STEPS_MAX: i64 = 60_000;

/// Days since 2000-01-01T12:00Z of the years 1950 to 2050, for which the Sun's formula is made.
const DAYS: RangeInclusive<f64> = -18_262.5..=18_262.5;

/// Says which field is wrong, and why.
#[derive(Debug, PartialEq)]
pub struct InvalidArguments(pub String);

#[derive(Debug)]
pub struct Request {
    pub target: Target,
    pub options: Options,
}

/// A place in the ICRS, in degrees.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub ra: f64,
    pub dec: f64,
}

/// Degrees, east and north positive, and metres above the sea.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    pub latitude: f64,
    pub longitude: f64,
    #[serde(default)]
    pub elevation: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    pub site: Site,
    pub start: Timestamp,
    pub end: Timestamp,
    #[serde(default = "ten_minutes")]
    pub step_minutes: f64,
    #[serde(default = "airmass_two")]
    pub airmass_max: f64,
    #[serde(default = "nautical_twilight")]
    pub sun_altitude_max: f64,
}

fn ten_minutes() -> f64 {
    10.0
}

fn airmass_two() -> f64 {
    2.0
}

fn nautical_twilight() -> f64 {
    -12.0
}

impl Request {
    /// From a JSON array that holds the target, and a JSON object of the options.
    pub fn parse(args: &str, kwargs: &str) -> Result<Self, InvalidArguments> {
        let (target,) = read::<(Target,)>("args", args)?;
        let request = Self { target, options: read("kwargs", kwargs)? };
        request.check()?;
        Ok(request)
    }

    /// Unix times, `step_minutes` apart; the last is the end itself.
    pub fn times(&self) -> impl Iterator<Item = i64> + use<> {
        let (start, end, step) = (self.start(), self.end(), self.step());
        (0..self.steps()).map(move |index| start + index * step).chain([end])
    }

    /// How many steps lie before the end.
    pub fn steps(&self) -> i64 {
        (self.end() - self.start() + self.step() - 1) / self.step()
    }

    fn start(&self) -> i64 {
        self.options.start.as_second()
    }

    fn end(&self) -> i64 {
        self.options.end.as_second()
    }

    fn step(&self) -> i64 {
        (self.options.step_minutes * 60.0).round() as i64
    }

    fn check(&self) -> Result<(), InvalidArguments> {
        let Options { site, start, end, step_minutes, airmass_max, sun_altitude_max } =
            &self.options;
        within("args: [0].ra", self.target.ra, 0.0..=360.0)?;
        within("args: [0].dec", self.target.dec, -90.0..=90.0)?;
        within("kwargs: site.latitude", site.latitude, -90.0..=90.0)?;
        within("kwargs: site.longitude", site.longitude, -180.0..=360.0)?;
        within("kwargs: site.elevation", site.elevation, -500.0..=10_000.0)?;
        within("kwargs: step_minutes", *step_minutes, 1.0..=1440.0)?;
        within("kwargs: airmass_max", *airmass_max, 1.0..=40.0)?;
        within("kwargs: sun_altitude_max", *sun_altitude_max, -90.0..=90.0)?;
        for (name, time) in [("start", start), ("end", end)] {
            require(DAYS.contains(&crate::sky::days(time.as_second())), || {
                format!("kwargs: {name}: {time} is not from 1950 to 2050")
            })?;
        }
        require(start < end, || format!("kwargs: end: {end} is not after start"))?;
        require(self.steps() <= STEPS_MAX, || {
            format!("kwargs: step_minutes: makes {} steps, over {STEPS_MAX}", self.steps())
        })
    }
}

fn read<T: DeserializeOwned>(what: &str, json: &str) -> Result<T, InvalidArguments> {
    let mut reader = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| InvalidArguments(format!("{what}: {error}")))
}

fn within(name: &str, value: f64, range: RangeInclusive<f64>) -> Result<(), InvalidArguments> {
    require(range.contains(&value), || {
        format!("{name}: {value} is not from {} to {}", range.start(), range.end())
    })
}

fn require(holds: bool, message: impl FnOnce() -> String) -> Result<(), InvalidArguments> {
    if holds { Ok(()) } else { Err(InvalidArguments(message())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGS: &str = r#"[{"ra": 10.7, "dec": 41.3}]"#;

    /// The options with `change` put over them, a field at a time.
    fn kwargs(change: serde_json::Value) -> String {
        let mut kwargs = serde_json::json!({
            "site": {"latitude": 28.76, "longitude": -17.88},
            "start": "2026-11-25T18:00:00Z",
            "end": "2026-11-26T08:00:00+01:00",
        });
        for (name, value) in change.as_object().unwrap() {
            kwargs[name] = value.clone();
        }
        kwargs.to_string()
    }

    fn refusal(args: &str, change: serde_json::Value) -> String {
        Request::parse(args, &kwargs(change)).unwrap_err().0
    }

    #[test]
    fn what_is_not_given_has_a_default() {
        let options = Request::parse(ARGS, &kwargs(serde_json::json!({}))).unwrap().options;
        assert_eq!(options.step_minutes, 10.0);
        assert_eq!(options.airmass_max, 2.0);
        assert_eq!(options.sun_altitude_max, -12.0);
        assert_eq!(options.site.elevation, 0.0);
    }

    #[test]
    fn times_are_a_step_apart_and_end_at_the_end() {
        let change = serde_json::json!({"end": "2026-11-25T18:25:00Z"});
        let request = Request::parse(ARGS, &kwargs(change)).unwrap();
        let start = request.options.start.as_second();
        let minutes: Vec<i64> = request.times().map(|time| (time - start) / 60).collect();
        assert_eq!(minutes, [0, 10, 20, 25]);
    }

    #[test]
    fn a_refusal_names_the_field() {
        for (args, change, expected) in [
            ("[]", serde_json::json!({}), "args: invalid length 0"),
            (r#"[{"ra": 1}]"#, serde_json::json!({}), "args: [0]: missing field `dec`"),
            (r#"[{"ra": "1", "dec": 2}]"#, serde_json::json!({}), "args: [0].ra: invalid type"),
            (r#"[{"ra": 1, "dec": 95}]"#, serde_json::json!({}), "args: [0].dec: 95 is not from"),
            (ARGS, serde_json::json!({"start": "tonight"}), "kwargs: start: "),
            (ARGS, serde_json::json!({"site": {"latitude": 1}}), "kwargs: site: missing field"),
            (ARGS, serde_json::json!({"airmas_max": 2}), "kwargs: airmas_max: unknown field"),
            (ARGS, serde_json::json!({"airmass_max": 0.5}), "kwargs: airmass_max: 0.5 is not"),
            (ARGS, serde_json::json!({"end": "2026-11-25T17:00:00Z"}), "kwargs: end: "),
            (ARGS, serde_json::json!({"end": "2051-01-01T00:00:00Z"}), "kwargs: end: 2051"),
            (
                ARGS,
                serde_json::json!({"end": "2027-11-25T18:00:00Z", "step_minutes": 1}),
                "kwargs: step_minutes: makes 525600 steps, over 60000",
            ),
        ] {
            let message = refusal(args, change);
            assert!(message.starts_with(expected), "{message} does not start with {expected}");
        }
    }
}
