// What one does with Nightshift, by openapi-fetch and the types that openapi-typescript makes.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { components, paths } from "./generated/schema.js";

type TaskRequest = components["schemas"]["TaskRequest"];
type FinishRequest = components["schemas"]["FinishRequest"];
type Lease = components["schemas"]["Lease"];

const token = process.env.NIGHTSHIFT_TOKEN;
const client = createClient<paths>({
  baseUrl: process.env.NIGHTSHIFT_SERVER,
  headers: token ? { Authorization: `Bearer ${token}` } : {},
});
const label = `typescript-${randomUUID()}`;

function request(task_path: string, args: unknown[], more: Partial<TaskRequest> = {}): TaskRequest {
  const kwargs = { language: "typescript" };
  return { task_path, args, kwargs, labels: { story: label }, max_attempts: 1, ...more };
}

async function create(body: TaskRequest) {
  const { data, error } = await client.POST("/tasks", { body });
  assert.ok(data, error?.detail);
  return data;
}

async function register() {
  const path = { name: label };
  const { data: registered } = await client.PUT("/executors/{name}", {
    params: { path },
    body: { kind: "worker", task_paths: [`clients.${label}.*`], lease_seconds: 60 },
  });
  const { data: read } = await client.GET("/executors/{name}", { params: { path } });
  assert.deepEqual(registered, read);
  assert.deepEqual([read?.kind, read?.hold], ["worker", null]);
}

async function enqueueAndWait() {
  const task = await create(request("clients.count", ["a galaxy", "far away"]));
  assert.equal(task.status, "READY");
  const path = { id: task.id };
  const { data: result } = await client.GET("/tasks/{id}/result", {
    params: { path, query: { wait: 30 } },
  });
  assert.equal(result?.status, "SUCCESSFUL");
  assert.deepEqual(result.return_value, { words: 4, language: "typescript" });
  const { data: record } = await client.GET("/tasks/{id}", { params: { path } });
  assert.ok(record);
  assert.deepEqual([record.attempts, record.worker_ids.length], [1, 1]);
  assert.ok(record.started_at !== null && record.started_at >= record.enqueued_at);
}

async function fail() {
  const { data: task, response } = await client.POST("/tasks", {
    body: request("clients.unknown", []),
    params: { header: { Prefer: "wait=30" } },
  });
  assert.equal(task?.status, "FAILED");
  assert.equal(response.headers.get("Location"), `/tasks/${task.id}`);
  assert.deepEqual(task.errors.map((error) => error.kind), ["exception"]);
  assert.match(task.errors[0]?.message ?? "", /exit status 1/);
  const { data: logs } = await client.GET("/tasks/{id}/logs", { params: { path: { id: task.id } } });
  assert.equal(logs?.dropped, 0);
}

async function cancel(): Promise<string> {
  const later = new Date(Date.now() + 86_400_000);
  const task = await create(request("clients.count", [], { run_after: later.toISOString() }));
  assert.equal(Date.parse(task.run_after ?? ""), later.getTime());
  const { data: cancelled, response } = await client.POST("/tasks/{id}/cancel", {
    params: { path: { id: task.id } },
  });
  assert.deepEqual([response.status, cancelled?.status], [200, "CANCELLED"]);
  return task.id;
}

async function refuse(ended: string) {
  const again = await client.POST("/tasks/{id}/cancel", { params: { path: { id: ended } } });
  assert.equal(again.data?.status, "CANCELLED");
  const unknown = await client.GET("/tasks/{id}", { params: { path: { id: randomUUID() } } });
  assert.deepEqual([unknown.response.status, unknown.error?.code], [404, "task_not_found"]);
  const { error } = await client.POST("/tasks", {
    body: request("clients.count", [], { priority: 101 }),
  });
  assert.deepEqual([error?.code, error?.pointer], ["invalid_field", "/priority"]);
}

async function keepOut(id: string) {
  const headers = { Authorization: "Bearer wrong" };
  const keptOut = await client.GET("/tasks/{id}", { params: { path: { id } }, headers });
  assert.deepEqual([keptOut.response.status, keptOut.error?.code], [401, "unauthorized"]);
}

async function repeat() {
  const params = { header: { "Idempotency-Key": label } };
  const once = () => client.POST("/tasks", { body: request("clients.count", ["once"]), params });
  const [first, second] = [await once(), await once()];
  assert.deepEqual([first.response.status, second.response.status], [201, 200]);
  assert.equal(first.data?.id, second.data?.id);
  const body = request("clients.count", ["twice"]);
  const { error } = await client.POST("/tasks", { body, params });
  assert.equal(error?.code, "idempotency_mismatch");
}

async function work() {
  const paths = ["silent", "broken", "endless"].map((name) => `clients.${label}.${name}`);
  for (const path of paths) await create(request(path, []));
  const { data: leased } = await client.POST("/executors/{name}/leases", {
    params: { path: { name: label } },
    body: { worker_id: label, max_tasks: 3, wait_seconds: 30 },
  });
  assert.deepEqual(leased?.leases.map((lease) => lease.task.task_path), paths);
  const [silent, broken, endless] = leased.leases;
  assert.ok(silent && broken && endless);

  const succeeded = await finish(silent, { return_value: null });
  assert.deepEqual([succeeded.status, succeeded.return_value], ["SUCCESSFUL", null]);

  const failed = await finish(broken, { error: { message: "no such galaxy" } });
  assert.deepEqual([failed.status, failed.attempts], ["FAILED", 1]);
  assert.deepEqual(failed.errors.map((error) => error.message), ["no such galaxy"]);

  const { response } = await client.POST("/tasks/{id}/cancel", {
    params: { path: { id: endless.task.id } },
  });
  assert.equal(response.status, 202);
  const { data: renewal } = await client.POST("/leases/{token}/renew", {
    params: { path: { token: endless.token } },
    body: {},
  });
  assert.equal(renewal?.cancel_requested, true);
  const cancelled = await finish(endless, { cancelled: true });
  assert.equal(cancelled.status, "CANCELLED");
}

async function finish(lease: Lease, body: FinishRequest) {
  const { data: answer, error } = await client.POST("/leases/{token}/finish", {
    params: { path: { token: lease.token } },
    body,
  });
  assert.ok(answer, error?.detail);
  const { data: record } = await client.GET("/tasks/{id}", {
    params: { path: { id: lease.task.id } },
  });
  assert.deepEqual(answer, record);
  return answer;
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
    const { data: page, error } = await client.GET("/tasks", { params: { query } });
    assert.ok(page, error?.detail);
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
console.log("typescript, openapi-fetch: the story is told");
