"""The most that a job may ask of a back-end: what its scheduler has, or less if the site says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ood.config import Cluster
from ood.schedulers.base import Partition


@dataclass(frozen=True)
class Limits:
    """For one job, which runs on one node. None: not known, or there is no limit."""

    cores: int | None = None
    memory_gib: int | None = None
    gpus: int | None = None
    seconds: int | None = None


def limits_of(
    cluster: Cluster, partitions: Sequence[Partition], queue_name: str | None = None
) -> Limits:
    """What `v2.custom.portal` says and what the partition has, whichever is less. The partition is
    the one named by the job, by the cluster's file, or else the scheduler's default."""
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
    known: Iterable[int] = [limit for limit in limits if limit is not None]
    return min(known, default=None)
