#!/usr/bin/env python3
"""Checks the chart; see scripts/helm.sh, which starts it with HELM and NIGHTSHIFT (binaries)."""

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import compose_spec
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "helm/nightshift"
SETS = sorted((CHART / "ci").glob("*.yaml"))
KUBERNETES = ["1.30", "1.34", "1.37"]
# Kinds of other projects, of which there is no schema here.
FOREIGN = {"ServiceMonitor"}

# What is refused, with the words that say why. Each is laid over the first set that is named.
REFUSED = [
    ("postgres", ["replica=2"], "additional properties 'replica' not allowed"),
    ("postgres", ["settings.retention=1"], "additional properties 'retention' not allowed"),
    ("postgres", ["settings.log_format=xml"], "value must be one of 'text', 'json'"),
    ("postgres", ["service.port=eighty"], "got string, want integer"),
    ("postgres", ["service.port=70000"], "maximum: got 70,000, want 65,535"),
    ("postgres", ["database.type=mysql"], "value must be one of"),
    ("postgres", ["adminToken.existingSecret="], "adminToken.existingSecret is empty"),
    ("postgres", ["database.postgres.existingSecret="], "postgres.existingSecret is empty"),
    ("postgres", ["ingress.enabled=true"], "ingress.host is empty"),
    ("postgres", ["serviceMonitor.enabled=true"], "tokenSecret.name is empty"),
    ("postgres", ["workers.reduce.image=reduce"], "missing property 'tokenSecret'"),
    ("postgres", ["preStopSeconds=0"], "minimum: got 0, want 1"),
    ("cloudnativepg", ["database.cloudnativepg.cluster="], "cloudnativepg.cluster is empty"),
    ("cloudnativepg", ["settings.database_pooled=true"], "is for database.type postgres"),
    ("sqlite", ["replicas=2"], "one process owns"),
    ("sqlite", ["autoscaling.enabled=true"], "one process owns"),
]

# Those that the binary is started with, as a pod would start it.
STARTED = ["postgres", "pooled", "sqlite", "sqlite-claim", "cloudnativepg"]
# What the files hold that a pod mounts, by the setting that names them.
FILES = {
    "NIGHTSHIFT_ADMIN_TOKEN_FILE": "a-token-for-the-first-administrator",
    "NIGHTSHIFT_SECRETS_KEY_FILE": base64.b64encode(bytes(32)).decode(),
}


def helm(*arguments):
    done = subprocess.run(
        [os.environ["HELM"], *map(str, arguments)], capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr if done.returncode else done.stdout


def render(values, *options):
    return helm(
        "template", "tasks", CHART, "--namespace", "observatory", "--values", values, *options
    )


def documents(values, kubernetes):
    status, text = render(values, "--kube-version", f"{kubernetes}.0")
    assert status == 0, text
    return [document for document in yaml.safe_load_all(text) if document]


def validate(document, kubernetes):
    try:
        kubernetes_validate.validate(document, kubernetes, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        assert document["kind"] in FOREIGN, f"Kubernetes {kubernetes} has no {document['kind']}"


def service_of(rendered):
    return next(
        document
        for document in rendered
        if document["kind"] == "Deployment"
        and document["metadata"]["labels"]["app.kubernetes.io/component"] == "service"
    )


def environment(pod):
    return {entry["name"]: entry for entry in pod["containers"][0]["env"]}


def check_pod(pod):
    """What holds of each pod, be it the service's or a worker's."""
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
    mounted = {mount["name"] for mount in pod["containers"][0].get("volumeMounts", [])}
    assert mounted == {volume["name"] for volume in pod.get("volumes", [])}


def check_service(deployment):
    """What the service relies on to lose no work, and nobody else's data."""
    spec, pod = deployment["spec"], deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    variables = environment(pod)
    assert len(variables) == len(container["env"]), "a variable is set twice"
    grace = int(variables["NIGHTSHIFT_SHUTDOWN_GRACE_SECONDS"]["value"])
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > grace + pause
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    if variables["NIGHTSHIFT_DATABASE_URL"].get("value", "").startswith("sqlite:"):
        assert spec["replicas"] == 1
        assert spec["strategy"] == {"type": "Recreate"}
        assert "persistentVolumeClaim" in volumes["data"]
    else:
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        # With its password, it is nothing that a Deployment may show.
        assert "secretKeyRef" in variables["NIGHTSHIFT_DATABASE_URL"]["valueFrom"]


def check_set(values):
    status, said = helm("lint", "--strict", CHART, "--values", values)
    assert status == 0, said
    status, said = helm("install", "tasks", CHART, "--values", values, "--dry-run=client")
    assert status == 0, said
    assert "NOTES:\nNightshift is at http" in said, said
    for kubernetes in KUBERNETES:
        rendered = documents(values, kubernetes)
        for document in rendered:
            validate(document, kubernetes)
        for document in rendered:
            if document["kind"] == "Deployment":
                check_pod(document["spec"]["template"]["spec"])
        check_service(service_of(rendered))
    kinds = sorted(document["kind"] for document in rendered)
    print(f"ok       {values.stem}: {' '.join(kinds)}")


def check_refused(name, changes, words):
    options = [option for change in changes for option in ("--set", change)]
    status, said = render(CHART / f"ci/{name}.yaml", *options)
    assert status != 0, f"{changes} is accepted with {name}"
    assert words in said, said
    print(f"ok       {name} with {' '.join(changes)} is refused: {words}")


def secrets():
    """What the secrets that the sets name hold here."""
    direct = os.environ["TEST_POSTGRES_URL"]
    pooled = f"{os.environ['TEST_PGBOUNCER_URL'].removesuffix('/postgres')}/postgres"
    return {
        "nightshift-database": {"uri": direct, "direct": direct, "pooled": pooled},
        "observatory-app": {"uri": direct},
    }


def resolved(pod, folder):
    """The environment that a node would make for the service, with this machine's places."""
    known = secrets()
    made = {}
    for name, entry in environment(pod).items():
        if "value" in entry:
            made[name] = entry["value"]
        else:
            reference = entry["valueFrom"]["secretKeyRef"]
            made[name] = known[reference["name"]][reference["key"]]
    assert made["NIGHTSHIFT_BIND"] == "0.0.0.0:8700"
    made["NIGHTSHIFT_BIND"] = "127.0.0.1:0"
    made["NIGHTSHIFT_PLUGIN_CACHE"] = f"{folder}{made['NIGHTSHIFT_PLUGIN_CACHE']}"
    made["NIGHTSHIFT_DATABASE_URL"] = made["NIGHTSHIFT_DATABASE_URL"].replace(
        "sqlite:///data/", f"sqlite://{folder}/"
    )
    for name in FILES.keys() & made.keys():
        made[name] = f"{folder}/{name}"
        Path(made[name]).write_text(FILES[name])
    return made


def check_start(values):
    pod = service_of(documents(values, KUBERNETES[-1]))["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert "command" not in container, "the image's own entry point is `nightshift`"
    with tempfile.TemporaryDirectory() as folder:
        service = subprocess.Popen(
            [os.environ["NIGHTSHIFT"], *container["args"]],
            cwd=folder,
            text=True,
            env={"PATH": os.environ["PATH"], **resolved(pod, folder)},
            stderr=subprocess.PIPE,
        )
        try:
            address = address_of(service)
            with urllib.request.urlopen(f"http://{address}/readyz", timeout=10) as answer:
                assert answer.status in (200, 204), answer.status
            service.send_signal(signal.SIGTERM)
            assert service.wait(timeout=60) == 0, service.returncode
        finally:
            service.kill()
    print(f"ok       {values.stem}: its command line and environment start the service")


def address_of(service):
    said = []
    for line in service.stderr:
        said.append(line)
        entry = json.loads(line) if line.startswith("{") else {}
        if entry.get("message") == "nightshift is ready":
            return entry["address"]
    raise AssertionError(f"the service did not start: {''.join(said)}")


def check_compose():
    composed = compose_spec.PyCompose.from_yaml((ROOT / "compose.yaml").read_text())
    composed.validate()
    print(f"ok       compose.yaml: {' '.join(sorted(composed.service_names()))}")


def main():
    assert len(SETS) >= 8, SETS
    check_compose()
    for values in SETS:
        check_set(values)
    for refused in REFUSED:
        check_refused(*refused)
    for name in STARTED:
        check_start(CHART / f"ci/{name}.yaml")


if __name__ == "__main__":
    sys.exit(main())
