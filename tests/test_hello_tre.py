"""The hello-tre image, built and run with podman: what the walkthrough shows, and odd values."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.busy import busy

ROOT = Path(__file__).parent.parent
IMAGE = "localhost/hello-tre:1.0"

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def machine(embedded_home: Path) -> dict[str, str]:
    """The environment in which containers run on this machine, with hello-tre built."""
    env = {"PATH": os.environ["PATH"], "HOME": str(embedded_home)}
    if (embedded_home / "state" / "containers.conf").exists():
        env["CONTAINERS_CONF"] = str(embedded_home / "state" / "containers.conf")
    return env


class Container:
    """Runs hello-tre with three directories mounted."""

    def __init__(self, directory: Path, env: dict[str, str]) -> None:
        self.directory, self.env = directory, env
        for name in ("safe_data", "safe_outputs", "scratch"):
            (directory / name).mkdir()

    def command(self, *args: str, options: tuple[str, ...] = ()) -> list[str]:
        argv = ["podman", "run", "--rm", "--network=none", *options]
        for name in ("safe_data", "safe_outputs", "scratch"):
            argv.append(f"--volume={self.directory / name}:/{name}")
        return [*argv, IMAGE, *args]

    def run(self, *args: str, options: tuple[str, ...] = (), **env: str) -> Done:
        passed = tuple(f"--env={name}" for name in env)
        return subprocess.run(
            self.command(*args, options=(*passed, *options)),
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture
def container(machine: dict[str, str], tmp_path: Path) -> Container:
    return Container(tmp_path, machine)


def test_walkthrough(container: Container) -> None:
    for name in ("a.txt", "b.txt", ".hidden", "with space"):
        (container.directory / "safe_data" / name).touch(0o644)
    (container.directory / "safe_data" / "deep").mkdir(0o750)
    (container.directory / "safe_data" / "deep" / "below").touch()
    began = time.monotonic()
    done = container.run("-d", "02", "-n", "Ada", HELLO_TRE="Hello there")
    assert time.monotonic() - began >= 2
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:3] == ["Hello TRE!", "", "Your container is now running."]
    who = "uid=0(root) gid=0(root) groups=0(root)"
    assert f"Your user 'id' within the container is: {who}." in lines
    for name in ("safe_data", "scratch", "safe_outputs"):
        prefix = f"/{name}: root (0) root(0) drwxr-xr-x "
        (kind,) = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
        assert kind
        assert "UNKNOWN" not in kind
    text = "This text is in safe_outputs.txt"
    assert lines[lines.index("Contents of /safe_outputs/safe_outputs.txt:") + 1] == text
    scratch = "This text is in scratch.txt"
    assert lines[lines.index("Contents of /scratch/scratch.txt:") + 1] == scratch
    found = "Found optional 'HELLO_TRE' environment variable with value: Hello there"
    assert found in lines
    arguments = ["Number of arguments: 4", "Arguments (one per line):"]
    arguments += ["    -d", "    02", "    -n", "    Ada", ""]
    begin = lines.index(arguments[0])
    rest = ["Hello there Ada!", "", "Sleeping for 2 seconds...", "1", "2", "...and awake!", ""]
    assert lines[begin : begin + 14] == arguments + rest
    assert lines[-2:] == ["Goodbye Ada!", "Cleaning up..."]

    outputs = container.directory / "safe_outputs"
    assert (outputs / "safe_outputs.txt").read_text() == text + "\n"
    assert (outputs / "safe_data.txt").read_text().splitlines() == [
        "/safe_data: root (0) root(0) drwxr-xr-x",
        "/safe_data/.hidden: root (0) root(0) -rw-r--r--",
        "/safe_data/a.txt: root (0) root(0) -rw-r--r--",
        "/safe_data/b.txt: root (0) root(0) -rw-r--r--",
        "/safe_data/deep: root (0) root(0) drwxr-x---",
        "/safe_data/with space: root (0) root(0) -rw-r--r--",
    ]
    assert list((container.directory / "scratch").iterdir()) == []


def test_without_arguments(container: Container) -> None:
    done = container.run()
    assert done.returncode == 0
    assert "No optional 'HELLO_TRE' environment variable found\n" in done.stdout
    assert "Number of arguments: 0\n\nHello user!\n" in done.stdout
    assert "Sleeping" not in done.stdout
    assert done.stdout.endswith("Goodbye user!\nCleaning up...\n")


ODD = ["$(id) `id` $HOME", "%s \\n \\\\ 100%", 'it\'s "x"', "🦉 é", "-d", "--name=x", "* ?", "a\nb"]


@pytest.mark.parametrize("name", ODD)
def test_odd_values_are_printed_as_they_are(container: Container, name: str) -> None:
    done = container.run("--name", name, "--duration=0", HELLO_TRE=name)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"\n{name} {name}!\n" in done.stdout
    assert f"Goodbye {name}!\n" in done.stdout
    assert f"with value: {name}\n" in done.stdout


def test_long_options(container: Container) -> None:
    done = container.run("--name=Ada=B", "--duration", "1")
    assert "Hello Ada=B!\n\nSleeping for 1 seconds...\n1\n...and awake!\n" in done.stdout


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("-d", "ten"), "-d needs a whole number of seconds from 0 to 9999999, not 'ten'."),
        (("-d", "-1"), "-d needs a whole number of seconds from 0 to 9999999, not '-1'."),
        (("--duration=1.5",), "--duration needs a whole number"),
        (("-d", ""), "-d needs a whole number"),
        (("-d", "12345678"), "-d needs a whole number"),
        (("-d", "1\n2"), "-d needs a whole number"),
        (("-d",), "-d needs a value after it."),
        (("-n", ""), "-n needs a name that is not empty."),
        (("-n", "Ada", "Bob $(id)"), "Unknown argument 'Bob $(id)'. Use -d|--duration SECONDS"),
    ],
)
def test_bad_arguments(container: Container, args: tuple[str, ...], sentence: str) -> None:
    done = container.run(*args)
    assert done.returncode == 2
    assert done.stderr.startswith(f"hello-tre: {sentence}")
    assert done.stdout.endswith("Cleaning up...\n")
    assert "Goodbye" not in done.stdout


def test_ends_at_once(container: Container) -> None:
    argv = container.command("-d", "100")
    with subprocess.Popen(
        argv, env=container.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        while "Sleeping" not in process.stdout.readline():
            pass
        began = time.monotonic()
        process.terminate()
        rest = process.stdout.read()
    assert process.returncode == 143
    assert time.monotonic() - began < 6 * busy()
    assert "hello-tre: Stopped by signal TERM.\n" in rest
    assert "Cleaning up...\n" in rest
    assert not (container.directory / "scratch" / "scratch.txt").exists()


def test_cannot_write(container: Container) -> None:
    done = container.run(options=("--read-only",))
    assert done.returncode == 0  # only the mounts are written to
    argv = [word.replace(":/safe_outputs", ":/safe_outputs:ro") for word in container.command()]
    refused = subprocess.run(argv, env=container.env, capture_output=True, text=True)
    assert refused.returncode == 1
    expected = "hello-tre: Cannot write a list of /safe_data to /safe_outputs/safe_data.txt"
    assert expected in refused.stderr


def test_build(machine: dict[str, str]) -> None:
    build = ROOT / "ces/images/hello-tre/build"

    def run(*args: str, **env: str) -> Done:
        return subprocess.run(
            [build, *args], env={**machine, **env}, capture_output=True, text=True
        )

    recipe = run("--recipe").stdout
    assert len(recipe.strip()) == 64
    tag = "test-build"
    assert run(tag).stdout == f"Built localhost/hello-tre:{tag}\n"
    inspect = ["podman", "image", "inspect", f"localhost/hello-tre:{tag}"]
    inspect += ["--format", '{{index .Labels "ces.recipe"}}']
    assert subprocess.run(inspect, env=machine, capture_output=True, text=True).stdout == recipe
    subprocess.run(["podman", "rmi", f"localhost/hello-tre:{tag}"], env=machine, check=True)
    for args, env, sentence in (
        (("a b",), {}, "Usage: build [--recipe] [TAG]"),
        ((), {"BUSYBOX": "/nowhere"}, "/nowhere is missing or not static. Install the package"),
        ((), {"BUSYBOX": "/bin/ls"}, "/bin/ls is missing or not static"),
    ):
        done = run(*args, **env)
        assert done.returncode == 1
        assert f"hello-tre build: {sentence}" in done.stderr
