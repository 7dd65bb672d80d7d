"""Lists a directory in which an entry hangs, such as the mount point of a disk that is gone. An
SFTP server looks at all entries before it answers."""

from collections.abc import Callable, Sequence

from ood.hosts.base import Command, FileEntry

# The shell reads the names without looking at the entries. `stat` looks at few at a time, for a
# pipe takes no more than 4096 bytes in one piece, and at each alone if one of them hangs.
LIST = r"""
timeout -s KILL 3 ls -UA -- "$1" >/dev/null && cd -- "$1" || exit
for each in * .[!.]* ..?*; do
    case $each in '*' | '.[!.]*' | '..?*') ls -UA | grep -qxFe "$each" || continue ;; esac
    printf '%s\0' "$each"
done | xargs -0r -n 12 -P 8 sh -c '
look() { timeout -s KILL 2 stat --printf "%f %s %Y %u %g %n\0" -- "$@" 2>/dev/null; }
look "$@" || for each; do
    look "$each"
    [ $? != 137 ] || printf "0 0 0 0 0 %s\0" "$each"
done
:' sh && printf complete
"""
LIMIT = "20"  # seconds


def slow_entries_of(
    start: Callable[[Sequence[str]], Command], directory: str
) -> list[FileEntry] | None:
    """The entries of a directory; None if it cannot be listed. Those that hang have the mode 0."""
    found: dict[str, FileEntry] = {}
    with start(["timeout", "-s", "KILL", LIMIT, "sh", "-c", LIST, "sh", directory]) as command:
        command.end_input()
        *records, end = b"".join(iter(lambda: command.read(1 << 20), b"")).split(b"\0")
        if end != b"complete":
            return None
    for record in records:
        mode, *numbers, name = record.decode("utf-8", "surrogateescape").split(" ", 5)
        size, modified, uid, gid = map(int, numbers)
        found[name] = FileEntry(name, int(mode, 16), size, float(modified), uid, gid)
    return list(found.values())
