"""What a user may do with the files of a host, and in which directories: the section `files` of
portal.yml.

Every page of the File Manager has a path checked here first, and then uses only the path that this
returns. With `roots`, that is the real path on the host, with all links followed.
"""

import posixpath
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from ood.background import Question
from ood.config import FilesSettings
from ood.errors import FileFailed, FileMissing, FileRefused, HostUnreachable, NotFound
from ood.hosts.base import FileEntry, Host, shown
from ood.hosts.roles import PORTAL, files_host_id
from ood.web.addresses import asked_path, canonical, crumbs, is_possible
from ood.web.current import groups, portal, user

FAVOURITES_FRESH = 60.0  # seconds
LOOK_TIMEOUT = 5.0  # seconds for a root or a favourite, whose disk may hang


class Operation(StrEnum):
    """What a user does with files. A copy views its source and edits its target."""

    VIEW = "view"
    DOWNLOAD = "download"
    EDIT = "edit"
    UPLOAD = "upload"


REFUSALS = {
    Operation.DOWNLOAD: "Downloads are turned off on this portal.",
    Operation.EDIT: "This portal shows files but does not let you change them.",
    Operation.UPLOAD: "Uploads are turned off on this portal.",
}


class FileAccess:
    """The files of one host, as far as the site lets the user reach them. `host_id` is the host's
    ID in addresses."""

    def __init__(
        self, host_id: str, host: Host, settings: FilesSettings, groups: Iterable[str]
    ) -> None:
        self.host_id = host_id
        self.host = host
        self.files = host.files
        self._settings = settings
        self._groups = groups
        self._reals: dict[str, str | None] = {}  # of roots

    def may(self, operation: str) -> bool:
        """Whether the site allows an operation at all."""
        return operation == Operation.VIEW or bool(getattr(self._settings, operation))

    def demand(self, *operations: Operation) -> None:
        """Raise `FileRefused` unless the site allows all these operations."""
        for operation in operations:
            if not self.may(operation):
                raise FileRefused(REFUSALS[operation])

    def resolved(self, path: str, *operations: Operation, timeout: float | None = None) -> str:
        """The path to use for a file or directory, with all links followed. Raises `FileRefused`
        if it is outside the roots, or if the site does not allow one of the operations."""
        self.demand(*operations)
        return self._within(path, path, timeout)

    def entry_path(self, path: str, *operations: Operation) -> str:
        """The path to use to create, rename or delete an entry: only links above it are followed.
        Raises `FileRefused` as `resolved` does, and for a root itself."""
        self.demand(*operations)
        parent, name = posixpath.split(path)
        return posixpath.join(self._within(parent, path), name)

    def stat(self, path: str, timeout: float | None = None) -> FileEntry:
        """The entry at a path, following links, but with the name in the path. `timeout` is for
        each request to the host."""
        found = self.files.stat(self.resolved(path, timeout=timeout), timeout)
        return replace(found, name=posixpath.basename(path))

    def typed(self, path: str, directory: str) -> str:
        """The canonical path for what the user typed, relative to a directory, as in a shell."""
        if path.split("/")[0] == "~":
            return canonical(self.host.home + path[1:])
        return canonical(posixpath.join(directory, path))

    @property
    def start_directory(self) -> str:
        """The home directory, or the first root when home is outside all of them."""
        home = canonical(self.host.home)
        if self._settings.roots and not self._holds(self.files.resolve(home)):
            return next(iter(self._roots), home)
        return home

    def page_facts(self, path: str) -> dict[str, Any]:
        """The variables of `files/_where.html`, which is part of every page."""
        return {
            "host": self.host_id,
            "hosts": hosts(),
            "path": path,
            "crumbs": self.crumbs(path),
            "favourites": {each: self._short(each) for each in self.favourites()},
            "may": self.may,
        }

    def crumbs(self, path: str) -> list[tuple[str, str]]:
        """A canonical path and its parents within the roots, from the top: (name, path)."""
        found = crumbs(path)
        if not self._settings.roots:
            return found
        tops = {*self._roots, *self._roots.values()}
        for index, (_, above) in enumerate(found):
            if above in tops:
                return [(above, above), *found[index + 1 :]]
        return found[-1:]  # a link from outside the roots

    def favourites(self) -> list[str]:
        """All roots, and the shortcuts that exist within them, except the start directory."""
        return self._ask_favourites().answer().value or []

    def menu(self) -> dict[str, str]:
        """The favourites that are already known, and their labels. Does not wait for the host."""
        return {each: self._short(each) for each in self._ask_favourites().known or ()}

    def _ask_favourites(self) -> Question[list[str]]:
        key = (user(), "favourites", self.host_id)
        problem = HostUnreachable(
            f"{self.host.name} did not answer in time. Try again in a moment."
        )
        return portal().questions.ask(key, self._favourites, problem, FAVOURITES_FRESH)

    def _favourites(self, _last: list[str] | None) -> list[str]:
        found = dict.fromkeys(self._roots)
        for path in self._filled_in(self._settings.favourites):
            with suppress(FileFailed):
                if self.stat(path, LOOK_TIMEOUT).is_directory:
                    found[path] = None
        found.pop(self.start_directory, None)
        return list(found)

    def _short(self, path: str) -> str:
        """A path with `~` for the home directory, as in a shell."""
        home = canonical(self.host.home)
        return "~" + path[len(home) :] if home != "/" and _is_in(path, home) else path

    # ---- Roots

    def _filled_in(self, patterns: Iterable[str]) -> list[str]:
        """The paths for patterns in portal.yml: `~` is the user's home, `{project}` any project."""
        found = []
        for pattern in patterns:
            projects = project_names(self._groups) if "{project}" in pattern else [""]
            found += [self.typed(pattern.replace("{project}", each), "/") for each in projects]
        return list(dict.fromkeys(found))

    @cached_property
    def _roots(self) -> dict[str, str]:
        """The roots that exist on the host, and the real path of each."""
        roots = self._filled_in(self._settings.roots)
        return {root: real for root in roots if (real := self._real(root)) is not None}

    def _real(self, root: str, timeout: float | None = LOOK_TIMEOUT) -> str | None:
        """The real path of a root; None if it does not exist."""
        if root not in self._reals:
            self._reals[root] = None
            with suppress(FileFailed):
                self.files.stat(root, timeout)
                self._reals[root] = self.files.resolve(root, timeout)
        return self._reals[root]

    def _holds(self, real: str) -> bool:
        """Whether a real path is within a root. Does not wait for another root, which may hang, if
        the names alone lead to the right one."""
        roots = self._filled_in(self._settings.roots)
        first = [root for root in roots if _is_in(real, root)]
        return any(
            (found := self._real(root, timeout)) is not None and _is_in(real, found)
            for timeout, some in ((None, first), (LOOK_TIMEOUT, roots))
            for root in some
        )

    def _within(self, path: str, requested: str, timeout: float | None = None) -> str:
        """The real path of `path`, which is `requested` or the directory above it."""
        if not self._settings.roots:
            return path
        outside = FileRefused(
            f"{shown(requested)} is outside the directories that this portal shows. Choose one "
            "from the Files menu."
        )
        try:
            real = self.files.resolve(path, timeout)
        except (FileMissing, FileRefused) as error:
            # Outside the roots, the portal does not even reveal whether a file exists.
            if any(_is_in(requested, root) for pair in self._roots.items() for root in pair):
                raise
            raise outside from error
        if not self._holds(real):
            raise outside
        return real


def _is_in(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def project_names(groups: Iterable[str]) -> list[str]:
    """The directory names in /safe_data that belong to a user's groups, by the same rule as
    `ces-run`: the group's name and, when it is PREFIX-PROJECT, its PROJECT."""
    names = (name for group in sorted(groups) for name in (group, group.partition("-")[2]))
    valid = (name for name in names if name not in ("", ".", "..") and not set(name) & {*"/:,\0"})
    return list(dict.fromkeys(valid))


def file_access(host_id: str) -> FileAccess:
    """The files of the portal host or of a cluster. Raises `NotFound` for a host that does
    not exist or that the user may not use."""
    settings = portal().settings.files
    if host_id == PORTAL:
        return FileAccess(PORTAL, portal().pool.portal_host(user()), settings, groups())
    cluster = portal().clusters_for(groups()).get(host_id)
    if cluster is None:
        raise NotFound("Host not found.")
    host = portal().hosts.files_host(user(), cluster)
    return FileAccess(files_host_id(cluster), host, settings, groups())


def from_address(host_id: str, *operations: Operation) -> tuple[FileAccess, str]:
    """The files and the canonical path that this request's address names. Raises `FileRefused` if
    the site does not allow one of the operations."""
    access, path = file_access(host_id), canonical(asked_path())
    if not is_possible(path):
        raise FileMissing(f"File not found: {shown(path)}.")
    access.demand(*operations)
    return access, path


def hosts() -> dict[str, str]:
    """The labels of the hosts whose own files the user may view, by ID."""
    clusters = portal().clusters_for(groups()).values()
    own = {cluster.id: cluster.label for cluster in clusters if files_host_id(cluster) != PORTAL}
    return {PORTAL: "Portal host"} | own
