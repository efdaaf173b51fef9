import assert from "node:assert/strict";
import { test } from "node:test";
import { notify } from "./notify.js";

const CONTEXT = { taskId: "01a2", traceparent: null };

function answering(status) {
  return () => ({ status, headers: [], body: new Uint8Array() });
}

/** The host's errors as componentize-qjs hands them to JavaScript. */
function failing(payload) {
  return () => {
    throw Object.assign(new Error("[object Object] (see error.payload)"), { payload });
  };
}

test("posts JSON as UTF-8, with the task's id as idempotency key", () => {
  let sent;
  const fetch = (request) => {
    sent = request;
    return { status: 204 };
  };
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  notify(fetch, "https://tom.example.org/alerts", '{"name":"µ Cep"}', {
    taskId: "1",
    traceparent,
  });

  assert.equal(sent.method, "POST");
  assert.equal(sent.url, "https://tom.example.org/alerts");
  assert.equal(new TextDecoder().decode(sent.body), '{"name":"µ Cep"}');
  assert.deepEqual(Object.fromEntries(sent.headers), {
    "content-type": "application/json",
    "idempotency-key": "1",
    traceparent,
  });
});

test("answers that may change are retried, refusals are not", () => {
  for (const [status, retryable] of [
    [429, true],
    [500, true],
    [503, true],
    [301, false],
    [404, false],
  ]) {
    assert.throws(() => notify(answering(status), "https://x", "{}", CONTEXT), {
      name: "NotifyError",
      message: `the answer to the notification was ${status}`,
      retryable,
    });
  }
});

test("a broken connection is retried, a denied host is not", () => {
  for (const [payload, retryable, message] of [
    [{ tag: "timeout" }, true, "timeout"],
    [{ tag: "failed", val: "reset" }, true, "failed: reset"],
    [{ tag: "denied", val: "x" }, false, "denied: x"],
    [{ tag: "too-large", val: 4194304 }, false, "too-large: 4194304"],
  ]) {
    assert.throws(() => notify(failing(payload), "https://x", "{}", CONTEXT), {
      message: `the notification was not sent: ${message}`,
      retryable,
    });
  }
});
