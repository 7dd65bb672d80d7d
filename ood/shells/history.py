"""What a terminal printed, as far as it is kept to be shown again.

It is kept as it came, and shown again as it came: browsers are good at terminals, Python is slow.
"""

from __future__ import annotations

import re

KEPT = 256 * 1024  # bytes at least; twice as much at most
NEAR = 4096  # bytes, in which a line or a control sequence is sure to begin

SAFE = re.compile(rb"\n|(?=\x1b)")
MODES = re.compile(rb"\x1b(?:\[\?([0-9;]{1,64})([hl])|(c))")
ALTERNATE = (47, 1047, 1049)
"""The screen of editors and pagers, which has no past."""
TRACKED = frozenset({1, 7, 25, 1000, 1002, 1003, 1004, 1006, 2004, *ALTERNATE})
"""Modes of a terminal that programs switch once and rely on from then on: the kind of cursor keys,
mouse, bracketed paste…"""
ON_AT_FIRST = frozenset({7, 25})


class History:
    """The last of what was printed. Offsets count from the first byte that ever was."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._modes = set(ON_AT_FIRST)  # at `start`
        self.start = 0

    @property
    def end(self) -> int:
        return self.start + len(self._data)

    def add(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > 2 * KEPT:
            self._forget(len(self._data) - KEPT)

    def part(self, offset: int, limit: int) -> bytes:
        """At most `limit` bytes from an offset that is kept."""
        at = offset - self.start
        return bytes(self._data[at : at + limit])

    @property
    def prelude(self) -> str:
        """What brings a new terminal into the modes in which the first bytes that are kept were
        printed."""
        changed = self._modes ^ ON_AT_FIRST
        return "".join(
            f"\x1b[?{mode}{'h' if mode in self._modes else 'l'}" for mode in sorted(changed)
        )

    def is_on_alternate_screen(self) -> bool:
        modes = set(self._modes)
        _follow(modes, self._data)
        return not modes.isdisjoint(ALTERNATE)

    def _forget(self, count: int) -> None:
        """Forget the first bytes, up to where a line or a control sequence begins."""
        safe = SAFE.search(self._data, count, count + NEAR)
        if safe is not None:
            count = safe.end()
        _follow(self._modes, self._data[:count])
        del self._data[:count]
        self.start += count


def _follow(modes: set[int], printed: bytes | bytearray) -> None:
    for numbers, switch, reset in MODES.findall(printed):
        if reset:
            modes.clear()
            modes |= ON_AT_FIRST
            continue
        asked = {int(number) for number in numbers.split(b";") if 0 < len(number) < 5}
        if switch == b"h":
            modes |= asked & TRACKED
        else:
            modes -= asked
