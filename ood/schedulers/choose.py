"""From a cluster's settings to the scheduler that runs its jobs."""

from ood.config import Cluster
from ood.errors import SchedulerError
from ood.hosts.roles import HostRoles
from ood.schedulers.base import Scheduler
from ood.schedulers.local import Local
from ood.schedulers.slurm.scheduler import Slurm


def scheduler_of(cluster: Cluster, hosts: HostRoles, user: str) -> Scheduler:
    """Return the cluster's scheduler, asked as this user. Raises `SchedulerError` for none."""
    if cluster.job is None:
        raise SchedulerError(f"{cluster.label} runs no jobs: one can only log in to it.")
    host = hosts.scheduler(user, cluster)
    if cluster.is_local:
        return Local(cluster, host)
    return Slurm(cluster, cluster.job, host)
