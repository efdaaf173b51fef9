"""What must hold after everything: each broken rule is one line."""

import itertools

STATUS = ["READY", "READY", "RUNNING", "SUCCESSFUL", "FAILED", "CANCELLED"]
LOST = {"1", "2"}  # timeout, lost
CANCELLED = "5"


def tasks(database):
    rows = database.query(
        "SELECT encode(id, 'hex'), stage, attempts, "
        "(SELECT return_value FROM task_results WHERE task_seq = seq), "
        "(SELECT string_agg(attempt || ':' || kind, ' ' ORDER BY task_errors.id) "
        "FROM task_errors WHERE task_seq = seq) FROM tasks"
    )
    return {
        as_uuid(row[0]): {
            "status": STATUS[int(row[1])],
            "attempts": int(row[2]),
            "value": row[3],
            "errors": [e.split(":") for e in row[4].split()],
        }
        for row in rows
    }


def as_uuid(text):
    return "-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]])


def broken_rules(journal, tasks):
    runs = journal.runs()
    broken = {"lost": [], "stuck": [], "recorded twice": [], "run twice": [], "wrong": []}
    for id in journal.acknowledged:
        if id not in tasks:
            broken["lost"].append(f"{id} was acknowledged and is not there")
    for id, task in tasks.items():
        request = journal.acknowledged.get(id, {})
        of_task = runs.get(id, {})
        check_outcome(id, task, broken)
        check_runs(id, task, request, of_task, broken)
        if id in journal.cancelled and task["status"] != "CANCELLED":
            broken["wrong"].append(f"{id} was CANCELLED and is {task['status']}")
    return broken


def check_outcome(id, task, broken):
    failures = [attempt for attempt, kind in task["errors"] if kind != CANCELLED]
    if len(failures) != len(set(failures)):
        broken["recorded twice"].append(f"{id} has two ends of one attempt: {task}")
    if task["status"] in ("READY", "RUNNING"):
        broken["stuck"].append(f"{id} is {task['status']}")
    elif task["status"] == "SUCCESSFUL":
        if len(failures) != task["attempts"] - 1 or str(task["attempts"]) in failures:
            broken["recorded twice"].append(f"{id} succeeded and failed: {task}")
        if task["value"] != f'{{"attempt": {task["attempts"]}}}':
            broken["wrong"].append(f"{id} has the value of another attempt: {task}")
    elif task["status"] == "FAILED" and len(failures) != task["attempts"]:
        broken["recorded twice"].append(f"{id} failed without a failure for each attempt: {task}")


def check_runs(id, task, request, runs, broken):
    if task["status"] == "SUCCESSFUL" and not any(end for _, end in runs.get(task["attempts"], [])):
        broken["wrong"].append(f"{id} succeeded, but nobody did it: {task} {runs}")
    times = [
        (start, end, attempt) for attempt, of_attempt in runs.items() for start, end in of_attempt
    ]
    if request.get("max_attempts") == 1 and len(times) > 1:
        broken["run twice"].append(f"{id} may be tried once and was started twice: {runs}")
    lost = {attempt for attempt, kind in task["errors"] if kind in LOST}
    times.sort()
    for (_, end, attempt), (start, _, next_attempt) in itertools.pairwise(times):
        # An attempt that was handed back, or cut off before anybody knew of it, keeps its number.
        overlaps = end is None or start < end
        # A call that the network kept may arrive when its attempt is lost and the next one runs.
        first = str(min(attempt, next_attempt))
        if overlaps and attempt != next_attempt and first not in lost | cancelled(task):
            broken["run twice"].append(
                f"{id} ran twice at once without a lost lease: {task} {runs}"
            )


def cancelled(task):
    return {attempt for attempt, kind in task["errors"] if kind == CANCELLED}
