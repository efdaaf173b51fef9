/** What Nightshift calls: the list of tasks, JSON in and out, errors as task-errors. */

import host from "nightshift:plugin/host@0.1.0";
import http from "nightshift:plugin/http@0.1.0";
import { DEFAULT_RULES, filterAlert } from "./filter.js";
import { notify } from "./notify.js";

/** Each task: what `describe` says of it, and the function behind it. */
const TASKS = {
  "alerts.filter": {
    summary: "Decide whether an alert of a transient stream deserves a follow-up",
    description:
      "Takes one alert packet as ZTF sends them, turned to JSON. Keyword arguments: `rules`, " +
      `limits that override or add to ${JSON.stringify(DEFAULT_RULES)}, and \`notify\`, a URL ` +
      "that each alert that passes is posted to. Returns `passes`, the `reasons` why not, and " +
      "the `features` that the rules were held against.",
    defaults: { timeoutMs: 60_000, maxAttempts: 5 },
    run: filterTask,
  },
};

function filterTask(context, args, kwargs) {
  const [alert, ...rest] = JSON.parse(args);
  const { rules, notify: url, ...unknown } = JSON.parse(kwargs);
  if (rest.length > 0 || Object.keys(unknown).length > 0) {
    throw new TypeError("alerts.filter takes one alert, and the keywords rules and notify");
  }
  const verdict = filterAlert(alert, rules);
  if (verdict.passes && url !== undefined) {
    // The alert goes on as the text that it came as: JavaScript would round its 19-digit candid.
    notify(http.fetch, url, `{"verdict":${JSON.stringify(verdict)},"alerts":${args}}`, context);
    host.log("info", `${alert.objectId} passed on`);
  }
  return verdict;
}

export const tasks = {
  describe: () => Object.entries(TASKS).map(([path, { run, ...info }]) => ({ path, ...info })),

  run(context, taskPath, args, kwargs) {
    try {
      const { run } = TASKS[taskPath] ?? unknownTask(taskPath);
      return JSON.stringify(run(context, args, kwargs));
    } catch (error) {
      throw taskError(error);
    }
  },
};

function unknownTask(taskPath) {
  throw new RangeError(`there is no task ${taskPath}`);
}

/** A TypeError or RangeError comes again with the same input: only other errors are retried. */
function taskError(error) {
  const final = error instanceof TypeError || error instanceof RangeError;
  return {
    class: error.name,
    message: error.message,
    traceback: error.stack ?? null,
    retryable: error.retryable ?? !final,
  };
}
