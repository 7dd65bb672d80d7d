"""gunicorn's configuration. `gunicorn app:app` reads this file by itself.

There is one process, which holds all SSH connections and caches, with threads for the requests.
"""

import resource
from typing import Any

from ood.config import PORT

bind = f"127.0.0.1:{PORT}"
workers = 1
worker_class = "gthread"
threads = 192  # pages of five users that all hang hold 120 (ood/portal.py), services 52
timeout = 120  # seconds without a heartbeat of the worker; requests have limits of their own
graceful_timeout = 5
control_socket_disable = True
worker_tmp_dir = "/dev/shm"  # noqa: S108 - gunicorn's own heartbeat file, which it unlinks at once
forwarded_allow_ips = ""  # ood/web/front_end.py decides instead, by `front_ends` of portal.yml
forwarder_headers = ""
limit_request_line = 8190  # gunicorn's maximum, in bytes: %-encoding can triple a path
accesslog = None
loglevel = "warning"

# Each WebSocket uses up to three file descriptors.
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


def post_worker_init(worker: Any) -> None:
    """Print the one-time sign-in address as soon as the portal accepts requests."""
    portal = worker.wsgi.extensions["portal"]
    if portal.settings.auth == "token":
        with worker.wsgi.app_context():
            from ood.web.signin import print_address

            print_address(f"http://{bind}/")
