"""Whether Grafana's dashboard asks for what there is; scripts/alerts.py starts it."""

import json
import re
from itertools import combinations
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "helm/nightshift/files/dashboard.json"
OPERATING = ROOT / "docs/OPERATING.md"
# Grafana puts these in; here as where all is chosen.
VARIABLES = {"$namespace": ".*", "$job": ".*", "$__rate_interval": "1m"}
# Labels that Prometheus gives, and that of a histogram's buckets.
GIVEN = {"namespace", "job", "instance", "le"}
# Those of Nightshift, and what it tells of its process as all do that Prometheus reads.
SERIES = r"\b(?:nightshift|process)_\w+"
PARTS = {"gauge": ("",), "counter": ("",), "histogram": ("_bucket", "_sum", "_count")}


def documented():
    """The labels of each series that the generated table of docs/OPERATING.md names."""
    row = rf"^\| `({SERIES})` \| (\w+) \| (.*?) \|"
    found = {}
    for name, kind, labels in re.findall(row, OPERATING.read_text(), re.MULTILINE):
        for part in PARTS[kind]:
            found[name + part] = set(re.findall(r"`(\w+)`", labels)) | GIVEN
    assert len(found) > 20, found
    return found


def check_layout(panels):
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids), "two panels have one id"
    places = [panel["gridPos"] for panel in panels]
    for place in places:
        assert place["x"] + place["w"] <= 24, place
    for one, other in combinations(places, 2):
        apart = any(
            first[at] + first[size] <= second[at]
            for first, second in ((one, other), (other, one))
            for at, size in (("x", "w"), ("y", "h"))
        )
        assert apart, f"panels overlap: {one} {other}"


def check_names(where, query, known):
    """Each series is there, and has the labels by which the query chooses and groups."""
    names = re.findall(SERIES, query)
    assert names, f"{where} asks for nothing of Nightshift's"
    for name in names:
        assert name in known, f"{where}: the service has no {name}"
    labels = set(re.findall(r"(\w+)=~?\"", query))
    for group in re.findall(r"by \(([^)]*)\)", query):
        labels |= set(group.split(", "))
    for label in labels:
        for name in names:
            assert label in known[name], f"{where}: {name} has no label {label}"


def check_dashboard(answer, until):
    """`answer` is Prometheus' to a query, read from a service that has done some work."""
    dashboard = json.loads(DASHBOARD.read_text())
    known = documented()
    check_layout(dashboard["panels"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            check_names(variable["name"], variable["query"]["query"], known)
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    queries = 0
    for panel in panels:
        assert all(panel[part] for part in ("title", "description", "targets")), panel
        for target in panel["targets"]:
            where, query = panel["title"], target["expr"]
            assert target["datasource"]["uid"] == "${datasource}", where
            # Else it would mix installations, whichever are chosen.
            series = len(re.findall(SERIES, query))
            assert series == query.count('namespace=~"$namespace"'), where
            assert series == query.count('job=~"$job"'), where
            # Else it would show other programs, too, where all jobs are chosen.
            assert "nightshift_" in query, where
            check_names(where, query, known)
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            assert "$" not in query, f"{where} has an unknown variable: {query}"
            found = until(lambda query=query: answer(query), f"{where}: {query}")
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                grouped = any(label in each["metric"] for each in found)
                assert label == "namespace" or grouped, f"{where}: the legend has no {label}"
            queries += 1
    asked = {
        name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        for name in re.findall(SERIES, json.dumps(panels))
    }
    print(f"ok       {queries} queries of {len(panels)} panels find {len(asked)} metrics")
