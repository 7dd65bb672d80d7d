"""The limits of one job on a back-end, from its scheduler and from the site's configuration."""

from collections.abc import Sequence
from dataclasses import dataclass

from ood.config import Cluster
from ood.schedulers.base import Partition


@dataclass(frozen=True)
class Limits:
    """The most that a job on one node may request. None means unknown or unlimited."""

    cores: int | None = None
    memory_gib: int | None = None
    gpus: int | None = None
    seconds: int | None = None


def limits_of(
    cluster: Cluster, partitions: Sequence[Partition], queue_name: str | None = None
) -> Limits:
    """The lower of each limit in `v2.custom.portal` and of the partition, which is that of the job,
    else that in the cluster's file, else the scheduler's default."""
    name = queue_name or cluster.partition
    partition = next(
        (each for each in partitions if (each.name == name if name else each.is_default)), None
    )
    nodes = partition.nodes if partition else ()
    memory = _least(
        max((node.memory_mib for node in nodes), default=None),
        partition.max_memory_mib if partition else None,
    )
    return Limits(
        cores=_least(
            cluster.max_cores,
            max((node.cores for node in nodes), default=None),
            partition.max_cores if partition else None,
        ),
        memory_gib=_least(
            cluster.max_memory_gib, max(1, memory // 1024) if memory is not None else None
        ),
        gpus=_least(cluster.gpus, max((node.gpus for node in nodes), default=None)),
        seconds=partition.max_time if partition else None,
    )


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
