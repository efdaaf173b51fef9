#!/usr/bin/env node
// A worker for Nightshift in nothing but Node's own modules. Usage: worker.mjs EXECUTOR [SERVER]
//
// A task is called with a signal, which is aborted when it is to stop, args and kwargs.
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

const [executor, server = "http://127.0.0.1:8700"] = process.argv.slice(2);
const slots = 4; // tasks at once
const stopping = new AbortController();

const tasks = new Map(Object.entries({
  "check.echo": (signal, args, kwargs) => [args, kwargs],
  "check.fail": (signal, [message]) => {
    throw new TypeError(message);
  },
  "check.slow": async (signal, [seconds]) => {
    await sleep(seconds * 1000, null, { signal });
    return seconds;
  },
}));

async function post(path, body, signal = AbortSignal.timeout(10_000)) {
  const headers = { "Content-Type": "application/json" };
  if (process.env.NIGHTSHIFT_TOKEN) headers.Authorization = `Bearer ${process.env.NIGHTSHIFT_TOKEN}`;
  const request = { method: "POST", body: JSON.stringify(body), headers, signal };
  const answer = await fetch(server + path, request);
  return { status: answer.status, said: await answer.json() };
}

async function run({ task_path: path, args, kwargs }, signal) {
  try {
    if (!tasks.has(path)) throw new Error(`there is no task ${path}`);
    return { return_value: (await tasks.get(path)(signal, args, kwargs)) ?? null };
  } catch ({ name, message, stack }) {
    return { error: { exception_class_path: name, message, traceback: stack } };
  }
}

async function serve({ token, task }) {
  const attempt = new AbortController();
  let lost = false;
  const beating = setInterval(async () => {
    try {
      const { status, said } = await post(`/leases/${token}/renew`, {});
      lost ||= status === 409; // the attempt is over
      if (lost || said.cancel_requested) attempt.abort();
    } catch { /* the next heartbeat may get through */ }
  }, 3000);
  const end = await run(task, attempt.signal);
  clearInterval(beating);
  const report = attempt.signal.aborted ? { cancelled: true } : end;
  if (!lost) await post(`/leases/${token}/finish`, report).catch(console.error);
}

async function ask() {
  while (!stopping.signal.aborted) {
    try {
      const wanted = { worker_id: `${hostname()}.${process.pid}`, wait_seconds: 20 };
      const { said } = await post(`/executors/${executor}/leases`, wanted, stopping.signal);
      for (const lease of said.leases) await serve(lease);
    } catch { // the service is not there, and may come back; or this is the end
      if (!stopping.signal.aborted) await sleep(1000);
    }
  }
}

process.on("SIGTERM", () => stopping.abort());
await Promise.all(Array.from({ length: slots }, ask));
