"""What schemathesis has to know to send what Nightshift takes, and not to wait."""

import json

import schemathesis

WAIT_SECONDS_MAX = 1


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.serializer("application/wasm")
def component(context, value):
    return value if isinstance(value, bytes) else str(value).encode()


def shortened(wait):
    return min(wait, WAIT_SECONDS_MAX) if type(wait) is int else wait


@schemathesis.hook
def before_call(context, case, kwargs):
    """Nobody ends the tasks, so that who waits would wait for all of the time that he named."""
    if isinstance(case.query, dict) and "wait" in case.query:
        wait = case.query["wait"]
        if str(wait).isdecimal() and int(wait) < 2**32:
            case.query["wait"] = min(int(wait), WAIT_SECONDS_MAX)
    if case.headers and "wait" in str(case.headers.get("Prefer", "")).lower():
        case.headers["Prefer"] = f"wait={WAIT_SECONDS_MAX}"
    if isinstance(case.body, dict) and "wait_seconds" in case.body:
        case.body["wait_seconds"] = shortened(case.body["wait_seconds"])
