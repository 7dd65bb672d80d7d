"""The portal as one object that holds everything that pages use."""

import logging
import threading
import time
from collections.abc import Set as AbstractSet

from ood.apps.definition import AppDefinition, load_apps
from ood.audit import AuditLog
from ood.auth.attempts import Attempts
from ood.auth.authority import UserAuthority
from ood.auth.credentials import Credentials
from ood.auth.signins import OneTimeToken, SignIn, SignIns
from ood.background import BackgroundQuestions
from ood.config import Cluster, PortalSettings, load_clusters, permit
from ood.errors import SchedulerError
from ood.hosts.base import Command, Stream
from ood.hosts.pool import HostPool
from ood.hosts.roles import HostRoles
from ood.proxy.listeners import ARGV, Listeners
from ood.proxy.origins import ServiceOrigins
from ood.proxy.services import Services
from ood.proxy.tickets import Tickets
from ood.proxy.tunnels import Tunnels
from ood.quotas import Quota
from ood.schedulers.base import Scheduler
from ood.schedulers.local import Local
from ood.schedulers.slurm.scheduler import Slurm
from ood.sessions.board import Board
from ood.sessions.service import Service
from ood.sessions.store import SessionStore
from ood.sessions.watch import Watch
from ood.shells.expiry import End
from ood.shells.shell import Shell
from ood.shells.shells import Shells
from ood.transfers.transfers import Transfers

EXPIRY_INTERVAL = 1.0  # seconds

log = logging.getLogger(__name__)


class Portal:
    """One for the process, for all threads."""

    def __init__(self, settings: PortalSettings) -> None:
        self.settings = settings
        self.clusters, broken_clusters = load_clusters(settings.clusters)
        if settings.portal_host is None:
            self.clusters = {id: each.on_this_machine() for id, each in self.clusters.items()}
        self.apps, broken_apps = load_apps(settings.app_defs, settings.form_values)
        for problem in (*broken_clusters, *broken_apps):
            log.error("%s", problem)
        authority = UserAuthority(settings.user_ca) if settings.user_ca is not None else None
        if settings.auth == "header" and {"127.0.0.1", "::1"} & {*settings.front_ends}:
            log.warning("front_ends: any user of this machine can sign in as another. Use unix.")
        self.pool = HostPool(settings.portal_host, settings.known_hosts, Credentials(authority))
        self.hosts = HostRoles(self.pool)
        self.questions = BackgroundQuestions()
        self.audit = AuditLog(settings.audit_log)
        self.attempts = Attempts()
        self.sign_ins = SignIns(
            settings.idle_minutes * 60, settings.absolute_hours * 3600, self._sign_in_ended
        )
        self.token = OneTimeToken()
        self.tickets = Tickets(self.sign_ins)
        self.origins = ServiceOrigins(settings.apps_origin) if settings.apps_origin else None
        self.services = Services(
            lambda user, id: self.board(user).service(id),
            self._dial,
            Listeners(self._start_on_node),
        )
        self.tunnels = Tunnels()
        self.shells = Shells(
            self.sign_ins,
            settings.shell.idle_minutes * 60,
            settings.shell.absolute_hours * 3600,
            self._shell_ended,
        )
        self.transfers = Transfers()
        # Pages at the same time. gunicorn.conf.py has threads for five users whose pages all wait.
        self.request_quota = Quota(each=20, total=120, waiting=4)
        self.stream_quota = Quota(each=3, total=12)  # uploads and archives, by user
        self._lock = threading.Lock()  # guards `_boards`
        self._boards: dict[str, Board] = {}
        threading.Thread(target=self._end_expired, name="sign-ins", daemon=True).start()

    def clusters_for(self, groups: AbstractSet[str]) -> dict[str, Cluster]:
        """The clusters shown to a user in these groups."""
        return {
            id: cluster
            for id, cluster in self.clusters.items()
            if not cluster.hidden and permit(cluster.acls, groups)
        }

    def job_clusters(self, groups: AbstractSet[str]) -> dict[str, Cluster]:
        """The clusters that run jobs, as forms offer them."""
        return {
            id: cluster
            for id, cluster in self.clusters_for(groups).items()
            if cluster.job is not None and permit(cluster.job.acls, groups)
        }

    def apps_for(self, groups: AbstractSet[str]) -> dict[str, AppDefinition]:
        """The apps that a user in these groups may launch."""
        return {name: app for name, app in self.apps.items() if permit(app.manifest.acls, groups)}

    def board(self, user: str) -> Board:
        with self._lock:
            if user not in self._boards:
                watch = Watch(
                    user,
                    SessionStore(self.pool.portal_host(user)),
                    self.clusters,
                    self.apps,
                    self.questions,
                    lambda cluster: self.scheduler(user, cluster),
                    lambda cluster: self.hosts.files_host(user, cluster),
                    self.services.is_silent,
                )
                self._boards[user] = Board(watch)
            return self._boards[user]

    def scheduler(self, user: str, cluster: Cluster) -> Scheduler:
        """The cluster's scheduler, used as this user. Raises `SchedulerError` if it has none."""
        if cluster.job is None:
            raise SchedulerError(f"{cluster.label} runs no jobs. You can only open a shell there.")
        host = self.hosts.submit_host(user, cluster)
        return Local(cluster, host) if cluster.is_local else Slurm(cluster, cluster.job, host)

    def _start_on_node(self, service: Service) -> Command:
        scheduler = self.scheduler(service.user, self.clusters[service.cluster_id])
        return scheduler.start_on_node(service.job_id, service.node, ARGV)

    def _dial(self, service: Service) -> Stream:
        cluster = self.clusters[service.cluster_id]
        address = service.address or service.node
        return self.hosts.dial_service(service.user, cluster, address, service.port)

    def _end_expired(self) -> None:
        while True:
            time.sleep(EXPIRY_INTERVAL)
            try:
                self.sign_ins.end_expired()
            except Exception:
                log.exception("could not end expired sign-ins")

    def _sign_in_ended(self, sign_in: SignIn, reason: str, last: bool) -> None:
        self.audit.note("sign-out", sign_in.user, address=sign_in.address, reason=reason)
        self.shells.sign_in_ended(sign_in)
        if last:
            with self._lock:
                self._boards.pop(sign_in.user, None)
            self.transfers.forget(sign_in.user)
            self.pool.forget(sign_in.user)
            self.questions.forget(sign_in.user)
            self.services.forget(sign_in.user)

    def _shell_ended(self, shell: Shell, end: End) -> None:
        self.audit.note(
            "shell-closed",
            shell.user,
            address=shell.sign_in.address,
            host=shell.machine,
            object=shell.where.directory,
            reason=end,
        )
