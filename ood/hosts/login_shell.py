"""How a command reaches an account, whatever its login shell and start-up files do.

sshd passes every command to the account's login shell. That shell reads one short line, which sh,
bash, zsh, csh, tcsh and fish understand alike: it starts /bin/sh, which reads the command from
standard input. A mark is printed before and after the command, on both outputs. What start-up files
print comes before the first mark, and what processes print that they left running comes after the
last.

Input is sent only after the first mark has arrived, because a start-up file may have started
another program that reads it instead.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import paramiko

from ood.errors import AccountFault, CommandFailed, PasswordExpired
from ood.hosts.base import TOO_MUCH_OUTPUT, CommandResult, Env
from ood.quoting import login_line, script_lines

RECEIVE_SIZE = 2**21  # bytes: paramiko's whole window, as reading a part of it moves the rest
MAX_GREETING = 2**20  # bytes that start-up files may print
START_UP_FILE = "A start-up file of your account on {host}, such as .bashrc,"
SHELL_OR_FILE = "Your login shell on {host}, or a start-up file such as .bashrc,"
PASSWORD_EXPIRED = b"Password change required"  # what sshd prints instead of running a command
MAX_OUTPUT_OF_ALL = 64 * 2**20  # bytes
GREETING_KEPT = 200  # bytes of the end of it, for the log
LAG = 2.0  # seconds for a mark to arrive on one output after that on the other
STARTER = (
    'read -r ood_key ood_line; test "$ood_key" = {key} && read -r ood_exit && eval eval "$ood_line"'
)
"""What /bin/sh runs. `script_lines` says what it reads."""


class _Memory:
    """What all commands together may have printed while the portal collects it."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()  # guards _left
        self._left = limit

    @contextmanager
    def reserved(self) -> Iterator[Callable[[int], None]]:
        """Call the result for each number of bytes. It raises `CommandFailed` if too many are in
        use. They are given back at the end of the `with` block."""
        taken = 0

        def reserve(size: int) -> None:
            nonlocal taken
            with self._lock:
                if size > self._left:
                    raise CommandFailed("Too many commands print much at the same time.", -1, "")
                self._left -= size
                taken += size

        try:
            yield reserve
        finally:
            with self._lock:
                self._left += taken


_memory = _Memory(MAX_OUTPUT_OF_ALL)


class MarkedOutput:
    """One output of a command, without what comes before and after its marks."""

    def __init__(self, key: str) -> None:
        self.first_mark, self._last_mark = f"\x1e{key}\n".encode(), f"\x1e{key}:".encode()
        self._held = b""
        self.greeting = b""  # the end of what came before the first mark
        self.greeting_size = 0
        self.begun = False
        self.exit_code: int | None = None  # None: the command has not ended

    def take(self, data: bytes) -> bytes:
        """Return what the command printed of the data that has arrived."""
        if self.exit_code is not None:
            return b""
        if self._held:
            data, self._held = self._held + data, b""
        if not self.begun:
            greeting, self.begun, data = self._split(data)
            self.greeting_size += len(greeting)
            self.greeting = (self.greeting + greeting)[-GREETING_KEPT:]
            if not self.begun:
                self._held = data
                return b""
        mark = self._last_mark
        at = data.find(mark)
        if at >= 0:
            code, is_whole, _ = data[at + len(mark) :].partition(b"\n")
            if is_whole:
                self.exit_code = int(code)
                return data[:at]
        else:
            at = data.rfind(mark[:1], max(0, len(data) - len(mark)))
            if at < 0 or not mark.startswith(data[at:]):
                return data
        self._held = data[at:]
        return data[:at]

    def _split(self, data: bytes) -> tuple[bytes, bool, bytes]:
        """Split before the first mark, or else before what may be its beginning."""
        greeting, is_there, rest = data.partition(self.first_mark)
        if is_there:
            return greeting, True, rest
        kept = max(0, len(data) - len(self.first_mark))
        return data[:kept], False, data[kept:]


class MarkedCommand:
    """One command on a channel, as long as it runs. `host` is the name of the host in messages."""

    def __init__(self, channel: paramiko.Channel, host: str) -> None:
        self._channel = channel
        # The pipe behind `fileno` would block a thread that reads one output while another thread
        # reads the other, and with it the whole connection.
        self._arrived = threading.Event()
        for buffer in (channel.in_buffer, channel.in_stderr_buffer):
            buffer.set_event(self._arrived)
        self._host = host
        self._key = secrets.token_hex(8)
        self.stdout = MarkedOutput(f"{self._key}1")
        self.stderr = MarkedOutput(f"{self._key}2")

    @property
    def exit_code(self) -> int | None:
        return self.stdout.exit_code

    def begin(
        self, argv: Sequence[str], env: Env, cwd: str | None, deadline: float
    ) -> tuple[bytes, bytes]:
        """Start the command, and wait until it runs. Return what has arrived of its outputs.

        Raises `AccountFault` if the account does not run it, EOFError if the connection drops, and
        TimeoutError at `deadline` (monotonic).
        """
        self._channel.exec_command(login_line(STARTER.format(key=self._key)))
        with suppress(OSError):  # the login shell may have ended
            self._channel.sendall(script_lines(self._key, argv, env, cwd))
        outputs = b"", b""
        while not self.stdout.begun:
            try:
                ended, out, err = self._receive(deadline)
            except TimeoutError:
                if self.stderr.begun:
                    raise self._fault("redirects the output of commands") from None
                raise
            outputs = outputs[0] + out, outputs[1] + err
            if self.stderr.begun:  # its mark is printed first
                deadline = min(deadline, time.monotonic() + LAG)
            if self.stdout.greeting_size + self.stderr.greeting_size > MAX_GREETING:
                raise self._fault("prints too much text")
            if ended and not self.stdout.begun:
                self.check_connection()
                raise self._fault("ends commands before they run", SHELL_OR_FILE)
        if self.stderr.first_mark in self.stdout.greeting:
            raise self._fault("redirects the error output of commands")
        return outputs

    def collect(
        self, outputs: tuple[bytes, bytes], deadline: float, max_output: int
    ) -> CommandResult:
        """Read both outputs to their end, after what has arrived of them. Raises EOFError,
        TimeoutError and, for too much output, `CommandFailed`."""
        with _memory.reserved() as reserve:
            return self._collect(outputs, deadline, max_output, reserve)

    def _collect(
        self,
        outputs: tuple[bytes, bytes],
        deadline: float,
        max_output: int,
        reserve: Callable[[int], None],
    ) -> CommandResult:
        chunks: list[list[bytes]] = [[output] for output in outputs]
        size = sum(map(len, outputs))
        ended = False
        while not ended and None in (self.exit_code, self.stderr.exit_code):
            try:
                ended, *new = self._receive(deadline)
            except TimeoutError:
                if self.exit_code is None:
                    raise
                break  # a start-up file has closed or redirected standard error
            for output, data in zip(chunks, new, strict=True):
                output.append(data)
                reserve(len(data))
                size += len(data)
            if size > max_output:
                raise CommandFailed(TOO_MUCH_OUTPUT, -1, "")
            if self.exit_code is not None:
                deadline = min(deadline, time.monotonic() + LAG)
        if self.exit_code is None:
            self.check_connection()
        stdout, stderr = (b"".join(output) for output in chunks)
        return CommandResult(stdout, stderr, -1 if self.exit_code is None else self.exit_code)

    def why_late(self) -> str:
        """Why the command did not answer in time, for the user."""
        if self.stdout.begun:
            return f"{self._host} did not answer in time. Try again in a moment."
        return (
            f"Your account on {self._host} did not start a command in time. A start-up file such "
            "as .bashrc or the home directory may hang. Try again in a moment."
        )

    def check_connection(self) -> None:
        """Raise EOFError if the connection has dropped. sshd ends the output of a command before it
        closes the channel."""
        if not (self._channel.eof_received and self._channel.get_transport().is_active()):
            raise EOFError("the connection dropped before the command ended")

    def _receive(self, deadline: float) -> tuple[bool, bytes, bytes]:
        """Wait for output. Return whether both outputs have ended, and what has arrived of each.
        Unread standard error would fill the channel's only window."""
        channel, arrived = self._channel, self._arrived
        while True:
            ended = channel.eof_received or channel.closed  # first: more may arrive meanwhile
            out = channel.recv(RECEIVE_SIZE) if channel.recv_ready() else b""
            err = channel.recv_stderr(RECEIVE_SIZE) if channel.recv_stderr_ready() else b""
            if out or err:
                return False, self.stdout.take(out), self.stderr.take(err)
            if ended:
                return True, b"", b""
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            arrived.wait(min(left, 1))

    def _fault(self, what: str, subject: str = START_UP_FILE) -> AccountFault:
        greeting = self.stdout.greeting + self.stderr.greeting
        if PASSWORD_EXPIRED in greeting:
            return PasswordExpired(
                f"Your password on {self._host} has expired. Sign in there with ssh to choose a "
                "new one, or ask your administrator. Then sign in here again."
            )
        return AccountFault(
            f"{subject.format(host=self._host)} {what}. The portal cannot use your account there "
            "until this is corrected.",
            greeting.decode("utf-8", "backslashreplace"),
        )
