"""Registers of three SunSpec devices, written down by hand from the published tables: no codec made them.

Each entry: register, what is there, and what it is. Registers that nobody names hold 0xFFFF.
"""

END = [0xFFFF, 0]


def text(words: int, letters: str) -> list[int]:
    """Two letters a register, the first in its upper half."""
    padded = letters + "\0" * (2 * words - len(letters))
    return [256 * ord(padded[2 * i]) + ord(padded[2 * i + 1]) for i in range(words)]


def inverter(base: int = 40000) -> dict[int, list[int]]:
    """Models 1, 701, 702, 704, 715 of a PV inverter of 600 kW that gives 234.5 kW, limited to 55.5 %."""
    at = base - 40000
    image = {
        40000: [0x5375, 0x6E53],  # "SunS"
        40002: [1, 66],
        40004: text(16, "Example Power"),
        40020: text(16, "PV-600"),
        40044: text(8, "3.4.1"),
        40052: text(16, "SN-0815"),
        40068: [1, 0x8000],
        40070: [701, 153],
        40072: [2, 1, 3, 1],  # three phases, on, running, connected
        40076: [0, 0],  # no alarm
        40078: [0, 1],  # following
        40080: [2345],  # W, hundreds
        40082: [0xFF85],  # Var: -123, tens
        40087: [0, 50012],  # Hz, thousandths
        40183: [0, 0xFFFF, 0xFFFD, 2, 0xFFFD, 2, 1],  # A, V (-1), Hz (-3), W (2), PF (-3), VA (2), Var (1)
        40225: [702, 50],
        40227: [6000],  # WMaxRtg, hundreds
        40270: [2],  # W_SF
        40277: [704, 65],
        40291: [1, 555, 100, 1, 0, 15, 0, 12],  # limit on, 55.5 %, 10 % after 15 s, 12 s left
        40299: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],  # no power setpoint
        40331: [0xFFFF, 2, 0xFFFF],  # WMaxLimPct_SF (-1), WSet_SF (2), WSetPct_SF (-1)
        40344: [715, 7],
        40346: [0, 0, 77, 0, 5],  # remote, heartbeat of the inverter 77, ours 5
        40353: END,
    }
    return {k + at: v for k, v in image.items()}


def battery(base: int = 50000) -> dict[int, list[int]]:
    """The same models and 802: charging with 123.4 kW, 61.5 % full; no setpoint enabled."""
    at = base - 40000
    image = inverter()
    image |= {
        40020: text(16, "BAT-500"),
        40052: text(16, "SN-4711"),
        40074: [4],  # throttled
        40080: [0xFB2E],  # W: -1234, hundreds
        40259: [4800, 5000],  # WChaRteMax, WDisChaRteMax, hundreds
        40291: [0, 1000, 0, 0, 0, 0, 0, 0],
        40299: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        40332: [2],
        40353: [802, 62],
        40364: [615],  # SoC, tenths of a percent
        40370: [0, 9, 3],  # remote, its heartbeat, ours
        40375: [3],  # connected
        40409: [0xFFFF],  # SoC_SF (-1)
        40417: END,
    }
    return {k + at: v for k, v in image.items()}


def meter() -> dict[int, list[int]]:
    """Models 1 (without its pad) and 203 from register 0: 87.65 kW imported, 229.8 V, 49.98 Hz."""
    return {
        0: [0x5375, 0x6E53],
        2: [1, 65],
        4: text(16, "Example Meters"),
        20: text(16, "M-4"),
        44: text(8, "1.0"),
        52: text(16, "SN-1"),
        68: [3],
        69: [203, 105],
        76: [2298],  # PhV, tenths
        84: [0xFFFF],  # V_SF (-1)
        85: [4998, 0xFFFE],  # Hz, hundredths
        87: [8765],  # W, tens
        91: [1],  # W_SF
        176: END,
    }


def registers(image: dict[int, list[int]]) -> dict[int, int]:
    """Register by register; gaps hold 0xFFFF."""
    first, last = min(image), max(k + len(v) for k, v in image.items())
    out = dict.fromkeys(range(first, last), 0xFFFF)
    for start, words in image.items():
        out |= {start + i: w for i, w in enumerate(words)}
    return out
