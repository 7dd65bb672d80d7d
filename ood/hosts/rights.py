"""New files and directories with the rights that the user's own commands on the host give them: by
the umask of start-up files, by default access control lists, and by the group of the directory.

SFTP knows only the umask of sshd, and `chmod` resets the mask of an access control list.
"""

from ood.errors import CommandFailed, CommandTimedOut
from ood.hosts.base import Host

# `>` alone would wait for the reader of a pipe.
CREATE = '[ ! -e "$1" ] && [ ! -L "$1" ] && set -C && : >"$1"'
COPY_RIGHTS = ["cp", "--attributes-only", "--preserve=all", "--no-preserve=timestamps,links"]
OWN = 'find "$1" -maxdepth 0 -type f -links 1 -uid "$(id -u)" -print'


def create_file(host: Host, path: str) -> None:
    """Create an empty file. Raises `FileFailed`, and `FileExists` if there is anything."""
    if host.run(["sh", "-c", CREATE, "sh", path], check=False).exit_code != 0:
        host.files.open(path, "xb").close()  # raises what is wrong


def create_directory(host: Host, path: str) -> None:
    """Create a directory. Raises `FileFailed`, and `FileExists` if there is anything."""
    if host.run(["mkdir", "--", path], check=False).exit_code != 0:
        host.files.mkdir(path)


def copy_rights(host: Host, like: str, path: str) -> None:
    """Give a file the permissions, access control list, extended attributes and group of another
    and, where the host allows it, its owner. Raises `FileFailed`."""
    try:
        host.run([*COPY_RIGHTS, "--", like, path])
    except (CommandFailed, CommandTimedOut):
        host.files.chmod(path, host.files.stat(like).mode & 0o777)


def is_own(host: Host, path: str) -> bool:
    """Whether a file is the user's, and has no second name."""
    return bool(host.run(["sh", "-c", OWN, "sh", path], check=False).stdout)
