"""All transfers that run or wait, and those that have ended but were not dismissed.

They continue while their users visit other pages, and end at sign-out, which closes the connections
that they use.
"""

import logging
import secrets
import threading

from ood.errors import Busy, NotFound
from ood.quotas import Quota
from ood.transfers.copying import Order
from ood.transfers.transfer import Transfer

EACH = 2  # running at once for one user: each takes one of the few channels to each of its hosts
TOTAL = 8  # running at once for all users
MAX_LISTED = 30  # for one user
CANCEL_CHECK = 1.0  # seconds between checks whether a waiting transfer was cancelled
END_SECONDS = 10.0  # for transfers to clean up at sign-out

log = logging.getLogger(__name__)


class Transfers:
    def __init__(self) -> None:
        # Guards _by_user. Notified when a transfer ends.
        self._changed = threading.Condition()
        self._by_user: dict[str, dict[str, Transfer]] = {}
        self._running = Quota(EACH, TOTAL)

    def start(self, user: str, order: Order) -> Transfer:
        """Carry out an order as soon as the user's other transfers allow it. Raises `Busy`."""
        transfer = Transfer(secrets.token_hex(8), order)
        with self._changed:
            theirs = self._by_user.setdefault(user, {})
            if len(theirs) >= MAX_LISTED:
                raise Busy("You have too many transfers. Dismiss some that have ended.")
            theirs[transfer.id] = transfer
        threading.Thread(
            target=self._run, args=(user, transfer), name="transfer", daemon=True
        ).start()
        return transfer

    def of(self, user: str) -> list[Transfer]:
        """The user's transfers, the newest first."""
        with self._changed:
            return list(reversed(self._by_user.get(user, {}).values()))

    def cancel(self, user: str, id: str) -> None:
        """Raises `NotFound`."""
        with self._changed:
            transfer = self._by_user.get(user, {}).get(id)
        if transfer is None:
            raise NotFound("Transfer not found. It may have been dismissed.")
        transfer.cancel()

    def dismiss(self, user: str, id: str) -> None:
        """Forget a transfer if it has ended."""
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
        with self._changed:
            self._changed.wait_for(lambda: all(each.state.ended for each in theirs), END_SECONDS)

    def _run(self, user: str, transfer: Transfer) -> None:
        try:
            while not transfer.cancelled:
                try:
                    with self._running.hold(user, CANCEL_CHECK):
                        transfer.run()
                        return
                except Busy:
                    continue
            transfer.run()  # which ends at once
        except Exception:
            log.exception("a transfer of %s failed", user)
        finally:
            with self._changed:
                self._changed.notify_all()
