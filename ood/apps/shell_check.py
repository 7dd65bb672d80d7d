"""Whether every value of a shell template stands by itself.

A value comes out as a quoted word, which means something else inside quotes, and inside `${...}`
bash expands even what was quoted. So such templates are refused when the app is read. This follows
bash's quoting as far as that needs; here-documents are not known to it.
"""

from __future__ import annotations

from jinja2 import Environment

OPENERS = {"'": "'", '"': '"', "`": "`", "$'": "'", "${": "}", "$(": ")"}


def check_values(environment: Environment, source: str) -> str:
    """Return what is wrong with a template, as one sentence with its line; empty if nothing is."""
    open_: list[str] = []  # the openers of what is open, outermost first
    for line, kind, text in environment.lex(source):
        if kind == "data":
            _follow(text, open_)
        elif kind == "variable_begin" and any(opener != "$(" for opener in open_):
            return (
                f"line {line}: a value stands inside {open_[-1]}. "
                "Write it by itself: it is quoted already."
            )
    return ""


def _follow(text: str, open_: list[str]) -> None:
    """Read shell text, keeping `open_` up to date."""
    at = 0
    while at < len(text):
        inside = open_[-1] if open_ else ""
        literal = inside in ("'", "$'")
        two = text[at : at + 2]
        if two[:1] == "\\" and inside != "'":
            at += 2
        elif inside and text[at] == OPENERS[inside]:
            open_.pop()
            at += 1
        elif (not literal and two in ("${", "$(")) or (inside in ("", "$(", "`") and two == "$'"):
            open_.append(two)
            at += 2
        elif not literal and (text[at] in '"`' or (text[at] == "'" and '"' not in open_)):
            open_.append(text[at])
            at += 1
        elif (
            inside in ("", "$(") and text[at] == "#" and text[at - 1 : at] in ("", "\n", " ", "\t")
        ):
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        else:
            at += 1
