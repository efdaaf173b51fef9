#!/usr/bin/env python3
"""Whether the comparison of OpenAPI documents finds each way to break a client.

Usage: breaks.py OASDIFF SEVERITIES DOCUMENT
"""

import copy
import json
import subprocess
import sys
import tempfile

OASDIFF, SEVERITIES, DOCUMENT = sys.argv[1:]


def schema(document, name, *path):
    found = document["components"]["schemas"][name]
    for step in path:
        found = found[step]
    return found


def operation(document, path, method):
    return document["paths"][path][method]


def parameter(document, name):
    parameters = operation(document, "/tasks", "get")["parameters"]
    return next(parameter for parameter in parameters if parameter["name"] == name)


def remove_field(document, name, field):
    del schema(document, name, "properties")[field]
    if field in schema(document, name).get("required", ()):
        schema(document, name, "required").remove(field)


def require_new_field(document):
    schema(document, "TaskRequest", "properties")["site"] = {"type": "string"}
    schema(document, "TaskRequest", "required").append("site")


def require_new_parameter(document):
    new = {"name": "site", "in": "query", "required": True, "schema": {"type": "string"}}
    operation(document, "/tasks", "get")["parameters"].append(new)


def remove_parameter(document):
    operation(document, "/tasks", "get")["parameters"].remove(parameter(document, "label"))


# What is done to a document, and the rule that is to find it.
BREAKS = [
    ("api-path-removed", lambda d: d["paths"].pop("/stats")),
    ("api-removed", lambda d: d["paths"]["/tasks"].pop("get")),
    (
        "api-operation-id-removed",
        lambda d: operation(d, "/tasks", "post").update(operationId="enqueue"),
    ),
    (
        "response-success-status-removed",
        lambda d: operation(d, "/tasks/{id}/result", "get")["responses"].pop("202"),
    ),
    (
        "response-non-success-status-removed",
        lambda d: operation(d, "/tasks/{id}", "get")["responses"].pop("404"),
    ),
    (
        "request-property-enum-value-removed",
        lambda d: schema(d, "LogLevel", "enum").remove("debug"),
    ),
    (
        "request-parameter-enum-value-removed",
        lambda d: schema(d, "TaskStatus", "enum").remove("READY"),
    ),
    (
        "response-property-enum-value-added",
        lambda d: schema(d, "TaskStatus", "enum").append("PAUSED"),
    ),
    ("new-required-request-property", require_new_field),
    (
        "request-property-became-required",
        lambda d: schema(d, "TaskRequest", "required").append("args"),
    ),
    ("request-property-removed", lambda d: remove_field(d, "TaskRequest", "priority")),
    (
        "request-property-max-decreased",
        lambda d: schema(d, "TaskRequest", "properties", "priority").update(maximum=50),
    ),
    (
        "request-property-max-length-decreased",
        lambda d: schema(d, "TaskPath").update(maxLength=100),
    ),
    (
        "request-property-max-items-decreased",
        lambda d: schema(d, "TaskBatch", "properties", "tasks").update(maxItems=10),
    ),
    (
        "request-property-pattern-changed",
        lambda d: schema(d, "TaskPath").update(pattern="^[a-z.]+$"),
    ),
    (
        "request-property-became-not-nullable",
        lambda d: schema(d, "TaskRequest", "properties", "priority").update(type="integer"),
    ),
    (
        "request-property-type-changed",
        lambda d: schema(d, "TaskRequest", "properties", "priority").update(
            type=["string", "null"]
        ),
    ),
    (
        "request-body-one-of-removed",
        lambda d: schema(d, "ExecutorRequest", "oneOf").pop(),
    ),
    (
        "request-body-media-type-removed",
        lambda d: operation(d, "/tasks/batch", "post")["requestBody"]["content"].pop(
            "application/x-ndjson"
        ),
    ),
    ("new-required-request-parameter", require_new_parameter),
    ("request-parameter-removed", remove_parameter),
    (
        "request-parameter-max-decreased",
        lambda d: parameter(d, "limit")["schema"].update(maximum=10),
    ),
    (
        "request-parameter-became-required",
        lambda d: parameter(d, "label").update(required=True),
    ),
    ("response-required-property-removed", lambda d: remove_field(d, "Task", "attempts")),
    ("response-optional-property-removed", lambda d: remove_field(d, "Problem", "pointer")),
    (
        "response-property-became-optional",
        lambda d: schema(d, "Task", "required").remove("attempts"),
    ),
    (
        "response-property-became-nullable",
        lambda d: schema(d, "Task", "properties", "attempts").update(type=["integer", "null"]),
    ),
    (
        "response-property-type-changed",
        lambda d: schema(d, "Task", "properties", "attempts").update(type="string"),
    ),
    (
        "optional-response-header-removed",
        lambda d: operation(d, "/tasks", "post")["responses"]["201"]["headers"].pop("Location"),
    ),
    ("webhook-removed", lambda d: d["webhooks"].pop("task.cancel")),
    ("request-property-removed", lambda d: remove_field(d, "ExecuteData", "attempt")),
    ("api-security-", lambda d: d.update(security=[{"bearer": []}])),
]


def compare(document, broken):
    """The rules that find what is broken; a rule is named in brackets at the end of its line."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(broken, file)
        file.flush()
        command = [OASDIFF, "breaking", "--format", "json", "--fail-on", "ERR"]
        command += ["--severity-levels", SEVERITIES, document, file.name]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(done.stderr)
    found = json.loads(done.stdout or "[]")
    return {change["id"] for change in found} if done.returncode else set()


with open(DOCUMENT) as file:
    present = json.load(file)
if found := compare(DOCUMENT, present):
    sys.exit(f"a document is said to break itself: {found}")
missed = []
for rule, change in BREAKS:
    broken = copy.deepcopy(present)
    change(broken)
    found = compare(DOCUMENT, broken)
    if not any(name.startswith(rule) for name in found):
        missed.append(f"{rule}: found {sorted(found) or 'nothing'}")
if missed:
    sys.exit("not found by the comparison:\n" + "\n".join(missed))
print(f"each of {len(BREAKS)} ways to break a client is found")
