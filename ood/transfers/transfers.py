"""All transfers that are going on, and those that have ended and were not dismissed yet.

They go on while their users look at other pages, and end with their sign-in, since it is what opens
the connections.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time

from ood.errors import Busy, NotFound
from ood.transfers.transfer import Order, Transfer

EACH = 2  # at once for one user: each takes one of the few channels to each of its hosts
ALL = 8  # at once for all
KEPT = 30  # for one user, to be dismissed
END_SECONDS = 10.0  # for one to clean up at the end of a sign-in

log = logging.getLogger(__name__)


class Transfers:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._by_user: dict[str, dict[str, Transfer]] = {}
        self._running: list[str] = []  # their users

    def start(self, user: str, order: Order) -> Transfer:
        """Carry an order out, as soon as there is a place. Raises `Busy`."""
        transfer = Transfer(secrets.token_hex(8), order)
        with self._changed:
            theirs = self._by_user.setdefault(user, {})
            if len(theirs) >= KEPT:
                raise Busy("There are too many transfers. Dismiss those that have ended first.")
            theirs[transfer.id] = transfer
        threading.Thread(
            target=self._run, args=(user, transfer), name="transfer", daemon=True
        ).start()
        return transfer

    def of(self, user: str) -> list[Transfer]:
        """The newest first."""
        with self._changed:
            return list(reversed(self._by_user.get(user, {}).values()))

    def find(self, user: str, id: str) -> Transfer:
        """Raises `NotFound`."""
        with self._changed:
            try:
                return self._by_user[user][id]
            except KeyError:
                raise NotFound("There is no such transfer. It was dismissed.") from None

    def cancel(self, user: str, id: str) -> None:
        self.find(user, id).cancel()
        with self._changed:
            self._changed.notify_all()  # it may wait for a place

    def dismiss(self, user: str, id: str) -> None:
        """Forget one that has ended."""
        with self._changed:
            theirs = self._by_user.get(user, {})
            if id in theirs and theirs[id].state.ended:
                del theirs[id]

    def forget(self, user: str) -> None:
        """End all transfers of a user who signs out, while their connections are still open."""
        with self._changed:
            theirs = list(self._by_user.pop(user, {}).values())
        for transfer in theirs:
            transfer.cancel()
        deadline = time.monotonic() + END_SECONDS
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: all(transfer.state.ended for transfer in theirs),
                deadline - time.monotonic(),
            )

    def _run(self, user: str, transfer: Transfer) -> None:
        with self._changed:
            self._changed.wait_for(lambda: transfer.cancelled or self._has_place(user))
            self._running.append(user)
        try:
            transfer.run()
        except Exception:
            log.exception("a transfer of %s", user)
        finally:
            with self._changed:
                self._running.remove(user)
                self._changed.notify_all()

    def _has_place(self, user: str) -> bool:
        return len(self._running) < ALL and self._running.count(user) < EACH
