"""Whether every value of a shell template stands where it can only be a word.

A value comes out as a quoted word. Inside quotes that means something else, inside `${...}` bash
expands even what was quoted, and where it expects a number it evaluates a word, subscripts with
commands and all. So templates with a value in such places are refused when the app is read. This
follows bash's quoting as far as that needs; here-documents are not known to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from jinja2 import Environment

CLOSERS = {"'": "'", '"': '"', "`": "`", "$'": "'", "${": "}", "$(": ")", "((": "))"}
LITERAL = ("'", "$'")
SHELL = ("", "$(")  # where words are words
COMPARES_NUMBERS = re.compile(r"-(eq|ne|lt|le|gt|ge)")


def check_values(environment: Environment, source: str) -> Iterator[tuple[int, str]]:
    """The line of each value that cannot stand where it does, and why, as one sentence."""
    open_: list[str] = []  # the openers of what is open, outermost first
    before = ""  # the shell text right before what comes next
    number_at = 0  # the line of a value that a number may be expected after
    for line, kind, text in environment.lex(source):
        if kind == "data":
            if number_at and COMPARES_NUMBERS.match(text.lstrip()):
                yield number_at, "bash would evaluate this value as a number."
            _follow(text, open_)
            before, number_at = text, 0
        elif kind == "variable_begin":
            number_at = 0
            if any(opener != "$(" for opener in open_):
                yield (
                    line,
                    f"a value stands inside {open_[-1]}. Write it by itself: it is quoted already.",
                )
            elif before.endswith("[") or COMPARES_NUMBERS.fullmatch(before.rstrip()[-3:]):
                yield line, "bash would evaluate this value as a number."
            else:
                number_at = line
            before = ""


def _follow(text: str, open_: list[str]) -> None:
    """Read shell text, keeping `open_` up to date."""
    at = 0
    while at < len(text):
        inside = open_[-1] if open_ else ""
        closer = CLOSERS.get(inside)
        one, two = text[at], text[at : at + 2]
        length = 1
        if one == "\\" and inside != "'":
            length = 2
        elif closer and text.startswith(closer, at):
            open_.pop()
            length = len(closer)
        elif inside in LITERAL:
            pass
        elif text.startswith("$((", at):
            open_.append("((")
            length = 3
        elif two in ("${", "$(") or (two in ("((", "$'") and inside in (*SHELL, "`")):
            open_.append(two)
            length = 2
        elif one in '"`' or (one == "'" and '"' not in open_):
            open_.append(one)
        elif one == "#" and inside in SHELL and text[max(at - 1, 0)] in "\n\t #":
            end = text.find("\n", at)
            length = (len(text) if end < 0 else end) - at
        at += length
