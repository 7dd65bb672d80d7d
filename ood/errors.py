"""Every error that the portal raises for a user, as one tree.

    PortalError                 something failed; the message says what to do next
    ├── ConfigError             a mistake in portal.yml, clusters.d or app_defs
    ├── NotFound                no such session, app or job, or it belongs to another user
    │   └── ServiceRefused      the service may belong to another user, or connection.yml is wrong
    ├── ServiceNotThere         the session's service is not running
    ├── InvalidForm             mistakes in a form, one sentence per field
    ├── LaunchFailed            the job files could not be written, or the job was refused
    ├── Busy                    too many transfers or requests at once
    ├── SchedulerError          the scheduler refused, did not answer, or was not understood
    └── HostError               an operation on a host failed
        ├── HostUnreachable     no connection, or the connection dropped
        │   ├── HostBusy        no further SSH channel is free
        │   └── ServiceSilent   the session's service did not answer in time
        ├── SignInExpired       the user is signed out, or the portal host refuses the user
        ├── HostRefused         another host refuses the user
        ├── SecondFactorWanted  a host accepts the password, and asks for more
        ├── AccountFault        the account cannot run commands as it is
        │   └── PasswordExpired the password has to be changed first
        ├── CommandFailed       a command ended with a non-zero exit code
        ├── CommandTimedOut     a command or the host did not answer in time
        └── FileFailed          a file operation failed
            ├── FileMissing     the file or directory does not exist
            │   └── HomeMissing the user has no home directory on the host
            ├── FileExists      the name is taken
            ├── FileRefused     the user has no permission
            ├── FileTimedOut    the file system did not answer in time
            └── UploadElsewhere the browser resumed an upload at the wrong offset

The web layer renders each error as an HTMX fragment, a page or JSON.
"""

from ood.help_topics import HelpTopic


class PortalError(Exception):
    """`message` is for the user, `detail` for the log. The response has `http_status` and `code`, a
    stable word for programs. `topic` is the part of the troubleshooting page that helps."""

    http_status = 500
    code = "error"
    topic: HelpTopic | None = None

    def __init__(self, message: str, detail: str = "", *, topic: HelpTopic | None = None) -> None:
        """A `topic` replaces the one of the class."""
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.topic = topic or self.topic


class ConfigError(PortalError):
    code = "config"
    topic = HelpTopic.PORTAL


class NotFound(PortalError):
    http_status = 404
    code = "not-found"


class ServiceRefused(NotFound):
    code = "service-refused"
    topic = HelpTopic.SERVICE


class ServiceNotThere(PortalError):
    http_status = 503
    code = "service-not-there"
    topic = HelpTopic.SERVICE


class InvalidForm(PortalError):
    """`fields` maps the name of a field to a sentence that says what is wrong with its value."""

    http_status = 422
    code = "invalid-form"

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__("Some fields need your attention.")
        self.fields = fields


class LaunchFailed(PortalError):
    http_status = 422
    code = "launch-failed"
    topic = HelpTopic.LAUNCH


class Busy(PortalError):
    http_status = 503
    code = "busy"


class SchedulerError(PortalError):
    http_status = 502
    code = "scheduler"
    topic = HelpTopic.UNDETERMINED


class HostError(PortalError):
    http_status = 502
    code = "host"
    topic: HelpTopic | None = HelpTopic.HOST


class HostUnreachable(HostError):
    http_status = 503
    code = "host-unreachable"


class HostBusy(HostUnreachable):
    code = "host-busy"


class ServiceSilent(HostUnreachable):
    code = "service-silent"
    topic = HelpTopic.SERVICE


class SignInExpired(HostError):
    http_status = 401
    code = "sign-in-expired"
    topic = HelpTopic.SIGNED_OUT


class HostRefused(HostError):
    http_status = 403
    code = "host-refused"


class SecondFactorWanted(HostError):
    http_status = 403
    code = "second-factor"


class AccountFault(HostError):
    http_status = 403
    code = "account"
    topic: HelpTopic | None = HelpTopic.ACCOUNT


class PasswordExpired(AccountFault):
    code = "password-expired"


class CommandFailed(HostError):
    """`stderr` is what the command wrote on its standard error, as text."""

    code = "command-failed"
    topic = None

    def __init__(self, message: str, exit_code: int, stderr: str) -> None:
        super().__init__(message, detail=stderr)
        self.exit_code = exit_code
        self.stderr = stderr


class CommandTimedOut(HostError):
    http_status = 504
    code = "command-timed-out"


class FileFailed(HostError):
    code = "file"
    topic: HelpTopic | None = None


class FileMissing(FileFailed):
    http_status = 404
    code = "file-missing"


class HomeMissing(FileMissing):
    code = "home-missing"
    topic = HelpTopic.ACCOUNT


class FileExists(FileFailed):
    http_status = 409
    code = "file-exists"


class FileRefused(FileFailed):
    http_status = 403
    code = "file-refused"
    topic = HelpTopic.FILES


class FileTimedOut(FileFailed):
    http_status = 504
    code = "file-timed-out"
    topic = HelpTopic.HOST


class UploadElsewhere(FileFailed):
    """`offset` is how many bytes of the file are on the host."""

    http_status = 409
    code = "upload-elsewhere"

    def __init__(self, offset: int) -> None:
        super().__init__("This upload was changed in another window. Upload the file again.")
        self.offset = offset
