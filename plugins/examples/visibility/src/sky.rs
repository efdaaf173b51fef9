//! Where a target and the Sun stand over a site, to 0.02 degrees: enough to plan a night.
//!
//! Angles are degrees. `days` are days since 2000-01-01T12:00Z. Left out, since they are within
//! the promise: UTC is up to 0.9 s from the Earth's turning, and nutation and aberration move a
//! target by up to 0.01 degrees.

use crate::request::{Site, Target};

/// A place on the sky, referred to equator and equinox of the date.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub ra: f64,
    pub dec: f64,
}

/// Days since 2000-01-01T12:00Z, of a Unix time.
pub fn days(unix_seconds: i64) -> f64 {
    (unix_seconds - 946_728_000) as f64 / 86_400.0
}

/// Greenwich mean sidereal time of the IAU 2006: the Earth rotation angle, and the precession of
/// the equinox since 2000 (Capitaine, Wallace & Chapront 2005, A&A 432, 355).
pub fn gmst(days: f64) -> f64 {
    let centuries = days / 36_525.0;
    // Whole turns are left out of the product, which would cost it digits.
    let rotation = 360.0 * (0.779_057_273_264 + 0.002_737_811_911_354_48 * days + days.fract());
    let precession = 0.014_506 + centuries * (4_612.156_534 + centuries * 1.391_581_7);
    (rotation + precession / 3600.0).rem_euclid(360.0)
}

/// From the ICRS to the mean equator and equinox of date, by the precession angles of the IAU 2006
/// (Capitaine, Wallace & Chapront 2003, A&A 412, 567). Without proper motion.
pub fn precess(target: Target, days: f64) -> Place {
    let t = days / 36_525.0;
    let zeta = (2.650_545 + t * (2_306.083_227 + t * 0.298_849_9)) / 3600.0;
    let z = (-2.650_545 + t * (2_306.077_181 + t * 1.092_734_8)) / 3600.0;
    let theta = (t * (2_004.191_903 - t * 0.429_493_4)) / 3600.0;

    let (sin_ra, cos_ra) = (target.ra + zeta).to_radians().sin_cos();
    let (sin_dec, cos_dec) = target.dec.to_radians().sin_cos();
    let (sin_theta, cos_theta) = theta.to_radians().sin_cos();
    let x = cos_theta * cos_dec * cos_ra - sin_theta * sin_dec;
    let y = cos_dec * sin_ra;
    let north = sin_theta * cos_dec * cos_ra + cos_theta * sin_dec;
    // The arc sine would lose its digits at the pole.
    Place {
        ra: (y.atan2(x).to_degrees() + z).rem_euclid(360.0),
        dec: north.atan2(x.hypot(y)).to_degrees(),
    }
}

/// The Sun's apparent place, to 0.02 degrees from 1950 to 2050: the low-precision formulae of the
/// Astronomical Almanac, page C5.
pub fn sun(days: f64) -> Place {
    let mean_longitude = 280.460 + 0.985_647_4 * days;
    let anomaly = (357.528 + 0.985_600_3 * days).to_radians();
    let longitude = mean_longitude + 1.915 * anomaly.sin() + 0.020 * (2.0 * anomaly).sin();
    let (sin_longitude, cos_longitude) = longitude.to_radians().sin_cos();
    let (sin_obliquity, cos_obliquity) = (23.439 - 0.000_000_4 * days).to_radians().sin_cos();
    Place {
        ra: (cos_obliquity * sin_longitude).atan2(cos_longitude).to_degrees().rem_euclid(360.0),
        dec: (sin_obliquity * sin_longitude).asin().to_degrees(),
    }
}

/// Altitude over the true horizon, without refraction.
pub fn altitude(place: Place, site: Site, days: f64) -> f64 {
    let hour_angle = (gmst(days) + site.longitude - place.ra).to_radians();
    let (sin_latitude, cos_latitude) = site.latitude.to_radians().sin_cos();
    let (sin_dec, cos_dec) = place.dec.to_radians().sin_cos();
    let sine = sin_latitude * sin_dec + cos_latitude * cos_dec * hour_angle.cos();
    sine.clamp(-1.0, 1.0).asin().to_degrees()
}

/// The altitude at which it is seen through the air over the site (Saemundsson 1986, Sky &
/// Telescope 72, 70), of which there is less higher up (US Standard Atmosphere 1976).
pub fn apparent(altitude: f64, site: Site) -> f64 {
    if altitude < -1.0 {
        return altitude; // Not seen at all, and the formula has a pole at -5.11.
    }
    let pressure = (1.0 - 2.255_77e-5 * site.elevation).powf(5.255_88);
    let minutes = 1.02 / (altitude + 10.3 / (altitude + 5.11)).to_radians().tan();
    altitude + pressure * minutes / 60.0
}

/// Airmass at an apparent altitude, none below the horizon (Pickering 2002, DIO 12:1, 20).
pub fn airmass(apparent_altitude: f64) -> Option<f64> {
    (apparent_altitude >= 0.0).then(|| {
        let curved = apparent_altitude + 244.0 / (165.0 + 47.0 * apparent_altitude.powf(1.1));
        1.0 / curved.to_radians().sin()
    })
}

/// Expected values are those of astropy 8.0.2 with IERS tables of 2026-11-02, or as said.
#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    const PARANAL: Site = Site { latitude: -24.6272, longitude: -70.4048, elevation: 2635.0 };
    const LA_PALMA: Site = Site { latitude: 28.7606, longitude: -17.8792, elevation: 2396.0 };
    const MAUNA_KEA: Site = Site { latitude: 19.8208, longitude: -155.4681, elevation: 4205.0 };
    const SIDING_SPRING: Site = Site { latitude: -31.2733, longitude: 149.0644, elevation: 1165.0 };

    fn at(time: &str) -> f64 {
        days(time.parse::<Timestamp>().unwrap().as_second())
    }

    #[track_caller]
    fn assert_near(actual: f64, expected: f64, tolerance: f64) {
        let off = (actual - expected).abs();
        assert!(off <= tolerance, "{actual} is off {expected} by {off}");
    }

    /// `Time(time, scale="ut1").sidereal_time("mean", "greenwich").deg`
    #[test]
    fn sidereal_time() {
        for (time, expected) in [
            ("2026-11-25T22:00:00Z", 34.856_690),
            ("2000-01-01T12:00:00Z", 280.460_622),
            ("1955-06-01T03:00:00Z", 293.823_756),
            ("2049-03-20T18:30:00Z", 96.224_681),
        ] {
            assert_near(gmst(at(time)), expected, 0.000_01);
        }
    }

    /// `SkyCoord(ra, dec, unit="deg").transform_to(FK5(equinox=Time(time)))`
    #[test]
    fn precession() {
        for (ra, dec, time, expected_ra, expected_dec) in [
            (210.910_675, 54.311_651, "2026-11-25T22:00:00Z", 211.148_117, 54.183_330),
            (10.684_708, 41.268_75, "2026-11-25T22:00:00Z", 11.054_233, 41.415_816),
            (37.954_561, 89.264_109, "2049-03-20T18:30:00Z", 56.631_680, 89.452_250),
        ] {
            let place = precess(Target { ra, dec }, at(time));
            let across = place.dec.to_radians().cos();
            assert_near(place.ra * across, expected_ra * across, 0.000_1);
            assert_near(place.dec, expected_dec, 0.000_1);
        }
    }

    /// `get_sun(Time(time)).transform_to(TETE(obstime=Time(time)))`
    #[test]
    fn place_of_the_sun() {
        for (time, ra, dec) in [
            ("2026-11-25T22:00:00Z", 241.633_463, -20.879_964),
            ("2000-01-01T12:00:00Z", 281.278_390, -23.032_430),
            ("1955-06-01T03:00:00Z", 68.217_117, 21.934_675),
            ("2049-03-20T18:30:00Z", 0.532_487, 0.230_607),
        ] {
            let place = sun(at(time));
            assert_near(place.ra, ra, 0.02);
            assert_near(place.dec, dec, 0.02);
        }
    }

    /// `SkyCoord(ra, dec, unit="deg").transform_to(AltAz(obstime=Time(time), location=location))`
    #[test]
    fn altitudes() {
        for (site, ra, dec, time, target, of_the_sun) in [
            (PARANAL, 83.822, -5.391, "2026-11-26T04:00:00Z", 55.7955, -43.9124),
            (LA_PALMA, 10.684_708, 41.268_75, "2026-11-25T22:00:00Z", 76.4537, -48.9521),
            (LA_PALMA, 210.910_675, 54.311_651, "2026-11-26T05:30:00Z", 27.8557, -28.7543),
            (MAUNA_KEA, 37.954_561, 89.264_109, "2026-11-26T10:00:00Z", 20.4267, -87.5699),
            (SIDING_SPRING, 201.365, -43.019, "2026-11-25T18:30:00Z", 34.2938, -5.2238),
        ] {
            let days = at(time);
            assert_near(altitude(precess(Target { ra, dec }, days), site, days), target, 0.015);
            assert_near(altitude(sun(days), site, days), of_the_sun, 0.02);
        }
    }

    /// The same with `pressure`, 10 degrees Celsius and 0.55 micrometres in the `AltAz`.
    #[test]
    fn refraction() {
        assert_near(apparent(55.7955, PARANAL), 55.8034, 0.002);
        assert_near(apparent(27.8557, LA_PALMA), 27.8785, 0.002);
        assert_near(apparent(20.4267, MAUNA_KEA), 20.4522, 0.002);
        assert_near(apparent(-5.11, MAUNA_KEA), -5.11, 0.0);
    }

    /// `get_relative_airmass(90 - altitude, "pickering2002")` of pvlib 0.16.1
    #[test]
    fn airmasses() {
        for (altitude, expected) in [
            (90.0, 1.0),
            (60.0, 1.154_06),
            (30.0, 1.993_15),
            (10.0, 5.580_74),
            (1.0, 26.643_77),
            (0.0, 38.749_40),
        ] {
            assert_near(airmass(altitude).unwrap(), expected, 0.000_01);
        }
        assert_eq!(airmass(-0.1), None);
    }
}
