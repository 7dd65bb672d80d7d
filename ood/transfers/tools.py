"""The shell scripts of a transfer, for GNU find, tar and coreutils.

Names reach them as `ood.hosts.trees` describes. Links are not followed.
"""

from collections.abc import Sequence

from ood.errors import FileFailed
from ood.hosts import trees
from ood.hosts.base import Command, Host

REMOVE_TIMEOUT = 600.0  # seconds

TAR = """
kept='--acls --xattrs'
tar $kept --version >/dev/null 2>&1 || {
    echo 'tar: too old to keep access control lists and extended attributes' >&2
    kept=
}
"""
PACK_TREE = f"""{TAR}
xargs -0r sh -c 'exec find "$@" "(" -type f -o -type d -o -type l ")" -print0' sh |
tar --create --sparse --no-recursion --null --files-from=- $kept --file=-
"""
# Both scripts keep the rights of the originals, with one exception: if the directory decides the
# group or the access control list of new files, then those of a `copy` too, as with `cp`.
UNPACK = f"""{TAR}
rights=--preserve-permissions
if [ "$1" = copy ]; then
    [ -g . ] && rights=--no-same-permissions
    case $(ls -ld .) in ??????????+*) rights=--no-same-permissions; umask 0 ;; esac
fi
[ $rights = --preserve-permissions ] || kept=${{kept#--acls}}
exec tar --extract $rights $kept --no-same-owner --verbose --file=-
"""
# Copies within one host, until the portal closes its standard input. It prints a line for each file
# and, each second, the bytes copied so far.
COPY = """
stage=$1
keep='-a'
command -v getfattr >/dev/null || keep='-a --preserve=xattr' # which fails unless they are kept
if [ "$2" = copy ] && { [ -g "$stage" ] || ls -ld -- "$stage" | grep -q '^..........+'; }; then
    keep='-Rd --preserve=links,timestamps,xattr'
fi
exec 3<&0
( cat <&3; kill -TERM 0 ) >/dev/null 2>&1 &
hand=$!
( while sleep 1 >/dev/null 2>&1; do du -sb "$stage/tree"; done ) 2>/dev/null &
look=$!
xargs -0r -a "$stage/names" cp $keep -v -t "$stage/tree" --
code=$?
kill $hand $look 2>/dev/null
exit $code
"""
# The outputs are equal on both hosts if the copy is complete. SHAPE covers every name, kind, mode
# and link; ACLS which files have an access control list; ATTRIBUTES the extended attributes of the
# user, if the host can list them; CONTENT covers every byte of every file.
SHAPE = r"""
xargs -0r sh -c 'exec find "$@" -type f -printf "f %m %s %p\\0" -o -printf "%y %m %l %p\\0"' sh |
LC_ALL=C sort -z | sha256sum
"""
ACLS = r"""
xargs -0r sh -c 'exec find "$@" ! -type l -exec ls -ldbgo --time-style=+ {} +' sh |
sed -n 's/^..........+ *[0-9]* *[0-9]* *//p' | LC_ALL=C sort | sha256sum
"""
ATTRIBUTES = """
command -v getfattr >/dev/null || exec cat >/dev/null
xargs -0r sh -c 'exec find "$@" ! -type l -print0' sh | LC_ALL=C sort -z |
xargs -0r getfattr -d -- | sha256sum
"""
CONTENT = """
xargs -0r sh -c 'exec find "$@" -type f -print0' sh | LC_ALL=C sort -z |
xargs -0r sha256sum -b -- | sha256sum
"""
# Deletes only what has not changed since the transfer began: the rest was not copied. Lists all
# files before it deletes the first, because deleting a hard link changes the time of the others.
DELETE_UNCHANGED = r"""
names=$(mktemp) && trap 'rm -f "$names"' EXIT && cat >"$names" || exit
xargs -0r -a "$names" sh -c 'began=$0; exec find "$@" ! -type d ! -newerct "@$began" -print0' "$1" |
LC_ALL=C sort -z | xargs -0r rm -f --
xargs -0r -a "$names" sh -c 'for each; do
    [ -L "$each" ] || [ ! -d "$each" ] || find "$each" -depth -type d -empty -delete
done' sh
"""
# A tool that was cancelled may go on writing for a moment.
REMOVE = """
chmod -R u+rwX -- "$1"
for wait in 0.2 1 3; do
    rm -rf -- "$1" && exit
    sleep $wait
done
exec rm -rf -- "$1"
"""


def tree_digest(
    host: Host, script: str, directory: str, names: Sequence[str], started: trees.Started
) -> str:
    """The output of one of these scripts for these entries. Raises `FileFailed`."""
    with trees.start(host, ["sh", "-c", script], directory, names, started) as command:
        found = _output(command)
        if command.wait() != 0 or command.stderr:
            raise FileFailed(f"Could not check the files on {host.name}.", command.stderr)
        return found.decode("ascii", "replace")


def delete(
    host: Host, directory: str, names: Sequence[str], began: str, started: trees.Started
) -> str:
    """Delete the originals of a move that began at `began`, by the host's clock. Return why some
    may be left; empty if none are."""
    script = ["sh", "-c", DELETE_UNCHANGED, "sh", began]
    with trees.start(host, script, directory, names, started) as command:
        _output(command)
        return next(iter(trees.complaints(command.stderr)), "")


def remove(host: Host, path: str) -> None:
    """Remove a staging directory. Raises `CommandFailed`."""
    host.run(["sh", "-c", REMOVE, "sh", path], timeout=REMOVE_TIMEOUT)


def _output(command: Command) -> bytes:
    return b"".join(iter(lambda: command.read(trees.PIECE), b""))
