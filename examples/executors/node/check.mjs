#!/usr/bin/env node
// Serves what `nightshift executor check` needs. Usage: NIGHTSHIFT_SECRET=... check.mjs [PORT]
import { setTimeout as sleep } from "node:timers/promises";
import { later, serve, tasks } from "./executor.mjs";

const fail = (message, status) => {
  throw Object.assign(new Error(message), { status });
};
const slow = async ({ signal }, [seconds]) => {
  await sleep(seconds * 1000, null, { signal });
  return seconds;
};
tasks.set("check.echo", (attempt, args, kwargs) => [args, kwargs]);
tasks.set("check.null", () => null);
tasks.set("check.fail", (attempt, [message]) => fail(message));
tasks.set("check.reject", (attempt, [message]) => fail(message, 422));
tasks.set("check.busy", () => fail("not now", 503));
tasks.set("check.slow", slow);
later.set("check.later", slow);
serve(Number(process.argv[2] ?? 0));
