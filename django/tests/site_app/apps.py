import json
import os

from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "site_app"

    def ready(self):
        """Writes down what the backend's class sends, where a test asks for it."""
        path = os.environ.get("TEST_SIGNALS")
        if not path:
            return
        from django_nightshift import NightshiftBackend
        from django_nightshift.compat import task_finished, task_started

        for name, signal in (("task_started", task_started), ("task_finished", task_finished)):

            def write(task_result, name=name, **_):
                line = [name, task_result.id, str(task_result.status)]
                with open(path, "a") as file:
                    file.write(json.dumps(line) + "\n")

            if signal is not None:
                signal.connect(write, sender=NightshiftBackend, weak=False)
