"""Shared code of ces-pull and ces-run: messages, errors, signals, and finding images.

Python 3.8 or later, standard library only.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn
from urllib.parse import quote

RUNNERS = ("podman", "apptainer")
HOST = os.uname().nodename
TOOL = os.path.basename(os.path.realpath(sys.argv[0]))
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class CesError(Exception):
    """Why a tool failed: its exit code, a message for the user, and the help topic, which is a part
    of the portal's troubleshooting page (ood/help_topics.py)."""

    def __init__(self, code: int, sentence: str, topic: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.topic = topic


def write(fd: int, data: bytes) -> None:
    """Write all data unbuffered. Errors are ignored, because the reader may have gone."""
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass


def line(fd: int, text: str) -> None:
    """Write one line, unbuffered."""
    write(fd, os.fsencode(text + "\n"))


def say(text: str) -> None:
    """Write a log line with the date."""
    line(1, f"{time.strftime('%a %b %e %H:%M:%S %Z %Y')} {TOOL}: {text}")


def complain(sentence: str, topic: str = "", file: str | None = None) -> None:
    """Write an error as a single line without a date, and to `file` with the help topic on the
    second line. The job card shows what is in the file. An earlier reason stays: whoever wrote it
    may have ended this program for it."""
    sentence = sentence.replace("\n", " ")
    line(2, f"{TOOL}: {sentence}")
    if file:
        try:
            with open(file, "xb") as failure:
                failure.write(os.fsencode(f"{sentence}\n{topic}\n"))
        except OSError:
            pass  # it exists, or the disk is full; the log has the sentence


def endable() -> list[signal.Signals]:
    """The signals that end this program, except those that its parent set to be ignored (nohup)."""
    return [signum for signum in ENDING_SIGNALS if signal.getsignal(signum) != signal.SIG_IGN]


def ended_by(signum: int) -> CesError:
    """The error for a program that a signal ended."""
    return CesError(128 + signum, f"Ended by {signal.Signals(signum).name}.", "machine")


def _on_signal(signum: int, _frame: FrameType | None) -> NoReturn:
    for other in ENDING_SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise ended_by(signum)


def main(help_text: str, work: Callable[[list[str]], None]) -> int:
    """Run `work` with the command line's words, and return the exit code."""
    # Jobs can inherit an XDG_RUNTIME_DIR that does not exist on the node, with which Podman fails.
    if not os.access(os.environ.get("XDG_RUNTIME_DIR", "/"), os.W_OK):
        os.environ.pop("XDG_RUNTIME_DIR", None)
    failure = os.environ.pop("CES_FAILURE", None)  # the container must not see it
    for signum in endable():
        signal.signal(signum, _on_signal)
    try:
        if sys.argv[1:] in (["-h"], ["--help"]):
            line(1, help_text.strip())
        else:
            work(sys.argv[1:])
        return 0
    except CesError as error:
        complain(str(error), error.topic, failure)
        return error.code
    except OSError as error:
        what = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename else ""
        sentence = f"{what}{where}. Ask your administrator to look at {HOST}."
        complain(sentence, "machine", failure)
        return os.EX_OSERR


def check_runner(runner: str) -> None:
    """Raise `CesError` unless the runner is known and installed."""
    if runner not in RUNNERS:
        raise CesError(
            os.EX_USAGE, f"'{runner}' is not a runner. Use podman or apptainer.", "tools"
        )
    if not shutil.which(runner):
        other = RUNNERS[1 - RUNNERS.index(runner)]
        instead = f"Choose {other}, or ask" if shutil.which(other) else "Ask"
        raise CesError(
            os.EX_UNAVAILABLE,
            f"{runner} is not installed on {HOST}. {instead} your administrator to install"
            f" {runner}.",
            "tools",
        )


def sif_path(image: str) -> str:
    """The path of the file with an Apptainer image."""
    return os.path.expanduser(f"~/.cache/ces/{quote(image, safe='')}.sif")


def quiet(*argv: str, timeout: float = 10) -> subprocess.CompletedProcess[str]:
    """Run a command and capture its output. A command that exceeds the timeout counts as failed."""
    try:
        return subprocess.run(
            argv, timeout=timeout, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        sentence = f"{argv[0]} did not answer within {timeout:.0f} s"
        return subprocess.CompletedProcess(argv, 124, "", sentence)


def ask_podman(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a podman query. A non-zero exit code may be its answer, but with error output it means
    that podman does not work, and raises `CesError`."""
    answer = quiet("podman", "--log-level=error", *words, timeout=60)
    if answer.returncode and answer.stderr:
        line(2, answer.stderr.strip())
        raise CesError(
            os.EX_UNAVAILABLE,
            f"podman does not work on {HOST}. Show podman's message to your administrator.",
            "tools",
        )
    return answer


def has_image(runner: str, image: str) -> bool:
    """Whether the image is on this machine."""
    if runner == "apptainer":
        return os.path.isfile(sif_path(image))
    return ask_podman("image", "exists", "--", image).returncode == 0
