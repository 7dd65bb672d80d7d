"""The File Manager's changes in a real browser: by mouse, by keyboard, and without scripts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page as Tab
from playwright.sync_api import expect

from tests.conftest import SCREENSHOTS, RunningPortal
from tests.researcher import Researcher, accessible, looks
from tests.test_files import NAMES, SCRIPT, address, home, running

__all__ = ["home", "running"]

ODD = (b"<script>alert(1)<", b"line\nend", b"bytes \xff\xfe", "a\u202egnp.exe".encode())


@pytest.fixture(params=["with scripts", "without scripts"])
def tab(browser: Chromium, running: RunningPortal, request: pytest.FixtureRequest) -> Iterator[Tab]:
    """A page of somebody signed in, with and without JavaScript."""
    scripts = getattr(request, "param", "with scripts") == "with scripts"
    with browser.new_context(java_script_enabled=scripts) as own:
        tab = own.new_page()
        tab.set_default_timeout(60_000)
        ada = Researcher(tab, running)
        ada.opens_the_address()
        yield tab
        assert ada.complaints == []


@pytest.fixture
def room(home: Path) -> Path:
    """A directory of home, where nobody else puts anything."""
    room = home / "room"
    room.mkdir()
    return room


def checked(tab: Tab) -> list[str]:
    rows = tab.locator("tr:has([name=name]:checked)")
    return [str(name) for name in rows.evaluate_all("rows => rows.map(row => row.dataset.name)")]


def press(tab: Tab, name: str) -> None:
    tab.get_by_role("button", name=name, exact=True).click()


def test_a_days_work(tab: Tab, running: RunningPortal, room: Path) -> None:
    """All that can be done, one after the other, with scripts and without."""
    for name in ODD:
        Path(os.fsdecode(os.fsencode(room) + b"/" + name)).write_text("x")
    tab.goto(f"{running.url}{address(room)}")
    tab.get_by_label("New file or directory").fill("my results")
    press(tab, "New Directory")
    expect(tab.get_by_role("status").filter(has_text="Created the directory")).to_be_visible()
    tab.get_by_role("link", name="my results").click()
    tab.get_by_label("New file or directory").fill("notes/x")
    press(tab, "New File")
    expect(tab.get_by_text("A name cannot contain “/”")).to_be_visible()
    expect(tab.get_by_label("New file or directory")).to_have_value("notes/x")
    tab.get_by_label("New file or directory").fill("notes.txt")
    press(tab, "New File")
    text = f"\n\nFirst line\n\tsecond é 🚀 {SCRIPT}</textarea>\n"
    tab.get_by_label("Text of").fill(text)
    press(tab, "Save and continue")
    expect(tab.get_by_text("Saved.")).to_be_visible()
    notes = room / "my results/notes.txt"
    assert notes.read_text() == text
    expect(tab.get_by_label("Text of")).to_have_value(text)
    notes.write_bytes(b"theirs\r\nnow")
    tab.get_by_label("Text of").fill("mine")
    press(tab, "Save")
    expect(tab.get_by_text("has changed since you opened it")).to_be_visible()
    expect(tab.get_by_label("Text of")).to_have_value("mine")
    tab.get_by_role("link", name="open the file again").click()
    expect(tab.get_by_label("Text of")).to_have_value("theirs\nnow")
    press(tab, "Save")
    expect(tab.get_by_label("Contents")).to_contain_text("theirs")
    assert notes.read_bytes() == b"theirs\r\nnow", "its line ends are kept"
    press(tab, "Rename")
    tab.get_by_label("New name").fill("notes 2.txt")
    press(tab, "Rename")
    expect(tab.get_by_text("Renamed “notes.txt” to “notes 2.txt”.")).to_be_visible()
    tab.get_by_label("Select notes 2.txt").check()
    press(tab, "Permissions")
    tab.get_by_label("Others can read").uncheck()
    tab.get_by_label("Group can write").check()
    press(tab, "Set permissions")
    expect(tab.get_by_text("Set the permissions")).to_be_visible()
    assert (room / "my results/notes 2.txt").stat().st_mode & 0o777 == 0o660
    tab.get_by_role("link", name="Up").click()
    tab.get_by_label("Select all 5 items").check()
    press(tab, "Delete")
    expect(tab.get_by_role("heading", name="Delete 5 items?")).to_be_visible()
    tab.get_by_role("link", name="Cancel").click()
    assert len([*room.iterdir()]) == 5
    tab.get_by_label("Select all 5 items").check()
    press(tab, "Delete")
    press(tab, "Delete 5 items")
    expect(tab.get_by_text("This directory is empty.")).to_be_visible()
    assert not [*room.iterdir()]


@pytest.mark.parametrize("tab", ["with scripts"], indirect=True)
def test_selecting(tab: Tab, running: RunningPortal, room: Path) -> None:
    for number in range(1200):
        (room / f"{number:04}").touch()
    tab.goto(f"{running.url}{address(room)}")
    said = tab.locator("#selected")
    delete, rename = (tab.get_by_role("button", name=name) for name in ("Delete", "Rename"))
    expect(delete).to_be_disabled()
    tab.get_by_label("Select 0003").click()
    expect(said).to_have_text("1 selected")
    expect(rename).to_be_enabled()
    tab.get_by_label("Select 0007").click(modifiers=["Shift"])
    assert checked(tab) == [f"{number:04}" for number in range(3, 8)]
    expect(said).to_have_text("5 selected")
    expect(rename).to_be_disabled()
    tab.get_by_label("Select 0005").click()
    tab.get_by_label("Select 0004").click(modifiers=["Shift"])
    assert checked(tab) == ["0003", "0006", "0007"], "a range is taken back in the same way"
    tab.get_by_label("Select all 1200 items").check()
    expect(said).to_have_text("1200 selected")
    assert len(checked(tab)) == 500
    tab.get_by_label("Select 0000").uncheck()
    expect(said).to_have_text("499 selected")
    expect(tab.get_by_label("Select all 1200 items")).not_to_be_checked()
    tab.get_by_label("Select all 1200 items").check()
    press(tab, "Delete")
    expect(tab.get_by_role("heading", name="Delete 1200 items?")).to_be_visible()
    tab.go_back()
    expect(tab.locator("#selected")).to_have_text("1200 selected")


@pytest.mark.parametrize("tab", ["with scripts"], indirect=True)
def test_by_keyboard_alone(tab: Tab, running: RunningPortal, room: Path) -> None:
    for name in (*"abcdef", "delete"):
        (room / name).touch()
    tab.goto(f"{running.url}{address(room)}")
    keyboard = tab.keyboard
    for wanted in ("all", "name"):
        for _ in range(60):
            keyboard.press("Tab")
            if tab.evaluate("document.activeElement.name") == wanted:
                break
    keyboard.press("Delete")  # of nothing
    keyboard.press("ArrowDown")
    keyboard.press("Space")
    for _ in range(3):
        keyboard.press("ArrowDown")
    keyboard.press("Shift+Space")
    assert checked(tab) == ["b", "c", "d", "delete"]
    expect(tab.locator("#selected")).to_have_text("4 selected")
    keyboard.press("Control+a")
    expect(tab.locator("#selected")).to_have_text("7 selected")
    keyboard.press("Control+a")
    keyboard.press("Home")
    keyboard.press("Space")
    keyboard.press("F2")
    expect(tab.get_by_label("New name")).to_be_focused()
    keyboard.press("Control+a")
    keyboard.type("renamed")
    keyboard.press("Enter")
    expect(tab.get_by_text("to “renamed”.")).to_be_visible()
    assert (room / "renamed").exists()
    tab.get_by_label("Select b").focus()
    keyboard.press("Space")
    keyboard.press("Delete")
    expect(tab.get_by_role("heading", name="Delete 1 item?")).to_be_visible()
    tab.get_by_role("button", name="Delete 1 item").focus()
    keyboard.press("Enter")
    expect(tab.get_by_text("Deleted “b”.")).to_be_visible()
    assert not (room / "b").exists()


@pytest.mark.parametrize("tab", ["with scripts"], indirect=True)
def test_saving_by_keyboard(tab: Tab, running: RunningPortal, room: Path) -> None:
    (room / "file").write_text("text")
    tab.goto(f"{running.url}{address(room / 'file')}?edit")
    tab.get_by_label("Text of").fill("new")
    tab.keyboard.press("Control+s")
    expect(tab.get_by_text("Saved.")).to_be_visible()
    expect(tab.get_by_label("Text of")).to_have_value("new")
    assert (room / "file").read_text() == "new"


@pytest.mark.parametrize("tab", ["with scripts"], indirect=True)
def test_tabs_by_keyboard(tab: Tab, running: RunningPortal, room: Path) -> None:
    """A Makefile, with the mark of Windows at its beginning, and its line ends."""
    (room / "Makefile").write_bytes("\ufeffall:\r\n".encode())
    tab.goto(f"{running.url}{address(room / 'Makefile')}?edit")
    text, types_tabs = tab.get_by_label("Text of"), tab.get_by_label("Tab types a tab")
    text.focus()
    tab.keyboard.press("Tab")
    expect(types_tabs).to_be_focused()
    expect(types_tabs).not_to_be_checked()
    tab.keyboard.press("Shift+Tab")
    expect(text).to_be_focused()
    tab.keyboard.press("Control+End")
    tab.keyboard.press("Control+m")
    expect(tab.get_by_role("status").filter(has_text="Tab types a tab")).to_be_attached()
    tab.keyboard.press("Tab")
    expect(text).to_have_value("\ufeffall:\n\t")
    tab.keyboard.press("Control+z")
    expect(text).to_have_value("\ufeffall:\n")
    tab.keyboard.press("Tab")
    tab.keyboard.type("echo")
    expect(text).to_be_focused()
    tab.keyboard.press("Escape")
    tab.keyboard.press("Tab")
    expect(types_tabs).to_be_focused()
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("Shift+Tab")  # always leaves
    expect(text).not_to_be_focused()
    text.focus()
    tab.keyboard.press("Control+m")
    tab.keyboard.press("Tab")
    expect(types_tabs).to_be_focused()
    # In a layout without Latin letters, the key with its place counts.
    facts = {"key": "ы", "code": "KeyS", "ctrlKey": True, "bubbles": True, "cancelable": True}
    text.dispatch_event("keydown", facts)
    expect(tab.get_by_text("Saved.")).to_be_visible()
    assert (room / "Makefile").read_bytes() == "\ufeffall:\r\n\techo".encode()


@pytest.mark.parametrize("tab", ["with scripts"], indirect=True)
def test_leaving_what_is_not_saved_is_asked_about(
    tab: Tab, running: RunningPortal, room: Path
) -> None:
    (room / "file").write_text("text")
    asked: list[str] = []
    tab.on("dialog", lambda dialog: asked.append(dialog.type))
    tab.goto(f"{running.url}{address(room / 'file')}?edit")
    tab.get_by_role("link", name="Close").click()
    expect(tab.get_by_label("Contents")).to_be_visible()
    assert asked == []
    tab.goto(f"{running.url}{address(room / 'file')}?edit")
    tab.get_by_label("Text of").press_sequentially("x")
    tab.get_by_role("link", name="Close").click()
    expect(tab.get_by_label("Contents")).to_be_visible()
    assert asked == ["beforeunload"]


@pytest.mark.parametrize("tab", ["with scripts"], indirect=True)
def test_how_it_looks(tab: Tab, running: RunningPortal, home: Path) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    many = home / "many"
    (many / "directory").mkdir(parents=True)
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(many) + b"/" + name)).write_text("Hello there")
    (many / "long.py").write_text("print('Hello there')\n" * 30 + "x" * 300)

    def directory() -> None:
        tab.goto(f"{running.url}{address(many)}?details=1")
        for name in ("plain.txt", "two  spaces", "directory"):
            tab.get_by_label(f"Select {name}", exact=True).check()

    def asks(button: str) -> None:
        tab.goto(f"{running.url}{address(many)}")
        tab.get_by_label(re.compile(r"Select all \d+ items")).check()
        press(tab, button)

    def renames() -> None:
        tab.goto(f"{running.url}{address(many / ('x' * 255))}")
        press(tab, "Rename")
        tab.get_by_label("New name").fill("plain.txt")
        press(tab, "Rename")
        expect(tab.get_by_text("already exists. Nothing was changed.")).to_be_visible()

    def mistaken() -> None:
        tab.goto(f"{running.url}{address(many)}")
        tab.get_by_label("New file or directory").fill("directory")
        press(tab, "New Directory")
        expect(tab.get_by_text("already exists. Nothing was changed.")).to_be_visible()

    def conflict() -> None:
        tab.goto(f"{running.url}{address(many / 'long.py')}?edit")
        (many / "long.py").write_text((many / "long.py").read_text() + "more\n")
        press(tab, "Save")
        expect(tab.get_by_text("has changed since")).to_be_visible()

    pages = {
        "changes-directory": directory,
        "changes-delete": lambda: asks("Delete"),
        "changes-permissions": lambda: asks("Permissions"),
        "changes-rename": renames,
        "changes-mistake": mistaken,
        "changes-edit": conflict,
    }
    for look in looks(tab):
        for shot, opens in pages.items():
            opens()
            accessible(tab, f"{shot}-{look}")
