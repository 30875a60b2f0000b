"""From the JSON of a VTN to what it tells; whatever is not exactly as the standard has it is refused. Pure.

Source: OpenAPI of OpenADR 3.0.1 (schemas), User Guide 3.1.0, 7.3 (times): a start of the year 1 is "now", a
duration of P9999Y has no end; 3.0.1 lets a duration of PT0S be infinity, which it is for a limit.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from connectors.openadr3.told import Event, Program, Step
from connectors.plain_text import plain
from connectors.utility.bound import KW_MAX

ID = re.compile(r"[a-zA-Z0-9_-]{1,128}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
NOW = re.compile(r"(0001-01-01|0000-00-00)(T00:00(:00(\.0{1,9})?)?)?(Z|[+-]00:00)?", re.ASCII)
DURATION = re.compile(
    r"(-?)P(?=\d|T\d)(?:(\d{1,9})Y)?(?:(\d{1,9})M)?(?:(\d{1,9})([DW]))?"
    r"(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?",
    re.ASCII,
)
DAY_S = 86400.0
YEAR_DAYS, MONTH_DAYS = 366.0, 31.0  # of a duration: a bound rather lasts a day longer
ENDLESS_S = 100 * YEAR_DAYS * DAY_S  # from so long on a duration has no end
RANDOM_S_MAX = DAY_S
TIME_S_MIN, TIME_S_MAX = 946_684_800.0, 4_102_444_800.0  # 2000 and 2100: other times are none of a plant
STEPS_MAX = 2000
PAYLOADS_MAX = 50
PRIORITY_MAX = 2**31 - 1
TEXT_MAX = 200
UNIT, PRICE_UNIT = "KW", "KWH"
PRICES = ("PRICE", "EXPORT_PRICE")
PRICE_MAX = 1e6  # per kWh, in any currency: what is more is none
PARTS_MAX = 2000  # of an interval that holds several prices


class Wrong(Exception):
    """An object that is not believed; says why."""


def id_of(raw: Any) -> str:
    """The id of an object. Raises Wrong."""
    found = raw.get("id") if isinstance(raw, dict) else None
    if not isinstance(found, str) or ID.fullmatch(found) is None:
        raise Wrong(f"id: found {_shown(found)}; allowed: letters, digits, - and _, 128 at most")
    return found


def program_of(raw: Any) -> Program:
    """A program. Raises Wrong: it has no id, or no name."""
    name = raw.get("programName") if isinstance(raw, dict) else None
    if not isinstance(name, str) or not name:
        raise Wrong(f"programName: found {_shown(name)}; allowed: a text")
    return Program(
        id=id_of(raw),
        name=_text(name),
        units=_described(raw, "units"),
        currencies=_described(raw, "currency"),
        targets=targets_of(raw),
    )


def targets_of(raw: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Whom an object is meant for: the values of its targets, of 3.0 or 3.1; None: for all.

    Raises Wrong.
    """
    told = raw.get("targets")
    if told is None or told == []:
        return None
    if not isinstance(told, list):
        raise Wrong(f"targets: found {_shown(told)}; allowed: a list")
    out: list[str] = []
    for one in told:
        values = one.get("values") if isinstance(one, dict) else [one]
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise Wrong(f"targets: found {_shown(one)}; allowed: texts, or types with lists of texts")
        out += values
    return tuple(out)


class Reader:
    """Reads events for whoever can do some types of payload.

    Parameters
    ----------
    words : types of payload that are told here.
    tariff : name of the program whose prices are used; "": of none.
    currency : of these prices.
    """

    def __init__(self, words: Collection[str], tariff: str = "", currency: str = "") -> None:
        self._words, self._tariff, self._currency = frozenset(words), tariff, currency

    def event(self, raw: Mapping[str, Any], program: Program | None, heard_s: float) -> Event:
        """An event.

        Parameters
        ----------
        program : that of its programID, as far as it is known.
        heard_s : when it was heard of first [s since 1970 UTC].

        Raises
        ------
        Wrong : something in it is not as the standard has it.
        """
        units = {**({} if program is None else program.units), **_described(raw, "units")}
        if raw.get("intervals") is None and not raw.get("reportDescriptors"):  # 3.1: reports alone
            raise Wrong("intervals: found nothing; allowed: a list")
        told = _list(raw, "intervals", STEPS_MAX)
        steps = tuple(self._steps(raw, told, units, heard_s))
        priced = program is not None and program.name == self._tariff
        fault = ""
        if priced and program is not None:
            currencies = {**program.currencies, **_described(raw, "currency")}
            try:
                steps = tuple(self._priced(steps, told, units, currencies))
            except Wrong as wrong:
                fault = str(wrong)
        span = raw.get("duration")
        span_s = 0.0 if span is None else duration_s(span, "duration")  # 0: it says nothing of it
        done = self._words.union(PRICES if priced else ())
        return Event(
            id=id_of(raw),
            program=_id_in(raw, "programID"),
            title=_text(raw.get("eventName") or ""),
            priority=_priority(raw.get("priority")),
            steps=steps,
            limited=span_s > 0.0,
            duration_s=_ended(span_s),
            made_s=_made_s(raw, heard_s),
            price_fault=fault,
            unmet=tuple(sorted({p for i in told for p, _ in _payloads(i)} - done)),
            wants_demand=bool(steps) and span_s == 0.0 and any(map(_is_mean_demand, _asked(raw))),
            reports=tuple(_text(d["payloadType"]) for d in _asked(raw) if not _is_mean_demand(d)),
        )

    def _priced(
        self,
        steps: tuple[Step, ...],
        told: list[Any],
        units: Mapping[str, str],
        currencies: Mapping[str, str],
    ) -> Iterator[Step]:
        """The steps with their prices. Raises Wrong."""
        for i, (step, one) in enumerate(zip(steps, told, strict=True)):
            prices: dict[str, tuple[float, ...]] = {}
            for kind, values in _payloads(one):
                if kind not in PRICES:
                    continue
                where = f"intervals[{i}]: {kind}"
                if kind in prices:
                    raise Wrong(f"{where} again; allowed: once in an interval")
                for what, found, wanted in (
                    ("units", units.get(kind), PRICE_UNIT),
                    ("currency", currencies.get(kind), self._currency),
                ):
                    if found != wanted:
                        raise Wrong(f"{where}: found {what} {_unit_words(found)}; allowed: {wanted}")
                if step.duration_s is None:
                    raise Wrong(f"{where}: found no end; allowed: an interval with a duration")
                prices[kind] = _prices_of(values, where)
            yield replace(step, prices_per_kwh=prices)

    def _steps(
        self, raw: Mapping[str, Any], told: list[Any], units: Mapping[str, str], heard_s: float
    ) -> Iterator[Step]:
        default = _period(raw.get("intervalPeriod"), "intervalPeriod")
        now_s = _made_s(raw, heard_s)
        before: Step | None = None
        for i, one in enumerate(told):
            where = f"intervals[{i}]"
            own = _period(one.get("intervalPeriod") if isinstance(one, dict) else None, where)
            both = {k: v for k, v in (default | own).items() if v is not None}
            start_s = _start_s(own.get("start"), default.get("start"), before, now_s, where)
            random = own.get("randomizeStart") or (default.get("randomizeStart") if before is None else None)
            length = both.get("duration", "PT0S")
            number = one.get("id") if isinstance(one, dict) else None
            before = Step(
                number=number if isinstance(number, int) and abs(number) < 2**31 else i,
                start_s=start_s,
                duration_s=_ended(duration_s(length, f"{where}.duration")),
                random_s=None if random is None else _random_s(random, f"{where}.randomizeStart"),
                kw=dict(self._kw(one, units, where)),
            )
            yield before

    def _kw(self, one: Any, units: Mapping[str, str], where: str) -> Iterator[tuple[str, float]]:
        """What an interval bounds. Raises Wrong."""
        found = set[str]()
        for kind, values in _payloads(one):
            if kind not in self._words:
                continue
            if kind in found:
                raise Wrong(f"{where}: {kind} again; allowed: once in an interval")
            found.add(kind)
            unit = units.get(kind)
            if unit != UNIT:
                told = _unit_words(unit)
                raise Wrong(f"{where}: {kind}: found units {told}; allowed: {UNIT}, in payloadDescriptors")
            yield kind, _kw_of(values, f"{where}: {kind}")


def _kw_of(values: list[Any], where: str) -> float:
    value = values[0] if len(values) == 1 else values
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= KW_MAX:
        raise Wrong(f"{where}: found {_shown(value)}; allowed: one number from 0 to {KW_MAX:g} kW")
    return float(value)


def _payloads(one: Any) -> Iterator[tuple[str, list[Any]]]:
    """The types and values of an interval. Raises Wrong."""
    if not isinstance(one, dict) or one.get("payloads") is None:
        raise Wrong(f"intervals: found {_shown(one)}; allowed: objects with payloads")
    for payload in _list(one, "payloads", PAYLOADS_MAX):
        kind = payload.get("type") if isinstance(payload, dict) else None
        values = payload.get("values") if isinstance(payload, dict) else None
        if not isinstance(kind, str) or not 1 <= len(kind) <= 128 or not kind.isprintable():
            raise Wrong(f"payloads: found {_shown(payload)}; allowed: objects with a type")
        if not isinstance(values, list):
            raise Wrong(f"payloads: {kind}: values: found {_shown(values)}; allowed: a list")
        yield kind, values


def _prices_of(values: list[Any], where: str) -> tuple[float, ...]:
    """Prices of the parts of an interval, all of one length. Raises Wrong."""
    if not 1 <= len(values) <= PARTS_MAX:
        raise Wrong(f"{where}: found a list of {len(values)}; allowed: 1 to {PARTS_MAX} prices")
    for value in values:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not -PRICE_MAX <= value <= PRICE_MAX:
            raise Wrong(f"{where}: found {_shown(value)}; allowed: numbers up to {PRICE_MAX:g}")
    return tuple(float(v) for v in values)


def _unit_words(unit: str | None) -> str:
    return "none" if unit is None else "several" if unit == "" else ascii(unit[:20])


def _described(raw: Mapping[str, Any], key: str) -> dict[str, str]:
    """Units or currencies by type of payload, as its descriptors tell them; "": several. Raises Wrong."""
    out: dict[str, str] = {}
    for one in _list(raw, "payloadDescriptors", 100):
        kind, unit = (one.get("payloadType"), one.get(key)) if isinstance(one, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(unit, str | None):
            raise Wrong(f"payloadDescriptors: found {_shown(one)}; allowed: objects with payloadType, {key}")
        if one.get("objectType") == "REPORT_PAYLOAD_DESCRIPTOR" or unit is None:
            continue
        out[kind] = unit if out.get(kind, unit) == unit else ""
    return out


def _asked(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The reports that an event asks for. Raises Wrong."""
    told = _list(raw, "reportDescriptors", 100)
    for one in told:
        if not isinstance(one, dict) or not isinstance(one.get("payloadType"), str):
            raise Wrong(f"reportDescriptors: found {_shown(one)}; allowed: objects with a payloadType")
    return told


def _is_mean_demand(told: Mapping[str, Any]) -> bool:
    """Whether it asks for the mean power of all intervals, once, at their end; what it leaves out is so."""
    usual: dict[str, tuple[Any, ...]] = {
        "payloadType": ("DEMAND",), "readingType": ("MEAN",), "units": ("KW",), "targets": ([],),
        "startInterval": (-1,), "numIntervals": (-1,), "historical": (True,), "frequency": (-1,),
        "repeat": (1,), "reportIntervals": ("INTERVALS",),
    }  # fmt: skip
    return all(told.get(k) is None or told[k] in allowed for k, allowed in usual.items())


def _period(told: Any, where: str) -> dict[str, Any]:
    if told is None:
        return {}
    if not isinstance(told, dict):
        raise Wrong(f"{where}: found {_shown(told)}; allowed: an object with start and duration")
    return {k: told[k] for k in ("start", "duration", "randomizeStart") if told.get(k) is not None}


def _start_s(own: Any, default: Any, before: Step | None, now_s: float, where: str) -> float:
    """When a step starts, before chance [s]. Raises Wrong."""
    if before is None:
        for told in (own, default):
            if told is not None and not _is_now(told):
                return time_s(told, f"{where}.start")
        if own is None and default is None:
            raise Wrong(f"{where}: found no start; allowed: one in the event or in its first interval")
        return now_s
    if own is not None and not _is_now(own):
        return time_s(own, f"{where}.start")
    if before.duration_s is None:
        raise Wrong(f"{where}: found no start behind an interval without end; allowed: one")
    return before.start_s + before.duration_s


def _made_s(raw: Mapping[str, Any], heard_s: float) -> float:
    """Where "now" is: when the event was made or changed, and not later than it was heard of [s]."""
    for key in ("modificationDateTime", "createdDateTime"):
        if isinstance(raw.get(key), str):
            return min(heard_s, time_s(raw[key], key))
    return heard_s


def _is_now(told: Any) -> bool:
    return isinstance(told, str) and NOW.fullmatch(told) is not None


def time_s(told: Any, where: str) -> float:
    """A time of RFC 3339 with its zone [s since 1970 UTC]. Raises Wrong."""
    try:
        if not isinstance(told, str) or TIME.fullmatch(told) is None:
            raise ValueError
        found_s = datetime.fromisoformat(told).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        why = "such as 2026-03-02T13:00:00Z, with a zone"
        raise Wrong(f"{where}: found {_shown(told)}; allowed: a time {why}") from None
    if not TIME_S_MIN <= found_s <= TIME_S_MAX:
        raise Wrong(f"{where}: found {_shown(told)}; allowed: from 2000 to 2100")
    return found_s


def duration_s(told: Any, where: str) -> float:
    """A duration of ISO 8601 [s], inf: without end. Raises Wrong."""
    found = DURATION.fullmatch(told) if isinstance(told, str) and len(told) <= 100 else None
    if found is None:
        raise Wrong(f"{where}: found {_shown(told)}; allowed: a duration such as PT15M")
    sign, years, months, days, unit, hours, minutes, seconds = found.groups(default="0")
    if sign and where.rpartition(".")[2] != "randomizeStart":
        raise Wrong(f"{where}: found {_shown(told)}; allowed: 0 or more")
    whole_days = float(days) * (7.0 if unit == "W" else 1.0)
    whole_days += float(years) * YEAR_DAYS + float(months) * MONTH_DAYS
    out_s = whole_days * DAY_S + float(hours) * 3600.0 + float(minutes) * 60.0 + float(seconds)
    return math.inf if out_s >= ENDLESS_S else out_s


def _ended(length_s: float) -> float | None:
    """A duration; None: without end, which nothing told is too."""
    return length_s if 0.0 < length_s < math.inf else None


def _random_s(told: Any, where: str) -> float:
    found_s = duration_s(told, where)
    if found_s > RANDOM_S_MAX:
        raise Wrong(f"{where}: found {_shown(told)}; allowed: {RANDOM_S_MAX:g} s or less")
    return found_s


def _priority(told: Any) -> int | None:
    if told is None:
        return None
    if isinstance(told, bool) or not isinstance(told, int) or not 0 <= told <= PRIORITY_MAX:
        raise Wrong(f"priority: found {_shown(told)}; allowed: a whole number, 0 or more")
    return told


def _id_in(raw: Mapping[str, Any], key: str) -> str:
    found = raw.get(key)
    if not isinstance(found, str) or ID.fullmatch(found) is None:
        raise Wrong(f"{key}: found {_shown(found)}; allowed: the id of a program")
    return found


def _list(raw: Mapping[str, Any], key: str, most: int) -> list[Any]:
    """A list; nothing told is an empty one. Raises Wrong."""
    told = raw.get(key)
    if told is None:
        return []
    if not isinstance(told, list) or len(told) > most:
        found = f"{len(told)} of them" if isinstance(told, list) else _shown(told)
        raise Wrong(f"{key}: found {found}; allowed: a list of {most} at most")
    return told


def _text(told: Any) -> str:
    """A text for a person."""
    if not isinstance(told, str):
        raise Wrong(f"found {_shown(told)}; allowed: a text")
    return plain(told, TEXT_MAX)


def _shown(told: Any) -> str:
    """What was found, short, without anything that a terminal would obey."""
    if told is None:
        return "nothing"
    if isinstance(told, dict | list):
        return "an object" if isinstance(told, dict) else f"a list of {len(told)}"
    try:
        return ascii(told)[:40]
    except ValueError:  # a number of more digits than Python writes
        return "a very long number"
