import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ...exceptions import NightshiftError
from ...probe import probe
from ...registration import push_registration, worker_registration
from .. import arguments


class Command(BaseCommand):
    help = (
        "Tell Nightshift who runs this site's tasks: its workers, or with --url the site itself. "
        "Replaces the registration; workers register by themselves if there is none."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        arguments.add_backend(parser)
        parser.add_argument(
            "--url",
            help="Call the site at this address, where django_nightshift.urls is included, "
            "instead of waiting for workers. Needs OPTIONS['secrets'].",
        )
        parser.add_argument(
            "--no-probe",
            action="store_false",
            dest="probe",
            help="Do not try first whether the site answers at --url: for an address that only "
            "the service reaches.",
        )
        parser.add_argument(
            "--task-path",
            action="append",
            dest="task_paths",
            help="Serve these task paths only, such as 'myapp.tasks.*'; may be given several "
            "times (default: all)",
        )
        parser.add_argument(
            "--concurrency",
            type=arguments.count,
            help="How many tasks may run at once, over all workers",
        )
        parser.add_argument(
            "--lease-seconds",
            type=arguments.count,
            help="How soon a task is given up whose worker is not heard of (default: 30)",
        )

    def handle(self, **options: Any) -> None:
        backend = arguments.chosen_backend(options)
        more = {name: options[name] for name in ("concurrency", "lease_seconds") if options[name]}
        if options["task_paths"]:
            more["task_paths"] = [backend.nightshift.task_path(p) for p in options["task_paths"]]
        try:
            if options["url"]:
                registration = push_registration(backend, options["url"], **more)
                if options["probe"]:
                    probe(backend, options["url"])
            else:
                registration = worker_registration(backend, **more)
            path = f"/executors/{backend.nightshift.executor}"
            executor = backend.service.request("PUT", path, registration)
        except NightshiftError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Registered {executor['name']} of kind {executor['kind']} for "
            f"{', '.join(executor['task_paths'])}"
        )
        if options["verbosity"] > 1:
            self.stdout.write(json.dumps(executor, indent=2))
