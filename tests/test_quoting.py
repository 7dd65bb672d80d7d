"""Values in shell text, given to real shells."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ood.hosts.local import LocalHost
from ood.quoting import script_lines, shell_word
from tests.helpers import NASTY

VALUES = (*NASTY, "caf\udce9 latin-1", "\udcff\udc80", "\x01\x1b[31m\x7f", "x" * 100_000)


def as_bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A working directory in which only code that ran could leave a file."""
    directory = tmp_path / "empty"
    directory.mkdir()
    return directory


def bash(script: str, cwd: Path, check: bool = True) -> bytes:
    done = subprocess.run(
        ["/bin/bash"], input=as_bytes(script), cwd=cwd, capture_output=True, check=False
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "script",
    [
        "printf %s VALUE",
        'x=VALUE; printf %s "$x"',
        'f() { printf %s "$1"; }; f VALUE',
        'a=(one VALUE three); printf %s "${a[1]}"',
        "case VALUE in VALUE) printf %s VALUE;; esac",
        "cat <<< VALUE | head -c -1",
        'printf %s "$(printf %s VALUE; echo x)" | head -c -1',
    ],
)
def test_a_bare_word_arrives_byte_for_byte(script: str, empty: Path) -> None:
    for value in VALUES:
        assert bash(script.replace("VALUE", shell_word(value)), empty) == as_bytes(value)
    assert list(empty.iterdir()) == []


def test_many_words_stay_apart(empty: Path) -> None:
    words = " ".join(map(shell_word, VALUES))
    assert bash(f"printf '%s\\0' {words}", empty).split(b"\0")[:-1] == list(map(as_bytes, VALUES))


@pytest.mark.parametrize(
    "script",
    [
        'x="VALUE"',
        'echo "before VALUE after"',
        "x='VALUE'",
        "echo 'before VALUE after'",
        "x=$'VALUE'",
        "true # VALUE",
        "cat <<EOF\nVALUE\nbefore VALUE after\nEOF",
        "cat <<'EOF'\nVALUE\nEOF",
        "x=`echo VALUE`",
        'x=`echo "VALUE"`',
        'x="$(echo "VALUE")"',
        "echo ${x:-VALUE}",
        "[[ 'VALUE' == \"VALUE\" ]]",
    ],
    ids=lambda script: script.replace("\n", "; "),
)
def test_a_value_in_the_wrong_place_is_wrong_but_never_code(script: str, empty: Path) -> None:
    ran = []
    for value in VALUES:
        bash(script.replace("VALUE", shell_word(value)) + "\n", empty, check=False)
        if list(empty.iterdir()):
            ran.append(value)
            (empty / "pwned").unlink()
    assert ran == []


def test_words_are_readable_where_they_can_be() -> None:
    assert shell_word("/data/run-1.0_a@b%c+d=e:f,g") == "/data/run-1.0_a@b%c+d=e:f,g"
    assert shell_word("") == "''"
    assert shell_word(4) == "4"


def test_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        shell_word("a\0b")
    with pytest.raises(ValueError, match="NUL"):
        script_lines("key", ["echo", "a\0b"])


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_script_line_keeps_arguments_environment_and_directory(
    shell: str, tmp_path: Path
) -> None:
    directory = tmp_path / "it's a $(touch pwned) `touch pwned`\n-dir"
    directory.mkdir()
    lines = script_lines(
        "key",
        ["sh", "-c", 'pwd; printf "%s\\0" "$NASTY" "$@"', "sh", *VALUES],
        {"NASTY": NASTY[13]},
        str(directory),
    )
    line, *rest = lines.split(b"\n")
    assert line.startswith(b"key ")
    assert rest == [b"exit", b""]
    done = subprocess.run([shell], input=b"eval " + line[4:], capture_output=True)
    begin, where, printed = done.stdout.partition(str(directory).encode() + b"\n")
    assert (begin, where != b"") == (b"\x1ekey1\n", True)
    assert printed.split(b"\0") == [NASTY[13].encode(), *map(as_bytes, VALUES), b"\x1ekey1:0\n"]
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
def test_variables_of_schedulers_do_not_reach_commands(shell: str) -> None:
    """Whatever they are called, except those with which a site sets where its cluster is."""
    names = """SQUEUE_PARTITION SQUEUE_FORMAT3 SACCT_FORMAT SBATCH_WAIT SBATCH_NEW_IN_30_05
        SINFO_ALL SLURM_CLUSTERS SLURM_JSON SLURM_JOB_ID SCANCEL_NAME SRUN_DEBUG SALLOC_QOS"""
    told = dict.fromkeys(names.split(), "two  words")
    kept = {
        "SLURM_CONF": "/etc/s.conf",
        "SLURM_CONF_SERVER": "ctl:6817",
        "SLURM_JWT": "a.b",
        "MY_SLURM_ID": "1",
        "LINES_LIKE_NAMES": "x\nexport SQUEUE_X-y $(touch pwned)\nexport SLURM_CONF",
        "LANG": "de_DE.UTF-8",
    }
    line = script_lines("key", ["env", "-0"], {"SLURM_TIME_FORMAT": "standard"}).split(b"\n")[0]
    done = subprocess.run(
        shell.split(),
        input=b"eval " + line[4:],
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", **told, **kept},
    )
    assert done.stderr == b"\x1ekey2\n\x1ekey2:0\n"
    found = dict(each.split("=", 1) for each in done.stdout.decode()[6:].split("\0")[:-1])
    assert found.items() >= (kept | {"SLURM_TIME_FORMAT": "standard"}).items()
    assert not found.keys() & told.keys()


def test_variables_of_schedulers_and_of_the_portal_do_not_reach_local_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SLURM_JOB_ID", "SQUEUE_SORT", "PORT", "MAKEFLAGS", "SLURM_CONF"):
        monkeypatch.setenv(name, "1")
    printed = LocalHost().run(["env"], env={"SLURM_TIME_FORMAT": "standard"}).text.split("\n")
    assert [each for each in printed if re.match("SLURM_.*=1|SQ|PORT|MAKE", each)] == [
        "SLURM_CONF=1"
    ]
    assert "SLURM_TIME_FORMAT=standard" in printed
