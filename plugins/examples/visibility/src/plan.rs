//! When the target can be observed: samples of its airmass, and the windows between them.

use crate::request::Request;
use crate::sky;
use jiff::Timestamp;
use serde::Serialize;

/// Samples between two reports: often enough to stop within a millisecond.
const REPORT_EVERY: usize = 1000;

/// Whoever waits for the plan does not want it any more.
#[derive(Debug)]
pub struct Stopped;

/// Times are in UTC; the pairs are arrays in JSON.
#[derive(Debug, Serialize)]
pub struct Plan {
    pub airmass: Vec<(Timestamp, Option<f64>)>,
    pub windows: Vec<(Timestamp, Timestamp)>,
    pub best: Option<Best>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Best {
    pub time: Timestamp,
    pub airmass: f64,
}

/// `time` is a Unix time.
struct Sample {
    time: i64,
    airmass: Option<f64>,
    observable: bool,
}

/// `go_on` is told what fraction is done, and says whether to go on.
pub fn plan(request: &Request, go_on: &dyn Fn(f64) -> bool) -> Result<Plan, Stopped> {
    let total = request.steps() as f64;
    let mut samples = Vec::new();
    for (index, time) in request.times().enumerate() {
        if index % REPORT_EVERY == 0 && !go_on(index as f64 / total) {
            return Err(Stopped);
        }
        samples.push(sample(request, time));
    }
    Ok(Plan {
        airmass: samples.iter().map(|it| (timestamp(it.time), it.airmass.map(round))).collect(),
        windows: windows(request, &samples),
        best: best(&samples),
    })
}

fn sample(request: &Request, time: i64) -> Sample {
    let days = sky::days(time);
    let options = &request.options;
    let altitude = sky::altitude(sky::precess(request.target, days), options.site, days);
    let airmass = sky::airmass(sky::apparent(altitude, options.site));
    let high = airmass.is_some_and(|airmass| airmass <= options.airmass_max);
    let dark = sky::altitude(sky::sun(days), options.site, days) <= options.sun_altitude_max;
    Sample { time, airmass, observable: high && dark }
}

/// A window opens and closes where two samples differ, and with the first and the last sample if
/// they are within one. One that is shorter than a step may fall between two samples.
fn windows(request: &Request, samples: &[Sample]) -> Vec<(Timestamp, Timestamp)> {
    let open = |end: Option<&Sample>| end.filter(|it| it.observable).map(|it| it.time);
    let changes = samples.windows(2).filter(|pair| pair[0].observable != pair[1].observable);
    let edges: Vec<i64> = open(samples.first())
        .into_iter()
        .chain(changes.map(|pair| edge(request, &pair[0], &pair[1])))
        .chain(open(samples.last()))
        .collect();
    edges.chunks_exact(2).map(|edge| (timestamp(edge[0]), timestamp(edge[1]))).collect()
}

/// The last second at which all is as at the one sample that is observable.
fn edge(request: &Request, before: &Sample, after: &Sample) -> i64 {
    let (mut inside, mut outside) =
        if before.observable { (before.time, after.time) } else { (after.time, before.time) };
    while inside.abs_diff(outside) > 1 {
        let middle = inside.midpoint(outside);
        if sample(request, middle).observable {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    inside
}

fn best(samples: &[Sample]) -> Option<Best> {
    samples
        .iter()
        .filter(|it| it.observable)
        .filter_map(|it| Some((it.time, it.airmass?)))
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(time, airmass)| Best { time: timestamp(time), airmass: round(airmass) })
}

fn timestamp(time: i64) -> Timestamp {
    Timestamp::from_second(time).expect("a request's times are from 1950 to 2050")
}

/// More digits than the model of the air is worth would only make the result longer.
fn round(airmass: f64) -> f64 {
    (airmass * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::cell::RefCell;

    /// M 31 from La Palma, for two nights.
    fn request(change: serde_json::Value) -> Request {
        let mut kwargs = json!({
            "site": {"latitude": 28.7606, "longitude": -17.8792, "elevation": 2396},
            "start": "2026-11-25T18:00:00Z",
            "end": "2026-11-27T08:00:00Z",
        });
        kwargs.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        Request::parse(r#"[{"ra": 10.684708, "dec": 41.26875}]"#, &kwargs.to_string()).unwrap()
    }

    fn plan_of(change: serde_json::Value) -> Plan {
        plan(&request(change), &|_| true).unwrap()
    }

    #[track_caller]
    fn assert_near(actual: Timestamp, expected: &str, seconds: i64) {
        let expected: Timestamp = expected.parse().unwrap();
        let off = (actual.as_second() - expected.as_second()).abs();
        assert!(off <= seconds, "{actual} is off {expected} by {off} s");
    }

    /// Expected: astropy 8.0.2 with refraction, and pvlib's "pickering2002", every five seconds.
    #[test]
    fn windows_and_airmass_are_those_of_astropy() {
        let plan = plan_of(json!({}));

        assert_eq!(plan.windows.len(), 2);
        assert_near(plan.windows[0].0, "2026-11-25T19:08:50Z", 10);
        assert_near(plan.windows[0].1, "2026-11-26T02:32:10Z", 10);
        assert_near(plan.windows[1].0, "2026-11-26T19:08:45Z", 10);
        assert_near(plan.windows[1].1, "2026-11-27T02:28:15Z", 10);

        for (hours, expected) in [(0, 1.4214), (2, 1.0888), (8, 1.7053), (10, 3.9615)] {
            let (_, airmass) = plan.airmass[hours * 6];
            assert!((airmass.unwrap() - expected).abs() < 0.005, "{airmass:?} is not {expected}");
        }
        assert_eq!(plan.airmass[12 * 6].1, None, "it has set");
    }

    /// Expected: likewise.
    #[test]
    fn the_best_sample_is_next_to_the_culmination() {
        let one_night = json!({"end": "2026-11-26T08:00:00Z"});
        let best = plan_of(one_night).best.unwrap();
        assert_near(best.time, "2026-11-25T21:36:25Z", 600);
        assert!((best.airmass - 1.0247).abs() < 0.001, "{best:?}");
    }

    #[test]
    fn the_step_does_not_move_the_windows() {
        let (fine, coarse) = (plan_of(json!({"step_minutes": 1})), plan_of(json!({})));
        assert_eq!(fine.windows, coarse.windows);
    }

    #[test]
    fn a_window_that_is_open_at_start_and_end_lasts_from_start_to_end() {
        let plan = plan_of(json!({
            "start": "2026-11-25T21:00:00Z",
            "end": "2026-11-25T22:07:00Z",
        }));
        let (start, end) = plan.windows[0];
        assert_near(start, "2026-11-25T21:00:00Z", 0);
        assert_near(end, "2026-11-25T22:07:00Z", 0);
        assert_eq!(plan.windows.len(), 1);
    }

    #[test]
    fn by_day_there_is_airmass_but_no_window() {
        let plan = plan_of(json!({"end": "2026-11-25T19:00:00Z"}));
        assert!(plan.airmass.iter().all(|(_, airmass)| airmass.is_some()));
        assert!(plan.windows.is_empty());
        assert_eq!(plan.best, None);
    }

    #[test]
    fn progress_is_told_and_stopping_stops() {
        let told = RefCell::new(Vec::new());
        let stop_halfway = |fraction| {
            told.borrow_mut().push(fraction);
            fraction < 0.5
        };
        let long = request(json!({"step_minutes": 1}));
        assert!(matches!(plan(&long, &stop_halfway), Err(Stopped)));
        assert_eq!(*told.borrow(), [0.0, 1000.0 / 2280.0, 2000.0 / 2280.0]);
    }
}
