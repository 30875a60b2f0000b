"""A session of ours over a fake edge, against a utility's server of another make on loopback."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from connectors.ieee2030_5.identity import Identity, identity_of
from connectors.ieee2030_5.session import Sep2Session
from connectors.northbound.records import RecordsReader, Refused
from connectors.utility import session as session_module
from connectors.utility.session import Around
from ems.clock import SystemClock, wall_sleep
from ems.control_site import ControlParams, LimitKind, UtilityLimit
from ems.requests import TellLimit
from ems.site import Site
from ems.utility import Sep2Server as Params
from ems.utility import Share, Telling, UtilityProtocol
from tests.builders import site as plain_site
from tests.contract.tls_pki import Authority, Party
from tests.contract.utility_server import PIN, UtilityServer
from tests.unit.connectors.northbound_fake import Plant

PATIENCE_S = 30.0
BEAT_S = 0.02
EXPORT, IMPORT = "opModExpLimW", "opModImpLimW"
LIMITS = (
    UtilityLimit(id="out", kind=LimitKind.EXPORT, watchdog_s=60.0, on_loss_kw=0.0),
    UtilityLimit(id="into", kind=LimitKind.IMPORT, watchdog_s=60.0, on_loss_kw=0.0),
)
TELLINGS = (
    Telling(word=EXPORT, shares=(Share("out", 1.0),)),
    Telling(word=IMPORT, shares=(Share("into", 1.0),)),
)


def bounded_site() -> Site:
    return replace(plain_site(), control=ControlParams(limits=LIMITS))


def params(server: UtilityServer, own: Party, ca: Path, **changes: Any) -> Params:
    values: dict[str, Any] = {
        "id": "dnsp", "protocol": UtilityProtocol.IEEE2030_5, "host": "127.0.0.1", "port": server.port,
        "path": "/dcap", "tls": own.files(ca), "server_lfdi": None, "ccm8": False, "pin": PIN,
        "tellings": TELLINGS, "age_s_max": 900.0, "clock_s_max": 30.0, "timeout_s": 5.0, "set_max_kw": None,
        "post_device": False, "post_meter": False,
    }  # fmt: skip
    return Params(**(values | changes))


@dataclass
class Pki:
    """Certificates of both sides, by one authority."""

    folder: Path
    authority: Authority = field(init=False)
    own: Party = field(init=False)
    server: Party = field(init=False)

    def __post_init__(self) -> None:
        self.authority = Authority(self.folder, "Utility CA")
        self.own = self.authority.signs("ems")
        self.server = self.authority.signs("utility", hosts=("127.0.0.1",))

    @property
    def identity(self) -> Identity:
        return identity_of(self.own.certificate)

    def serves(self, **options: Any) -> UtilityServer:
        return UtilityServer(self.server, self.authority.file, self.identity.lfdi, **options)


class Live:
    """A session that runs, the fake edge that it tells, and hands to turn both."""

    def __init__(self, directory: Path, server: Params, seed: int = 1) -> None:
        self.plant = Plant(directory, SystemClock())
        self.obeys = True  # whether the edge does what it is told
        self.told: list[tuple[str, float]] = []  # what the edge was told, in order
        self.site = bounded_site()
        self.cycle()
        around = Around(
            site=self.site, board=self.plant.board, door=self.plant.door, records=self.plant.records,
            directory=directory, folder=directory, clock=self.plant.clock,
        )  # fmt: skip
        self.session: Any = Sep2Session(server, around, random=Random(seed))
        self.directory = directory

    def cycle(self, **values: Any) -> None:
        known = {"grid1__p_kw": 50.0, "grid1__breaker_closed": 1.0, "bess1__soc": 0.5, "bess1__p_kw": -40.0}
        known |= {"pv1__p_kw": 100.0, "gen1__p_kw": 0.0, "gen2__p_kw": 0.0} | values
        self.plant.cycle(fields={"shadow": False, "plant_control": "auto", "cycle_s": 200.0}, **known)

    def turn(self) -> None:
        """One step of the session, one of the edge."""
        self.session.step()
        for one in self.plant.desk.collect():
            assert isinstance(one.request.ask, TellLimit)
            self.told.append((one.request.ask.limit, one.request.ask.value_kw))
            kind = "authority.request.done" if self.obeys else "authority.request.refused"
            self.plant.event(kind, request_id=one.request.id, code="no_right", text="not you")
        if self.plant.door.waiting:
            self.plant.door.hear(self.plant.answers())

    def ask_now(self) -> None:
        """The next round begins at once."""
        self.session._next_s = 0.0

    def later(self, seconds: float) -> None:
        """As if so much time had gone by since the server was heard last."""
        contact = self.session._contact
        assert contact is not None
        self.session._contact = replace(contact, at_s=contact.at_s - seconds)

    async def until(self, holds: Callable[[], object], what: str = "") -> None:
        """Turn until something holds."""
        clock = SystemClock()
        end_s = clock.monotonic_s() + PATIENCE_S
        while not holds():
            assert clock.monotonic_s() < end_s, f"{what or 'it'} did not happen: {self.session.status()}"
            self.turn()
            await wall_sleep(BEAT_S)

    async def rounds(self, count: int = 1) -> None:
        """So many rounds more, whatever comes of them."""
        for _ in range(count):
            wanted = self.session.rounds + 1
            self.ask_now()
            await self.until(partial(self._has_asked, wanted), "a round")
        self.turn()

    def _has_asked(self, times: int) -> bool:
        return bool(self.session.rounds >= times)

    def last(self, limit: str) -> float | None:
        """What the edge was told last of a limit."""
        return next((kw for x, kw in reversed(self.told) if x == limit), None)

    def status(self) -> dict[str, Any]:
        return dict(self.session.status())

    def refused(self) -> list[Refused]:
        assert self.plant.records.flush([])
        return RecordsReader(self.directory / "northbound.sqlite").refusals(100)

    async def close(self) -> None:
        await self.session.close()
        self.plant.close()


@asynccontextmanager
async def living(directory: Path, server: Params, *, seed: int = 1) -> AsyncIterator[Live]:
    """A session that has been started; it asks only when it is told to (`rounds`)."""
    live = Live(directory, server, seed)
    before = session_module.BEAT_S
    session_module.BEAT_S = BEAT_S
    try:
        await live.session.start()
        yield live
        live.session.status()  # raises what is a bug
    finally:
        session_module.BEAT_S = before
        with contextlib.suppress(Exception):
            await live.close()
