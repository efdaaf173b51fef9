"""What Django's tests ask of DummyBackend, over the service's API."""

from django_nightshift import NightshiftBackend
from django_nightshift.results import TaskResult


class Backend(NightshiftBackend):
    """A backend that can be emptied."""

    def clear(self) -> None:
        for task in self.service.request("GET", "/tasks?status=READY&limit=1000")["items"]:
            self.service.request("POST", f"/tasks/{task['id']}/cancel")
        ages = {"retention_seconds": 0, "retention_failed_seconds": 0}
        self.service.request("POST", "/prune", ages)

    @property
    def results(self) -> list[TaskResult]:
        tasks = self.service.request("GET", "/tasks")["items"]
        return [self.get_result(task["id"]) for task in tasks]
