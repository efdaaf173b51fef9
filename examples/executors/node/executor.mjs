// An HTTP executor for Nightshift in nothing but Node's own modules, for files like check.mjs.
//
// A task is called with its attempt, whose signal is aborted when it is to stop, args and kwargs.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const key = Buffer.from(process.env.NIGHTSHIFT_SECRET.replace(/^whsec_/, ""), "base64");
export const tasks = new Map(); // by their paths
export const later = new Map(); // those that go on after the answer 202
const running = new Map(); // attempts, by the tokens of their leases

class Attempt extends AbortController {
  constructor(task, data) {
    super();
    Object.assign(this, { task, data, lost: false });
    running.set(data.lease.token, this);
  }

  async run() {
    try {
      const value = (await this.task(this, this.data.args, this.data.kwargs)) ?? null;
      return this.signal.aborted ? [409, { message: "cancelled" }] : [200, value];
    } catch (error) { // 500: tried again; 422: fails for good; 503: was not begun
      const { name, message, stack, status = 500 } = error;
      return [status, { exception_class_path: name, message, traceback: stack }];
    } finally {
      running.delete(this.data.lease.token);
    }
  }

  async runLater() {
    const beating = setInterval(() => this.report("renew", {}), 1000);
    const [status, value] = await this.run();
    clearInterval(beating);
    const end = status === 200 ? { return_value: value } : { error: value };
    await this.report("finish", this.signal.aborted ? { cancelled: true } : end);
  }

  async report(what, body) {
    if (this.lost) return;
    try {
      const answer = await fetch(`${this.data.lease.url}/${what}`, {
        method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
      this.lost = answer.status === 409; // the attempt is over
      if (this.lost || (await answer.json()).cancel_requested) this.abort();
    } catch { /* the next heartbeat may get through */ }
  }
}

function isSigned(headers, body) { // https://www.standardwebhooks.com
  const at = headers["webhook-timestamp"];
  const signed = createHmac("sha256", key).update(`${headers["webhook-id"]}.${at}.`).update(body);
  const right = Buffer.from(`v1,${signed.digest("base64")}`);
  const same = (one) => one.length === right.length && timingSafeEqual(Buffer.from(one), right);
  return Math.abs(Date.now() / 1000 - at) < 300 && `${headers["webhook-signature"]}`.split(" ").some(same);
}

function answer({ type, data }) { // a status and a value
  const attempt = running.get(data.lease.token);
  if (type === "task.cancel") return [204, attempt?.abort()];
  if (later.has(data.task_path)) { // once, even if the message comes twice
    if (!attempt) new Attempt(later.get(data.task_path), data).runLater();
    return [202];
  }
  if (tasks.has(data.task_path)) return new Attempt(tasks.get(data.task_path), data).run();
  return [404, { message: `there is no task ${data.task_path}` }];
}

async function handle(request, response) {
  const body = Buffer.concat(await request.toArray());
  const message = isSigned(request.headers, body) ? JSON.parse(body) : null;
  const [status, value] = message ? await answer(message) : [401];
  // By its id the service knows the answer for this executor's.
  const about = message ? { "Nightshift-Task-Id": message.data.task_id } : {};
  response.writeHead(status, { "Retry-After": "5", ...about }); // which means something with 503 only
  response.end([202, 204].includes(status) ? "" : JSON.stringify(value ?? null));
}

export const serve = (port) =>
  createServer((request, response) => handle(request, response).catch(() => response.destroy()))
    .listen(port, "127.0.0.1", function () { console.log(this.address().port); });
