// What one does with Nightshift, by the client that @hey-api/openapi-ts makes.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { client } from "./generated/sdk/client.gen.js";
import {
  cancelTask,
  createTask,
  getExecutor,
  getTask,
  getTaskLogs,
  getTaskResult,
  listTasks,
  putExecutor,
  type Task,
  type TaskRequest,
} from "./generated/sdk/index.js";

client.setConfig({ baseUrl: process.env.NIGHTSHIFT_SERVER, auth: process.env.NIGHTSHIFT_TOKEN });
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
  const task_paths = ["clients.sdk.*"];
  const body = { kind: "worker" as const, task_paths, lease_seconds: 20 };
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
  const keptOut = await getTask({ path: { id: ended }, auth: "wrong" });
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
  // The first, the failed, the cancelled and the repeated one came before these.
  assert.deepEqual([pages, seen.length, new Set(seen).size], [3, 9, 9]);
  assert.deepEqual(seen.slice(0, 5), newestFirst);
}

await register();
await enqueueAndWait();
await fail();
await refuse(await cancel());
await repeat();
await readPages();
console.log("typescript, @hey-api/openapi-ts: the story is told");
