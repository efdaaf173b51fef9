// What one does with Nightshift, by the client that @hey-api/openapi-ts makes.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { client } from "./generated/sdk/client.gen.js";
import {
  cancelTask,
  createTask,
  finishLease,
  getExecutor,
  getTask,
  getTaskLogs,
  getTaskResult,
  leaseTasks,
  listTasks,
  putExecutor,
  renewLease,
  type FinishRequest,
  type Lease,
  type Task,
  type TaskRequest,
} from "./generated/sdk/index.js";

// Without a token the client sends no header for it.
const token = process.env.NIGHTSHIFT_TOKEN;
client.setConfig({ baseUrl: process.env.NIGHTSHIFT_SERVER, auth: token });
const label = `sdk-${randomUUID()}`;

function request(task_path: string, args: unknown[], more: Partial<TaskRequest> = {}): TaskRequest {
  const kwargs = { language: "typescript" };
  return { task_path, args, kwargs, labels: { story: label }, max_attempts: 1, ...more };
}

async function create(body: TaskRequest): Promise<Task> {
  const { data } = await createTask({ body, throwOnError: true });
  return data;
}

async function register() {
  const path = { name: label };
  const task_paths = [`clients.${label}.*`];
  const body = { kind: "worker" as const, task_paths, lease_seconds: 60 };
  const { data: registered } = await putExecutor({ path, body, throwOnError: true });
  const { data: read } = await getExecutor({ path, throwOnError: true });
  assert.deepEqual(registered, read);
  assert.deepEqual([read.kind, read.hold], ["worker", null]);
}

async function enqueueAndWait() {
  const task = await create(request("clients.count", ["a galaxy", "far away"]));
  assert.equal(task.status, "READY");
  const path = { id: task.id };
  const { data: result } = await getTaskResult({ path, query: { wait: 30 }, throwOnError: true });
  assert.equal(result.status, "SUCCESSFUL");
  assert.deepEqual(result.return_value, { words: 4, language: "typescript" });
  const { data: record } = await getTask({ path, throwOnError: true });
  assert.deepEqual([record.attempts, record.worker_ids.length], [1, 1]);
  assert.ok(record.started_at !== null && record.started_at >= record.enqueued_at);
}

async function fail() {
  const { data: task, response } = await createTask({
    body: request("clients.unknown", []),
    headers: { Prefer: "wait=30" },
    throwOnError: true,
  });
  assert.equal(task.status, "FAILED");
  assert.equal(response.headers.get("Location"), `/tasks/${task.id}`);
  assert.deepEqual(task.errors.map((error) => error.kind), ["exception"]);
  assert.match(task.errors[0]?.message ?? "", /exit status 1/);
  const { data: logs } = await getTaskLogs({ path: { id: task.id }, throwOnError: true });
  assert.equal(logs.dropped, 0);
}

async function cancel(): Promise<string> {
  const later = new Date(Date.now() + 86_400_000);
  const task = await create(request("clients.count", [], { run_after: later.toISOString() }));
  assert.equal(Date.parse(task.run_after ?? ""), later.getTime());
  const { data: cancelled, response } = await cancelTask({
    path: { id: task.id },
    throwOnError: true,
  });
  assert.deepEqual([response.status, cancelled.status], [200, "CANCELLED"]);
  return task.id;
}

async function refuse(ended: string) {
  const again = await cancelTask({ path: { id: ended } });
  assert.equal(again.data?.status, "CANCELLED");
  const unknown = await getTask({ path: { id: randomUUID() } });
  assert.deepEqual([unknown.response?.status, unknown.error?.code], [404, "task_not_found"]);
  const { error } = await createTask({ body: request("clients.count", [], { priority: 101 }) });
  assert.deepEqual([error?.code, error?.pointer], ["invalid_field", "/priority"]);
}

async function keepOut(id: string) {
  const keptOut = await getTask({ path: { id }, auth: "wrong" });
  assert.deepEqual([keptOut.response?.status, keptOut.error?.code], [401, "unauthorized"]);
}

async function repeat() {
  const headers = { "Idempotency-Key": label };
  const once = () => createTask({ body: request("clients.count", ["once"]), headers });
  const [first, second] = [await once(), await once()];
  assert.deepEqual([first.response?.status, second.response?.status], [201, 200]);
  assert.equal(first.data?.id, second.data?.id);
  const { error } = await createTask({ body: request("clients.count", ["twice"]), headers });
  assert.equal(error?.code, "idempotency_mismatch");
}

async function work() {
  const paths = ["silent", "broken", "endless"].map((name) => `clients.${label}.${name}`);
  for (const path of paths) await create(request(path, []));
  const { data: leased } = await leaseTasks({
    path: { name: label },
    body: { worker_id: label, max_tasks: 3, wait_seconds: 30 },
    throwOnError: true,
  });
  assert.deepEqual(leased.leases.map((lease) => lease.task.task_path), paths);
  const [silent, broken, endless] = leased.leases;
  assert.ok(silent && broken && endless);

  const succeeded = await finish(silent, { return_value: null });
  assert.deepEqual([succeeded.status, succeeded.return_value], ["SUCCESSFUL", null]);

  const failed = await finish(broken, { error: { message: "no such galaxy" } });
  assert.deepEqual([failed.status, failed.attempts], ["FAILED", 1]);
  assert.deepEqual(failed.errors.map((error) => error.message), ["no such galaxy"]);

  const { response } = await cancelTask({ path: { id: endless.task.id }, throwOnError: true });
  assert.equal(response.status, 202);
  const { data: renewal } = await renewLease({
    path: { token: endless.token },
    body: {},
    throwOnError: true,
  });
  assert.equal(renewal.cancel_requested, true);
  const cancelled = await finish(endless, { cancelled: true });
  assert.equal(cancelled.status, "CANCELLED");
}

async function finish(lease: Lease, body: FinishRequest): Promise<Task> {
  const path = { token: lease.token };
  const { data: answer } = await finishLease({ path, body, throwOnError: true });
  const { data: record } = await getTask({ path: { id: lease.task.id }, throwOnError: true });
  assert.deepEqual(answer, record);
  return record;
}

async function readPages() {
  const newestFirst: string[] = [];
  for (let count = 0; count < 5; count++) {
    newestFirst.unshift((await create(request("clients.count", []))).id);
  }
  const seen: string[] = [];
  let pages = 0;
  let cursor: string | null | undefined;
  do {
    const query = { label: `story=${label}`, limit: 3, ...(cursor ? { cursor } : {}) };
    const { data: page } = await listTasks({ query, throwOnError: true });
    seen.push(...page.items.map((task) => task.id));
    pages += 1;
    cursor = page.next_cursor;
  } while (cursor !== null);
  // The first, failed, cancelled and repeated one and three leased ones came before these.
  assert.deepEqual([pages, seen.length, new Set(seen).size], [4, 12, 12]);
  assert.deepEqual(seen.slice(0, 5), newestFirst);
}

await register();
await enqueueAndWait();
await fail();
const ended = await cancel();
await refuse(ended);
// A service without tokens lets everybody in.
if (token) await keepOut(ended);
await repeat();
await work();
await readPages();
console.log("typescript, @hey-api/openapi-ts: the story is told");
