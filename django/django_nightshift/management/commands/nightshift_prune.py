from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from ...backend import NightshiftBackend
from ...client import task_url
from ...compat import DEFAULT_QUEUE_NAME
from ...exceptions import NightshiftError, ServiceRefused
from .. import arguments

ENDED = ("SUCCESSFUL", "CANCELLED")
PAGE = 1000


class Command(BaseCommand):
    help = (
        "Delete task results that ended long ago. The service does so by itself, after 7 days "
        "and for failed tasks 30; this is for other ages, or now."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        arguments.add_backend(parser)
        parser.add_argument(
            "--queue-name",
            nargs="?",
            default=DEFAULT_QUEUE_NAME,
            help="The queues to process. Separate multiple with a comma. To process all queues of "
            "the service, with a namespace as far as they hold tasks of this site, use '*' "
            "(default: %(default)r)",
        )
        parser.add_argument(
            "--min-age-days",
            nargs="?",
            default=14,
            type=arguments.days,
            help="The minimum age (in days) of a finished task result to be pruned "
            "(default: %(default)r)",
        )
        parser.add_argument(
            "--failed-min-age-days",
            nargs="?",
            type=arguments.days,
            help="The minimum age (in days) of a failed task result to be pruned "
            "(default: min-age-days)",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Don't delete the task results, just show how many would be deleted",
        )

    def handle(self, *, verbosity: int, **options: Any) -> None:
        backend = arguments.chosen_backend(options)
        failed_days = options["failed_min_age_days"]
        ages = {
            "ended": options["min_age_days"],
            "failed": options["min_age_days"] if failed_days is None else failed_days,
        }
        queue_names = arguments.names(options["queue_name"])
        try:
            if "*" in queue_names and not backend.nightshift.namespace:
                count = _prune_all(backend, ages, options["dry_run"])
            else:
                queue_names = ["*"] if "*" in queue_names else queue_names
                count = _prune_queues(backend, queue_names, ages, options["dry_run"])
        except NightshiftError as error:
            raise CommandError(str(error)) from error
        if verbosity > 0:
            done = "Would delete" if options["dry_run"] else "Deleted"
            self.stdout.write(f"{done} {count} task result(s)")


def _prune_all(backend: NightshiftBackend, ages: dict[str, int], dry_run: bool) -> int:
    day = 86_400
    request = {
        "dry_run": dry_run,
        "retention_seconds": ages["ended"] * day,
        "retention_failed_seconds": ages["failed"] * day,
    }
    count = 0
    while True:
        answer = backend.service.request("POST", "/prune", request, wait=60)
        count += sum(answer["tasks"].values())
        if not answer["remaining"]:
            return count


def _prune_queues(
    backend: NightshiftBackend, queue_names: list[str], ages: dict[str, int], dry_run: bool
) -> int:
    count = 0
    for task_id in _ended(backend, queue_names, ages):
        if not dry_run:
            try:
                backend.service.request("DELETE", task_url(task_id))
            except ServiceRefused as error:
                # Deleted or retried by somebody else in the meantime.
                if error.status not in (404, 409):
                    raise
                continue
        count += 1
    return count


def _ended(
    backend: NightshiftBackend, queue_names: list[str], ages: dict[str, int]
) -> Iterator[str]:
    """The ids of this site's tasks in these queues that ended long enough ago."""
    namespace = backend.nightshift.namespace
    own: dict[str, Any] = {"task_path": backend.nightshift.task_path("*")} if namespace else {}
    now = timezone.now()
    for status in (*ENDED, "FAILED"):
        age = timedelta(days=ages["ended" if status in ENDED else "failed"])
        for queue_name in queue_names:
            query = {"status": status, "limit": PAGE, **own}
            if queue_name != "*":
                query["queue_name"] = queue_name
            query["enqueued_before"] = (now - age).isoformat()
            for task in _pages(backend, query):
                finished_at = parse_datetime(task["finished_at"])
                if finished_at is not None and finished_at <= now - age:
                    yield task["id"]


def _pages(backend: NightshiftBackend, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    while True:
        page = backend.service.request("GET", "/tasks", params=query)
        yield from page["items"]
        if page["next_cursor"] is None:
            return
        query["cursor"] = page["next_cursor"]
