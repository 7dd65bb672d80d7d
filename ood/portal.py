"""The portal as one object: settings, apps, hosts and boards, wired for the pages above."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ood.apps.definition import AppDefinition, load_apps
from ood.auth.signins import OneTimeToken, SignIns
from ood.config import Cluster, PortalSettings, load_clusters
from ood.errors import NotFound
from ood.hosts.pool import HostPool
from ood.schedulers.base import Scheduler
from ood.schedulers.choose import scheduler_of
from ood.schedulers.monitor import JobMonitor
from ood.sessions.board import Board
from ood.sessions.store import SessionStore

log = logging.getLogger(__name__)


class Portal:
    """What the pages work with. One for the process, shared by all threads."""

    def __init__(self, settings: PortalSettings) -> None:
        self.settings = settings
        self.clusters, broken_clusters = load_clusters(settings.clusters)
        self.apps, broken_apps = load_apps(settings.app_defs, settings.form_values)
        for problem in (*broken_clusters, *broken_apps):
            log.error("%s", problem)
        self.pool = HostPool(settings.portal_host, settings.known_hosts)
        self.monitor = JobMonitor()
        self.sign_ins = SignIns(self._signed_out)
        self.token = OneTimeToken()
        self._lock = threading.Lock()
        self._boards: dict[str, Board] = {}

    @property
    def job_clusters(self) -> dict[str, Cluster]:
        """The back-ends that run jobs, as forms offer them.

        A job finds its files on the portal host's home directories, so unsynched ones are left out.
        """
        return {
            id: cluster
            for id, cluster in self.clusters.items()
            if cluster.job is not None and not cluster.hidden and cluster.home == "synched"
        }

    def app(self, name: str) -> AppDefinition:
        """Raises `NotFound`."""
        try:
            return self.apps[name]
        except KeyError:
            raise NotFound("There is no such app.") from None

    def board(self, user: str) -> Board:
        """The user's job cards. Raises `HostError` when their home cannot be reached."""
        with self._lock:
            board = self._boards.get(user)
        if board is not None:
            return board
        store = SessionStore(self.pool.portal_host(user))
        new = Board(user, store, self.clusters, self.apps, self.monitor, self._scheduler_for(user))
        with self._lock:
            return self._boards.setdefault(user, new)

    def _scheduler_for(self, user: str) -> Callable[[Cluster], Scheduler]:
        return lambda cluster: scheduler_of(cluster, self.pool, user)

    def _signed_out(self, user: str) -> None:
        with self._lock:
            self._boards.pop(user, None)
        self.pool.forget(user)
