"""Makes Python functions the tasks of a Nightshift plugin. Copy it: it knows no astronomy.

    from nightshift_plugin import Tasks, task

    @task("survey.add", "Add two numbers")
    def add(a, b=0):
        return a + b

The module that is given to componentize-py has to have the name `Tasks`. Import everything at the
top of a module: the component is made after the imports have run, and there are none later.
"""

import inspect
import json
import traceback
from collections.abc import Callable

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import host, http
from wit_world.imports.task_types import TaskContext, TaskDefaults, TaskError, TaskInfo

_functions: dict[str, Callable] = {}
_infos: list[TaskInfo] = []


def task(
    path: str, summary: str, timeout_s: int | None = None, max_attempts: int | None = None
) -> Callable[[Callable], Callable]:
    """Makes a function a task: its JSON arguments are those of the task, and what it returns is
    the result. What it raises is the task's error."""

    def register(function: Callable) -> Callable:
        timeout_ms = None if timeout_s is None else 1000 * timeout_s
        defaults = TaskDefaults(timeout_ms, max_attempts)
        _functions[path] = function
        _infos.append(TaskInfo(path, summary, inspect.getdoc(function), defaults))
        return function

    return register


class Stopped(Exception):
    """The task was cancelled, or its time is nearly up."""

    retryable = True


def step(fraction: float, message: str) -> None:
    """Says how far the task is, and stops it if it should not go on."""
    host.progress(fraction, message)
    stop_if_asked()


def stop_if_asked() -> None:
    """To be called in long loops, every few milliseconds."""
    if host.cancelled():
        raise Stopped("asked to stop")


def log(message: str) -> None:
    host.log(host.Level.INFO, message)


class Refused(Exception):
    """The request is one that the host will not make, now or later."""


def fetch(
    url: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None
) -> http.Response:
    """Sends a request to a host that was granted, and returns the answer (`status`, `headers`,
    `body`), whatever it says. Where there is none, it raises an error that says whether another
    attempt may get one."""
    request = http.Request(method, url, list((headers or {}).items()), body, None)
    try:
        return http.fetch(request)
    except Err as error:
        raise _no_answer(url, error.value) from None


def _no_answer(url: str, error: http.Error) -> Exception:
    match error:
        case http.Error_Denied(reason) | http.Error_Invalid(reason):
            return Refused(f"{url}: {reason}")
        case http.Error_TooLarge(limit):
            return Refused(f"{url}: more than {limit} bytes")
        case http.Error_Timeout():
            return TimeoutError(f"{url}: no answer in time")
        case http.Error_Failed(reason):
            return ConnectionError(f"{url}: {reason}")


class Tasks(exports.Tasks):
    """What the host calls."""

    def describe(self) -> list[TaskInfo]:
        return _infos

    def run(self, context: TaskContext, task_path: str, args: str, kwargs: str) -> str:
        try:
            if task_path not in _functions:
                raise LookupError(f"this plugin has no task {task_path}")
            result = _functions[task_path](*json.loads(args), **json.loads(kwargs))
            return json.dumps(result, allow_nan=False)
        except Exception as error:
            raise Err(task_error(error)) from error


def task_error(error: Exception) -> TaskError:
    """Files and networks (`fetch`) may do another time what they did not do now. Other errors are
    for ever, unless their class has an attribute `retryable` that says otherwise."""
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else kind.__module__ + "."
    retryable = getattr(error, "retryable", isinstance(error, OSError))
    stack = "".join(traceback.format_exception(error))
    return TaskError(module + kind.__qualname__, str(error), stack, retryable)
