"""What an OBIS code is called, where the standard has a word for it. Pure. Source: IEC 62056-6-1."""

_OF_ALL = {
    (0, 1, 0): "clock", (0, 42, 0): "logical device name", (0, 40, 0): "this association",
    (0, 96, 1): "device number", (0, 43, 1): "invocation counter", (0, 41, 0): "logical devices",
}  # fmt: skip
_OF_ELECTRICITY = {
    (0, 0): "meter number", (0, 2): "firmware", (0, 4): "ratio or constant", (0, 8): "length of a period",
    (99, 1): "load profile 1", (99, 2): "load profile 2", (98, 1): "billing periods",
}  # fmt: skip
_RATIOS = {2: "current transformer, numerator", 5: "current transformer, denominator"}
_RATIOS |= {3: "voltage transformer, numerator", 6: "voltage transformer, denominator"}
_QUANTITY = {
    1: "active power import", 2: "active power export", 3: "reactive power import",
    4: "reactive power export", 9: "apparent power import", 10: "apparent power export", 11: "current",
    12: "voltage", 13: "power factor", 14: "frequency", 15: "active power import plus export",
    16: "active power import less export",
}  # fmt: skip
_KIND = {2: "cumulated maximum", 4: "average now", 5: "last average", 6: "maximum", 7: "now"}
_INTEGRALS = {8: "since it was made", 9: "since the last period", 29: "of each interval"}
CLASSES = {
    1: "data", 3: "register", 4: "extended register", 5: "demand register", 6: "register activation",
    7: "profile", 8: "clock", 9: "scripts", 11: "special days", 15: "association", 17: "logical devices",
    18: "image transfer", 20: "tariff calendar", 22: "schedule", 23: "HDLC port", 40: "push", 41: "TCP port",
    42: "IPv4", 63: "status mapping", 64: "security", 70: "disconnector", 71: "limiter",
}  # fmt: skip


def name_of(obis: bytes) -> str:
    """In words; empty: there is none here."""
    a, _, c, d, e, _ = obis
    if a == 0:
        return _OF_ALL.get((a, c, d), "")
    if a != 1:
        return ""
    if (c, d, e) in {(0, 4, r) for r in _RATIOS}:
        return _RATIOS[e]
    if (c, d) in _OF_ELECTRICITY:
        return _OF_ELECTRICITY[c, d]
    phase, quantity = divmod(c, 20) if 21 <= c <= 80 else (0, c)
    if quantity not in _QUANTITY or d not in _KIND | _INTEGRALS:
        return ""
    word, kind = _QUANTITY[quantity], _KIND.get(d, "")
    if d in _INTEGRALS:
        word, kind = word.replace("power", "energy"), _INTEGRALS[d]
    parts = [
        word,
        f"L{phase}" if phase else "",
        kind,
        f"tariff {e}" if 1 <= e <= 63 and d not in (7,) else "",
    ]
    return ", ".join(p for p in parts if p)
