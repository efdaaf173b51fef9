"""Renders the chart by Helm, and validates it by the schemas of Kubernetes and of operators."""

import os
import subprocess
from functools import cache
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "helm/nightshift"
KUBERNETES = ["1.30", "1.34", "1.37"]


def helm(*arguments):
    done = subprocess.run(
        [os.environ["HELM"], *map(str, arguments)], capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr if done.returncode else done.stdout


def render(values, *options, chart=CHART):
    return helm(
        "template", "tasks", chart, "--namespace", "observatory", "--values", values, *options
    )


def documents(values, kubernetes):
    status, text = render(values, "--kube-version", f"{kubernetes}.0")
    assert status == 0, text
    return [document for document in yaml.safe_load_all(text) if document]


def validate(document, kubernetes):
    """By the schema of that Kubernetes, or else by the operator's own."""
    try:
        kubernetes_validate.validate(document, kubernetes, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        schema = custom_schema(document["apiVersion"], document["kind"])
        jsonschema.Draft202012Validator(schema).validate(document)


@cache
def custom_schema(api_version, kind):
    """That of a kind which an operator brings; scripts/helm.sh has fetched their definitions."""
    group, wanted = api_version.split("/")
    for folder in os.environ["CRDS"].split(":"):
        path = Path(folder) / f"{group}_{kind.lower()}s.yaml"
        if path.exists():
            versions = yaml.safe_load(path.read_text())["spec"]["versions"]
            found = next(version for version in versions if version["name"] == wanted)
            return closed(found["schema"]["openAPIV3Schema"])
    raise AssertionError(f"there is no schema of {api_version} {kind}")


def closed(schema):
    """The schema that also refuses unknown fields, which a cluster would drop without a word."""
    closer = dict(schema)
    if "properties" in schema:
        closer["properties"] = {name: closed(inner) for name, inner in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closer["additionalProperties"] = False
    for inside in ("items", "additionalProperties"):
        if isinstance(schema.get(inside), dict):
            closer[inside] = closed(schema[inside])
    return closer


def of_kind(rendered, kind):
    return [document for document in rendered if document["kind"] == kind]


def service_of(rendered):
    return next(
        document
        for document in of_kind(rendered, "Deployment")
        if document["metadata"]["labels"]["app.kubernetes.io/component"] == "service"
    )


def environment(pod):
    return {entry["name"]: entry for entry in pod["containers"][0]["env"]}
