"""Every error the portal raises for a user, as one tree.

    PortalError                 one clear sentence, and what to do next
    ├── ConfigError             a mistake in portal.yml, clusters.d or app_defs
    ├── NotFound                no such session, app or job (or not this user's)
    │   └── ServiceRefused      the service may not be its owner's, or misbehaves
    ├── ServiceNotThere         the session's service is not up (yet, or any more)
    ├── InvalidForm             field errors, one sentence per field
    ├── LaunchFailed            the job files could not be written, or the job was refused
    ├── Busy                    too much goes on at once
    ├── SchedulerError          the scheduler refused, or its answer made no sense
    └── HostError               something done on a host as the user failed
        ├── HostUnreachable     no connection, or it dropped
        │   └── HostBusy        no further SSH channel is free
        ├── SignInExpired       the user is signed out, or the portal host no longer accepts them
        ├── HostRefused         another host does not accept the user
        ├── CommandFailed       a command ended with a non-zero exit code
        ├── CommandTimedOut     a command, or the host, did not answer in time
        └── FileFailed          a file operation failed
            ├── FileMissing     there is no such file or directory
            ├── FileExists      there is one already
            ├── FileRefused     the host's permissions say no
            └── UploadElsewhere an upload is not where the browser thinks it is

The web layer renders any of them once: a fragment for HTMX, a page otherwise, JSON for JSON. The
message is for the user; `detail` goes to the log only.
"""

from __future__ import annotations


class PortalError(Exception):
    """Base of the tree.

    `message` is shown to the user as it is; `detail` is for the log; `http_status` and `code` (a
    stable word for machines) are how the web layer answers.
    """

    http_status = 500
    code = "error"

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class ConfigError(PortalError):
    code = "config"


class NotFound(PortalError):
    http_status = 404
    code = "not-found"


class ServiceRefused(NotFound):
    code = "service-refused"


class ServiceNotThere(PortalError):
    http_status = 503
    code = "service-not-there"


class InvalidForm(PortalError):
    """`fields` maps a field's name to the one sentence that says what is wrong with it."""

    http_status = 422
    code = "invalid-form"

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__("Some fields need your attention.")
        self.fields = fields


class LaunchFailed(PortalError):
    http_status = 422
    code = "launch-failed"


class Busy(PortalError):
    http_status = 503
    code = "busy"


class SchedulerError(PortalError):
    http_status = 502
    code = "scheduler"


class HostError(PortalError):
    http_status = 502
    code = "host"


class HostUnreachable(HostError):
    http_status = 503
    code = "host-unreachable"


class HostBusy(HostUnreachable):
    code = "host-busy"


class SignInExpired(HostError):
    http_status = 401
    code = "sign-in-expired"


class HostRefused(HostError):
    http_status = 403
    code = "host-refused"


class CommandFailed(HostError):
    """`exit_code` is the command's; `stderr` is what it said, as text."""

    code = "command-failed"

    def __init__(self, message: str, exit_code: int, stderr: str) -> None:
        super().__init__(message, detail=stderr)
        self.exit_code = exit_code
        self.stderr = stderr


class CommandTimedOut(HostError):
    http_status = 504
    code = "command-timed-out"


class FileFailed(HostError):
    code = "file"


class FileMissing(FileFailed):
    http_status = 404
    code = "file-missing"


class FileExists(FileFailed):
    http_status = 409
    code = "file-exists"


class FileRefused(FileFailed):
    http_status = 403
    code = "file-refused"


class UploadElsewhere(FileFailed):
    """`offset` is how many bytes of the file are there."""

    http_status = 409
    code = "upload-elsewhere"

    def __init__(self, offset: int) -> None:
        super().__init__("This upload has got somewhere else meanwhile.")
        self.offset = offset
