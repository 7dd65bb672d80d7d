"""What the fields of a form accept, and how text with a format is read."""

from __future__ import annotations

from typing import Any

import pytest

from ood.apps.fields import MAX_LENGTH, Field, Option
from ood.apps.formats import environment, image, shell_words

OPTIONS = [["Podman", "podman"], ["Apptainer", "apptainer"]]


def field(widget: str = "text_field", **keys: Any) -> Field:
    return Field.model_validate({"name": "it", "widget": widget, **keys})


def refusal(of: Field, text: str) -> str:
    with pytest.raises(ValueError, match=r"\.$") as refused:
        of.read(text)
    return str(refused.value)


@pytest.mark.parametrize(
    ("keys", "text", "value"),
    [
        ({}, "  spaces around go  ", "spaces around go"),
        ({}, "", ""),
        ({}, "héllo 🚀 ≤ 'x' $(id)", "héllo 🚀 ≤ 'x' $(id)"),
        ({"widget": "text_area"}, " kept\n as\tit is \n", " kept\n as\tit is \n"),
        ({"widget": "text_area", "format": "shell_words"}, "  \n ", []),
        ({"widget": "text_area", "format": "environment"}, "", []),
        ({"pattern": "[a-z]+"}, "abc", "abc"),
        ({"pattern": "[a-z]+"}, "", ""),
        ({"widget": "select", "options": OPTIONS}, "apptainer", "apptainer"),
        ({"widget": "radio", "options": ["a", "b"]}, "b", "b"),
        ({"widget": "radio", "options": [1, 2]}, "2", "2"),
        ({"widget": "radio", "options": ["a", "b"]}, "", ""),
        ({"widget": "check_box"}, "1", True),
        ({"widget": "check_box"}, "0", False),
        ({"widget": "check_box"}, "", False),
        ({"widget": "check_box"}, "on", False),
        ({"widget": "number_field"}, " 4 ", 4),
        ({"widget": "number_field"}, "007", 7),
        ({"widget": "number_field"}, "-0", 0),
        ({"widget": "number_field"}, "4.0", 4),
        ({"widget": "number_field", "step": 0.5}, "1.5", 1.5),
        ({"widget": "number_field", "step": 0.1}, "0.3", 0.3),
        ({"widget": "number_field", "min": 1, "step": 2}, "5", 5),
        ({"widget": "number_field"}, "", ""),
        ({"widget": "number_field", "min": 1, "max": 8}, "8", 8),
    ],
)
def test_what_is_accepted(keys: dict[str, Any], text: str, value: object) -> None:
    read = field(**keys).read(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("keys", "text", "sentence"),
    [
        ({"required": True}, "", "Fill in"),
        ({"required": True}, " \t ", "Fill in"),
        ({"widget": "text_area", "required": True}, "\n \n", "Fill in"),
        ({}, "two\nlines", "one line"),
        ({}, "a\0b", "U+0000"),
        ({}, "a\rb", "U+000D"),
        ({}, "\x1b[31m", "U+001B"),
        ({}, "a\x7fb", "U+007F"),
        ({}, "a\u2028b", "U+2028"),
        ({}, "a\udce9b", "U+DCE9"),
        ({"widget": "text_area"}, "a\r\nb", "U+000D"),
        ({"widget": "check_box"}, "1\0", "U+0000"),
        ({"widget": "password_field"}, "pass\0word", "U+0000"),
        ({"widget": "password_field"}, "pass\nword", "one line"),
        ({}, "x" * (MAX_LENGTH + 1), "at most 16,384"),
        ({"pattern": "[a-z]+", "title": "Use letters."}, "abc1", "Use letters."),
        ({"pattern": "[a-z]+"}, "ab;cd", "not in the required format"),
        ({"widget": "select", "options": OPTIONS}, "docker", "one of the options"),
        ({"widget": "select", "options": OPTIONS}, "Podman", "one of the options"),
        ({"widget": "select", "options": OPTIONS}, "", "one of the options"),
        ({"widget": "number_field"}, "four", "using digits"),
        ({"widget": "number_field"}, "1e5", "using digits"),
        ({"widget": "number_field"}, "٣", "using digits"),
        ({"widget": "number_field"}, "0x10", "using digits"),
        ({"widget": "number_field"}, "nan", "using digits"),
        ({"widget": "number_field"}, "+1", "using digits"),
        ({"widget": "number_field"}, "1,5", "using digits"),
        ({"widget": "number_field"}, "1.5", "whole number"),
        ({"widget": "number_field", "min": 1}, "0", "1 or more"),
        ({"widget": "number_field", "min": 1}, "-5", "1 or more"),
        ({"widget": "number_field", "max": 8}, "9", "8 or less"),
        ({"widget": "number_field", "min": 1, "step": 2}, "4", "steps of 2"),
        ({"widget": "number_field", "min": 1}, "9" * 400, "number"),
    ],
)
def test_what_is_refused_with_one_sentence(keys: dict[str, Any], text: str, sentence: str) -> None:
    assert sentence in refusal(field(**keys), text)


@pytest.mark.parametrize("text", ["1.0000000001", "10000000000.5", "9007199254740993"])
def test_a_whole_number_is_never_quietly_another(text: str) -> None:
    """Near a whole number is not one, however large; and a large one keeps its last digit."""
    try:
        read = field("number_field").read(text)
    except ValueError:
        return
    assert isinstance(read, int)
    assert str(read) == text


@pytest.mark.parametrize(
    ("value", "text"), [(4, "4"), (1.5, "1.5"), (True, "1"), (False, "0"), (None, ""), ("a", "a")]
)
def test_values_of_form_yml_are_the_text_a_form_holds(value: object, text: str) -> None:
    assert field(value=value).value == text


def test_options_are_pairs_or_plain_values() -> None:
    assert field("select", options=[["One", 1], "two", 3, ["Four"]]).options == (
        Option("One", "1"),
        Option("two", "two"),
        Option("3", "3"),
        Option("Four", "Four"),
    )


def test_only_passwords_are_secret() -> None:
    assert field("password_field").is_secret
    assert not field("text_field").is_secret


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-d 10\n-n Ada", ["-d", "10", "-n", "Ada"]),
        ("'two words' \"and more\" it\\'s", ["two words", "and more", "it's"]),
        (
            "$HOME $(id) `id` * ~ a;b # no comment",
            ["$HOME", "$(id)", "`id`", "*", "~", "a;b", "#", "no", "comment"],
        ),
        ("'' \"\"", ["", ""]),
        ("'line\nbreak' 🚀", ["line\nbreak", "🚀"]),
    ],
)
def test_shell_words(text: str, words: list[str]) -> None:
    assert shell_words(text) == words


@pytest.mark.parametrize("text", ["it's", '"open', "ends with \\"])
def test_shell_words_that_do_not_end_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not closed"):
        shell_words(text)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("A=b", ["A=b"]),
        ("\n  \nA=b\n\n_X9=\n", ["A=b", "_X9="]),
        ("A=b=c", ["A=b=c"]),
        ("A= 'as it is' $(id) # ", ["A= 'as it is' $(id) # "]),
        (" A =b", ["A=b"]),
        ("A=é🚀", ["A=é🚀"]),
    ],
)
def test_environment(text: str, lines: list[str]) -> None:
    assert environment(text) == lines


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("A=b\nno equals", "Line 2 has no"),
        ("1A=b", "Line 1: “1A”"),
        ("=b", "Line 1: “”"),
        ("A-B=c", "“A-B”"),
        ("É=c", "“É”"),
        ("A\tB=c", "“A\tB”"),
    ],
)
def test_environment_is_refused_by_line(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"\.$") as refused:
        environment(text)
    assert sentence in str(refused.value)


DIGEST = "@sha256:" + "0a" * 32


@pytest.mark.parametrize(
    "text",
    [
        "localhost/hello-tre:1.0",
        "10.78.0.5:5000/lab/hello-tre:1.0",
        "registry.example/a/b/c/d",
        "registry.example/a__b.c-d:latest" + DIGEST,
        "ghcr.io/Group/Image:v1_2.3-x",
    ],
)
def test_image(text: str) -> None:
    assert image(text) == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("https://registry.example/a:1", "Leave out “https://”"),
        ("docker://registry.example/a:1", "Leave out “docker://”"),
        ("--privileged", "not a valid image URL"),
        ("-v/x", "not a valid image URL"),
        ("hello", "not a valid image URL"),
        ("registry/img:1; rm -rf ~", "not a valid image URL"),
        ("registry/../etc", "not a valid image URL"),
        ("registry/img:$(id)", "not a valid image URL"),
        ("registry/img:1\n", "not a valid image URL"),
        ("registry/img@sha256:12", "not a valid image URL"),
        ("registry:port/img", "not a valid image URL"),
        ("registry//img", "not a valid image URL"),
        ("régistry/img", "not a valid image URL"),
    ],
)
def test_what_is_no_image(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"\.$") as refused:
        image(text)
    assert sentence in str(refused.value)
