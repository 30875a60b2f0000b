"""From the DeviceCapability to every control that is meant for us. Reads; asks for no more than it needs."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connectors.ieee2030_5.documents import BadDocument, Documents
from connectors.ieee2030_5.reading import (
    PRIMACY_MAX,
    Reader,
    path_of,
    rate_s,
    time_s,
    title_of,
    whole,
)
from connectors.ieee2030_5.told import Ask, Control, Program, Told
from connectors.ieee2030_5.transport import Transport
from connectors.utility.asker import NoAnswer, NotServed
from ems.utility import PIN_MAX, Sep2Server

PAGE = 100
DEVICES_MAX = 2000
GROUPS_MAX = 50
PROGRAMS_MAX = 50
CONTROLS_MAX = 1000  # of all programs
AHEAD_S_MAX = 3600.0  # a clock that is further off is none
STRUCTURE_S = 900.0
ABSENT = (204, 404)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a server keeps what is about us. Paths; "": it has none."""

    time: str
    device: str  # our EndDevice
    programs: tuple[str, ...]  # lists of programs
    ders: str
    mirror: str
    every_s: float  # so often it wants to be walked anew
    post_s: float | None = None  # so often it wants to be told our state; None: it does not say


class Walk:
    """Asks one server.

    Parameters
    ----------
    lfdi : ours.
    now : aware time.
    """

    def __init__(
        self,
        server: Sep2Server,
        transport: Transport,
        documents: Documents,
        reader: Reader,
        *,
        lfdi: str,
        now: Callable[[], datetime],
    ) -> None:
        self._server, self._transport, self._documents = server, transport, documents
        self._reader, self._lfdi, self._now = reader, lfdi, now
        self.rate_s = 0.0  # so often controls want to be asked for, as it was told last; 0: not told

    async def document(self, path: str, model: Any) -> Any:
        """One resource. Raises NoAnswer, BadDocument."""
        raw = await self._transport.get(path)
        try:
            return await asyncio.to_thread(self._documents.read, raw, model)
        except BadDocument as error:
            raise BadDocument(f"GET {path}: {error}") from None

    async def places(self) -> Places:
        """Where everything is.

        Raises
        ------
        NotServed : it does not know us, or another PIN.
        NoAnswer : a request has no answer.
        BadDocument : an answer is not believed.
        """
        sep = self._documents.sep
        root = await self.document(self._server.path, sep.DeviceCapability)
        if root.time_link is None or root.end_device_list_link is None:
            raise NotServed(f"{self._server.path}: it has no clock, or no list of devices")
        device = await self._device(self._path(root.end_device_list_link.href))
        await self._registered(device)
        groups = device.function_set_assignments_list_link
        programs: list[str] = []
        if groups is not None:
            model, path = sep.FunctionSetAssignmentsList, self._path(groups.href)
            for group in await self._all(path, model, "function_set_assignments", GROUPS_MAX):
                if group.derprogram_list_link is not None:
                    programs.append(self._path(group.derprogram_list_link.href))
        mirror = root.mirror_usage_point_list_link
        return Places(
            time=self._path(root.time_link.href),
            device=self._path(device.href) if device.href else "",
            programs=tuple(dict.fromkeys(programs)),
            ders="" if device.derlist_link is None else self._path(device.derlist_link.href),
            mirror="" if mirror is None else self._path(mirror.href),
            every_s=rate_s(root, STRUCTURE_S),
            post_s=None if device.post_rate is None else float(device.post_rate),
        )

    async def ahead_s(self, place: str) -> float:
        """Clock of the server less ours [s]. Raises NoAnswer, BadDocument: its clock is not believed."""
        before = self._now()
        told = await self.document(place, self._documents.sep.Time)
        middle = before + (self._now() - before) / 2
        at_s = time_s(told.current_time)
        if at_s is None:
            raise BadDocument(f"GET {place}: currentTime that is none")
        ahead_s = at_s + 0.5 - middle.timestamp()  # it tells whole seconds
        if abs(ahead_s) > AHEAD_S_MAX:
            raise BadDocument(
                f"GET {place}: its clock is {ahead_s:+.0f} s from ours; allowed: {AHEAD_S_MAX:g} s at most"
            )
        return ahead_s

    async def told(self, places: Places) -> Told:
        """The clock and all programs with all their controls; all of it, or nothing.

        Raises
        ------
        NoAnswer : a request has no answer.
        BadDocument : an answer is not believed.
        """
        ahead_s, sep = await self.ahead_s(places.time), self._documents.sep
        self.rate_s = 0.0
        found: dict[str, Any] = {}
        for place in places.programs:
            for one in await self._all(place, sep.DerprogramList, "derprogram", PROGRAMS_MAX):
                found.setdefault(self._path(one.href), one)
        programs: list[Program] = []
        left = CONTROLS_MAX
        for href, one in found.items():
            programs.append(await self._program(href, one, left))
            left -= len(programs[-1].controls)
        return Told(programs=tuple(programs), ahead_s=ahead_s)

    async def _program(self, href: str, one: Any, most: int) -> Program:
        sep = self._documents.sep
        primacy = whole(one.primacy, 0, PRIMACY_MAX, f"primacy of {href}")
        default: Ask | None = None
        if one.default_dercontrol_link is not None:
            default = await self._default(self._path(one.default_dercontrol_link.href))
        controls: list[Control] = []
        if one.dercontrol_list_link is not None:
            place = self._path(one.dercontrol_list_link.href)
            rows = await self._all(place, sep.DercontrolList, "dercontrol", most)
            controls = [self._reader.control(row, href, primacy) for row in rows]
        return Program(
            href=href, title=title_of(one), primacy=primacy, default=default, controls=tuple(controls)
        )

    async def _default(self, place: str) -> Ask | None:
        """What holds without an event. Raises BadDocument where that is not believed."""
        try:
            told = await self.document(place, self._documents.sep.DefaultDercontrol)
        except NoAnswer as error:
            if error.status in ABSENT:
                return None
            raise
        ask = self._reader.ask(told.dercontrol_base)
        if ask.wrong:
            raise BadDocument(f"GET {place}: {ask.wrong}")
        return ask

    async def _device(self, place: str) -> Any:
        """Our EndDevice. Raises NotServed: it has none of our LFDI."""
        sep = self._documents.sep
        for one in await self._all(place, sep.EndDeviceList, "end_device", DEVICES_MAX):
            if one.l_fdi is not None and one.l_fdi.hex().upper() == self._lfdi:
                if one.enabled is False:
                    raise NotServed(f"{place}: our EndDevice is there and not enabled")
                return one
        raise NotServed(f"{place}: it knows no device of our LFDI {self._lfdi}: have the utility register it")

    async def _registered(self, device: Any) -> None:
        """Whether it is the registration that we know the PIN of. Raises NotServed."""
        wanted = self._server.pin
        if wanted is None:
            return
        if device.registration_link is None:
            raise NotServed("our EndDevice has no Registration, and the site file has a pin")
        place = self._path(device.registration_link.href)
        told = await self.document(place, self._documents.sep.Registration)
        if whole(told.p_in, 0, PIN_MAX, "pIN") != wanted:
            raise NotServed(f"{place}: it tells another PIN than the site file")

    async def _all(self, place: str, model: Any, name: str, most: int) -> Sequence[Any]:
        """Every item of a list, page by page; of a list that is cut short, nothing.

        Raises
        ------
        BadDocument : it is longer than `most`, or its pages do not make up what it counts.
        """
        items: list[Any] = []
        while True:
            mark = "&" if "?" in place else "?"
            page = await self.document(f"{place}{mark}s={len(items)}&l={PAGE}", model)
            found = getattr(page, name)
            items += found
            self._rate(page)
            if len(items) > most or page.all > most:
                raise BadDocument(f"GET {place}: {max(len(items), page.all)} items; allowed: {most}")
            if len(items) >= page.all:
                return items
            if not found:
                raise BadDocument(f"GET {place}: it counts {page.all} items and tells {len(items)}")

    def _rate(self, page: Any) -> None:
        if type(page).__name__ in ("DerprogramList", "DercontrolList"):
            told_s = rate_s(page, 0.0)
            self.rate_s = min(x for x in (self.rate_s, told_s) if x > 0.0) if told_s or self.rate_s else 0.0

    def _path(self, href: Any) -> str:
        return path_of(href, self._server)
