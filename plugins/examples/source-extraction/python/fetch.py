"""Gets the bytes of a file: from a granted directory, or over HTTP."""

from componentize_py_types import Err
from wit_world.imports import http


class Refused(Exception):
    """The request is one that the host will not make, now or later."""


def fetch(place: str) -> bytes:
    """`place` is a path below /data/ or a URL."""
    if place.startswith("/data/"):
        with open(place, "rb") as file:
            return file.read()
    if place.startswith(("http://", "https://")):
        return download(place)
    raise ValueError(f"{place!r} is neither a path below /data/ nor a URL")


def download(url: str) -> bytes:
    try:
        response = http.fetch(http.Request("GET", url, [], None, None))
    except Err as error:
        raise problem(url, error.value) from None
    if response.status != 200:
        raise ConnectionError(f"{url}: answered with status {response.status}")
    return response.body


def problem(url: str, error: http.Error) -> Exception:
    match error:
        case http.Error_Denied(reason) | http.Error_Invalid(reason):
            return Refused(f"{url}: {reason}")
        case http.Error_TooLarge(limit):
            return Refused(f"{url}: more than {limit} bytes")
        case http.Error_Timeout():
            return TimeoutError(f"{url}: no answer in time")
        case http.Error_Failed(reason):
            return ConnectionError(f"{url}: {reason}")
