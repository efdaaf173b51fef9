"""Starts the service as a pod of the chart would, and asks it what the cluster would ask."""

import base64
import json
import os
import re
import signal
import sqlite3
import ssl
import subprocess
import tempfile
import time
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

from helm_render import KUBERNETES, documents, environment, of_kind, service_of

ADMIN_TOKEN = "a-token-for-the-first-administrator"
# Where pods listen, and where the service does here instead.
BINDS = {"0.0.0.0:8700": "127.0.0.1:0", "[::]:8700": "[::1]:0"}


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
    made["NIGHTSHIFT_BIND"] = BINDS[made["NIGHTSHIFT_BIND"]]
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
    did = ["start the service"]
    with started(rendered) as service:
        check_ready(service)
        # On loopback, as here, and where the setting is used, not every name will do.
        if "NIGHTSHIFT_ALLOWED_HOSTS" in service.variables:
            did.append(f"answer to {check_names(service)} names")
        for scaled in of_kind(rendered, "ScaledObject"):
            check_scaling(service, scaled)
            did.append(f"tell KEDA of {scaled['metadata']['name']}")
        for job in of_kind(rendered, "CronJob"):
            check_backup(service, job)
            did.append("back up and prune")
    print(f"ok       {values.stem}: its command lines and environments {', '.join(did)}")


@contextmanager
def started(rendered):
    """The service as its Deployment has it, on this machine, from its start to its orderly end."""
    pod = service_of(rendered)["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert "command" not in container, "the image's own entry point is `nightshift`"
    with tempfile.TemporaryDirectory() as folder:
        variables = resolved(pod, folder)
        process = subprocess.Popen(
            [os.environ["NIGHTSHIFT"], *container["args"]],
            cwd=folder,
            text=True,
            env={"PATH": os.environ["PATH"], **variables},
            stderr=subprocess.PIPE,
        )
        try:
            trusted = variables.get("NIGHTSHIFT_TLS_CERTIFICATE")
            yield SimpleNamespace(
                rendered=rendered,
                pod=pod,
                folder=folder,
                variables=variables,
                url=f"{'https' if trusted else 'http'}://{address_of(process)}",
                context=ssl.create_default_context(cafile=trusted) if trusted else None,
            )
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0, process.returncode
        finally:
            process.kill()


def ask(service, path, method="GET", body=None, token=ADMIN_TOKEN, **headers):
    request = urllib.request.Request(
        service.url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            **headers,
        },
    )
    with urllib.request.urlopen(request, timeout=60, context=service.context) as answer:
        return answer.read().decode()


def check_ready(service):
    """Asks what the node would ask, by the scheme that the chart says."""
    probe = service.pod["containers"][0]["readinessProbe"]["httpGet"]
    scheme = probe.get("scheme", "HTTP").lower()
    assert service.url.startswith(f"{scheme}://"), (service.url, scheme)
    ask(service, probe["path"])


def check_names(service):
    """Asks by each name that pods of the cluster and those outside of it have for the service."""
    own = of_kind(service.rendered, "Service")[0]["metadata"]["name"]
    below = ("", ".observatory", ".observatory.svc", ".observatory.svc.cluster.local")
    names = [f"{own}{each}" for each in below]
    for ingress in of_kind(service.rendered, "Ingress"):
        names += [rule["host"] for rule in ingress["spec"]["rules"]]
    for route in of_kind(service.rendered, "HTTPRoute"):
        names += route["spec"]["hostnames"]
    for name in names:
        ask(service, "/stats", Host=name.replace("*", "any"))
    return len(names)


def check_scaling(service, scaled):
    """Asks what KEDA would ask of idle, busy and paused queues, and reads it as KEDA does."""
    triggers = scaled["spec"]["triggers"]
    advanced = scaled["spec"]["advanced"]["scalingModifiers"]
    assert advanced["formula"] == " + ".join(trigger["name"] for trigger in triggers)
    assert {trigger["type"] for trigger in triggers} == {"metrics-api"}
    name = scaled["metadata"]["name"]
    made = ask(service, "/tokens", "POST", {"name": name, "scopes": ["read"]})
    token = json.loads(made)["secret"]

    def measured():
        found = {}
        for trigger in triggers:
            server, path = re.match(r"https?://([^/]+)(/.*)", trigger["metadata"]["url"]).groups()
            answer = ask(service, path, token=token, Host=server)
            read = subprocess.run(
                [os.environ["GJSON"], trigger["metadata"]["valueLocation"]],
                input=answer,
                check=True,
                capture_output=True,
                text=True,
            )
            kind, value = read.stdout.split()
            assert kind == "Number", (trigger, answer)
            found[trigger["name"]] = int(value)
        return found

    idle = dict.fromkeys(measured(), 0)
    assert measured() == idle, measured()
    # Of the first queue's three tasks, one runs.
    queue = re.search(r'name=="([^"]+)"', triggers[0]["metadata"]["valueLocation"])[1]
    executor = {"kind": "worker", "task_paths": [f"{name}.*"]}
    ask(service, f"/executors/{name}", "PUT", executor)
    for _ in range(3):
        task = {"task_path": f"{name}.it", "queue_name": queue}
        ask(service, "/tasks", "POST", task)
    lease = {"max_tasks": 1, "wait_seconds": 20, "worker_id": "one"}
    assert json.loads(ask(service, f"/executors/{name}/leases", "POST", lease))["leases"]
    assert measured() == {**idle, "waiting0": 2, "running0": 1}, measured()
    ask(service, f"/queues/{queue}", "PATCH", {"paused": True})
    assert measured() == {**idle, "running0": 1}, measured()


def check_backup(service, job):
    """Runs the commands of the job's pod beside the service, and looks at the files afterwards."""
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    ask(service, "/tasks", "POST", {"task_path": "kept.task"})
    backups = Path(service.folder, "backups")
    backups.mkdir()
    new = backups / f"{job['metadata']['name']}-29384720-x7k2p.db"
    old, other = backups / f"{job['metadata']['name']}-1-a.db", backups / "others.db"
    for path in (old, other):
        path.touch()
        days = 16
        os.utime(path, (time.time() - days * 86400,) * 2)
    for container in pod.get("initContainers", []) + pod["containers"]:
        variables = {"PATH": os.environ["PATH"]}
        for entry in container.get("env", []):
            variables[entry["name"]] = entry.get("value", new.stem)
        command = container.get("command", [os.environ["NIGHTSHIFT"]])
        line = " ".join(command + container.get("args", []))
        line = line.replace("$(POD_NAME)", new.stem).replace("/backups", str(backups))
        url = variables.get("NIGHTSHIFT_DATABASE_URL", "")
        variables["NIGHTSHIFT_DATABASE_URL"] = url.replace("///data/", f"//{service.folder}/")
        done = subprocess.run(line.split(), env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert sorted(backups.iterdir()) == sorted([new, other]), list(backups.iterdir())
    with closing(sqlite3.connect(new)) as database:
        found = database.execute("SELECT task_path FROM task_overview").fetchall()
    assert found == [("kept.task",)], found


def address_of(service):
    said = []
    for line in service.stderr:
        said.append(line)
        # By either log format.
        if found := re.search(r"nightshift is ready.*?((?:127\.0\.0\.1|\[::1\]):\d+)", line):
            return found[1]
    raise AssertionError(f"the service did not start: {''.join(said)}")
