"""What a user may do with the files of a host, and where: `files` of portal.yml, held in one place.

Every page of the File Manager asks here before it touches a path, and goes on with the path it is
given: with `roots`, that is the real one, all links followed on the host.
"""

from __future__ import annotations

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
from ood.web.addresses import canonical, crumbs
from ood.web.current import groups, portal, user


class Operation(StrEnum):
    """What may be done with a file. To copy it is to look at the one and to edit the other end."""

    VIEW = "view"
    DOWNLOAD = "download"
    EDIT = "edit"
    UPLOAD = "upload"


REFUSALS = {
    Operation.DOWNLOAD: "This portal lets no files be downloaded: they stay where they are.",
    Operation.EDIT: "This portal lets files be looked at, but not changed.",
    Operation.UPLOAD: "This portal takes no uploads.",
}


class FileAccess:
    """The files of one host, as far as the site lets the user at them."""

    def __init__(
        self, id: str, machine: Host, settings: FilesSettings, groups: Iterable[str]
    ) -> None:
        self.id = id
        """The host, in addresses."""
        self.machine = machine
        self.files = machine.files
        self._settings = settings
        self._groups = groups

    def may(self, access: str) -> bool:
        """Whether the site lets this be done at all. For what pages offer."""
        return access == Operation.VIEW or bool(getattr(self._settings, access))

    def demand(self, *operations: Operation) -> None:
        """Raise `FileRefused` when the site does not let one of these be done."""
        for access in operations:
            if not self.may(access):
                raise FileRefused(REFUSALS[access])

    def end(self, path: str, *operations: Operation) -> str:
        """Where a path leads to, all links followed. Raises `FileRefused` when that is out of
        reach. (What is looked at for nothing else needs no `operations`.)"""
        self.demand(*operations)
        return self._within(path, path)

    def name(self, path: str, *operations: Operation) -> str:
        """An entry itself, which may be a link or not be there yet: to make, rename or delete. Only
        the links above it are followed. Raises `FileRefused` when it is out of reach, or is a
        root."""
        self.demand(*operations)
        parent, name = posixpath.split(path)
        return posixpath.join(self._within(parent, path), name)

    def stat(self, path: str) -> FileEntry:
        """What a path leads to, by the path's own name."""
        return replace(self.files.stat(self.end(path)), name=posixpath.basename(path))

    @property
    def start(self) -> str:
        """Where to begin: home, or the first root when home is in none of them."""
        home = canonical(self.machine.home)
        if self._settings.roots and not self._holds(self.files.resolve(home)):
            return next(iter(self._roots), home)
        return home

    def shown(self, path: str) -> dict[str, Any]:
        """What `files/_where.html` has to know, above every page."""
        return {
            "host": self.id,
            "hosts": hosts(),
            "path": path,
            "crumbs": self.crumbs(path),
            "favourites": {each: self._short(each) for each in self.favourites()},
            "may": self.may,
        }

    def crumbs(self, path: str) -> list[tuple[str, str]]:
        """A canonical path and all above it that is in reach: (name, path). The first is a root."""
        found = crumbs(path)
        if not self._settings.roots:
            return found
        tops = {*self._roots, *self._roots.values()}
        for place, (_, above) in enumerate(found):
            if above in tops:
                return [(above, above), *found[place + 1 :]]
        return found[-1:]  # a link somewhere else leads here

    def favourites(self) -> list[str]:
        """The shortcuts that exist and are in reach, and all roots; without where one begins."""
        return self._ask_favourites().answer().value or []

    def menu(self) -> dict[str, str]:
        """The shortcuts by path, and what to call them, as far as they are known already: no page
        waits for its menus."""
        return {each: self._short(each) for each in self._ask_favourites().known or ()}

    def _ask_favourites(self) -> Question[list[str]]:
        key = (user(), "favourites", self.id)
        silence = HostUnreachable(f"{self.machine.name} did not answer in time.")
        return portal().questions.ask(key, self._favourites, silence, 60.0)

    def _favourites(self, _last: list[str] | None) -> list[str]:
        found = dict.fromkeys(self._roots)
        for path in self._places(self._settings.favourites):
            with suppress(FileFailed):
                if self.stat(path).is_directory:
                    found[path] = None
        found.pop(self.start, None)
        return list(found)

    def _short(self, path: str) -> str:
        """A path with `~` for the home directory, as in a shell."""
        home = canonical(self.machine.home)
        return "~" + path[len(home) :] if home != "/" and _is_in(path, home) else path

    # ---- Roots

    def _places(self, patterns: Iterable[str]) -> list[str]:
        found: dict[str, None] = {}
        for pattern in patterns:
            filled = (
                [pattern.replace("{project}", each) for each in project_names(self._groups)]
                if "{project}" in pattern
                else [pattern]
            )
            for path in filled:
                home = path.split("/")[0] == "~"
                found[canonical(self.machine.home + path[1:] if home else path)] = None
        return list(found)

    @cached_property
    def _roots(self) -> dict[str, str]:
        """The roots that exist on the host, and the real path of each."""
        found = {}
        for path in self._places(self._settings.roots):
            with suppress(FileFailed):
                self.files.stat(path)
                found[path] = self.files.resolve(path)
        return found

    def _holds(self, real: str) -> bool:
        return any(_is_in(real, root) for root in self._roots.values())

    def _within(self, path: str, asked: str) -> str:
        """The real path of `path`, on the way to `asked`."""
        if not self._settings.roots:
            return path
        outside = FileRefused(
            f"{shown(asked)} is outside the directories that this portal shows. “Files” above "
            "leads to those."
        )
        try:
            real = self.files.resolve(path)
        except (FileMissing, FileRefused) as error:
            # Nothing is said about what is outside, not even whether it is there.
            if any(_is_in(asked, root) for pair in self._roots.items() for root in pair):
                raise
            raise outside from error
        if not self._holds(real):
            raise outside
        return real


def _is_in(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def project_names(groups: Iterable[str]) -> list[str]:
    """The directory names in /safe_data that a user's groups stand for, as `ces-run` has it: the
    group's own name and, when it is PREFIX-PROJECT, its PROJECT."""
    names: dict[str, None] = {}
    for group in sorted(groups):
        for name in (group, group.partition("-")[2]):
            if name not in ("", ".", "..") and not set(name) & set("/:,\0"):
                names[name] = None
    return list(names)


def file_access(id: str) -> FileAccess:
    """The files of the host with the files of a cluster, or of the portal host. Raises `NotFound`
    for a host that is not there or not for this user."""
    settings = portal().settings.files
    if id == PORTAL:
        return FileAccess(PORTAL, portal().pool.portal_host(user()), settings, groups())
    cluster = portal().clusters_for(groups()).get(id)
    if cluster is None:
        raise NotFound("There is no such host.")
    return FileAccess(
        files_host_id(cluster), portal().hosts.files(user(), cluster), settings, groups()
    )


def hosts() -> dict[str, str]:
    """The hosts with files of their own that the user may look at, and what to call them."""
    clusters = portal().clusters_for(groups()).values()
    own = {cluster.id: cluster.label for cluster in clusters if files_host_id(cluster) != PORTAL}
    return {PORTAL: "Portal host"} | own
