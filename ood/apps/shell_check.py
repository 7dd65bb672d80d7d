"""Finding values in shell templates where their quoting does not protect them.

A value is rendered as one quoted word. Inside other quotes, its quotes end these. Inside `${...}`,
bash expands quoted text too. Where bash expects a number, it evaluates the word, with any commands
in subscripts. An app with a value in such a place is refused. The check follows bash's quoting as
far as needed, but does not know here-documents.
"""

import re
from collections.abc import Iterator

from jinja2 import Environment

CLOSERS = {"'": "'", '"': '"', "`": "`", "$'": "'", "${": "}", "$(": ")", "((": "))"}
LITERAL = ("'", "$'")
SHELL = ("", "$(")  # where a quoted word is safe
COMPARES_NUMBERS = re.compile(r"-(eq|ne|lt|le|gt|ge)")


def check_values(environment: Environment, source: str) -> Iterator[tuple[int, str]]:
    """The line of each value in an unsafe place, and the reason as one sentence."""
    open_: list[str] = []  # what opened each open quotation or expansion, outermost first
    before = ""  # the shell text right before the next token
    number_at = 0  # the line of a value, if a comparison of numbers may follow it
    for line, kind, text in environment.lex(source):
        if kind == "data":
            if number_at and COMPARES_NUMBERS.match(text.lstrip()):
                yield number_at, "bash would evaluate this value as a number."
            _follow(text, open_)
            before, number_at = text, 0
        elif kind == "variable_begin":
            number_at = 0
            if any(opener != "$(" for opener in open_):
                what = f"this value is inside {open_[-1]}. Move it out: values are quoted already."
                yield line, what
            elif before.endswith("[") or COMPARES_NUMBERS.fullmatch(before.rstrip()[-3:]):
                yield line, "bash would evaluate this value as a number."
            else:
                number_at = line
            before = ""


def _follow(text: str, open_: list[str]) -> None:
    """Update `open_` with the quotations and expansions that the text opens and closes."""
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
