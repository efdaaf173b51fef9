import assert from "node:assert/strict";
import { test } from "node:test";
import { filterAlert, galacticLatitude, riseRate } from "./filter.js";

/** A supernova on its way up: 18.9 to 17.2 mag in two days, with an upper limit before. */
function risingAlert(changes = {}) {
  const candidate = { ra: 210.9, dec: 54.3, jd: 2461000.9, fid: 1, magpsf: 17.2, rb: 0.92 };
  return {
    objectId: "ZTF26abc",
    candidate: { ...candidate, isdiffpos: "t", ...changes },
    prv_candidates: [
      { jd: 2460998.9, fid: 1, magpsf: 18.9, isdiffpos: "t" },
      { jd: 2460996.9, fid: 1, magpsf: null, diffmaglim: 20.4 },
    ],
  };
}

test("a rising source passes, and its features are told", () => {
  assert.deepEqual(filterAlert(risingAlert(), { rise_rate_min: 0.5, galactic_latitude_min: 10 }), {
    passes: true,
    reasons: [],
    features: {
      real_bogus: 0.92,
      magnitude: 17.2,
      detections: 2,
      rise_rate: 0.85,
      galactic_latitude: 59.7812,
      brightening: true,
    },
  });
});

test("each rule that is missed is a reason", () => {
  const faint = risingAlert({ rb: 0.3, magpsf: 20.1, ra: 266.4, dec: -28.9 });
  const rules = { detections_min: 3, rise_rate_min: 0.1, galactic_latitude_min: 10 };
  assert.deepEqual(filterAlert(faint, rules).reasons, [
    "real_bogus 0.3 < 0.65",
    "magnitude 20.1 > 19.5",
    "detections 2 < 3",
    "rise_rate -0.6 < 0.1",
    "galactic_latitude 0.0226 is within 10 of the plane",
  ]);
});

test("rules that are not given keep their defaults, and the optional ones do not hold", () => {
  const inThePlane = risingAlert({ ra: 266.4, dec: -28.9 });
  assert.ok(filterAlert(inThePlane).passes);
  assert.ok(!filterAlert(risingAlert({ rb: 0.6 }), { magnitude_max: 18 }).passes);
});

test("a source that is fainter than its reference image does not pass", () => {
  for (const isdiffpos of ["f", "0", false]) {
    const { passes, reasons, features } = filterAlert(risingAlert({ isdiffpos }));
    assert.ok(!passes);
    assert.equal(reasons[0], "fainter than in the reference image");
    assert.equal(features.detections, 1);
  }
});

test("an alert without history has no rise rate, and says so when one is asked for", () => {
  const first = { ...risingAlert(), prv_candidates: null };
  const { reasons, features } = filterAlert(first, { detections_min: 1, rise_rate_min: 0.1 });
  assert.equal(features.rise_rate, null);
  assert.deepEqual(reasons, ["rise_rate is unknown: too few detections in this filter"]);
});

test("the rise rate is that of one filter", () => {
  const other = filterAlert(risingAlert({ fid: 2 }));
  assert.equal(other.features.rise_rate, null);
  assert.equal(other.features.detections, 2);
});

test("two detections of one night make no rise rate", () => {
  const night = [
    { jd: 2461000.6, magnitude: 18.4 },
    { jd: 2461000.9, magnitude: 18.2 },
  ];
  assert.equal(riseRate(night), null);
  assert.equal(riseRate([]), null);
});

test("wrong input is refused by the name of its field", () => {
  const refusals = [
    [undefined, {}, TypeError, "alert must be an object"],
    [{}, {}, TypeError, "candidate must be an object"],
    [risingAlert({ dec: "54.3" }), {}, TypeError, "candidate.dec must be a number"],
    [risingAlert({ dec: 95 }), {}, RangeError, "candidate.dec must be from -90 to 90, not 95"],
    [{ ...risingAlert(), prv_candidates: {} }, {}, TypeError, "prv_candidates must be an array"],
    [
      { ...risingAlert(), prv_candidates: [{ magpsf: 18 }] },
      {},
      TypeError,
      "prv_candidates[0].jd must be a number",
    ],
    [risingAlert(), [], TypeError, "rules must be an object"],
    [risingAlert(), { real_bogus_min: null }, TypeError, "rules.real_bogus_min must be a number"],
    [
      risingAlert(),
      { real_bogus_min: 65 },
      RangeError,
      "rules.real_bogus_min must be from 0 to 1, not 65",
    ],
  ];
  for (const [alert, rules, type, message] of refusals) {
    assert.throws(() => filterAlert(alert, rules), { name: type.name, message });
  }
});

test("a misspelt rule is refused", () => {
  assert.throws(() => filterAlert(risingAlert(), { magnitude_min: 17 }), {
    name: "TypeError",
    message: /^rules\.magnitude_min is unknown; there are real_bogus_min, magnitude_max/,
  });
});

/** Expected: astropy 8.0.2, SkyCoord(ra, dec, unit="deg", frame="icrs").galactic.b. */
test("galactic latitudes are those of astropy", () => {
  const places = [
    [266.40499, -28.93617, 0.000003], // the galactic centre
    [192.85948, 27.12825, 89.999997], // the north galactic pole
    [210.910675, 54.311651, 59.768017], // SN 2023ixf
    [10.684708, 41.26875, -21.573309], // M 31
    [114.825493, 5.224993, 13.019394], // Procyon
    [0, -90, -27.128252],
  ];
  for (const [ra, dec, expected] of places) {
    const difference = Math.abs(galacticLatitude(ra, dec) - expected);
    assert.ok(difference < 1e-5, `${ra} ${dec}: off by ${difference}`);
  }
});
