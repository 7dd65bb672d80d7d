"""Values in shell text, given to real shells."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ood.quoting import command_line, shell_word
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
        command_line(["echo", "a\0b"])


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_command_line_keeps_arguments_environment_and_directory(
    shell: str, tmp_path: Path
) -> None:
    directory = tmp_path / "it's a $(touch pwned) `touch pwned`\n-dir"
    directory.mkdir()
    values = VALUES[:-1]  # a line is one argument of the shell, and so has a length
    line = command_line(
        ["sh", "-c", 'pwd; printf "%s\\0" "$NASTY" "$@"', "sh", *values],
        {"NASTY": NASTY[13]},
        str(directory),
    )
    done = subprocess.run([shell, "-c", line], capture_output=True, check=True)
    where, _, rest = done.stdout.partition(b"-dir\n")
    assert where + b"-dir" == str(directory).encode()
    assert rest.split(b"\0")[:-1] == [NASTY[13].encode(), *map(as_bytes, values)]
    assert list(directory.iterdir()) == []
