"""Accounts as other sites have them: talkative start-up files, other login shells, and worse."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ood.errors import AccountFault, FileExists
from ood.hosts import rights
from ood.hosts.login_shell import STARTER, MarkedOutput
from ood.hosts.ssh import SSHHost
from ood.quoting import login_line, script_lines
from tests.conftest import SLOW, Devcluster
from tests.helpers import NASTY
from tests.test_hosts import ssh

KEY = "0123456789abcdef"
AWKWARD = [*(each for each in NASTY if "\0" not in each), "two\nlines\n", "\x1e", "\udcff\udc81"]
SHELLS = ["dash", "bash", "zsh", "tcsh", "bsd-csh", "fish"]
LOGIN_SHELLS = {
    "cara": ".cshrc",
    "tess": ".tcshrc",
    "finn": ".config/fish/config.fish",
    "zoe": ".zshenv",
}
"""Users of the devcluster with other login shells, and the start-up file of each."""
GREETING = "Welcome to alpha\nalice\n"


def outputs_of(shell: str, *argv: str, cwd: str | None = None) -> tuple[bytes, bytes, int | None]:
    """Run a command as sshd would through a login shell; return its two outputs and exit code."""
    done = subprocess.run(
        [shell, "-c", login_line(STARTER.format(key=KEY))],
        input=script_lines(KEY, argv, cwd=cwd) + b"input",
        capture_output=True,
        cwd="/",
    )
    stdout, stderr = MarkedOutput(KEY + "1"), MarkedOutput(KEY + "2")
    printed, complained = stdout.take(done.stdout), stderr.take(done.stderr)
    assert stdout.exit_code == stderr.exit_code is not None
    return printed, complained, stdout.exit_code


@pytest.mark.parametrize("shell", SHELLS)
def test_every_login_shell_passes_a_command_unchanged(shell: str) -> None:
    sent = b"".join(each.encode("utf-8", "surrogateescape") + b"\0" for each in AWKWARD)
    assert outputs_of(shell, "printf", "%s\\0", *AWKWARD) == (sent, b"", 0)
    assert outputs_of(shell, "cat") == (b"input", b"", 0)
    assert outputs_of(shell, "sh", "-c", "echo why >&2; pwd; exit 3", cwd="/usr/bin") == (
        *(b"/usr/bin\n", b"why\n", 3),
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_every_login_shell_passes_an_argument(shell: str) -> None:
    for each in AWKWARD:
        line = login_line('printf %s "$1"', each)
        done = subprocess.run([shell, "-c", line], capture_output=True)
        assert done.stdout == each.encode("utf-8", "surrogateescape")


def test_input_that_a_start_up_file_took_is_never_run() -> None:
    """Then the starter reads what comes after the script."""
    done = subprocess.run(
        ["sh", "-c", login_line(STARTER.format(key=KEY))],
        input=f"touch /tmp/{KEY}\n".encode(),
        capture_output=True,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert not Path(f"/tmp/{KEY}").exists()


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_marks_are_found_however_the_data_arrives(size: int) -> None:
    printed = b"a\x1e" + KEY.encode() + b"\nb\x1e\x1e" + KEY.encode() + b"2:0\n" + bytes(range(256))
    data = (
        b"Welcome\n\x1e"
        + b"\x1e%s1\n" % KEY.encode()
        + printed
        + b"\x1e%s1:12\nlate" % KEY.encode()
    )
    output = MarkedOutput(KEY + "1")
    taken = b"".join(output.take(data[at : at + size]) for at in range(0, len(data), size))
    assert (taken, output.exit_code) == (printed, 12)
    assert (output.greeting, output.greeting_size) == (b"Welcome\n\x1e", 9)


# ---- Accounts on the devcluster


@dataclass(frozen=True)
class Account:
    """An account of the devcluster whose start-up files and login shell a test may change."""

    host: SSHHost
    site: Devcluster
    home: str

    def starts_with(self, text: str, file: str = ".bashrc") -> None:
        """Put lines at the top of a start-up file."""
        path = f"{self.home}/{file}"
        script = 'touch "$2"; printf "%s\\n" "$1" | cat - "$2" >"$2.new"; mv "$2.new" "$2"'
        self.site.host("portal-host", "mkdir", "-p", path.rpartition("/")[0])
        self.site.host("portal-host", "sh", "-c", script, "sh", text, path)


@contextmanager
def account_of(user: str, site: Devcluster) -> Iterator[Account]:
    home, host = f"/home/{user}", ssh(site, user)

    def as_root(script: str) -> str:
        return site.host("portal-host", "sh", "-ec", script)

    as_root(f"rm -rf {home}.kept; cp -a {home} {home}.kept")
    try:
        yield Account(host, site, home)
    finally:
        host.close()
        # In place, because eve's home is mounted elsewhere too.
        as_root(f"find {home} -mindepth 1 -delete; cp -a {home}.kept/. {home}; rm -rf {home}.kept")


@pytest.fixture
def account(devcluster: Devcluster) -> Iterator[Account]:
    with account_of("user41", devcluster) as account:
        yield account


START_UP = {
    "greeting": f"printf %s '{GREETING}'",
    "greeting on both outputs": "echo hello; echo hello >&2",
    "colours": "printf '\\033[1;31mAlpha\\033[0m'",
    "stty": "stty erase ^H; mesg n",
    "much text": "seq 1 100000",
    "variables": "export TAR_OPTIONS=--totals POSIXLY_CORRECT=1 CDPATH=/tmp LC_ALL=C ood_line=x",
    "another directory": "cd /tmp; umask 027",
    "options": "set -eu; shopt -s nullglob; IFS=,",
    "functions": "printf() { echo hi; }; export -f printf; cat() { echo hi; }; export -f cat",
    "aliases": "shopt -s expand_aliases; alias cat=false sh=false",
    "traps": "trap 'echo bye' EXIT; trap '' PIPE",
    "tracing": "set -x",
    "something left running": "sleep 600 & (sleep 0.2; echo late; sleep 600) &",
    "closed standard error": "exec 2>/dev/null",
}


def works(host: SSHHost) -> None:
    """Commands, files, streams and terminals give what they would on a quiet account."""
    argv = ["sh", "-c", 'cat; printf "%s|" "$@"; pwd; echo why >&2; exit 3', "sh", *AWKWARD]
    done = host.run(argv, input=b"in\n\0put", check=False, cwd="/usr")
    words = b"|".join(each.encode("utf-8", "surrogateescape") for each in AWKWARD)
    assert (done.stdout, done.exit_code) == (b"in\n\0put" + words + b"|/usr\n", 3)
    assert done.stderr in (b"why\n", b"")
    content = bytes(range(256)) * 9000
    path = host.home + "/file"
    host.files.write(path, content, 0o600)
    assert host.files.read(path, len(content)) == content
    with closing(host.files.stream(path, 10)) as stream:
        streamed = b""
        while data := stream.read(100_000):
            streamed += data
    assert hashlib.sha256(streamed).digest() == hashlib.sha256(content[10:]).digest()
    with host.start(["tar", "-cf", "-", "file"], cwd=host.home) as tar:
        tar.end_input()
        packed = b""
        while data := tar.read(1 << 20):
            packed += data
        assert (tar.wait(), packed[:4], len(packed) % 512) == (0, b"file", 0)


@SLOW
@pytest.mark.parametrize("text", START_UP.values(), ids=START_UP)
def test_start_up_files_change_nothing(account: Account, text: str) -> None:
    account.starts_with(text)
    works(account.host)


@SLOW
def test_new_files_have_the_umask_of_the_start_up_file(account: Account) -> None:
    account.starts_with("umask 007; echo hello")
    host, home = account.host, account.host.home
    rights.create_file(host, f"{home}/it's new")
    rights.create_directory(host, f"{home}/made")
    assert host.files.stat(f"{home}/it's new").mode & 0o777 == 0o660
    assert host.files.stat(f"{home}/made").mode & 0o777 == 0o770
    for name in ("it's new", "made"):
        for create in (rights.create_file, rights.create_directory):
            with pytest.raises(FileExists):
                create(host, f"{home}/{name}")


@SLOW
@pytest.mark.parametrize("user", LOGIN_SHELLS)
def test_login_shells_change_nothing(devcluster: Devcluster, user: str) -> None:
    with account_of(user, devcluster) as account:
        account.starts_with("echo hello", LOGIN_SHELLS[user])
        works(account.host)


@SLOW
@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("exit 0", "ends commands before they run"),
        ("exec dash", "ends commands before they run"),
        ("exec >/dev/null", "redirects the output of commands"),
        ("read answer", "ends commands before they run"),
        ("exec 2>&1", "redirects the error output of commands"),
        ("yes | head -c 3M", "prints too much text"),
    ],
)
def test_what_start_up_files_make_impossible_is_said(
    account: Account, text: str, what: str
) -> None:
    account.starts_with(text)
    for _ in range(2):
        with pytest.raises(AccountFault, match=what):
            account.host.run(["cat"], input=b"touch ~/ran\n")
    with pytest.raises(AccountFault, match=what):
        account.host.start(["cat"])
    account.site.host("portal-host", "sh", "-c", f"! test -e {account.home}/ran")


@SLOW
def test_what_all_commands_print_together_is_limited(
    devcluster: Devcluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ood.hosts.login_shell._memory._left", 20 << 20)
    argv = ["sh", "-c", "head -c 8M /dev/zero; sleep 2"]
    with ExitStack() as undo, ThreadPoolExecutor() as threads:
        hosts = [undo.enter_context(closing(ssh(devcluster, f"user{n}"))) for n in range(41, 45)]
        asked = [threads.submit(host.run, argv, max_output=10 << 20) for host in hosts]
        failed = [str(each.exception()) for each in asked if each.exception()]
    assert failed == ["Too many commands print much at the same time."] * 2
    with closing(ssh(devcluster, "user41")) as host:  # all is given back
        assert len(host.run(["head", "-c", "19M", "/dev/zero"], max_output=20 << 20).stdout)
