/** Whether an alert of a transient stream deserves a follow-up. Knows nothing of Nightshift. */

import { readAlert, requireNumber, requireObject } from "./packet.js";

/** Rules that hold where the caller sets no other; the rest are only checked when asked for. */
export const DEFAULT_RULES = { real_bogus_min: 0.65, magnitude_max: 19.5, detections_min: 2 };

/** Each rule: what its limit may be, and what it says of features that miss the limit. */
const RULES = {
  real_bogus_min: {
    range: [0, 1],
    objection: ({ real_bogus }, min) => real_bogus < min && `real_bogus ${real_bogus} < ${min}`,
  },
  magnitude_max: {
    range: [-30, 30],
    objection: ({ magnitude }, max) => magnitude > max && `magnitude ${magnitude} > ${max}`,
  },
  detections_min: {
    range: [0, 10_000],
    objection: ({ detections }, min) => detections < min && `detections ${detections} < ${min}`,
  },
  rise_rate_min: {
    range: [-100, 100],
    objection: ({ rise_rate }, min) =>
      rise_rate === null
        ? "rise_rate is unknown: too few detections in this filter"
        : rise_rate < min && `rise_rate ${rise_rate} < ${min}`,
  },
  galactic_latitude_min: {
    range: [0, 90],
    objection: ({ galactic_latitude }, min) =>
      Math.abs(galactic_latitude) < min &&
      `galactic_latitude ${galactic_latitude} is within ${min} of the plane`,
  },
};

/** Detections of one night differ by noise more than by rise: a slope needs this many days. */
const RISE_DAYS_MIN = 0.5;

/**
 * Holds an alert against the rules. `reasons` has each rule that it misses, in words.
 * Throws a TypeError or a RangeError for an alert or rules that make no sense.
 */
export function filterAlert(alert, rules = {}) {
  const limits = readRules(rules);
  const { candidate, detections } = readAlert(alert);
  const features = measure(candidate, detections);
  const reasons = objections(features, limits);
  return { passes: reasons.length === 0, reasons, features };
}

/** A rule of an unknown name is refused: a misspelt one would let everything pass. */
function readRules(rules) {
  const given = Object.entries(requireObject(rules, "rules"));
  for (const [name, limit] of given) {
    if (!Object.hasOwn(RULES, name)) {
      throw new TypeError(`rules.${name} is unknown; there are ${Object.keys(RULES).join(", ")}`);
    }
    requireNumber(limit, `rules.${name}`, ...RULES[name].range);
  }
  return { ...DEFAULT_RULES, ...rules };
}

function measure(candidate, detections) {
  return {
    real_bogus: candidate.realBogus,
    magnitude: candidate.magnitude,
    detections: detections.length,
    rise_rate: round(riseRate(detections.filter(({ filter }) => filter === candidate.filter))),
    galactic_latitude: round(galacticLatitude(candidate.ra, candidate.dec)),
    brightening: candidate.positive,
  };
}

function objections(features, limits) {
  const missed = Object.entries(limits).map(([name, limit]) =>
    RULES[name].objection(features, limit),
  );
  const fading = !features.brightening && "fainter than in the reference image";
  return [fading, ...missed].filter(Boolean);
}

/** Magnitudes per day, positive while it brightens: a least-squares line through them all. */
export function riseRate(detections) {
  const days = detections.map(({ jd }) => jd);
  if (Math.max(...days) - Math.min(...days) < RISE_DAYS_MIN) {
    return null;
  }
  const meanDay = mean(days);
  const meanMagnitude = mean(detections.map(({ magnitude }) => magnitude));
  let covariance = 0;
  let variance = 0;
  for (const { jd, magnitude } of detections) {
    covariance += (jd - meanDay) * (magnitude - meanMagnitude);
    variance += (jd - meanDay) ** 2;
  }
  return -covariance / variance;
}

/** The north galactic pole in the ICRS: the Hipparcos Catalogue, ESA SP-1200, vol. 1, 1.5. */
const POLE = { ra: radians(192.85948), dec: radians(27.12825) };

/** Degrees, from right ascension and declination in degrees. */
export function galacticLatitude(ra, dec) {
  const sine =
    Math.sin(radians(dec)) * Math.sin(POLE.dec) +
    Math.cos(radians(dec)) * Math.cos(POLE.dec) * Math.cos(radians(ra) - POLE.ra);
  return (Math.asin(Math.min(1, Math.max(-1, sine))) * 180) / Math.PI;
}

function radians(degrees) {
  return (degrees * Math.PI) / 180;
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** More digits than the photometry has would only make results hard to read and to compare. */
function round(value) {
  return value === null ? null : Number(value.toFixed(4));
}
