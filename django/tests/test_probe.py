"""`nightshift_register --url` tries the address before the service calls it."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.core.management import CommandError, call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application

from conftest import free_port


@contextmanager
def serving(server, path="/nightshift/"):
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{path}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def this_site(path="/nightshift/"):
    """This site with its views, as others see it."""
    server = ThreadedWSGIServer(("127.0.0.1", 0), Quiet)
    server.set_app(get_wsgi_application())
    return serving(server, path)


def answering(status, **headers):
    """Something else, which says the same to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_):
            pass

    return serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler))


def registered(site):
    return [executor["name"] for executor in site.get("/executors")["items"]]


def register(url, **options):
    call_command("nightshift_register", url=url, verbosity=0, **options)


def test_a_site_that_answers_is_registered(site):
    with this_site() as url:
        register(url)
    assert site.get("/executors/django")["url"] == url


def refused(site, url, reason):
    with pytest.raises(CommandError, match=reason):
        register(url)
    assert registered(site) == []


def test_an_address_without_the_view_is_refused(site):
    with this_site("/elsewhere/") as url:
        refused(site, url, r"answers 404 Not Found: include django_nightshift.urls there")
    with this_site("/nightshift") as url:
        refused(site, url, r"answers (404|500|301)")
    for status, headers, reason in (
        (200, {}, r"answers 200 OK, and not as the view of django_nightshift.urls does"),
        (302, {"location": "/login"}, r"answers 302 Found to /login: register the address"),
        (400, {}, r"ALLOWED_HOSTS"),
        (204, {}, r"signed with another secret, so that anybody could start tasks"),
    ):
        with answering(status, **headers) as url:
            refused(site, url, reason)


def test_a_site_with_other_secrets_is_refused(site):
    with answering(401) as url:
        refused(site, url, r"answers 401 Unauthorized: the site there has other secrets than")


def test_a_site_that_is_away_is_registered_only_when_told(site):
    url = f"http://127.0.0.1:{free_port()}/nightshift/"
    refused(site, url, r"does not answer \(ConnectError: .*--no-probe where only the service")
    refused(site, "http://", r"does not answer")
    register(url, probe=False)
    assert registered(site) == ["django"]


def test_the_probe_starts_nothing(site, caplog):
    with this_site() as url:
        register(url)
    assert site.get("/tasks")["items"] == []
    assert [record for record in caplog.records if "Task id" in record.getMessage()] == []
