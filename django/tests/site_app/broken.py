"""A module of tasks that cannot be imported."""

raise RuntimeError("broken at import")
