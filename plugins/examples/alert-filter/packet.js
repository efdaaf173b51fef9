/**
 * Reading alert packets as ZTF sends them, turned from Avro to JSON: the newest detection under
 * `candidate`, up to 30 days of history under `prv_candidates`.
 *
 * The fields are described in https://github.com/ZwickyTransientFacility/ztf-avro-alert.
 */

/**
 * What the filter looks at: the newest detection, and all that the packet holds, oldest first.
 * Throws a TypeError or a RangeError that names the first field that is wrong.
 */
export function readAlert(alert) {
  const candidate = readCandidate(requireObject(alert, "alert").candidate);
  const history = requireArray(alert.prv_candidates ?? [], "prv_candidates").flatMap(readHistory);
  const detections = candidate.positive ? [...history, candidate] : history;
  return { candidate, detections: detections.toSorted((a, b) => a.jd - b.jd) };
}

function readCandidate(value) {
  const candidate = requireObject(value, "candidate");
  return {
    ...readDetection(candidate, "candidate"),
    ra: requireNumber(candidate.ra, "candidate.ra", 0, 360),
    dec: requireNumber(candidate.dec, "candidate.dec", -90, 90),
    realBogus: requireNumber(candidate.rb, "candidate.rb", 0, 1),
    positive: isPositive(candidate),
  };
}

/** One detection, or none: the history holds upper limits too, as entries without magnitude. */
function readHistory(value, index) {
  const name = `prv_candidates[${index}]`;
  const entry = requireObject(value, name);
  const detected = (entry.magpsf ?? null) !== null && isPositive(entry);
  return detected ? [readDetection(entry, name)] : [];
}

function readDetection(entry, name) {
  return {
    jd: requireNumber(entry.jd, `${name}.jd`),
    magnitude: requireNumber(entry.magpsf, `${name}.magpsf`),
    filter: entry.fid ?? null,
  };
}

/** Whether the source is brighter than in the reference image. Streams spell it in many ways. */
function isPositive(entry) {
  return [undefined, null, true, 1, "1", "t"].includes(entry.isdiffpos);
}

export function requireObject(value, name) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new TypeError(`${name} must be an object`);
  }
  return value;
}

export function requireNumber(value, name, min = -Infinity, max = Infinity) {
  if (typeof value !== "number") {
    throw new TypeError(`${name} must be a number`);
  }
  if (value < min || value > max) {
    throw new RangeError(`${name} must be from ${min} to ${max}, not ${value}`);
  }
  return value;
}

function requireArray(value, name) {
  if (!Array.isArray(value)) {
    throw new TypeError(`${name} must be an array`);
  }
  return value;
}
