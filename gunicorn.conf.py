"""Settings of gunicorn, which reads this file when it is started as `gunicorn app:app`.

One process holds all SSH connections and cached answers. Its threads serve all users.
"""

import resource
from typing import Any

from ood.config import PORT

bind = f"127.0.0.1:{PORT}"
workers = 1
worker_class = "gthread"
threads = 64  # services use at most 44 of them (ood/proxy/services.py)
timeout = 120  # seconds without a heartbeat from the worker; requests have limits of their own
graceful_timeout = 5
control_socket_disable = True
worker_tmp_dir = "/dev/shm"  # noqa: S108 - gunicorn unlinks its heartbeat file at once
# ood/web/front_end.py decides which proxies to trust, by `front_ends` in portal.yml.
forwarded_allow_ips = ""
forwarder_headers = ""
# Bytes, gunicorn's maximum. One byte of a file's path can take three in its address.
limit_request_line = 8190
accesslog = None
loglevel = "warning"

# Each WebSocket takes up to three file descriptors.
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


def post_worker_init(worker: Any) -> None:
    """Print the one-time sign-in address when the portal is ready to answer."""
    portal = worker.wsgi.extensions["portal"]
    if portal.settings.auth == "token":
        with worker.wsgi.app_context():
            from ood.web.signin import print_address

            print_address(f"http://{bind}/")
