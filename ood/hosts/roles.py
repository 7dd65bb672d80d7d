"""Which host does what for a cluster.

| what | host |
| --- | --- |
| sign-in, job cards, the portal's files of a session | the portal host |
| scheduler commands | the cluster's `v2.job.submit_host`, or else the portal host |
| files of jobs | the portal host; for an unsynched cluster its `v2.login.host` |
| shells | the log-in host; the node of a job through it; the portal host for local jobs |
| connections to services | the log-in host, or else the submit host |
"""

from ood.config import Cluster
from ood.hosts.base import Host, Stream
from ood.hosts.pool import HostPool

PORTAL = "portal"  # the portal host in addresses; other hosts have the ID of their cluster
DIAL_TIMEOUT = 5.0  # seconds


def files_host_id(cluster: Cluster) -> str:
    """The host, as addresses name it, with the files of a cluster's jobs."""
    return cluster.id if cluster.unsynched else PORTAL


def has_shell(cluster: Cluster) -> bool:
    """Whether users can open a shell on this cluster."""
    return cluster.is_local or cluster.login_host is not None


class HostRoles:
    """The hosts of each cluster, as a user."""

    def __init__(self, pool: HostPool) -> None:
        self._pool = pool

    def submit_host(self, user: str, cluster: Cluster) -> Host:
        """Where scheduler commands run."""
        return self._at(user, cluster.job.submit_host if cluster.job is not None else None)

    def files_host(self, user: str, cluster: Cluster) -> Host:
        """Where jobs find the user's home directory."""
        return self._at(user, cluster.login_host if cluster.unsynched else None)

    def shell_host(self, user: str, cluster: Cluster, node: str = "") -> Host:
        """Where shells run: on the log-in host, or through it on a node."""
        if cluster.is_local:
            return self._pool.portal_host(user)
        assert cluster.login_host is not None, "see has_shell"
        if node:
            return self._pool.node(user, node, cluster.login_host)
        return self._pool.host(user, cluster.login_host)

    def dial_service(self, user: str, cluster: Cluster, node: str, port: int) -> Stream:
        """Open a connection to a port of a node. Raises `HostError`."""
        if cluster.is_local:
            return self.submit_host(user, cluster).dial("127.0.0.1", port)
        login_host = cluster.login_host
        host = self._pool.host(user, login_host) if login_host else self.submit_host(user, cluster)
        return host.dial(node, port, DIAL_TIMEOUT)

    def _at(self, user: str, address: str | None) -> Host:
        return self._pool.portal_host(user) if address is None else self._pool.host(user, address)
