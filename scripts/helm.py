#!/usr/bin/env python3
"""Checks the chart; see scripts/helm.sh, which starts it with HELM and NIGHTSHIFT (binaries)."""

import base64
import os
import re
import signal
import ssl
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
ALERTS = CHART / "files/alerts.yaml"
KUBERNETES = ["1.30", "1.34", "1.37"]
# Kinds of other projects, of which there is no schema here.
FOREIGN = {"PrometheusRule", "ServiceMonitor"}

ADMIN_TOKEN = "a-token-for-the-first-administrator"

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
            if document["kind"] == "Deployment":
                check_pod(document["spec"]["template"]["spec"])
            if document["kind"] == "PrometheusRule":
                assert document["spec"] == yaml.safe_load(ALERTS.read_text())
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


def certificate():
    """A certificate for this machine that is its own authority, and its key."""
    with tempfile.TemporaryDirectory() as folder:
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        out = ["-keyout", f"{folder}/key", "-out", f"{folder}/certificate"]
        no_authority = ["-addext", "basicConstraints=critical,CA:FALSE"]
        command = ["openssl", "req", "-x509", *kind, *subject, *no_authority, *out]
        subprocess.run(command, check=True, capture_output=True)
        return Path(folder, "certificate").read_text(), Path(folder, "key").read_text()


def files():
    """What the files hold that a pod mounts, by the variable that names them."""
    shown, key = certificate()
    return {
        "NIGHTSHIFT_ADMIN_TOKEN_FILE": ADMIN_TOKEN,
        "NIGHTSHIFT_SECRETS_KEY_FILE": base64.b64encode(bytes(32)).decode(),
        "NIGHTSHIFT_TLS_CERTIFICATE": shown,
        "NIGHTSHIFT_TLS_KEY": key,
        "NIGHTSHIFT_EXECUTOR_CA": shown,
        "SSL_CERT_FILE": shown,
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
    for name, text in files().items():
        if name in made:
            made[name] = f"{folder}/{name}"
            Path(made[name]).write_text(text)
    return made


def check_start(values):
    rendered = documents(values, KUBERNETES[-1])
    pod = service_of(rendered)["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert "command" not in container, "the image's own entry point is `nightshift`"
    with tempfile.TemporaryDirectory() as folder:
        variables = resolved(pod, folder)
        service = subprocess.Popen(
            [os.environ["NIGHTSHIFT"], *container["args"]],
            cwd=folder,
            text=True,
            env={"PATH": os.environ["PATH"], **variables},
            stderr=subprocess.PIPE,
        )
        try:
            trusted = variables.get("NIGHTSHIFT_TLS_CERTIFICATE")
            context = ssl.create_default_context(cafile=trusted) if trusted else None
            url = f"{'https' if trusted else 'http'}://{address_of(service)}"
            check_ready(pod, url, context)
            # On loopback, as here, and where the setting is used, not every name will do.
            if "NIGHTSHIFT_ALLOWED_HOSTS" in variables:
                check_names(rendered, url, context)
            service.send_signal(signal.SIGTERM)
            assert service.wait(timeout=60) == 0, service.returncode
        finally:
            service.kill()
    print(f"ok       {values.stem}: its command line and environment start the service")


def check_ready(pod, url, context):
    """Asks what the node would ask, by the scheme that the chart says."""
    probe = pod["containers"][0]["readinessProbe"]["httpGet"]
    scheme = probe.get("scheme", "HTTP").lower()
    assert url.startswith(f"{scheme}://"), (url, scheme)
    with urllib.request.urlopen(url + probe["path"], timeout=10, context=context) as answer:
        assert answer.status in (200, 204), answer.status


def check_names(rendered, url, context):
    """Asks as pods of the cluster do, by each name that the service has there."""
    name = next(each for each in rendered if each["kind"] == "Service")["metadata"]["name"]
    for below in ("", ".observatory", ".observatory.svc", ".observatory.svc.cluster.local"):
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Host": f"{name}{below}:8700"}
        request = urllib.request.Request(f"{url}/stats", headers=headers)
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            assert answer.status == 200, answer.status


def address_of(service):
    said = []
    for line in service.stderr:
        said.append(line)
        # By either log format.
        if found := re.search(r"nightshift is ready.*?(127\.0\.0\.1:\d+)", line):
            return found[1]
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
    for values in SETS:
        check_start(values)


if __name__ == "__main__":
    sys.exit(main())
