"""Shows the worker's log lines in the terminal, whatever the settings say of loggers."""

import logging
import sys
from io import TextIOBase
from typing import TextIO

from ..compat import TASKS_LOGGER
from ..context import TaskLogHandler

WORKER_LOGGER = "django_nightshift"
LEVELS = {0: logging.CRITICAL, 1: logging.INFO}


def configure_logging(verbosity: int, stream: TextIO | TextIOBase | None = None) -> None:
    """0 shows nothing but disasters, 1 what happens, 2 and 3 everything."""
    for name in (TASKS_LOGGER, WORKER_LOGGER):
        logger = logging.getLogger(name)
        logger.setLevel(LEVELS.get(verbosity, logging.DEBUG))
        if not _shows(logger):
            logger.addHandler(logging.StreamHandler(stream or sys.stdout))


def _shows(logger: logging.Logger) -> bool:
    """Whether a line would be printed: Django's own handler drops all of them in production."""
    record = logger.makeRecord(logger.name, logging.INFO, __file__, 0, "", (), None)
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            if (
                not isinstance(handler, (TaskLogHandler, logging.NullHandler))
                and handler.level <= record.levelno
                and handler.filter(record)
            ):
                return True
        current = current.parent if current.propagate else None
    return False
