"""How gunicorn serves the portal: `gunicorn app:app` (it reads this file by itself).

One process keeps the SSH connections and what was learnt in one place; threads serve its users.
"""

import resource
from typing import Any

from ood.config import PORT

bind = f"127.0.0.1:{PORT}"
workers = 1
worker_class = "gthread"
threads = 64  # of which services hold 44 at most (ood/proxy/services.py)
timeout = 120  # seconds without a sign of life of the worker; single requests have their own limits
graceful_timeout = 5
control_socket_disable = True
worker_tmp_dir = "/dev/shm"  # noqa: S108 - gunicorn's own heartbeat file, which it unlinks at once
forwarded_allow_ips = (
    ""  # whose word is taken stands in portal.yml, and ood/web/front_end.py reads it
)
forwarder_headers = ""
limit_request_line = 8190  # bytes, gunicorn's most: in addresses of files a byte can take three
accesslog = None
loglevel = "warning"

# Each WebSocket takes up to three file descriptors.
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


def post_worker_init(worker: Any) -> None:
    """Print the one sign-in address, once the portal answers."""
    portal = worker.wsgi.extensions["portal"]
    if portal.settings.auth == "token":
        with worker.wsgi.app_context():
            from ood.web.signin import print_address

            print_address(f"http://{bind}/")
