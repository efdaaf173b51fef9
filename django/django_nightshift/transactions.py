"""What waits for the commit of the site's own transactions."""

from collections.abc import Callable
from typing import Any

from django.db import connections
from django.db.transaction import TransactionManagementError


class AfterCommit:
    """Calls `send` once all of these transactions are committed.

    A rollback of any of them, or of the savepoint within which this was made, drops the call:
    what was enqueued on the way to an error is undone with the rows that it was about.
    """

    def __init__(self, owner: Any, send: Callable[[], None], transactions: list[Any]) -> None:
        #: The backend that sends.
        self.owner = owner
        self.send = send
        self.transactions = transactions
        self.open = len(transactions)
        self.sent = False
        for connection in transactions:
            connection.on_commit(self)

    def __call__(self) -> None:
        self.open -= 1
        if self.open == 0:
            self.send_now()

    def send_now(self) -> None:
        """Sends without waiting any longer, as tests do, whose transactions end by a rollback."""
        if not self.sent:
            self.sent = True
            self.send()

    def is_dropped(self) -> bool:
        """Whether a rollback has dropped it from one of the transactions."""
        return any(
            all(function is not self for _, function, *_ in connection.run_on_commit)
            for connection in self.transactions
        )


def open_transactions() -> list[Any]:
    """This thread's database connections with a transaction that is not committed yet.

    All databases count, since a task may read of any. Opens no connection.

    Raises TransactionManagementError where autocommit is off outside of `atomic()`: Django does
    not say there when a transaction begins or ends.
    """
    found: dict[int, Any] = {}
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            # In tests, a replica may be the same connection by another name.
            found[id(connection)] = connection
        elif connection.connection is not None and not connection.autocommit:
            raise TransactionManagementError(
                f"enqueue() cannot wait for the commit: autocommit is off for the database "
                f"{connection.alias!r}. Enqueue within atomic(), or after the commit with "
                "using(enqueue_on_commit=False)."
            )
    return list(found.values())
