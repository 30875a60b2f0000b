"""What the edge is told of the bounds of a server, as often as each limit's watchdog needs."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from connectors.northbound.client import Client
from connectors.northbound.door import Answer, DeskDoor
from connectors.northbound.image import Board
from ems.control_site import UtilityLimit
from ems.northbound import WriteRights
from ems.utility import UtilityServer

ROLE = "utility server"  # what it is at the door; who it is was proved by its certificate
TIMES = 3.0  # a limit is told so often in its watchdog
PERIOD_S_MAX = 60.0
AGAIN_S = 5.0  # after the edge has refused it, or not answered
AT_ONCE = 2  # tells in a second: the door takes no more of one client


@dataclass(frozen=True, slots=True)
class Last:
    """What a limit was told last."""

    kw: float
    at_s: float  # monotonic
    epoch: int | None  # of the edge


class Teller:
    """Tells the limits of one server.

    Parameters
    ----------
    limits : of the site, by id.
    monotonic_s : seconds that only grow [s].
    """

    def __init__(
        self,
        server: UtilityServer,
        limits: Mapping[str, UtilityLimit],
        board: Board,
        door: DeskDoor,
        *,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._server, self._board, self._door = server, board, door
        self._monotonic_s = monotonic_s
        self._rights = WriteRights(limits=server.limits, roles=(ROLE,), per_s=float(AT_ONCE) * 2.0)
        self._period_s = {x: min(PERIOD_S_MAX, limits[x].watchdog_s / TIMES) for x in server.limits}
        self._tried_s: dict[str, float] = {}
        self._batch_s = -math.inf  # monotonic, when something was told last
        self.last: dict[str, Last] = {}

    def tell(self, wanted_kw: Mapping[str, float], peer: str) -> None:
        """Tell what is due.

        Parameters
        ----------
        wanted_kw : by limit, of those that something is known of.
        peer : who says so, by the server's certificate.
        """
        image = self._board.now()
        if not image.fresh or self._door.shut:  # the status row says so
            return
        now_s = self._monotonic_s()
        if now_s - self._batch_s < 1.0:
            return
        due = [x for x, kw in wanted_kw.items() if self._due(x, kw, now_s, image.epoch)]
        client = Client(
            server=self._server.id, address=self._server.host, name=peer, role=ROLE, protected=True
        )
        if due:
            self._batch_s = now_s
        for limit in sorted(due, key=lambda x: self._tried_s.get(x, 0.0))[:AT_ONCE]:
            self._tried_s[limit] = now_s
            if self._door.tell(client, self._rights, limit, wanted_kw[limit]).taken:
                self.last[limit] = Last(wanted_kw[limit], now_s, image.epoch)

    def _due(self, limit: str, kw: float, now_s: float, epoch: int | None) -> bool:
        last, tried_s = self.last.get(limit), self._tried_s.get(limit)
        if last is None or tried_s != last.at_s:
            return tried_s is None or now_s - tried_s >= AGAIN_S
        if last.kw != kw or last.epoch != epoch:
            return True
        unheard = self._door.answers.get(limit) in (Answer.REFUSED, Answer.NO_ANSWER)
        return now_s - last.at_s >= (AGAIN_S if unheard else self._period_s[limit])

    def held(self, wanted_kw: Mapping[str, float], limit: str) -> Answer:
        """What the edge made of what is wanted of a limit now."""
        last = self.last.get(limit)
        if last is None or limit not in wanted_kw or last.kw != wanted_kw[limit]:
            return Answer.NONE
        return self._door.answers.get(limit, Answer.NONE)
