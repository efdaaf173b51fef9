"""The service's HTTP API, as far as this package uses it, for sync and async callers."""

import asyncio
import json
import logging
import os
import random
import ssl
import time
import weakref
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import httpx

from .exceptions import ServiceRefused, ServiceUnavailable
from .options import Options

PAUSE_FIRST = 0.1
PAUSE_MAX = 2.0
#: What the service answers when it is away, stops, is busy, or was paused while it read.
PASSES = {408, 425, 429, 502, 503, 504}


class Service:
    """Calls the service. Made without a connection; safe to share between threads."""

    def __init__(self, url: str, token: str | None, verify: bool | str, timeout: float) -> None:
        self.url = url.rstrip("/")
        _others_only.urls.add(self.url)
        self.timeout = timeout
        self._settings: dict[str, Any] = {
            "base_url": self.url,
            "headers": {"Authorization": f"Bearer {token}"} if token else {},
            "verify": ssl.create_default_context(cafile=verify)
            if isinstance(verify, str)
            else verify,
            # A proxy for the outside world is no way to a service next door.
            "trust_env": False,
        }
        self._client: httpx.Client | None = None
        self._async_clients: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, httpx.AsyncClient
        ] = weakref.WeakKeyDictionary()

    def request(self, method: str, path: str, body: Any = None, **how: Any) -> Any:
        """The JSON of the answer; None for an empty one.

        Tries again until `seconds` (the `request_timeout` by default) are over, as everything
        that this package sends is safe to repeat. Where the service was asked to `wait` so many
        seconds for its answer, they count from the first failure on. `once` tries only once.

        Raises ServiceUnavailable when nothing answered in time, else ServiceRefused.
        """
        call = _Call(self, method, path, body, **how)
        if self._client is None:
            self._client = httpx.Client(**self._settings)
        for timeout in call.tries():
            try:
                answer = self._client.request(**call.arguments(timeout))
            except httpx.TransportError as error:
                time.sleep(call.pause_after(error))
            else:
                if call.passes(answer):
                    time.sleep(call.pause_after(answer))
                else:
                    return _json(answer)
        raise call.failure()

    async def arequest(self, method: str, path: str, body: Any = None, **how: Any) -> Any:
        """As `request`, without blocking the event loop."""
        call = _Call(self, method, path, body, **how)
        client = self._async_client()
        for timeout in call.tries():
            try:
                answer = await client.request(**call.arguments(timeout))
            except httpx.TransportError as error:
                await asyncio.sleep(call.pause_after(error))
            else:
                if call.passes(answer):
                    await asyncio.sleep(call.pause_after(answer))
                else:
                    return _json(answer)
        raise call.failure()

    def _async_client(self) -> httpx.AsyncClient:
        """Connections belong to the event loop that made them."""
        loop = asyncio.get_running_loop()
        client = self._async_clients.get(loop)
        if client is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
            client = httpx.AsyncClient(limits=limits, **self._settings)
            self._async_clients[loop] = client
        return client


class _Call:
    """One request with its repetitions."""

    def __init__(
        self,
        service: Service,
        method: str,
        path: str,
        body: Any,
        *,
        params: dict[str, Any] | None = None,
        wait: int = 0,
        seconds: float | None = None,
        once: bool = False,
    ) -> None:
        self.service = service
        self.method = method
        self.path = path
        self.params = params
        if body is None or isinstance(body, bytes):
            self.body = body
        else:
            self.body = json.dumps(body, allow_nan=False).encode()
        self.wait = wait
        self.seconds = service.timeout if seconds is None else seconds
        self.once = once
        self.waited = time.monotonic() + wait
        #: When the last try begins at the latest; None until the first failure of a waiting call.
        self.deadline = None if wait else time.monotonic() + self.seconds
        self.pause = PAUSE_FIRST
        self.last: Exception | httpx.Response | None = None

    def tries(self) -> Iterator[float]:
        """The time-out of each try; always at least one."""
        while self.last is None or (not self.once and self._left() > 0):
            waits = max(0.0, self.waited - time.monotonic())
            yield max(waits + self._left(), 0.001)

    def _left(self) -> float:
        return self.seconds if self.deadline is None else self.deadline - time.monotonic()

    def arguments(self, timeout: float) -> dict[str, Any]:
        headers = {} if self.body is None else {"Content-Type": "application/json"}
        return {
            "method": self.method,
            "url": self.path,
            "params": self.params,
            "content": self.body,
            "headers": headers,
            "timeout": timeout,
        }

    def passes(self, answer: httpx.Response) -> bool:
        return answer.status_code in PASSES

    def pause_after(self, last: Exception | httpx.Response) -> float:
        """How long to wait before the next try: not beyond the deadline."""
        self.last = last
        if self.deadline is None:
            self.deadline = time.monotonic() + self.seconds
        pause = self.pause * random.uniform(0.5, 1)
        self.pause = min(self.pause * 2, PAUSE_MAX)
        if isinstance(last, httpx.Response):
            asked = last.headers.get("retry-after", "")
            pause = max(pause, float(asked)) if asked.isdecimal() else pause
        return 0.0 if self.once else max(0.0, min(pause, self._left()))

    def failure(self) -> ServiceUnavailable:
        tried = "once" if self.once else f"for {self.seconds:g} seconds"
        if isinstance(self.last, httpx.Response):
            what = f"cannot do it now, tried {tried} ({_problem(self.last)})"
        elif isinstance(self.last, httpx.ConnectError):
            what = f"cannot be reached, tried {tried} ({self.last})"
        elif isinstance(self.last, httpx.TimeoutException):
            what = f"did not answer within {self.seconds + self.wait:g} seconds"
        else:
            what = f"broke off, tried {tried} ({type(self.last).__name__}: {self.last})"
        failure = ServiceUnavailable(f"Nightshift at {self.service.url} {what}")
        failure.__cause__ = self.last if isinstance(self.last, Exception) else None
        return failure


def _json(answer: httpx.Response) -> Any:
    if not answer.is_success:
        raise _problem(answer)
    try:
        return json.loads(answer.content) if answer.content else None
    except ValueError:
        # A network's page for all who have not signed in, say.
        raise _problem(answer) from None


def _problem(answer: httpx.Response) -> ServiceRefused:
    """The problem by RFC 9457 that the service sent; something else may have answered."""
    try:
        problem = json.loads(answer.content)
        code, detail = problem["code"], problem.get("detail") or problem.get("title")
    except (ValueError, TypeError, KeyError):
        excerpt = answer.text[:200]
        code, detail = "not_nightshift", f"{answer.status_code} {answer.reason_phrase} {excerpt}"
    return ServiceRefused(answer.status_code, code, detail)


def task_url(task_id: str, rest: str = "") -> str:
    """The address of a task, whatever its id holds."""
    return f"/tasks/{quote(task_id, safe='')}{rest}"


class _OthersOnly(logging.Filter):
    """httpx writes a line for each request; those to the service would drown a site's own."""

    urls: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = record.args
        if not isinstance(arguments, tuple) or len(arguments) < 2:
            return True
        return not str(arguments[1]).startswith(tuple(self.urls))


_others_only = _OthersOnly()
logging.getLogger("httpx").addFilter(_others_only)


@lru_cache(maxsize=32)
def _service(url: str, token: str | None, verify: bool | str, timeout: float) -> Service:
    return Service(url, token, verify, timeout)


def service_of(options: Options) -> Service:
    """The connections for these options: one set a process, however many backends ask."""
    return _service(options.url, options.token, options.verify, options.request_timeout)


# A child process must not write into its parent's connections.
os.register_at_fork(after_in_child=_service.cache_clear)
