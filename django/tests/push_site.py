"""Serves the site on a free port, which it prints, for `nightshift executor check`."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"

from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
server = ThreadedWSGIServer(("127.0.0.1", 0), WSGIRequestHandler)
server.set_app(application)
print(server.server_port, flush=True)
server.serve_forever()
