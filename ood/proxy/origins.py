"""The origins of services: one for each session, or one for all of them. Pure."""

import re

TARGET = re.compile(r"/node/([0-9a-f-]{36})/[^\x00-\x20\x7f]*")


def session_of(path: str) -> str | None:
    """The session of the service with this path; None if the path is not a service's."""
    found = TARGET.fullmatch(path)
    return found[1] if found else None


class ServiceOrigins:
    """`apps_origin` of portal.yml. If its host name begins with `*.`, each session has its own
    origin, with the session's id in place of the `*`; otherwise all services share one."""

    def __init__(self, apps_origin: str) -> None:
        scheme, _, host = apps_origin.lower().partition("://")
        self.shared = not host.startswith("*.")
        self._scheme = scheme
        self._host = host.removeprefix("*.")
        name = self._host.partition(":")[0]
        self.secure = scheme == "https" or name == "localhost" or name.endswith(".localhost")
        """Whether browsers accept Secure cookies there: over TLS, or from their own machine."""

    def of(self, session_id: str) -> str:
        """The origin of a session's service, such as `https://ID.apps.example`."""
        label = "" if self.shared else f"{session_id}."
        return f"{self._scheme}://{label}{self._host}"

    def hold(self, host: str) -> bool:
        """Whether a request's `Host` is for services, which excludes the portal's own pages."""
        name = host.lower()
        return name == self._host or (not self.shared and name.endswith(f".{self._host}"))

    def serve(self, host: str, session_id: str) -> bool:
        """Whether a request's `Host` is that of this session's service."""
        return f"{self._scheme}://{host.lower()}" == self.of(session_id)
