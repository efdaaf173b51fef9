/** Telling another service of an alert, by HTTP. `fetch` is the one of the plugin's interface. */

const TIMEOUT_MS = 10_000;

/** Errors of the wire that another attempt may get past; the others are refusals. */
const PASSING_ERRORS = ["timeout", "failed"];

/** Says itself whether trying again may help. */
export class NotifyError extends Error {
  name = "NotifyError";

  constructor(message, { retryable }) {
    super(message);
    this.retryable = retryable;
  }
}

/**
 * Posts JSON. The task's id goes with it as the idempotency key, since a retry may send again what
 * had arrived already.
 */
export function notify(fetch, url, json, context) {
  const { status } = send(fetch, {
    method: "POST",
    url,
    headers: headers(context),
    body: utf8(json),
    timeoutMs: TIMEOUT_MS,
  });
  if (status < 200 || status > 299) {
    const retryable = status === 429 || status >= 500;
    throw new NotifyError(`the answer to the notification was ${status}`, { retryable });
  }
}

function headers({ taskId, traceparent }) {
  const sent = [
    ["content-type", "application/json"],
    ["idempotency-key", taskId],
  ];
  return traceparent === null ? sent : [...sent, ["traceparent", traceparent]];
}

/** An error of the interface arrives as an Error whose `payload` is the variant. */
function send(fetch, request) {
  try {
    return fetch(request);
  } catch (error) {
    if (error.payload === undefined) {
      throw error;
    }
    const { tag, val } = error.payload;
    const message = val === undefined ? tag : `${tag}: ${val}`;
    throw new NotifyError(`the notification was not sent: ${message}`, {
      retryable: PASSING_ERRORS.includes(tag),
    });
  }
}

/** QuickJS has no TextEncoder. */
function utf8(text) {
  const bytes = unescape(encodeURIComponent(text));
  return Uint8Array.from(bytes, (byte) => byte.charCodeAt(0));
}
