"""Values of command line arguments."""

import math
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from ..backend import NightshiftBackend, nightshift_backend
from ..compat import DEFAULT_BACKEND_ALIAS, InvalidTaskBackend


def add_backend(parser: ArgumentParser, more: str = "") -> None:
    """The option `--backend`, which all commands have."""
    parser.add_argument(
        "--backend",
        nargs="?",
        default=DEFAULT_BACKEND_ALIAS,
        type=backend,
        help=f"The backend to operate on{more} (default: %(default)r)",
    )


def chosen_backend(options: dict[str, Any]) -> NightshiftBackend:
    """What `--backend` says; `call_command` hands over the alias as it is."""
    chosen = options["backend"]
    return backend(chosen) if isinstance(chosen, str) else chosen


def backend(text: str) -> NightshiftBackend:
    """An alias of `TASKS`."""
    try:
        return nightshift_backend(text)
    except InvalidTaskBackend as error:
        raise ArgumentTypeError(str(error)) from error


def seconds_from_zero(text: str) -> float:
    """A finite number of seconds, 0 or more."""
    number = float(text)
    if not math.isfinite(number):
        raise ArgumentTypeError("Must be a finite floating point value")
    if number < 0:
        raise ArgumentTypeError("Must be zero or greater")
    return number


def seconds(text: str) -> float:
    """A finite number of seconds above 0."""
    number = seconds_from_zero(text)
    if not number:
        raise ArgumentTypeError("Must be greater than zero")
    return number


def count(text: str) -> int:
    """A whole number above 0."""
    number = int(text)
    if number <= 0:
        raise ArgumentTypeError("Must be greater than zero")
    return number


def days(text: str) -> int:
    """A whole number, 0 or more."""
    number = int(text)
    if number < 0:
        raise ArgumentTypeError("Must be zero or greater")
    return number


def worker_id(text: str) -> str:
    """1 to 64 characters, as with `db_worker`."""
    if not text:
        raise ArgumentTypeError("Worker id must not be empty")
    if len(text) > 64:
        raise ArgumentTypeError("Worker ids must be shorter than 64 characters")
    return text


def names(text: str) -> list[str]:
    """A comma list."""
    return [name for name in text.split(",") if name]
