"""The TOM manual's page on background tasks with Nightshift, and then the work of a real TOM.

Run by `make tom`, with the Python of an environment that has tomtoolkit and django-nightshift.
"""

import os
import re
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

import astropy
import httpx

from atlas import Atlas
from terminal import Terminal, edit, say

HERE = Path(__file__).parent
NIGHTSHIFT = os.environ["NIGHTSHIFT"]
# A real image that comes with astropy: the globular cluster M 13.
IMAGE = Path(astropy.__file__).parent / "io/fits/hdu/compressed/tests/data/m13.fits"
PASSWORD = "not a secret"  # noqa: S105
MANUALS_TASK = """\
import time
import logging
from django_tasks import task

logger = logging.getLogger(__name__)


@task
def super_complicated_task():
    logger.info("starting task...")
    time.sleep(2)
    logger.info("still running...")
    time.sleep(2)
    logger.info("done!")
    return "42"
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def expect(condition, what):
    if not condition:
        raise SystemExit(f"not as expected: {what}")


def main(folder: Path, stay: bool):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    terminal = Terminal(
        folder,
        {
            "PATH": f"{Path(sys.executable).parent}:{Path(NIGHTSHIFT).parent}:{os.environ['PATH']}",
            "NIGHTSHIFT_SERVER": url,
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
        },
    )
    try:
        start_the_service(terminal, port, url)
        make_the_tom(terminal)
        switch_the_backend(terminal)
        follow_the_manual(terminal)
        cancel(terminal)
        with Atlas() as atlas:
            site = do_real_work(terminal, atlas)
            if stay:
                say(
                    f"{site}/ has the TOM (user pi, password {PASSWORD!r}), {site}/admin/ its "
                    f"tasks, {url}/docs/ the service. Ctrl+C ends it."
                )
                while True:
                    time.sleep(3600)
        say("All as the manual says.")
    except KeyboardInterrupt:
        pass
    finally:
        terminal.stop_all()


def start_the_service(terminal, port, url):
    say("One binary, and its database is a file")
    terminal.start(NIGHTSHIFT, "serve", "--bind", f"127.0.0.1:{port}", name="nightshift")
    until("service", lambda: httpx.get(f"{url}/readyz").status_code == 200)


def make_the_tom(terminal):
    say("A TOM, as its manual makes one")
    terminal.run("django-admin", "startproject", "mytom")
    terminal.folder /= "mytom"
    settings = terminal.folder / "mytom/settings.py"
    staticfiles = "    'django.contrib.staticfiles',\n"
    edit(settings, staticfiles, f"{staticfiles}    'tom_setup',\n")
    terminal.run("./manage.py", "tom_setup", stdin="y\n\n1\nn\n", quiet=True)
    terminal.run("./manage.py", "migrate", quiet=True)
    terminal.run(
        "./manage.py", "createsuperuser", "--noinput", "--username=pi", "--email=pi@example.org"
    )


def switch_the_backend(terminal):
    settings = terminal.folder / "mytom/settings.py"
    say("With the manual's own backend, on the database that tom_setup made, nothing starts")
    immediate = '        "BACKEND": "django_tasks.backends.immediate.ImmediateBackend"\n'
    database = '        "BACKEND": "django_tasks.backends.database.DatabaseBackend"\n'
    edit(settings, immediate, database)
    terminal.run("./manage.py", "check", status=1)
    say("With Nightshift: two settings")
    edit(settings, database, '        "BACKEND": "django_nightshift.NightshiftBackend"\n')
    edit(settings, "    'custom_code',\n", "    'custom_code',\n    'django_nightshift',\n")
    said = terminal.run("./manage.py", "check")
    expect("no issues" in said, "manage.py check finds nothing")


def follow_the_manual(terminal):
    say("The worker, in a terminal of its own")
    worker = terminal.start("./manage.py", "nightshift_worker", "-v3", name="worker")
    worker.says("Starting worker")
    say("A task, as the manual writes it")
    terminal.run("./manage.py", "startapp", "myapp")
    edit(
        terminal.folder / "mytom/settings.py",
        "    'custom_code',\n",
        "    'custom_code',\n    'myapp',\n",
    )
    (terminal.folder / "myapp/tasks.py").write_text(MANUALS_TASK)
    print("\n".join(f"  | {line}" for line in MANUALS_TASK.splitlines()))
    # The settings have changed, and the TOM is in debug mode.
    worker.says("settings.py changed, reloading")
    worker.says("Starting worker", times=2)
    said = shell(
        terminal,
        "from myapp.tasks import super_complicated_task; "
        "task = super_complicated_task.enqueue(); print(task)",
    )
    expect("TaskResult(task=Task(" in said, "the result is shown as the manual shows it")
    expect("status=ResultStatus.NEW" in said, "the result is NEW at once")
    task_id = re.search(r"id='([0-9a-f-]+)'", said)[1]
    worker.says(f"Task id={task_id} path=myapp.tasks.super_complicated_task state=RUNNING")
    for line in ("starting task...", "still running...", "done!"):
        worker.says(re.escape(line))
    worker.says(f"Task id={task_id} path=myapp.tasks.super_complicated_task state=SUCCEEDED")
    said = shell(
        terminal,
        "from myapp.tasks import super_complicated_task; "
        f"result = super_complicated_task.get_result('{task_id}'); "
        "print(result.status, result.return_value); "
        "print([line.message for line in result.logs])",
    )
    expect("SUCCEEDED 42" in said, "the result is SUCCEEDED with its value")
    expect("['starting task...', 'still running...', 'done!']" in said, "the log is kept")


def cancel(terminal):
    say("The manual says that a task can be cancelled: now it can")
    said = shell(
        terminal,
        "import time; from myapp.tasks import super_complicated_task; "
        "task = super_complicated_task.enqueue(); time.sleep(1); task.cancel(); "
        "task.wait(20); print(task.status, task.exception_class)",
    )
    expect("FAILED" in said and "TaskCancelled" in said, "the running task was cancelled")


def do_real_work(terminal, atlas):
    say("Real work: forced photometry, source extraction, mail to forty people")
    for program in terminal.programs[1:]:
        expect(program.stop() == 0, "the worker stops when told to")
    shutil.copytree(HERE / "observing", terminal.folder / "observing")
    configure(terminal.folder / "mytom/settings.py", atlas)
    worker = terminal.start(
        "./manage.py", "nightshift_worker", "-v3", "--concurrency", "4", name="worker"
    )
    port = free_port()
    site = f"http://127.0.0.1:{port}"
    terminal.start("./manage.py", "runserver", "--noreload", str(port), name="web")
    browser = httpx.Client(base_url=site, follow_redirects=True, timeout=60)
    until("web server", lambda: browser.get("/").status_code == 200)
    log_in(browser)
    shell(
        terminal,
        "from tom_targets.models import Target; "
        "print(Target.objects.create(name='M13', type='SIDEREAL', ra=250.42348, dec=36.46132).pk)",
    )

    say("The ATLAS form of the TOM: it answers at once, the work goes on in the background")
    began = time.monotonic()
    page = post(
        browser,
        "/dataproducts/data/single_target_data_service/Atlas/query/?target_id=1",
        {
            "service": "Atlas",
            "target_id": "1",
            "min_date_mjd": "60290",
            "max_date_mjd": "60300",
        },
    )
    print(f"  the page came after {time.monotonic() - began:.1f} s")
    expect("Asynchronous Atlas query is processing" in page.text, "the form reports that it runs")

    say("An image is uploaded: its sources are looked for in the background")
    post(
        browser,
        "/dataproducts/data/upload/",
        {
            "target": "1",
            "data_product_type": "fits_file",
            "referrer": "/targets/1/",
        },
        files={"files": ("m13.fits", IMAGE.read_bytes(), "application/fits")},
    )

    say("Forty co-investigators get a mail")
    shell(
        terminal,
        "from observing.tasks import mail_investigator; "
        "[mail_investigator.using(max_attempts=5).enqueue(f'ci{n}@example.org', 'M13', "
        "'Three new points.') for n in range(40)]",
    )

    worker.says("path=observing.tasks.mail_investigator state=SUCCEEDED", times=40)
    worker.says("path=observing.tasks.extract_sources state=SUCCEEDED")
    worker.says("path=tom_dataproducts.tasks.atlas_query state=SUCCEEDED")
    terminal.run("nightshift", "list", "--limit", "5")
    check_results(terminal)
    return site


def configure(settings, atlas):
    edit(settings, "    'custom_code',\n", "    'custom_code',\n    'observing',\n")
    edit(
        settings,
        "'tom_dataproducts.hooks.data_product_post_upload'",
        "'observing.hooks.data_product_post_upload'",
    )
    edit(
        settings,
        "DATA_PRODUCT_TYPES = {\n",
        "DATA_PRODUCT_TYPES = {\n    'atlas_photometry': ('atlas_photometry', 'ATLAS'),\n",
    )
    edit(
        settings,
        "DATA_PROCESSORS = {\n",
        "DATA_PROCESSORS = {\n    'atlas_photometry': "
        "'tom_dataproducts.processors.atlas_processor.AtlasProcessor',\n",
    )
    with settings.open("a") as file:
        file.write(f"""
SINGLE_TARGET_DATA_SERVICES = {{
    'ATLAS': {{
        'class': 'tom_dataproducts.single_target_data_service.atlas.AtlasForcedPhotometryService',
        'url': {atlas.url!r},
        'api_key': 'none',
    }}
}}
EMAIL_BACKEND = 'django.core.mail.backends.filebased.EmailBackend'
EMAIL_FILE_PATH = os.path.join(BASE_DIR, 'mail')
DEFAULT_FROM_EMAIL = 'pi@example.org'
""")


def check_results(terminal):
    mails = [
        m
        for f in (terminal.folder / "mail").iterdir()
        for m in re.findall(r"^To: (\S+)$", f.read_text(), re.MULTILINE)
    ]
    print(f"  {len(mails)} mails, to {len(set(mails))} people")
    expect(len(mails) == len(set(mails)) == 40, "each of forty people got one mail")
    said = shell(
        terminal,
        "import json; from tom_dataproducts.models import DataProduct; "
        "c = json.load(DataProduct.objects.get(product_id__endswith='.sources.json').data); "
        "print(len(c), 'sources, the brightest at', max(c, key=lambda s: s['flux'])); "
        "a = DataProduct.objects.get(data_product_type='atlas_photometry'); "
        "print(a.product_id, 'with', sum(m.objects.filter(data_product=a).count() "
        "for m in __import__('django.apps').apps.apps.get_models() "
        "if any(f.name == 'data_product' for f in m._meta.get_fields()) "
        "and hasattr(m, 'timestamp')), 'points')",
    )
    expect(int(re.search(r"(\d+) sources", said)[1]) > 50, "M 13 has many sources")
    expect("atlas_2023_12_12" in said and "with 3 points" in said, "the photometry is in the TOM")


def shell(terminal, code):
    return terminal.run("./manage.py", "shell_plus", "--quiet-load", "-c", code)


def log_in(browser):
    page = post(
        browser, "/accounts/login/", {"username": "pi", "login": "pi", "password": PASSWORD}
    )
    expect("logout" in page.text.lower(), "logged in")


def post(browser, path, fields, **more):
    """Sends a form, as a browser does that has its page open."""
    browser.get(path)
    token = browser.cookies["csrftoken"]
    page = browser.post(path, data={**fields, "csrfmiddlewaretoken": token}, **more)
    expect(page.status_code == 200, f"{path}: {page.status_code}")
    return page


def until(what, check):
    end = time.monotonic() + 60
    while True:
        try:
            if check():
                return
        except httpx.TransportError:
            pass
        expect(time.monotonic() < end, f"no {what} within a minute")
        time.sleep(0.1)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="nightshift-tom-") as folder:
        main(Path(folder), stay=not os.environ.get("CI"))
