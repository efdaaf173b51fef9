#!/usr/bin/env python3
"""Checks the chart; see scripts/helm.sh, which starts it with HELM and NIGHTSHIFT (binaries)."""

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import compose_spec
import yaml
from helm_render import (
    CHART,
    KUBERNETES,
    ROOT,
    documents,
    environment,
    helm,
    of_kind,
    render,
    service_of,
    validate,
)
from helm_start import check_start

SETS = sorted((CHART / "ci").glob("*.yaml"))
ALERTS = CHART / "files/alerts.yaml"
DASHBOARD = CHART / "files/dashboard.json"

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
    ("postgres", ["ingress.enabled=true"], "ingress.hosts is empty"),
    ("autoscaled", ["ingress.path=/nightshift"], "the service answers at / only"),
    ("autoscaled", ["ingress.host=tasks"], "additional properties 'host' not allowed"),
    ("autoscaled", ["ingress.hosts[1]=https://tasks"], "does not match pattern"),
    ("balanced", ["ingress.tlsSecret=tasks"], "ingress.tls and ingress.tlsSecret are both set"),
    ("balanced", ["service.type=NodePort"], "loadBalancerClass is for service.type LoadBalancer"),
    ("postgres", ["service.nodePort=30000"], "nodePort is for service.type NodePort"),
    ("postgres", ["service.externalTrafficPolicy=Local"], "externalTrafficPolicy is for"),
    ("postgres", ["service.ipFamilies[0]=IPv5"], "value must be one of 'IPv4', 'IPv6'"),
    ("balanced", ["service.loadBalancerSourceRanges[0]=10.0.0.1"], "does not match pattern"),
    ("postgres", ["ipv6=yes"], "got string, want boolean"),
    ("postgres", ["httpRoute.enabled=true"], "httpRoute.parentRefs is empty"),
    ("gateway", ["httpRoute.hostnames=null"], "httpRoute.hostnames is empty"),
    ("gateway", ["httpRoute.rules[0].name=a"], "additional properties 'rules' not allowed"),
    ("gateway", ["httpRoute.parentRefs[0].name="], "minLength: got 0, want 1"),
    ("postgres", ["livenessProbe.path=/live"], "additional properties 'path' not allowed"),
    ("postgres", ["topologySpreadConstraints[0].maxSkew=1"], "missing properties 'topologyKey'"),
    ("postgres", ["sidecars[0].name=a"], "missing property 'image'"),
    ("postgres", ["envFrom[0].secret=a"], "additional properties 'secret' not allowed"),
    ("postgres", ["commonLabels.one=1"], "got number, want string"),
    ("postgres", ["serviceMonitor.enabled=true"], "tokenSecret.name is empty"),
    ("postgres", ["workers.reduce.image=reduce"], "missing property 'tokenSecret'"),
    ("postgres", ["preStopSeconds=0"], "minimum: got 0, want 1"),
    ("scaled", ["workers.reduce.replicas=2"], "workers.reduce.replicas is set beside keda"),
    ("scaled", ["workers.plain.replicas=2"], "workers.plain.replicas is set beside autoscaled"),
    ("scaled", ["workers.reduce.keda.minReplicas=30"], "minReplicas is more than its maxReplicas"),
    ("scaled", ["workers.plain.keda.maxReplicas=2"], "missing properties 'queues', 'tokenSecret'"),
    ("scaled", ['workers.reduce.keda.queues[0]=a"b'], "does not match pattern"),
    ("scaled", ["workers.reduce.keda.target=2"], "additional properties 'target' not allowed"),
    ("scaled", ["workers.reduce.sidecar=a"], "additional properties 'sidecar' not allowed"),
    ("postgres", ["backup.enabled=true"], "backup.enabled is for database.type sqlite"),
    ("sqlite", ["backup.enabled=true"], "backup.existingClaim is empty"),
    ("kept-sqlite", ["backup.schedule=nightly"], "does not match pattern"),
    (
        "kept-sqlite",
        ["database.sqlite.accessMode=ReadWriteOncePod"],
        "no second pod could read the file",
    ),
    ("cloudnativepg", ["database.cloudnativepg.cluster="], "cloudnativepg.cluster is empty"),
    ("cloudnativepg", ["settings.database_pooled=true"], "is for database.type postgres"),
    ("sqlite", ["replicas=2"], "one process owns"),
    ("sqlite", ["autoscaling.enabled=true"], "one process owns"),
]


def check_pod(pod, values):
    """What holds of each pod, be it the service's, a worker's or that of the backup."""
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    if pod["automountServiceAccountToken"]:
        assert re.search("automount.*: true", values.read_text()), "a token that nobody asked for"
    containers = pod.get("initContainers", []) + pod["containers"]
    for container in containers:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
    mounted = {mount["name"] for each in containers for mount in each.get("volumeMounts", [])}
    assert mounted == {volume["name"] for volume in pod.get("volumes", [])}


def pods(rendered):
    """The pods that Deployments and the CronJob make, by their names."""
    found = {}
    for each in of_kind(rendered, "Deployment"):
        found[each["metadata"]["name"]] = each["spec"]["template"]
    for each in of_kind(rendered, "CronJob"):
        found[each["metadata"]["name"]] = each["spec"]["jobTemplate"]["spec"]["template"]
    return found


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
        for pod in pods(rendered).values():
            check_pod(pod["spec"], values)
        for rule in of_kind(rendered, "PrometheusRule"):
            assert rule["spec"] == yaml.safe_load(ALERTS.read_text())
        for ingress in of_kind(rendered, "Ingress"):
            hosts = yaml.safe_load(values.read_text())["ingress"]["hosts"]
            assert [rule["host"] for rule in ingress["spec"]["rules"]] == hosts
        for each in of_kind(rendered, "ConfigMap"):
            assert each["data"] == {"nightshift.json": DASHBOARD.read_text()}
        check_service(service_of(rendered))
        check_scaled(rendered)
    kinds = sorted(document["kind"] for document in rendered)
    print(f"ok       {values.stem}: {' '.join(kinds)}")


def check_scaled(rendered):
    """Two that both set a number of replicas would take turns."""
    deployments = {each["metadata"]["name"]: each for each in of_kind(rendered, "Deployment")}
    scalers = of_kind(rendered, "ScaledObject") + of_kind(rendered, "HorizontalPodAutoscaler")
    for scaler in scalers:
        target = deployments[scaler["spec"]["scaleTargetRef"]["name"]]
        assert "replicas" not in target["spec"], scaler
        # A label that KEDA makes of it has room for no more.
        assert len(scaler["metadata"]["name"]) <= 63
    for each in of_kind(rendered, "ScaledObject"):
        name = each["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["name"]
        assert name not in {own["metadata"]["name"] for own in scalers if own is not each}


def parts(values, depth=3):
    """The values with one of those that they say left out, for each, with the name of that."""
    for key, value in values.items():
        rest = {name: each for name, each in values.items() if name != key}
        if isinstance(value, dict) and depth > 1:
            for name, inner in parts(value, depth - 1):
                yield f"{key}.{name}", {**rest, key: inner}
        else:
            yield key, rest


def check_effect(values):
    """Each value that the set says changes what comes out, or is one that has to be said."""
    _, whole = render(values)
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, part in parts(yaml.safe_load(values.read_text())):
            less = Path(folder, "less.yaml")
            less.write_text(yaml.safe_dump(part))
            assert render(less)[1] != whole, f"{values}: {name} is the same as nothing"
            count += 1
    print(f"ok       {values.stem}: all {count} values do something")


def check_version(values):
    """Another version of the chart, with all else as it was, has to leave running pods alone."""
    status, before = render(values)
    assert status == 0, before
    with tempfile.TemporaryDirectory() as folder:
        newer = Path(folder, "nightshift")
        shutil.copytree(CHART, newer)
        about = newer / "Chart.yaml"
        about.write_text(re.sub(r"(?m)^version: .*", "version: 9.9.9", about.read_text()))
        status, after = render(values, chart=newer)
        assert status == 0, after
    assert "nightshift-9.9.9" in after, "the version is seen nowhere"
    before, after = (
        [each for each in yaml.safe_load_all(text) if each] for text in (before, after)
    )
    assert pods(before) == pods(after), f"{values}: a version of the chart rolls pods"
    print(f"ok       {values.stem}: another version of the chart rolls none of {len(pods(after))}")


def check_long_names():
    """Where the release's name takes all its room, what is made of it still has some."""
    for values in SETS:
        status, text = render(values, "--set", f"fullnameOverride={'n' * 60}")
        assert status == 0, text
        names = set()
        for each in filter(None, yaml.safe_load_all(text)):
            name = each["metadata"]["name"]
            # Kubernetes appends eleven characters to the name of a CronJob.
            room = 52 if each["kind"] == "CronJob" else 63
            assert len(name) <= room, f"{values}: {each['kind']} {name}"
            assert (each["kind"], name) not in names, (
                f"{values}: {each['kind']} {name} is there twice"
            )
            names.add((each["kind"], name))
    print("ok       a release with a long name has names that Kubernetes takes")


def check_notes():
    """The notes name each way in, and say how an Ingress speaks HTTPS to pods, by its class."""
    for name, options, words in (
        ("autoscaled", [], "from outside at https://tasks.example.org/."),
        ("balanced", [], "https://tasks.example.org/, https://*.tasks.example.net/."),
        ("balanced", [], "by nginx.ingress.kubernetes.io/backend-protocol: HTTPS in ingress"),
        ("balanced", ["ingress.className=traefik"], "service.serversscheme: https in service"),
        ("balanced", ["ingress.className=other"], "the chart's README has how, by class"),
        ("gateway", [], "from outside at tasks.example.org, tasks.example.net."),
        ("gateway", ["tls.existingSecret=tls"], "by a BackendTLSPolicy for the Service"),
        ("sqlite", [], "Nothing backs the file up"),
    ):
        values = ["--values", CHART / f"ci/{name}.yaml"]
        changes = [option for change in options for option in ("--set", change)]
        status, said = helm("install", "tasks", CHART, *values, *changes, "--dry-run=client")
        assert status == 0, said
        assert words in said, (words, said)
    print("ok       the notes say where the service is, and what its Ingress has to be told")


def check_described():
    """Each value has a default, a schema and a line in the README; a set of ci/ has another."""
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    readme = (CHART / "README.md").read_text()
    table = readme[readme.index("| Value | Default") :]
    used = [yaml.safe_load(values.read_text()) for values in SETS]
    assert set(schema) - {"global"} == set(defaults)
    for name, default in defaults.items():
        inner = schema[name].get("properties", {})
        if name == "settings" or not inner:
            assert f"`{name}`" in table, f"the README has no {name}"
            assert any(name in values for values in used), f"no set of ci/ has {name}"
            continue
        # With requests and limits, or a probe's times, each is one value.
        whole = name == "resources" or name.endswith("Probe")
        assert whole or set(inner) == set(default), f"{name}: {set(inner) ^ set(default)}"
        assert f"`{name}" in table, f"the README has no {name}"
        lines = "".join(line for line in table.splitlines() if f"`{name}" in line)
        for key in () if whole else inner:
            assert re.search(rf"\.{key}\b", lines), f"the README has no {name}.{key}"
    for key in schema["workers"]["additionalProperties"]["properties"]:
        assert re.search(rf"\b{key}\b", readme), f"the README has no workers.*.{key}"
        workers = [each for values in used for each in values.get("workers", {}).values()]
        known = any(key in worker for worker in workers)
        assert known, f"no set of ci/ has workers.*.{key}"
    print(f"ok       {len(defaults)} values have a default, a schema and a line in the README")


def check_refused(name, changes, words):
    options = [option for change in changes for option in ("--set", change)]
    status, said = render(CHART / f"ci/{name}.yaml", *options)
    assert status != 0, f"{changes} is accepted with {name}"
    assert words in said, said
    print(f"ok       {name} with {' '.join(changes)} is refused: {words}")


def check_compose():
    composed = compose_spec.PyCompose.from_yaml((ROOT / "compose.yaml").read_text())
    composed.validate()
    print(f"ok       compose.yaml: {' '.join(sorted(composed.service_names()))}")


def main():
    assert len(SETS) >= 8, SETS
    check_compose()
    check_described()
    for values in SETS:
        check_set(values)
        check_effect(values)
        check_version(values)
    check_long_names()
    check_notes()
    for refused in REFUSED:
        check_refused(*refused)
    for values in SETS:
        check_start(values)


if __name__ == "__main__":
    sys.exit(main())
