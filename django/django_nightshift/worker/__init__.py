"""The worker: takes tasks from the service, runs them, and reports how they ended."""

#: Where the worker leaves its `sys.path` for the processes that it starts.
PATH_VARIABLE = "DJANGO_NIGHTSHIFT_SYS_PATH"
