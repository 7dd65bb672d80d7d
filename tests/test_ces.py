"""ces-pull and ces-run: with real podman and a real registry, and with a recorder for apptainer."""

import base64
import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import bcrypt
import pytest

from tests.busy import busy
from tests.conftest import Devcluster, wait_until

ROOT = Path(__file__).parent.parent
BIN = ROOT / "ces" / "bin"
IMAGE = "localhost/hello-tre:1.0"
TOKEN = "tok en\"'$(id)`x`é"

Done = subprocess.CompletedProcess[str]


def load(name: str) -> ModuleType:
    """The program as a module, without leaving byte code beside it."""
    path = BIN / name
    module = ModuleType(name.replace("-", "_"))
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    leave, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    exec(compile(path.read_text(), path, "exec"), module.__dict__)
    sys.dont_write_bytecode = leave
    return module


ces_run = load("ces-run")
ces_pull = load("ces-pull")
ces_janitor = sys.modules["ces_janitor"]


# ---- The machine, the user, the registry


@pytest.fixture(scope="session")
def machine(embedded_home: Path) -> dict[str, str]:
    """The environment in which containers run on this machine, with hello-tre built."""
    env = {"PATH": os.environ["PATH"], "HOME": str(embedded_home)}
    if (embedded_home / "state" / "containers.conf").exists():
        env["CONTAINERS_CONF"] = str(embedded_home / "state" / "containers.conf")
    return env


class User:
    """A user with a home directory of their own on this machine."""

    def __init__(self, home: Path, machine: dict[str, str]) -> None:
        self.home = home
        self.env = {**machine, "HOME": str(home)}
        (home / "safe_data").mkdir()

    def file(self, name: str, content: str | bytes) -> str:
        path = self.home / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def run(self, tool: str, *args: str, stdin: str = "", **env: str) -> Done:
        return subprocess.run(
            [BIN / tool, *args],
            env={**self.env, **env},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def start(self, *args: str, **env: str) -> "subprocess.Popen[bytes]":
        """ces-run in the background, all it writes in the file `log`."""
        with (self.home / "log").open("wb") as log:
            return subprocess.Popen(
                [BIN / "ces-run", *args],
                env={**self.env, **env},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.log(), 20, "not in the log: " + text)

    def log(self) -> str:
        return (self.home / "log").read_text()

    def containers(self, condition: str) -> list[str]:
        argv = ["podman", "ps", "--all", "--quiet", "--filter", condition]
        return subprocess.run(argv, env=self.env, capture_output=True, text=True).stdout.split()

    def outputs(self) -> Path:
        (path,) = self.home.glob("outputs-*")
        return path

    def scratch(self) -> list[Path]:
        return list(self.home.glob("scratch-*"))


@pytest.fixture
def user(tmp_path: Path, machine: dict[str, str]) -> User:
    return User(tmp_path, machine)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def registry(machine: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that alice may use with TOKEN, and that has lab/hello-tre:1.0; its HOST:PORT."""
    directory = tmp_path_factory.mktemp("registry")
    host = f"127.0.0.1:{free_port()}"
    password = bcrypt.hashpw(TOKEN.encode(), bcrypt.gensalt(4)).decode()
    (directory / "htpasswd").write_text(f"alice:{password}\n")
    config = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": host},
        "auth": {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}},
    }
    (directory / "config.yml").write_text(json.dumps(config))
    conf = directory / "registries.conf"
    conf.write_text(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
    machine["CONTAINERS_REGISTRIES_CONF"] = str(conf)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", directory / "config.yml"], stdout=log, stderr=log
        )
    try:
        for _ in range(1200):
            with contextlib.suppress(OSError), socket.create_connection(host.split(":")):  # type: ignore[arg-type]
                break
            time.sleep(0.05)
        image = f"{host}/lab/hello-tre:1.0"
        push = ["podman", "push", "-q", "--creds", f"alice:{TOKEN}", IMAGE, image]
        subprocess.run(push, env=machine, check=True, capture_output=True)
        yield host
        subprocess.run(["podman", "rmi", image], env=machine, capture_output=True)
    finally:
        process.terminate()
        process.wait()


# ---- ces-pull


def test_pull_with_credentials(user: User, registry: str) -> None:
    image = f"{registry}/lab/hello-tre:1.0"
    done = user.run("ces-pull", "podman", "alice", TOKEN, image)
    assert done.returncode == 0, done.stderr
    assert f"Pulling {image} with podman" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    assert user.run("ces-pull", "alice", "-", image, stdin=TOKEN + "\n").returncode == 0
    assert user.run("ces-run", image).returncode == 0


@pytest.mark.parametrize(
    ("credentials", "name", "code", "sentence"),
    [
        (("alice", "wrong"), "lab/hello-tre:1.0", 77, "for 'alice' with this token. Check the"),
        (("", ""), "lab/hello-tre:1.0", 77, "without a user name. Check the"),
        (("alice", TOKEN), "lab/hello-tre:9", 66, "has no image"),
        (("alice", TOKEN), "lab/unauthorized", 66, "has no image"),
    ],
)
def test_pull_refused(
    user: User, registry: str, credentials: tuple[str, str], name: str, code: int, sentence: str
) -> None:
    done = user.run("ces-pull", "podman", *credentials, f"{registry}/{name}")
    assert done.returncode == code
    *podman, last = done.stderr.splitlines()
    assert any(line.startswith("Error: ") for line in podman)
    assert last.startswith(f"ces-pull: The registry {registry}")
    assert sentence in last
    assert f"{registry}/{name}" in last
    assert TOKEN not in done.stdout + done.stderr


def test_pull_registry_unreachable(user: User) -> None:
    done = user.run("ces-pull", "", "", f"127.0.0.1:{free_port()}/lab/hello-tre:1.0")
    assert done.returncode == 75
    assert "connection refused" in done.stderr
    assert "cannot be reached from" in done.stderr.splitlines()[-1]


def test_pull_of_a_local_image_only_looks(user: User) -> None:
    assert user.run("ces-pull", "", "", IMAGE).returncode == 0
    done = user.run("ces-pull", "podman", "alice", "x", "localhost/hello-tre:nope")
    assert done.returncode == 66
    assert "localhost images are never pulled. Build it there" in done.stderr


def every_argv_and_environment() -> bytes:
    found = b""
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) != os.getpid():
            for name in ("cmdline", "environ"):
                with contextlib.suppress(OSError):
                    found += (process / name).read_bytes()
    return found


def test_pull_hides_the_token_and_ends_at_once(user: User) -> None:
    token = "hide-me-" + os.urandom(6).hex()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        image = f"127.0.0.1:{silent.getsockname()[1]}/a/b:1"
        argv = [str(BIN / "ces-pull"), "podman", "alice", token, image]
        process = subprocess.Popen(
            argv, env=user.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        silent.accept()[0].close()  # podman is on its way
        connection, _ = silent.accept()
        assert image.encode() in every_argv_and_environment()
        assert token.encode() not in every_argv_and_environment()
        began = time.monotonic()
        process.terminate()
        output, _ = process.communicate()
        connection.close()
    assert time.monotonic() - began < 6 * busy()
    assert process.returncode == 143
    assert output.endswith(b"ces-pull: Ended by SIGTERM.\n")
    assert token.encode() not in output
    assert image.encode() not in every_argv_and_environment()


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        ((), 64, "Usage: ces-pull [podman|apptainer] USER TOKEN IMAGE"),
        (("docker", "u", "t", "ghcr.io/a/b"), 64, "'docker' is not a runner. Use podman"),
        (("u", "x" * 16385, "ghcr.io/a/b"), 64, "token is too long"),
        (("u", "", "ghcr.io/a/b"), 64, "The registry token is empty"),
        (("", "t", "ghcr.io/a/b"), 64, "The registry user name is empty"),
        (("a:b", "t", "ghcr.io/a/b"), 64, "cannot contain a colon"),
        (("", "", "https://ghcr.io/a/b"), 64, "without https://"),
        (("", "", "ghcr.io/a/B"), 64, "in lower case"),
        (("", "", "ghcr.io/a/b c"), 64, "is not the name of an image"),
        (("", "", "--help"), 64, "is not the name of an image"),
        (("", "", "ghcr.io/a/b\n"), 64, "is not the name of an image"),
        (("", "", "ubuntu"), 64, "is not the name of an image"),
        (("", "", "library/ubuntu"), 64, "for example docker.io/library/ubuntu"),
    ],
)
def test_pull_command_line(user: User, args: tuple[str, ...], code: int, sentence: str) -> None:
    done = user.run("ces-pull", *args)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("ces-pull: ")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_runner_names_the_other_one(user: User) -> None:
    done = user.run("ces-pull", "apptainer", "", "", "ghcr.io/a/b")
    assert f"on {os.uname().nodename}. Choose podman, or ask your administrator" in done.stderr
    done = user.run("ces-run", "podman", IMAGE, PATH="/nonexistent")
    assert done.returncode == 69
    assert "podman is not installed on" in done.stderr
    assert "Ask your administrator to install podman" in done.stderr


def test_credentials_reach_a_user_namespace() -> None:
    """Rootless podman reads them from a user namespace, to which much of /proc is closed."""
    fd = ces_pull.registry_login(ces_pull.Request("podman", "ada", TOKEN, "ghcr.io/a/b"))
    argv = ["unshare", "--user", "--map-root-user", "cat", f"/proc/self/fd/{fd}"]
    output = subprocess.run(argv, pass_fds=[fd], stdout=subprocess.PIPE, check=True).stdout
    os.close(fd)
    auth = base64.b64encode(f"ada:{TOKEN}".encode()).decode()
    assert json.loads(output) == {"auths": {"ghcr.io": {"auth": auth}}}


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ("reading manifest 1 in ghcr.io/a: denied: denied", 77),
        ("logging into: invalid username/password", 77),
        ("requested access to the resource is denied", 77),
        ("received unexpected HTTP status: 403 Forbidden", 77),
        ("initializing source: name unknown: repository name not known to registry", 66),
        ("dial tcp: lookup nowhere.invalid on 10.0.0.1:53: no such host", 75),
        ("dial tcp 10.0.0.1:443: i/o timeout", 75),
        ("x509: certificate signed by unknown authority", 75),
        ("writing blob: write /var/tmp/x: no space left on device", 1),
        ("mkdir /run/user/1000: permission denied", 1),
        ("pulling a/b/unauthorized:1 failed", 1),
    ],
)
def test_pull_explains(errors: str, code: int) -> None:
    request = ces_pull.Request("podman", "u", "t", "a/b/unauthorized:1")
    assert ces_pull.explain(f"Error: {errors}", request).code == code


# ---- ces-run: what it reads


def expect(code: int, sentence: str) -> Any:
    return pytest.raises(ces_run.CesError, match=sentence, check=lambda error: error.code == code)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ((), "(the following arguments are required: image). See ces-run --help."),
        (("a", "b", "c"), "(unrecognized arguments: c)"),
        (("docker", "b"), "'docker' is not a runner. Use podman"),
        (("--gp", "b"), "(unrecognized arguments: --gp)"),
        (("--env-file",), "(argument --env-file: expected one argument)"),
    ],
)
def test_run_command_line(user: User, args: tuple[str, ...], sentence: str) -> None:
    done = user.run("ces-run", *args)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("ces-run: ")
    assert sentence in done.stderr
    assert not user.scratch()


def test_words(tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_bytes(b"-d 10\r\n-n 'Ada  $(id) `x`'\n\"two\nlines\" \\# # '' \xf0\x9f\xa6\x89")
    expected = ["-d", "10", "-n", "Ada  $(id) `x`", "two\nlines", "#", "#", "", "🦉"]
    assert ces_run.read_words(str(path)) == expected


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"-n 'Ada", "words: a quote is not closed"),
        (b"-n Ada\\", "words: a quote is not closed, or the text ends with a backslash"),
        (b"one\n\xff", "words, line 2: this is not UTF-8"),
        (b"one\ntwo\0", "words, line 2: this is not UTF-8"),
    ],
)
def test_words_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "words"
    path.write_bytes(content)
    with expect(65, sentence):
        ces_run.read_words(str(path))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"A=1\n\nB", 3),
        (b"PATH*", 1),
        (b"=x", 1),
        (b"1A=x", 1),
        (b"A B=x", 1),
        (b"A =x", 1),
        (b"A=\xff", 1),
    ],
)
def test_environment_refused(tmp_path: Path, content: bytes, line: int) -> None:
    path = tmp_path / "env"
    path.write_bytes(content)
    with expect(65, f"env, line {line}: this is not "):
        ces_run.read_env(str(path))


def test_unreadable_file(user: User) -> None:
    done = user.run("ces-run", "--env-file", "nowhere", IMAGE)
    assert done.returncode == 65
    assert "nowhere cannot be read (No such file or directory)" in done.stderr


# ---- ces-run: what it mounts


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        (["proj"], ["proj"]),
        (["nsh-proj"], ["nsh-proj", "proj"]),
        (["nsh-1234-5678"], ["nsh-1234-5678", "1234-5678"]),
        (["a-x", "x", "b-x"], ["a-x", "x", "b-x"]),
        (["..", ".", "a-..", "a/b", "x-/etc", "-", "a-", ""], ["a-..", "-", "a-"]),
        (["x-../../etc", "a:b", "a,b"], []),
    ],
)
def test_safe_data_names(groups: list[str], names: list[str]) -> None:
    assert ces_run.safe_data_names(groups) == names


def test_safe_data(tmp_path: Path) -> None:
    home, root = tmp_path / "home", tmp_path / "root"
    for path in (home, root / "b", root / "c", root / "x"):
        path.mkdir(parents=True)
    (root / "file").touch()
    (root / "link").symlink_to(root / "b")

    def find(*groups: str) -> str:
        found: str = ces_run.find_safe_data(str(home), list(groups), str(root))
        return found

    assert find("users", "p-b", "c") == str(root / "b")
    assert find("c", "p-b") == str(root / "c")
    assert find("file", "link") == str(root / "link")
    with expect(72, r"/home/safe_data does not exist, and .* any of your groups \(users, x-\.\.\)"):
        find("users", "x-..")
    (home / "safe_data").touch()  # a file is not safe data
    assert find("x") == str(root / "x")
    (home / "safe_data").unlink()
    (home / "safe_data").mkdir()
    assert find("c") == str(home / "safe_data")


def test_no_safe_data_makes_nothing(user: User) -> None:
    (user.home / "safe_data").rmdir()
    done = user.run("ces-run", IMAGE)
    assert done.returncode == 72
    assert done.stderr.startswith("ces-run: You have no safe data on ")
    assert done.stdout == ""
    assert list(user.home.iterdir()) == []
    assert user.run("ces-run", "--safe-data").returncode == 72


def test_removes_what_a_container_may_leave(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    scratch = tmp_path / "scratch"
    (scratch / "a" / "b").mkdir(parents=True)
    (scratch / "a" / "b" / "file").touch()
    (scratch / "a" / "link").symlink_to(outside)
    for path in (scratch / "a" / "b", scratch / "a", scratch):
        path.chmod(0)
    ces_janitor.clean_up("apptainer", 0, str(scratch))
    assert not scratch.exists()
    assert (outside / "kept").exists()
    assert oct(outside.stat().st_mode & 0o777) != "0o700"


# ---- ces-run: what it runs


def shell(user: User, script: str, *args: str, options: str = "") -> tuple[str, ...]:
    """The options of ces-run that run a script in the image's shell."""
    words = ["-c", script, "sh", *args]
    return (
        "--opt-file",
        user.file("opts", f"--entrypoint=/bin/sh {options}"),
        "--arg-file",
        user.file("args", "\n".join(shlex.quote(word) for word in words)),
        IMAGE,
    )


IGNORES = 'trap "" TERM INT HUP; mkdir -m 0 /scratch/d; echo up; while :; do sleep 1; done'
HEEDS = 'trap "exit 3" TERM INT HUP; echo up; while :; do sleep 50 & wait; done'


def test_run(user: User) -> None:
    (user.home / "safe_data" / "in.txt").write_text("data")
    script = (
        "cat /safe_data/in.txt; echo out > /safe_outputs/out.txt; mkdir -m 500 /scratch/d; exit 7"
    )
    done = user.run("ces-run", "podman", *shell(user, script))
    assert done.returncode == 7
    sentence = "The container ended with exit code 7: see its output."
    assert done.stderr == f"ces-run: {sentence}\n"
    outputs, log = user.outputs(), done.stdout.splitlines()
    number = outputs.name.removeprefix("outputs-")
    assert re.fullmatch(r"[1-9][0-9]{6}", number)
    assert (outputs / "out.txt").read_text() == "out\n"
    assert oct(outputs.stat().st_mode) == "0o40700"
    assert outputs.stat().st_uid == os.getuid()
    assert "data" in done.stdout
    date = r"\w{3} \w{3} [ 0-9]\d \d\d:\d\d:\d\d \S+ \d{4}"
    assert re.fullmatch(f"{date} ces-run: /safe_data is {user.home}/safe_data", log[1])
    assert re.search(f"/safe_outputs is {user.home}/outputs-{number} ", log[2])
    assert re.search(f"/scratch is {user.home}/scratch-{number} ", log[3])
    assert log[4].startswith("Running: podman run --rm ")
    assert shlex.split(log[4])[-5:-3] == ["--", IMAGE]
    assert user.scratch() == []
    assert user.containers(f"label=ces.run={user.home}/scratch-{number}") == []


ODD = [
    " two  spaces ",
    'it\'s "quoted"',
    "$(touch /scratch/x) `id` $HOME ${PATH} %s \\n \\",
    "🦉 é 日本",
    "-leading",
    "--name=x",
    "#hash # in",
    "a=b==",
    "*?[a] ~ ! ; & | < >",
    "tab\there\x01\x1b[31m",
    "",
]


def test_odd_values_arrive_exactly(user: User) -> None:
    script = 'cat /proc/self/environ >/safe_outputs/env; printf "%s\\0" "$@" >/safe_outputs/args'
    args = [*ODD, "two\nlines", "trailing\n"]
    lines = [f"ODD_{number}={value}" for number, value in enumerate(ODD)]
    env = ["# a comment", "", *lines, "  LED=x", "PATH=/bin:/odd", "HOME=/h", "LD_PRELOAD="]
    env_file = user.file("env file", "\n".join(env))
    done = user.run(
        "ces-run", "--env-file", env_file, *shell(user, script, *args), LANG="C", LC_ALL="C"
    )
    assert done.returncode == 0, done.stderr
    dumped = (user.outputs() / "env").read_bytes().split(b"\0")
    for text in [*lines, "LED=x", "PATH=/bin:/odd", "HOME=/h", "LD_PRELOAD="]:
        assert text.encode() in dumped
    assert not any(entry.startswith(b"#") for entry in dumped)
    assert (user.outputs() / "args").read_bytes() == b"".join(a.encode() + b"\0" for a in args)
    assert "ODD_" not in done.stdout


def test_output_in_order_and_the_log_stays_ours(user: User) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do echo out $i; echo err $i >&2; done; seq 100000"
    process = user.start(*shell(user, script, options="--user 1000"))
    assert process.wait(120) == 0
    log = user.log().splitlines()
    expected = [f"{stream} {i}" for i in range(1, 10) for stream in ("out", "err")]
    begin = log.index("out 1")
    assert log[begin : begin + 18] == expected
    assert log[begin + 18 : -1] == [str(i) for i in range(1, 100001)]
    assert log[-1].endswith("ces-run: The container ended with exit code 0.")
    assert (user.home / "log").stat().st_uid == os.getuid()


def test_streams_stay_apart_and_the_job_waits(user: User) -> None:
    """Also with what people are used to give to podman."""
    script = "sleep 0.3; test ! -t 1 && echo out; echo err >&2"
    done = user.run("ces-run", *shell(user, script, options="-itd --rm=false"))
    assert "out\n" in done.stdout
    assert done.stderr == "err\n"
    assert user.containers(f"label=ces.run={user.home}/scratch-{user.outputs().name[8:]}") == []


def test_run_errors(user: User) -> None:
    done = user.run("ces-run", "localhost/hello-tre:nope")
    assert done.returncode == 66
    assert "is not on" in done.stderr
    assert "Pull it first, with ces-pull podman" in done.stderr
    done = user.run("ces-run", IMAGE, HOME="/nowhere")
    assert done.returncode == 73
    assert "Your home directory '/nowhere' cannot be used" in done.stderr
    done = user.run("ces-run", IMAGE, CONTAINERS_CONF="/nowhere")
    assert done.returncode == 69
    assert "podman does not work on" in done.stderr.splitlines()[-1]
    done = user.run("ces-run", "--gpu", IMAGE)
    assert done.returncode == 69
    assert "No GPU is available to this job" in done.stderr
    assert not list(user.home.glob("outputs-*"))


def test_podman_refuses(user: User) -> None:
    done = user.run("ces-run", *shell(user, "true", options="--no-such-option"))
    assert done.returncode == 125
    assert "unknown flag: --no-such-option" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "ces-run: The container ended with exit code 125"
    )
    assert user.scratch() == []


def test_taken_name_leaves_the_other_container_alone(user: User) -> None:
    options = shell(user, HEEDS, options="--name ces-test-taken")
    process = user.start(*options, SLURM_JOB_ID="4242")
    user.wait_for("up\n")
    done = user.run("ces-run", *options)
    assert done.returncode == 125
    assert "already in use" in done.stderr
    assert len(user.containers("name=ces-test-taken")) == 1
    assert len(user.containers("label=ces.job=4242")) == 1
    process.terminate()
    assert process.wait(60) == 143
    assert user.containers("name=ces-test-taken") == []


@pytest.mark.parametrize(
    ("script", "signum", "seconds"),
    [(HEEDS, signal.SIGTERM, 3), (IGNORES, signal.SIGHUP, 5)],
)
def test_cancel(user: User, script: str, signum: int, seconds: float) -> None:
    process = user.start(*shell(user, script, options="--name ces-test-cancel"))
    user.wait_for("up\n")
    began = time.monotonic()
    process.send_signal(signum)
    time.sleep(0.01)
    process.send_signal(signal.SIGTERM)  # a second one changes nothing
    assert process.wait(60) == 128 + signum
    assert time.monotonic() - began < seconds * busy()
    assert f"ces-run: Ended by {signal.Signals(signum).name}.\n" in user.log()
    assert user.scratch() == []
    assert user.outputs().is_dir()
    assert user.containers("name=ces-test-cancel") == []


@pytest.mark.parametrize("delay", [0.3, 0.4])
def test_cancel_while_starting(user: User, delay: float) -> None:
    process = user.start(*shell(user, IGNORES, options="--name ces-test-early"))
    time.sleep(delay)
    process.terminate()
    assert process.wait(60) in (143, -signal.SIGTERM)
    assert user.scratch() == []
    assert user.containers("name=ces-test-early") == []


def test_killed(user: User) -> None:
    process = user.start(*shell(user, HEEDS, options="--name ces-test-killed"))
    user.wait_for("up\n")
    process.kill()
    process.wait()
    wait_until(lambda: not user.scratch() and not user.containers("name=ces-test-killed"), 5)


@pytest.mark.parametrize("whole_path", [True, False])
def test_finds_its_modules(user: User, tmp_path: Path, whole_path: bool) -> None:
    (tmp_path / "link").symlink_to(BIN / "ces-run")
    user.env["PATH"] = f"{BIN}:{user.env['PATH']}"
    argv = [str(tmp_path / "link") if whole_path else "ces-run", "--safe-data"]
    done = subprocess.run(argv, env=user.env, cwd="/", capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{user.home}/safe_data\n", "")


# ---- ces-run: GPUs


def test_gpu_options(monkeypatch: pytest.MonkeyPatch) -> None:
    def options(runner: str = "podman", gpu: bool = True, **env: str) -> Any:
        return ces_run.gpu_options(ces_run.Request(runner=runner, gpu=gpu, env=env))

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(ces_run.glob, "glob", lambda _: ["/dev/nvidia0"])
    assert options(gpu=False) == []
    assert options() == ["--device=nvidia.com/gpu=all"]
    assert options("apptainer") == ["--nv"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert options()[1:] == ["--env=CUDA_VISIBLE_DEVICES"]
    assert options(CUDA_VISIBLE_DEVICES="0")[1:] == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with expect(69, "No GPU is available to this job"):
        options()


# ---- Where podman is rootless


def test_data_of_a_group(devcluster: Devcluster) -> None:
    """Alice may read /safe_data/trial only by her group nsh-trial; so may her containers."""
    image = "10.78.0.5:5000/lab/hello-tre:1.0"
    pull = f"ces-pull alice reg-alice {image} && ces-run podman {image} 2>&1"
    log = devcluster.as_user("alice", "desktop01", f"cd && {pull}")
    assert "/safe_data is /safe_data/trial\n" in log
    assert "Permission denied" not in log
    (outputs,) = re.findall("/safe_outputs is ([^ ]+) ", log)
    listing = devcluster.as_user("alice", "desktop01", f"cat {outputs}/safe_data.txt")
    assert "/safe_data/cohort.csv: " in listing


ROOTLESS = r"""
mkdir test-ces && cd test-ces
trap 'cd; rm -rf test-ces' EXIT
echo --entrypoint=/bin/sh >opts
cat >args <<'END'
-c 'mkdir -p /scratch/a/b; chown -R 100 /scratch/a/b; chmod 0 /scratch/a
trap exit TERM; echo up; sleep 50 & wait'
END
ces-run --opt-file opts --arg-file args 10.78.0.5:5000/lab/hello-tre:1.0 >log 2>&1 &
until grep -q '^up' log; do sleep 0.1; done
kill $!
wait $!
echo $?
tail -n 1 log
ls -d $(sed -n 's/.*scratch is \([^ ]*\) .*/\1/p' log) 2>&1
"""


def test_cancel_removes_files_of_subordinate_users(devcluster: Devcluster) -> None:
    lines = devcluster.as_user("alice", "desktop01", ROOTLESS, check=False).splitlines()
    assert lines[:2] == ["143", "ces-run: Ended by SIGTERM."]
    assert "No such file or directory" in lines[2]


# ---- Apptainer, as a command line

RECORDER = """#!{python}
import json, os, sys, time
record = {{"argv": sys.argv[1:], "env": {{k: v for k, v in os.environ.items() if "APPT" in k}}}}
with open({record!r}, "a") as file:
    file.write(json.dumps(record) + "\\n")
if sys.argv[1] == "pull":
    open(sys.argv[3], "w").write("sif")
    if os.environ.get("FAKE_ERROR"):
        sys.exit(os.environ["FAKE_ERROR"])
if sys.argv[1] == "run":
    print("up", flush=True)
    time.sleep(float(os.environ.get("FAKE_SLEEP", "0")))
    sys.exit(int(os.environ.get("FAKE_EXIT", "0")))
"""


@pytest.fixture
def records(user: User) -> Path:
    """What the recorder that stands for apptainer was asked, a JSON object on each line."""
    tools, path = user.home / "tools", user.home / "records"
    tools.mkdir()
    fake = tools / "apptainer"
    fake.write_text(RECORDER.format(python=sys.executable, record=str(path)))
    fake.chmod(0o755)
    user.env["PATH"] = f"{tools}:{user.env['PATH']}"
    return path


def read(records: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in records.read_text().splitlines()]


def test_apptainer(user: User, records: Path) -> None:
    image = "ghcr.io/owner/name:1.0"
    sif = user.home / ".cache/ces/ghcr.io%2Fowner%2Fname%3A1.0.sif"
    done = user.run("ces-run", "apptainer", image)
    assert done.returncode == 66
    assert "Pull it first, with ces-pull apptainer" in done.stderr

    done = user.run("ces-pull", "apptainer", "ada", TOKEN, image)
    assert done.returncode == 0, done.stderr
    assert f"Saved as {sif}" in done.stdout
    (pull,) = read(records)
    assert pull["argv"][:2] == ["pull", "--force"]
    assert pull["argv"][2].startswith(f"{sif}.")
    assert pull["argv"][3:] == [f"docker://{image}"]
    expected = {"APPTAINER_DOCKER_USERNAME": "ada", "APPTAINER_DOCKER_PASSWORD": TOKEN}
    assert pull["env"] == expected
    assert [path.name for path in sif.parent.iterdir()] == [sif.name]
    records.unlink()

    env_file = user.file("env", "A= $(id) 'x' 🦉 \r\nHOME=/h")
    opt_file = user.file("opt", "--cleanenv --pwd '/a b'")
    arg_file = user.file("arg", "-n 'A da'")
    files = ("--env-file", env_file, "--opt-file", opt_file, "--arg-file", arg_file)
    done = user.run("ces-run", "apptainer", *files, image, FAKE_EXIT="5", LC_ALL="C")
    assert done.returncode == 5
    (run,) = read(records)
    outputs = user.outputs()
    scratch = str(outputs).replace("outputs-", "scratch-")
    argv = ["run", "--no-eval", f"--bind={user.home}/safe_data:/safe_data"]
    argv += [f"--bind={outputs}:/safe_outputs", f"--bind={scratch}:/scratch"]
    argv += ["--cleanenv", "--pwd", "/a b", str(sif), "-n", "A da"]
    assert run["argv"] == argv
    assert run["env"] == {"APPTAINERENV_A": " $(id) 'x' 🦉 ", "APPTAINERENV_HOME": "/h"}
    assert "Running: apptainer run --no-eval --bind=" in done.stdout
    assert user.scratch() == []


@pytest.mark.usefixtures("records")
def test_apptainer_errors_and_cancel(user: User) -> None:
    image = "ghcr.io/owner/name:1.0"
    error = "FATAL: While making image: denied: requested access to the resource is denied"
    done = user.run("ces-pull", "apptainer", "", "", image, FAKE_ERROR=error)
    assert done.returncode == 77
    assert "without a user name" in done.stderr
    assert list((user.home / ".cache/ces").iterdir()) == []
    done = user.run("ces-pull", "apptainer", "", "", IMAGE)
    assert done.returncode == 66
    assert "The apptainer image" in done.stderr

    assert user.run("ces-pull", "apptainer", "", "", image).returncode == 0
    process = user.start("apptainer", image, FAKE_SLEEP="50")
    user.wait_for("up\n")
    process.terminate()
    assert process.wait(60) == 143
    assert user.scratch() == []


# ---- embedded/prepare


def test_prepare_again_is_quick_and_silent(machine: dict[str, str]) -> None:
    argv = [ROOT / "embedded/prepare", Path(machine["HOME"]) / "state"]
    began = time.monotonic()
    done = subprocess.run(argv, env=machine, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - began < 2 * busy()


def test_prepare_made_safe_data(machine: dict[str, str]) -> None:
    (readme,) = Path(machine["HOME"]).glob("safe_data/*")
    assert readme.name == "README.txt"
    assert len(readme.read_text().splitlines()) == 1


def test_prepare_without_podman(tmp_path: Path) -> None:
    """As an ordinary user with no podman: one line that says what to install."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("dirname", "mkdir", "stat"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    (tools / "id").write_text("#!/bin/sh\necho 1000\n")
    (tools / "id").chmod(0o755)
    env = {"PATH": str(tools), "HOME": str(tmp_path / "nowhere")}
    argv = ["/bin/bash", str(ROOT / "embedded/prepare"), str(tmp_path / "state")]
    done = subprocess.run(argv, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    assert "install these packages and start again: podman" in done.stdout
