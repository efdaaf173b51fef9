from django.core.management.base import BaseCommand
from django.db import transaction
from django_nightshift.compat import task_enqueued

from pages.models import Page

#: How long a task that was sent before the commit is given to end before it, in seconds.
TOO_EARLY = 5


class Command(BaseCommand):
    """Creates so many pages, or gives them titles, each in a transaction."""

    def add_arguments(self, parser):
        parser.add_argument("word")
        parser.add_argument("count", type=int)

    def handle(self, word, count, **_):
        sent = []

        def hear(task_result, **_):
            sent.append(task_result)

        task_enqueued.connect(hear)
        for number in range(1, count + 1):
            with transaction.atomic():
                Page(pk=number, title=f"{word} {number}").save()
                for result in sent:
                    result.wait(TOO_EARLY)
            sent.clear()
