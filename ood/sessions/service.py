"""The service of a session: where it listens, and whether the portal may connect to it.

The job writes `connection.yml`, so the user can change it. It is read with limits, and it must name
the host that the scheduler runs the job on.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from ood.apps.definition import ServiceOptions
from ood.errors import ServiceRefused
from ood.schedulers.base import NodeNames
from ood.sessions.record import SessionRecord

MAX_CONNECTION = 4096  # bytes of connection.yml
ADDRESS = re.compile(r"[0-9.]+")
FIRST_PORT = 1024  # lower ports are reserved for the system


class Connection(BaseModel):
    """`connection.yml`, with Open OnDemand's keys."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$")]
    port: Annotated[int, Field(ge=FIRST_PORT, le=65535)]
    password: Annotated[SecretStr, Field(max_length=1024)] = SecretStr("")  # sent in a header

    def is_on(self, node: str) -> bool:
        """Whether the host is the scheduler's `node`. Either name may include the domain."""
        host, node = self.host.lower(), node.lower()
        if ADDRESS.fullmatch(host):
            return host == node
        return host.partition(".")[0] == node.partition(".")[0]


@dataclass(frozen=True)
class Service:
    """Where a session's service is and how to reach it. The portal requests the path `alive` to see
    whether it answers, and adds `headers`, with the password, to each request. `address` is the
    name or address that reaches `node`."""

    session_id: str
    user: str
    title: str
    cluster_id: str
    job_id: str
    node: str
    port: int
    alive: str
    headers: Mapping[str, str] = field(repr=False)
    address: str = ""

    @property
    def prefix(self) -> str:
        """The path of the service, both in the browser and in the job."""
        return service_path(self.session_id)


def service_path(session_id: str) -> str:
    return f"/node/{session_id}/"


def parse_connection(data: bytes | None) -> Connection | None:
    """The connection in connection.yml; None when the file is not valid."""
    try:
        found = yaml.safe_load(data or b"")
        connection = Connection.model_validate(found)
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    password = connection.password.get_secret_value()
    return connection if password.isascii() and password.isprintable() else None


def service_at(
    connection: Connection | None,
    nodes: Sequence[NodeNames],
    user: str,
    record: SessionRecord,
    options: ServiceOptions,
) -> Service:
    """The service at a connection. Raises `ServiceRefused` if the portal must not connect to it.

    `connection` is None if the file is not valid or was changed after the job wrote it. `nodes` is
    where the scheduler runs the job.
    """
    if connection is None:
        raise ServiceRefused(
            "The file connection.yml of this session is not valid or was changed after the job "
            "wrote it, so the portal did not connect. Cancel the job and launch it again."
        )
    named = ((node, host) for node in nodes for host in node.hosts if connection.is_on(host))
    node, address = next(named, (None, ""))
    if node is None:
        raise ServiceRefused(
            "The file connection.yml of this session does not name a host that its job runs on, "
            "so the portal did not connect. Cancel the job and launch it again."
        )
    assert record.job_id is not None  # its job runs
    password = connection.password.get_secret_value()
    return Service(
        session_id=record.id,
        user=user,
        title=options.title,
        cluster_id=record.cluster_id,
        job_id=record.job_id,
        node=node.name,
        address=address,
        port=connection.port,
        alive=service_path(record.id) + options.alive,
        headers={
            name: value.replace("{password}", password) for name, value in options.headers.items()
        },
    )
