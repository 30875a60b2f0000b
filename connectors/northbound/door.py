"""The door for writes: a bound that a client tells becomes a request to the edge, or is refused and recorded.

Nothing a server hears goes any other way. What is taken is a file at the edge's desk, as `ems operator tell`
hands in: whether it holds, and for how long, is ruled by the edge with its watchdog, value on loss, roles and
records. There is one file of each limit at most: a newer value takes the place of one the edge has not seen.
"""

import math
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path

from connectors.northbound.client import Client, not_allowed
from connectors.northbound.image import Board
from connectors.northbound.records import Records
from connectors.stores.drop_folder import drop_file
from connectors.stores.request_desk import FOLDER, SUFFIX
from connectors.stores.request_text import TEXT_MAX, text_of
from ems.control import Role
from ems.control_site import ControlParams
from ems.errors import BadValue
from ems.northbound import WriteRights
from ems.records import EventRecord
from ems.requests import Request, TellLimit

DONE, REFUSED = "authority.request.done", "authority.request.refused"
UNREADABLE = "request.file.refused"
TTL_S = 10.0
ANSWER_S = 15.0  # without an answer of the edge for so long, it is taken back
BURST = 3.0  # writes that may come at once
CLIENTS_MAX = 256  # of which it is known how often they write


class Code(StrEnum):
    """What became of a write at the door."""

    TAKEN = "taken"
    NOT_WRITABLE = "not_writable"
    NOT_ALLOWED = "not_allowed"
    OUT_OF_BOUNDS = "out_of_bounds"
    TOO_OFTEN = "too_often"
    EDGE_AWAY = "edge_away"


class Answer(IntEnum):
    """What the edge made of the last write of a limit."""

    NONE = 0  # nothing was written since the server started
    WAITING = 1
    DONE = 2
    REFUSED = 3
    NO_ANSWER = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """`code` and, in words, why."""

    code: Code
    why: str

    @property
    def taken(self) -> bool:
        """Whether it was handed to the edge, which has not judged it yet."""
        return self.code is Code.TAKEN


@dataclass(frozen=True, slots=True)
class _Waiting:
    limit: str
    client: Client
    file: Path
    since_s: float
    value_kw: float
    answered: Callable[[bool], None]


def _nobody_waits(_: bool) -> None:
    """For whoever looks at `DeskDoor.answers` instead."""


class DeskDoor:
    """All bounds of a site that any of its servers may be told.

    Parameters
    ----------
    directory : of the running plant.
    board : tells whether the edge is there, and which.
    shut : why nothing can be told at all, such as a user without the role; "": it can.
    """

    def __init__(
        self,
        directory: Path,
        board: Board,
        records: Records,
        *,
        monotonic_s: Callable[[], float],
        shut: str = "",
    ) -> None:
        self._desk, self._board, self._records = directory / FOLDER, board, records
        self._monotonic_s, self.shut = monotonic_s, shut
        self._budget: dict[tuple[str, ...], tuple[float, float]] = {}  # client -> writes left, as of when
        self._waiting: dict[str, _Waiting] = {}  # by id of its request
        self.answers: dict[str, Answer] = {}  # by limit
        self.taken = 0

    def tell(
        self,
        client: Client,
        rights: WriteRights | None,
        limit: str,
        value_kw: float,
        answered: Callable[[bool], None] = _nobody_waits,
    ) -> Verdict:
        """A client tells the value of a limit [kW].

        Parameters
        ----------
        rights : of the server that heard it; None: it is read-only.
        answered : called once if it was taken: whether the edge has done it. It has not where another value
            took its place, or nothing was answered.
        """
        found = self._judged(client, rights, limit, value_kw)
        if isinstance(found, int):
            assert rights is not None
            if self._afford(client, rights.per_s):
                found = self._hand_in(client, limit, value_kw, found, answered)
            else:
                found = Verdict(Code.TOO_OFTEN, f"more than {rights.per_s:g} writes a second")
        return self._recorded(client, limit, value_kw, found)

    def ask(self, client: Client, rights: WriteRights | None, limit: str, value_kw: float) -> Verdict:
        """Whether a client might tell this value [kW] now; nothing is told. A refusal is recorded."""
        found = self._judged(client, rights, limit, value_kw)
        found = Verdict(Code.TAKEN, "") if isinstance(found, int) else found
        return self._recorded(client, limit, value_kw, found)

    def refuse(self, client: Client, what: str, why: str, code: Code = Code.NOT_WRITABLE) -> Verdict:
        """A client wrote something that nobody may write."""
        self._records.refused(client, what, code, why)
        return Verdict(code, why)

    @property
    def waiting(self) -> bool:
        """Whether an answer of the edge is waited for."""
        return bool(self._waiting)

    def hear(self, events: Sequence[EventRecord]) -> None:
        """Take in what the edge has answered; what was not answered for too long is taken back."""
        for event in events:
            one = self._waiting.pop(str(event.fields.get("request_id")), None)
            if one is None:
                continue
            done = event.kind == DONE
            self.answers[one.limit] = Answer.DONE if done else Answer.REFUSED
            one.answered(done)
            if not done:
                why = str(event.fields.get("text", event.fields.get("why", "")))
                code = str(event.fields.get("code", "refused"))
                self._records.refused(one.client, f"limit.{one.limit} = {one.value_kw:g} kW", code, why)
        for name in [n for n, w in self._waiting.items() if self._monotonic_s() - w.since_s > ANSWER_S]:
            one = self._waiting.pop(name)
            with suppress(OSError):
                one.file.unlink()
            self.answers[one.limit] = Answer.NO_ANSWER
            one.answered(False)
            why = f"the edge has not answered for {ANSWER_S:g} s"
            self._records.refused(one.client, f"limit.{one.limit} = {one.value_kw:g} kW", "no_answer", why)

    def _recorded(self, client: Client, limit: str, value_kw: float, verdict: Verdict) -> Verdict:
        if not verdict.taken:
            self._records.refused(client, f"limit.{limit} = {value_kw:g} kW", verdict.code, verdict.why)
        return verdict

    def _judged(
        self, client: Client, rights: WriteRights | None, limit: str, value_kw: float
    ) -> Verdict | int:
        """The epoch of the edge that may be told; or why it may not."""
        if rights is None or limit not in rights.limits:
            return Verdict(Code.NOT_WRITABLE, "the site file does not let this server write it")
        if why := not_allowed(client, rights):
            return Verdict(Code.NOT_ALLOWED, why)
        if self.shut:
            return Verdict(Code.NOT_ALLOWED, self.shut)
        if not (math.isfinite(value_kw) and value_kw >= 0.0):
            return Verdict(Code.OUT_OF_BOUNDS, f"{value_kw!r}; allowed: 0 kW or more")
        image = self._board.now()
        if not image.fresh or image.epoch is None:
            return Verdict(Code.EDGE_AWAY, image.why or "the edge tells no epoch")
        return image.epoch

    def _hand_in(
        self, client: Client, limit: str, value_kw: float, epoch: int, answered: Callable[[bool], None]
    ) -> Verdict:
        """The same way as `ems operator tell`; before it, what the edge has not yet taken of this limit."""
        request = Request(
            id=uuid.uuid4().hex,
            session=client.words[:TEXT_MAX],
            epoch=epoch,
            ttl_s=TTL_S,
            reason="",
            ask=TellLimit(limit=limit, value_kw=value_kw),
        )
        for name in [n for n, w in self._waiting.items() if w.limit == limit]:
            older = self._waiting.pop(name)
            with suppress(FileNotFoundError):
                older.file.unlink()
            older.answered(False)
        try:
            file = drop_file(self._desk, f"{request.id}{SUFFIX}", text_of(request))
        except (OSError, BadValue) as error:
            return Verdict(Code.EDGE_AWAY, f"the edge's desk takes nothing: {error}")
        self._waiting[request.id] = _Waiting(limit, client, file, self._monotonic_s(), value_kw, answered)
        self.answers[limit] = Answer.WAITING
        self.taken += 1
        return Verdict(Code.TAKEN, "")

    def _afford(self, client: Client, per_s: float) -> bool:
        """One of the writes that this client has left; they grow back with time."""
        now_s, key = self._monotonic_s(), (client.server, client.address, client.name)
        left, since_s = self._budget.pop(key, (BURST, now_s))
        left = min(BURST, left + (now_s - since_s) * per_s)
        self._budget[key] = (left - 1.0 if left >= 1.0 else left, now_s)
        if len(self._budget) > CLIENTS_MAX:
            self._budget.pop(next(iter(self._budget)))
        return left >= 1.0


def without_role(control: ControlParams, user: str) -> str:
    """Why a user of the operating system cannot tell limits; "": it can."""
    if Role.UTILITY in control.users.get(user, frozenset()):
        return ""
    return f"user {user}, who runs the servers, has not the role utility in control.users"
