"""Cancelling what is cancelled, and what has ended."""

import asyncio

import pytest
from django_nightshift.compat import STATUS
from django_nightshift.exceptions import TaskAlreadyFinished

from site_app import tasks


def test_cancelling_once_more_does_nothing(site):
    result = tasks.noop.enqueue()
    result.cancel()
    before = site.task(result)
    result.cancel()
    asyncio.run(result.acancel())
    assert site.task(result) == before
    assert result.status == STATUS["FAILED"]


def test_what_has_ended_otherwise_cannot_be_cancelled(site, run_all):
    ended = [tasks.noop.enqueue(), tasks.fail.enqueue()]
    run_all()
    for result in ended:
        with pytest.raises(TaskAlreadyFinished):
            result.cancel()
        with pytest.raises(TaskAlreadyFinished):
            asyncio.run(result.acancel())
