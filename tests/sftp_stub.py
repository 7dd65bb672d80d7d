"""An SSH server of one test, in this process, whose files fail as those of a full NFS server do."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import paramiko
from paramiko.common import AUTH_SUCCESSFUL, OPEN_SUCCEEDED
from paramiko.message import Message
from paramiko.sftp import CMD_CLOSE, SFTP_FAILURE, SFTP_OK
from pydantic import SecretStr

from ood.hosts.ssh import SSHHost

FAULTS = ("close", "close and empty", "half")
"""Closing a written file answers SFTP_FAILURE; and it has lost its data; half of the data is lost,
and nothing is said."""


class _Handle(paramiko.SFTPHandle):
    writes = False
    readfile: Any
    writefile: Any

    def __init__(self, stub: Stub, path: str, flags: int) -> None:
        super().__init__(flags)
        self.stub, self.path = stub, path
        self.file = os.fdopen(os.open(path, flags, 0o666), "r+b" if flags & 3 else "rb", 0)
        self.readfile = self.writefile = self.file

    def write(self, offset: int, data: Any) -> int:
        self.writes = True
        if self.stub.fault == "half":
            data = data[: len(data) // 2]
        os.pwrite(self.file.fileno(), data, offset)
        return SFTP_OK

    def chattr(self, attr: paramiko.SFTPAttributes) -> int:
        paramiko.SFTPServer.set_file_attr(self.path, attr)
        return SFTP_OK

    def stat(self) -> paramiko.SFTPAttributes:
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.file.fileno()))


class _Server(paramiko.SFTPServer):
    def _process(self, t: int, request_number: int, msg: Message) -> None:
        own: Any = self
        stub: Stub = own.server.stub
        if t == CMD_CLOSE and stub.fault.startswith("close"):
            at = msg.packet.tell()
            handle = own.file_table.get(msg.get_binary())
            msg.packet.seek(at)
            if handle is not None and handle.writes:
                handle.close()
                if "empty" in stub.fault:
                    os.truncate(handle.path, 0)
                del own.file_table[handle._get_name()]
                own._send_status(request_number, SFTP_FAILURE)
                return
        super()._process(t, request_number, msg)  # type: ignore[misc]


def _told(work: Any) -> Any:
    """Have a method of the interface answer with the code of an OSError."""

    def tell(self: _Files, *given: Any) -> Any:
        try:
            found = work(self, *given)
            return SFTP_OK if found is None else found
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    return tell


class _Files(paramiko.SFTPServerInterface):
    def __init__(self, server: paramiko.ServerInterface) -> None:
        super().__init__(server)
        self.stub = cast(_Login, server).stub

    @_told
    def open(self, path: str, flags: int, _attributes: object) -> Any:
        return _Handle(self.stub, path, flags)

    @_told
    def stat(self, path: str) -> Any:
        return paramiko.SFTPAttributes.from_stat(os.stat(path))

    @_told
    def lstat(self, path: str) -> Any:
        return paramiko.SFTPAttributes.from_stat(os.lstat(path))

    @_told
    def list_folder(self, path: str) -> Any:
        return [paramiko.SFTPAttributes.from_stat(e.stat(), e.name) for e in os.scandir(path)]

    @_told
    def remove(self, path: str) -> Any:
        os.remove(path)

    @_told
    def rename(self, old: str, new: str) -> Any:
        os.link(old, new)
        os.unlink(old)

    @_told
    def posix_rename(self, old: str, new: str) -> Any:
        os.rename(old, new)

    @_told
    def mkdir(self, path: str, attributes: paramiko.SFTPAttributes) -> Any:
        os.mkdir(path, attributes.st_mode or 0o777)

    @_told
    def chattr(self, path: str, attributes: paramiko.SFTPAttributes) -> Any:
        paramiko.SFTPServer.set_file_attr(path, attributes)

    def canonicalize(self, path: str) -> str:
        return os.path.realpath(path)


class _Login(paramiko.ServerInterface):
    def __init__(self, stub: Stub) -> None:
        self.stub = stub

    def check_auth_password(self, username: str, password: str) -> int:
        assert (username, password) == ("ada", "ada-pw")
        return AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, command), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel, command: bytes) -> None:
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        home = str(self.stub.home)
        with subprocess.Popen(
            ["sh", "-c", command], cwd=home, env={**os.environ, "HOME": home}, bufsize=0, **pipes
        ) as running:
            streams: Any = running.stdin, running.stdout, running.stderr
            stdin, stdout, stderr = streams

            def feed() -> None:
                with suppress(OSError), stdin:
                    while data := channel.recv(65536):
                        stdin.write(data)

            def complain() -> None:
                while data := stderr.read(65536):
                    channel.sendall_stderr(data)

            threads = [threading.Thread(target=each, daemon=True) for each in (feed, complain)]
            for thread in threads:
                thread.start()
            with suppress(OSError):
                while data := stdout.read(65536):
                    channel.sendall(data)
                threads[1].join()
                channel.send_exit_status(running.wait())
            channel.close()


class Stub:
    """`fault` is one of `FAULTS`, or empty. `host` is the server as the portal sees it."""

    fault = ""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.home.mkdir(exist_ok=True)
        self._key = paramiko.RSAKey.generate(2048)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        known = directory / "known_hosts"
        known.write_text(f"[127.0.0.1]:{port} ssh-rsa {self._key.get_base64()}\n")
        self.host = SSHHost(f"127.0.0.1:{port}", "ada", lambda: SecretStr("ada-pw"), known)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                transport = paramiko.Transport(self._listener.accept()[0])
                transport.add_server_key(self._key)
                transport.set_subsystem_handler("sftp", _Server, _Files)
                transport.start_server(server=_Login(self))

    def close(self) -> None:
        self.host.close()
        self._listener.close()


@contextmanager
def sftp_stub(directory: Path) -> Iterator[Stub]:
    with closing(Stub(directory)) as stub:
        yield stub
