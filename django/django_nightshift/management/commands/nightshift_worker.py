import asyncio
import logging
import os
import secrets
import socket
import sys
from argparse import ArgumentParser, BooleanOptionalAction
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ...compat import DEFAULT_QUEUE_NAME
from ...exceptions import NightshiftError, WorkerLost
from ...worker.health import Health
from ...worker.logs import configure_logging
from ...worker.worker import Settings, Worker
from .. import arguments

logger = logging.getLogger("django_nightshift.worker")


class Command(BaseCommand):
    help = "Run a worker: takes tasks from Nightshift and runs them"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--queue-name",
            nargs="?",
            default=DEFAULT_QUEUE_NAME,
            help="The queues to process. Separate multiple with a comma. To process all queues, "
            "use '*' (default: %(default)r)",
        )
        parser.add_argument(
            "--exclude-queues",
            nargs="?",
            default="",
            help="Queues to exclude. Separate multiple with a comma.",
        )
        parser.add_argument(
            "--interval",
            nargs="?",
            default=1,
            type=arguments.seconds_from_zero,
            help="The first pause, in seconds, after the service could not be reached. While "
            "nothing is to do, the service tells of new tasks at once (default: %(default)r)",
        )
        parser.add_argument(
            "--batch",
            action="store_true",
            help="Process all outstanding tasks, then exit. Can be used in combination with "
            "--max-tasks.",
        )
        parser.add_argument(
            "--reload",
            action=BooleanOptionalAction,
            default=settings.DEBUG,
            help="Start again when the code changes, once running tasks have ended "
            "(default: DEBUG)",
        )
        arguments.add_backend(
            parser,
            ": its service and its executor; tasks of other backends with the same executor are "
            "run, too",
        )
        parser.add_argument(
            "--no-startup-delay",
            action="store_false",
            dest="startup_delay",
            help="Don't add a small delay at startup.",
        )
        parser.add_argument(
            "--max-tasks",
            nargs="?",
            type=arguments.count,
            help="The maximum number of tasks to run before exiting.",
        )
        parser.add_argument(
            "--worker-id",
            nargs="?",
            type=arguments.worker_id,
            help="Worker id. Must be unique (default: made of the machine and the process)",
        )
        parser.add_argument(
            "--concurrency",
            default=1,
            type=arguments.count,
            help="How many tasks to run at once (default: %(default)r)",
        )
        parser.add_argument(
            "--threads",
            action="store_true",
            help="Run tasks in threads instead of processes: less memory, but a cancelled or "
            "timed out task goes on unless it asks is_cancelled().",
        )
        parser.add_argument(
            "--timeout",
            type=arguments.seconds,
            help="Stop tasks that run for longer than so many seconds, whatever they allow "
            "themselves.",
        )

        parser.add_argument(
            "--max-tasks-per-process",
            type=arguments.count,
            help="Start a new process after so many tasks, against tasks that leave memory behind "
            "(default: never)",
        )
        parser.add_argument(
            "--health-file",
            help="Touch this file every five seconds while the worker is alive, and delete it at "
            "the end.",
        )

    def handle(self, *, verbosity: int, **options: Any) -> None:
        # Where `call_command` is to write elsewhere, so are the lines of the worker's processes.
        stream = None if self.stdout._out is sys.stdout else self.stdout
        configure_logging(verbosity, stream)
        if options["reload"] and options["batch"]:
            logger.warning(
                "Warning: --reload and --batch cannot be specified together. Disabling autoreload."
            )
            options["reload"] = False
        written = None if stream is None else partial(stream.write, ending="")
        asyncio.run(self._run(self._settings(verbosity, options, written), options))

    async def _run(self, settings: Settings, options: dict[str, Any]) -> None:
        worker = Worker(arguments.chosen_backend(options), settings)
        health = Health(options["health_file"])
        try:
            health.start()
        except OSError as error:
            raise CommandError(f"--health-file cannot be written: {error}") from error
        try:
            await worker.run()
        except (NightshiftError, WorkerLost) as error:
            raise CommandError(str(error)) from error
        finally:
            health.stop()
        if worker.reload:
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606

    def _settings(self, verbosity: int, options: dict[str, Any], written: Any) -> Settings:
        queue_names = arguments.names(options["queue_name"])
        excluded = arguments.names(options["exclude_queues"])
        if not queue_names:
            raise CommandError("--queue-name names no queue")
        if excluded and "*" not in queue_names:
            raise CommandError("--exclude-queues can only be used with --queue-name=*")
        if options["max_tasks_per_process"] and options["threads"]:
            raise CommandError("--max-tasks-per-process is for processes, not for --threads")
        return Settings(
            worker_id=options["worker_id"] or _default_worker_id(),
            queue_names=queue_names,
            exclude_queue_names=excluded,
            verbosity=verbosity,
            written=written,
            **{
                name: options[name]
                for name in (
                    "interval",
                    "batch",
                    "startup_delay",
                    "max_tasks",
                    "concurrency",
                    "threads",
                    "timeout",
                    "max_tasks_per_process",
                    "reload",
                )
            },
        )


def _default_worker_id() -> str:
    # In containers, process ids are all the same.
    return f"{socket.gethostname()[:40]}.{os.getpid()}.{secrets.token_hex(3)}"
