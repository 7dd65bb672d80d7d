"""The files of this machine, as the user the portal runs as."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import BinaryIO, cast

from ood.help_topics import HelpTopic, Reason
from ood.hosts.base import FileEntry, Files
from ood.hosts.open_file import OpenFile, file_entry, file_error

NAME = "this machine"


@contextmanager
def _errors(action: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        topic = HelpTopic.DISK_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
        reason = Reason(error.strerror or "input/output error", topic)
        raise file_error(error, action, path, NAME, reason) from error


class LocalFiles(Files):
    def list(self, path: str) -> list[FileEntry]:
        with _errors("list", path), os.scandir(path) as found:
            entries = []
            for item in found:
                with suppress(FileNotFoundError):  # deleted meanwhile
                    entries.append(file_entry(item.name, item.stat(follow_symlinks=False)))
            return entries

    def stat(self, path: str, timeout: float | None = None) -> FileEntry:  # noqa: ARG002
        with _errors("read", path):
            return file_entry(path, os.stat(path))

    def lstat(self, path: str) -> FileEntry:
        with _errors("read", path):
            return file_entry(path, os.lstat(path))

    def resolve(self, path: str, timeout: float | None = None) -> str:  # noqa: ARG002
        with _errors("find", path):
            real = os.path.realpath(path)
            os.stat(os.path.dirname(real))
            return real

    def open(self, path: str, mode: str) -> BinaryIO:
        errors = partial(_errors, "read" if mode == "rb" else "write", path)
        with errors():
            file = open(path, mode, buffering=0)  # noqa: SIM115 - closed by OpenFile
        return cast(BinaryIO, OpenFile(file, errors, ExitStack()))

    def rename(self, old: str, new: str) -> None:
        with _errors("rename", old):
            os.replace(old, new)

    def move(self, old: str, new: str) -> None:
        with _errors("move", old):
            is_directory = stat.S_ISDIR(os.lstat(old).st_mode)
        with _errors("create", new):
            if is_directory or not _linked(old, new):
                # Linux would replace an empty directory. Only the user's own programs could create
                # one between the check and the rename.
                if os.path.lexists(new):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
                os.rename(old, new)
                return
            try:
                os.unlink(old)
            except OSError:
                os.unlink(new)
                raise

    def remove(self, path: str) -> None:
        with _errors("delete", path):
            os.remove(path)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        with _errors("create", path):
            os.mkdir(path, mode)

    def chmod(self, path: str, mode: int) -> None:
        with _errors("set the permissions of", path):
            os.chmod(path, mode)


def _linked(old: str, new: str) -> bool:
    """Give a file a second name. Raises FileExistsError; returns False if the file system has no
    such links."""
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            raise
        return False
    return True
