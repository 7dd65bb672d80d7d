"""The last output of a terminal, kept for pages that open later. It is kept unchanged, because a
browser interprets it much faster than Python could."""

import re

HISTORY_SIZE = 256 * 1024  # bytes at least; twice as much at most
NEAR = 4096  # bytes in which a line or a control sequence is expected to begin

SAFE = re.compile(rb"\n|(?=\x1b)")
MODES = re.compile(rb"\x1b(?:\[\?([0-9;]{1,64})([hl])|(c))")
ALTERNATE = (47, 1047, 1049)  # the screen of editors and pagers, which has no scrollback
# Modes that programs set once and rely on: cursor keys, mouse, bracketed paste…
TRACKED = frozenset({1, 7, 25, 1000, 1002, 1003, 1004, 1006, 2004, *ALTERNATE})
ON_AT_FIRST = frozenset({7, 25})


class History:
    """The last output. Offsets count from the first byte of the shell's output."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._modes = set(ON_AT_FIRST)  # at `start`
        self.start = 0

    @property
    def end(self) -> int:
        return self.start + len(self._data)

    def add(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > 2 * HISTORY_SIZE:
            self._forget(len(self._data) - HISTORY_SIZE)

    def part(self, offset: int, limit: int) -> bytes:
        """At most `limit` bytes from an offset after `start`."""
        at = offset - self.start
        return bytes(self._data[at : at + limit])

    @property
    def prelude(self) -> str:
        """Control sequences that set a new terminal's modes as they were at `start`."""
        changed = sorted(self._modes ^ ON_AT_FIRST)
        return "".join(f"\x1b[?{mode}{'h' if mode in self._modes else 'l'}" for mode in changed)

    def is_on_alternate_screen(self) -> bool:
        modes = set(self._modes)
        _follow(modes, self._data)
        return not modes.isdisjoint(ALTERNATE)

    def _forget(self, count: int) -> None:
        """Forget the first bytes, up to the beginning of a line or a control sequence."""
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
