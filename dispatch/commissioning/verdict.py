"""What the steps of a probe say: right, or wrong and in which way.

Two witnesses: the unit's own power, and the rest of the plant (grid and other sources less the load), which
must give what the unit takes. From how far each followed one reads which sign or scale is wrong.
"""

import math
from collections.abc import Mapping, Sequence
from enum import Enum

from dispatch.commissioning.probe import Hop, Probe
from dispatch.commissioning.rows import PointRow, Verdict

EFFECT_RATIO = 0.5  # of the largest expected change: a step that should have shown
OWN_TOLERANCE, POI_TOLERANCE = 0.25, 0.45


class _How(Enum):
    """How far something followed."""

    RIGHT = "as asked"
    SIGN = "the other way"
    TEN = "about ten times"
    TENTH = "about a tenth"
    MORE = "far more"
    NONE = "not at all"
    ODD = "by another amount"
    UNREAD = "not readable"
    UNKNOWN = "not measured"


_CAUSES: Mapping[tuple[_How, _How], str] = {
    (_How.SIGN, _How.RIGHT): "sign of the power reading",
    (_How.SIGN, _How.SIGN): "sign of the setpoint",
    (_How.RIGHT, _How.SIGN): "sign of the setpoint and of its power reading, or of the meter at the POI",
    (_How.TEN, _How.TEN): "scale of the setpoint: ten times too much is done",
    (_How.TENTH, _How.TENTH): "scale of the setpoint: a tenth is done",
    (_How.RIGHT, _How.TEN): "scale of setpoint and power reading, both ten times",
    (_How.RIGHT, _How.TENTH): "scale of setpoint and power reading, both a tenth",
    (_How.TEN, _How.RIGHT): "scale of the power reading: ten times too much",
    (_How.TENTH, _How.RIGHT): "scale of the power reading: a tenth",
    (_How.NONE, _How.RIGHT): "address of the power reading, or its scale (W for kW), or it stands still",
    (
        _How.NONE,
        _How.NONE,
    ): "address, word order or scale (W for kW) of the setpoint, or nothing follows it",
    (_How.MORE, _How.MORE): "scale (kW for W) or word order of the setpoint",
    (_How.MORE, _How.RIGHT): "scale (W for kW) or word order of the power reading",
}


def judge(probe: Probe) -> PointRow:
    """The row of a setpoint."""
    verdict, text = _judged(probe)
    shown = "effect" if verdict is not Verdict.NOT_SHOWN else "nothing"
    return PointRow(point=probe.point, verdict=verdict, shown=shown, text=text)


def _judged(probe: Probe) -> tuple[Verdict, str]:
    hops = probe.hops
    if not hops:
        return Verdict.NOT_SHOWN, probe.refused if probe.refused else "there was no room for a step"
    wrong = _not_taken(hops) or _unasked(hops) or _followed(hops)
    if wrong:
        return Verdict.FAIL, wrong
    if probe.refused:
        return Verdict.NOT_SHOWN, f"not ended: {probe.refused}"
    shown = _effective(hops)
    if not shown:
        return (
            Verdict.NOT_SHOWN,
            "no step reached what the unit gives: no room at the POI, or too little power",
        )
    if probe.bipolar and len({h.expected_kw > 0.0 for h in shown if _away(h, probe)}) < 2:
        return Verdict.NOT_SHOWN, "only one direction had room at the POI: commission again when both have"
    own = _ratio([(h.own_kw, h.expected_kw) for h in shown])
    poi = _ratio([(h.poi_kw, h.expected_kw) for h in shown])
    seen = "" if poi is None else f", the POI {poi:.2f} times"
    return Verdict.PASS, f"{len(hops)} steps read back; power followed {own:.2f} times{seen}"


def _away(hop: Hop, probe: Probe) -> bool:
    return probe.start is not None and abs(hop.value - probe.start) > abs(hop.before - probe.start)


def _not_taken(hops: Sequence[Hop]) -> str:
    """A write that was not taken, or not as it was meant."""
    for h in hops:
        if h.read_back is None:
            return f"{h.value:g} was written, and nothing is read back"
        if h.read_back != h.value:  # equal where it holds it within its resolution
            why = f" ({h.why})" if h.why else ""
            what = "scale, word order, type or address of the setpoint?"
            return f"{h.value:g} was written and {h.read_back:g} is read back{why}: {what}"
    return ""


def _unasked(hops: Sequence[Hop]) -> str:
    """Much happened where nothing should have."""
    for h in hops:
        if h.cut_short and h.expected_kw == 0.0:
            return f"{_kw(h.own_kw)} where nothing was to change: scale or address of the setpoint"
    return ""


def _followed(hops: Sequence[Hop]) -> str:
    """The first step that was not followed as it should have been."""
    cut = [h for h in hops if h.cut_short]
    for h in [*cut, *_effective(hops)]:
        own, poi = _how(h.own_kw, h, OWN_TOLERANCE, read=True), _how(h.poi_kw, h, POI_TOLERANCE, read=False)
        if own is _How.RIGHT and poi in (_How.RIGHT, _How.UNKNOWN):
            continue
        told = f"of {h.expected_kw:+.1f} kW the unit reads {_kw(h.own_kw)}, the POI saw {_kw(h.poi_kw)}"
        cause = _CAUSES.get((own, poi), f"the unit followed {own.value}, the POI {poi.value}")
        if own is _How.UNREAD:
            cause = "the power reading is bad at this power: type, word order or range"
        elif poi is _How.UNKNOWN:
            cause = _CAUSES.get((own, own), cause)
        return f"{told}: {cause}{_instead(h)}"
    return ""


def _instead(h: Hop) -> str:
    """Whether another unit did it."""
    for asset, kw in h.others_kw.items():
        near_kw = max(OWN_TOLERANCE * abs(h.expected_kw), 3.0 * h.noise_kw)
        if abs(h.expected_kw) > 2.0 * near_kw and abs(kw - h.expected_kw) <= near_kw:
            return f"; {asset} moved by {kw:+.1f} kW instead"
    return ""


def _effective(hops: Sequence[Hop]) -> list[Hop]:
    """Steps that should have shown; a nudge alone shows nothing, whatever noise makes of it."""
    hops = [h for h in hops if not h.is_nudge]
    largest = max((abs(h.expected_kw) for h in hops), default=0.0)
    return [h for h in hops if largest > 0.0 and abs(h.expected_kw) >= EFFECT_RATIO * largest]


def _how(kw: float | None, h: Hop, tolerance: float, *, read: bool) -> _How:
    if kw is None:
        return _How.UNREAD if read else _How.UNKNOWN
    if h.cut_short and not read and abs(kw) <= 2.0 * abs(h.expected_kw) + 4.0 * h.noise_kw:
        return _How.RIGHT  # the step was a small one: that nothing large happened is all that can be seen
    blur = min(0.3, 3.0 * h.noise_kw / abs(h.expected_kw))
    r, near = kw / h.expected_kw, max(tolerance, blur)
    size = abs(r)
    if abs(r - 1.0) <= near:
        return _How.RIGHT
    if abs(r + 1.0) <= near:
        return _How.SIGN
    if 0.06 <= size <= 0.16:
        return _How.TENTH
    if size <= near:
        return _How.NONE
    if 7.0 <= size <= 13.0:
        return _How.TEN
    return _How.MORE if size > 13.0 else _How.ODD


def _ratio(pairs: Sequence[tuple[float | None, float]]) -> float | None:
    known = [(a, b) for a, b in pairs if a is not None]
    square = math.fsum(b * b for _, b in known)
    return math.fsum(a * b for a, b in known) / square if square > 0.0 else None


def _kw(value: float | None) -> str:
    return "nothing" if value is None else f"{value:+.1f} kW"
