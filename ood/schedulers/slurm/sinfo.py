"""Parsing the output of `sinfo` and `scontrol show`: partitions, their nodes and their limits."""

import re

from ood.schedulers.base import Node, NodeNames, Partition, not_understood
from ood.schedulers.slurm.squeue import Marks, records_of
from ood.schedulers.slurm.values import parse_duration, parse_gpus, parse_mib, parse_number

SINFO_FIELDS = "Partition,NodeList,StateCompact,CPUsState,Memory,AllocMem,Gres,GresUsed"
WORKING = re.compile(r"(idle|mix|alloc|comp|plnd)[^*$]?")
"""States of nodes that start jobs. A `*` marks nodes that do not respond, a `$` maintenance."""
PAIR = re.compile(r"(?:^| )([A-Za-z]+)=(\S*)")


def parse_sinfo(printed: str, marks: Marks) -> dict[str, tuple[Node, ...]]:
    """Parse SINFO_FIELDS: the nodes of each partition, by its name. Raises `SchedulerError`."""
    found: dict[str, list[Node]] = {}
    for record in records_of(printed, SINFO_FIELDS, marks):
        cpus = record[3].split("/")
        if len(cpus) != 4 or not all(count.isdigit() for count in cpus):
            raise not_understood(str(record))
        partition, name, state, _, memory, used, gres, gres_used = record
        works = WORKING.fullmatch(state) is not None
        mib = parse_number(memory) or 0
        gpus = parse_gpus(gres)
        node = Node(
            name=name,
            works=works,
            cores=int(cpus[3]),
            free_cores=int(cpus[1]) if works else 0,
            memory_mib=mib,
            free_memory_mib=max(0, mib - (parse_number(used) or 0)) if works else 0,
            gpus=gpus,
            free_gpus=max(0, gpus - parse_gpus(gres_used)) if works else 0,
        )
        found.setdefault(partition.rstrip("*"), []).append(node)
    return {name: tuple(nodes) for name, nodes in found.items()}


def parse_partitions(printed: str, nodes: dict[str, tuple[Node, ...]]) -> list[Partition]:
    """Parse `scontrol --oneliner show partition`, which prints one partition a line. Raises
    `SchedulerError`."""
    found = []
    for line in printed.split("\n"):
        pairs = dict(PAIR.findall(line))
        name = pairs.get("PartitionName")
        if name is None:
            if line.strip() and not line.startswith(("CLUSTER:", "No partitions")):
                raise not_understood(line)
            continue
        # UNLIMITED does not parse as a number, which gives None: no limit.
        found.append(
            Partition(
                name=name,
                is_default=pairs.get("Default") == "YES",
                max_time=parse_duration(pairs.get("MaxTime", "")),
                max_cores=parse_number(pairs.get("MaxCPUsPerNode", "")),
                max_memory_mib=parse_mib(pairs.get("MaxMemPerNode", "")),
                nodes=nodes.get(name, ()),
            )
        )
    return found


def parse_nodes(printed: str) -> list[NodeNames]:
    """Parse `scontrol --oneliner show node`, which prints one node a line. Raises
    `SchedulerError`."""
    found = []
    for line in filter(str.strip, printed.split("\n")):
        pairs = dict(reversed(PAIR.findall(line)))  # an administrator's comments come last
        if "NodeName" in pairs:
            hosts = (pairs.get(key, "") for key in ("NodeName", "NodeHostName", "NodeAddr"))
            found.append(NodeNames(pairs["NodeName"], tuple(dict.fromkeys(filter(None, hosts)))))
        elif not line.startswith("CLUSTER:"):
            raise not_understood(line)
    return found


def others_are_hidden(printed: str) -> bool:
    """Whether users may not see each other's jobs, by `scontrol show config`."""
    found = re.search(r"^PrivateData\s*=\s*(\S+)", printed, re.MULTILINE)
    return found is None or "jobs" in found[1].split(",")
