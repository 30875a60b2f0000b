"""From the models of the standard to what a plant asks for; what cannot be is told, never guessed."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from connectors.ieee2030_5.documents import CSIP_AUS, BadDocument
from connectors.ieee2030_5.told import (
    DURATION_S_MAX,
    RANDOM_S_MAX,
    TIME_S_MAX,
    Ask,
    Control,
)
from connectors.utility.bound import KW_MAX
from ems.utility import PORT_TLS, Sep2Server

TIME_S_MIN = 946_684_800  # 2000-01-01
MULTIPLIER_MAX = 9
HUNDREDTHS = 10_000  # of a percentage: 100 %
PRIMACY_MAX = 255
STATUS_MAX = 4
TEXT_MAX = 80
WATTS_MAX = 2**31 - 1  # before the multiplier; the schema has 16 bits, which not every server keeps to
_NUMBER = re.compile(r"[+-]?[0-9]{1,12}")
HREF_MAX = 255
PERCENT_MODE = "opModMaxLimW"
FALSE_ONLY = ("opModConnect", "opModEnergize")  # true asks nothing of a plant that is connected
NOT_MODES = ("rampTms",)  # how fast: a bound is held at once


def path_of(href: object, server: Sep2Server) -> str:
    """The path of a link, on the same server and nowhere else.

    Raises
    ------
    BadDocument : it leads elsewhere, or is none.
    """
    if not isinstance(href, str) or not href or len(href) > HREF_MAX:
        raise BadDocument("a link without an address, or too long a one")
    if not (href.isascii() and href.isprintable()) or " " in href:
        raise BadDocument(f"a link to {href[:60]!r}, which is no address")
    try:
        parts = urlsplit(href)
        place = (parts.scheme, parts.hostname, PORT_TLS if parts.port is None else parts.port)
    except ValueError:
        raise BadDocument(f"a link to {href[:60]!r}, which is no address") from None
    elsewhere = place != ("https", server.host.lower(), server.port) or "@" in parts.netloc
    if (parts.netloc or parts.scheme) and elsewhere:
        raise BadDocument(f"a link to another host: {href[:60]!r}; allowed: {server.where}")
    if not parts.path.startswith("/") or parts.path.startswith("//"):
        raise BadDocument(f"a link to {href[:60]!r}; allowed: a path from / on")
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def title_of(document: Any) -> str:
    """Its description, as it may be shown."""
    text = getattr(document, "description", None) or ""
    return "".join(c if c.isprintable() else "?" for c in str(text))[:TEXT_MAX]


def mrid_of(document: Any) -> str:
    """Its mRID in capitals. Raises BadDocument: it has none."""
    value = getattr(getattr(document, "m_rid", None), "value", None)
    if not isinstance(value, bytes) or not 1 <= len(value) <= 16:
        raise BadDocument("an mRID that is none")
    return value.hex().upper()


def time_s(value: Any) -> int | None:
    """Seconds since 1970 UTC of a TimeType; None: not there, or no time of a plant."""
    number = getattr(value, "value", None)
    fits = isinstance(number, int) and TIME_S_MIN <= number <= TIME_S_MAX
    return number if fits else None


def whole(value: Any, low: int, high: int, what: str) -> int:
    """A whole number in its range. Raises BadDocument."""
    number = getattr(value, "value", value)
    if isinstance(number, bytes):
        number = int.from_bytes(number, "big")
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise BadDocument(f"{what}: found {str(number)[:30]}; allowed: {low} to {high}")
    return number


def rate_s(document: Any, default_s: float) -> float:
    """How often a resource wants to be asked for [s]: its pollRate, wherever the model keeps it."""
    told = getattr(document, "poll_rate", None)
    if told is None:
        told = (getattr(document, "any_attributes", None) or {}).get("pollRate")
    try:
        value = float(int(str(told)[:12]))
    except ValueError:
        return default_s
    return value if value > 0.0 else default_s


class Reader:
    """Reads controls for one server.

    Parameters
    ----------
    names : of the elements of a control base, by field of its model.
    set_max_kw : what percentages are of [kW].
    """

    def __init__(self, server: Sep2Server, names: Mapping[str, str], set_max_kw: float) -> None:
        self._server, self._names, self._set_max_kw = server, names, set_max_kw
        self._told_here = {t.word for t in server.tellings}

    def ask(self, base: Any) -> Ask:
        """What a DERControlBase asks."""
        bounds_kw: dict[str, float] = {}
        unmet: list[str] = []
        try:
            for name, value in self._modes(base):
                if name in FALSE_ONLY:
                    if value is not True:
                        unmet.append(f"{name} false")
                elif name not in self._told_here:
                    unmet.append(name)
                else:
                    bounds_kw[name] = self._kw(name, value)
        except BadDocument as error:
            return Ask(wrong=str(error))
        return Ask(bounds_kw=bounds_kw, unmet=tuple(unmet))

    def _modes(self, base: Any) -> Iterator[tuple[str, Any]]:
        for name, element in self._names.items():
            value = getattr(base, name, None)
            if value is not None and element not in NOT_MODES:
                yield element, value
        for other in base.other_element:
            space, name = _extension(other)
            if name.startswith("opMod"):
                yield (name if space.startswith(CSIP_AUS) else f"{name} of {space[:60]!r}"), other

    def _kw(self, name: str, value: Any) -> float:
        """A bound [kW]. Raises BadDocument."""
        if name == PERCENT_MODE:
            return whole(value, 0, HUNDREDTHS, name) / HUNDREDTHS * self._set_max_kw
        told_multiplier, told_watts = _power(value, name)
        multiplier = whole(told_multiplier, -MULTIPLIER_MAX, MULTIPLIER_MAX, f"multiplier of {name}")
        watts = whole(told_watts, 0, WATTS_MAX, name)
        exponent = multiplier - 3
        kw = watts * 10.0**exponent if exponent >= 0 else watts / 10.0**-exponent
        if kw > KW_MAX:
            raise BadDocument(f"{name}: found {kw:g} kW; allowed: {KW_MAX:g} kW or less")
        return kw

    def control(self, document: Any, program: str, primacy: int) -> Control:
        """A DERControl; what is wrong inside its own frame is noted in its `ask`.

        Raises
        ------
        BadDocument : not even its mRID can be read.
        """
        mrid, ask = mrid_of(document), self.ask(document.dercontrol_base)
        numbers = dict.fromkeys(("status", "start_s", "duration_s", "random_start_s", "random_duration_s"), 0)
        created_s, reply_to, replies = 0, "", 0
        try:
            if document.reply_to:
                reply_to = path_of(document.reply_to, self._server)
            replies = whole(document.response_required, 0, 255, "responseRequired")
            created_s = whole(document.creation_time, 0, TIME_S_MAX, "creationTime")
            numbers = self._numbers(document)
        except BadDocument as error:
            ask = Ask(wrong=ask.wrong or str(error))
        return Control(
            mrid=mrid,
            program=program,
            primacy=primacy,
            title=title_of(document),
            created_s=created_s,
            ask=ask,
            reply_to=reply_to,
            replies=replies,
            **numbers,
        )

    def _numbers(self, document: Any) -> dict[str, int]:
        interval, status = document.interval, document.event_status
        return {
            "status": whole(getattr(status, "current_status", None), 0, STATUS_MAX, "currentStatus"),
            "start_s": whole(getattr(interval, "start", None), 0, TIME_S_MAX, "start"),
            "duration_s": whole(getattr(interval, "duration", None), 0, DURATION_S_MAX, "duration"),
            "random_start_s": _random(document.randomize_start, "randomizeStart"),
            "random_duration_s": _random(document.randomize_duration, "randomizeDuration"),
        }


def _random(value: Any, what: str) -> int:
    return 0 if value is None else whole(value, -RANDOM_S_MAX, RANDOM_S_MAX, what)


def _extension(element: Any) -> tuple[str, str]:
    """(name space, local name) of an element that is not in the standard's own name space."""
    meta = getattr(type(element), "Meta", None)
    found = getattr(element, "qname", None)
    if found is None:
        return CSIP_AUS, str(getattr(meta, "name", ""))
    space, _, name = str(found).rpartition("}")
    return space.removeprefix("{"), name


def _power(element: Any, what: str) -> tuple[Any, Any]:
    """(multiplier, value) of a power; of other versions of CSIP-AUS than the models' it is plain elements.

    Raises
    ------
    BadDocument : it has not both of them, as numbers.
    """
    children = getattr(element, "children", None)
    if children is None:
        return getattr(element, "multiplier", None), getattr(element, "value", None)
    told = {str(c.qname).rpartition("}")[2]: str(c.text or "").strip() for c in children}
    texts = told.get("multiplier", ""), told.get("value", "")
    if not all(_NUMBER.fullmatch(t) for t in texts):
        raise BadDocument(f"{what}: found {texts[0][:20]!r} and {texts[1][:20]!r}; allowed: whole numbers")
    return int(texts[0]), int(texts[1])
