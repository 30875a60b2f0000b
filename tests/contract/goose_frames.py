"""GOOSE frames made by the encoder of another make (open61850), and spoilt by a seeded hand."""

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from open61850 import data as iec
from open61850 import goose

from connectors.iec61850.goose_link import Ear
from connectors.iec61850.goose_stream import Stream
from connectors.point_map import point_codecs
from ems.goose import Goose, GooseBlock
from ems.site import Connection, PointMap, Protocol

TO, FROM = "01:0c:cd:01:00:01", "02:00:00:00:00:01"
CHANGED = datetime(2026, 3, 1, 12, 0, 0, 250000, tzinfo=UTC)
LN = "IED1LD0/XCBR1"
MEMBERS = (
    f"{LN}.Pos.stVal [ST]",
    f"{LN}.Pos.q [ST]",
    "IED1LD0/GGIO1.Ind1 [ST] (stVal, q, t)",
    "IED1LD0/MMXU1.TotW [MX] (mag(f), q)",
    "IED1LD0/GGIO1.IntIn1.stVal [ST]",
    "IED1LD0/GGIO1.IntIn1.q [ST]",
)
BLOCK = GooseBlock(
    control_block="IED1LD0/LLN0$GO$gcbTrip", app_id=0x1001, destination=TO, conf_rev=3, members=MEMBERS,
    go_id="trip", data_set="IED1LD0/LLN0$DSTrip",
)  # fmt: skip
POINTS = {
    "closed": (f"{LN}.Pos.stVal [ST]", "Dbpos"),
    "stop": ("IED1LD0/GGIO1.Ind1.stVal [ST]", "BOOLEAN"),
    "p": ("IED1LD0/MMXU1.TotW.mag.f [MX]", "FLOAT32"),
    "n": ("IED1LD0/GGIO1.IntIn1.stVal [ST]", "INT32"),
}
RIGHT = {"dev.closed": 2.0, "dev.stop": 1.0, "dev.p": -12.5, "dev.n": 70000.0}


def row(name: str, age_s_max: float = 60.0) -> PointMap:
    address, data_type = POINTS[name]
    return PointMap(
        point=f"dev.{name}", address=address, table="member", data_type=data_type, byte_order="big",
        word_order="big", scale=1.0, offset=0.0, sign=1, unit="kW", low=-1e6, high=1e6, age_s_max=age_s_max,
        writable=False,
    )  # fmt: skip


def connection(interface: str = "eth1", timeout_s: float = 0.2, **block: Any) -> Connection:
    return Connection(
        id="dev", protocol=Protocol.GOOSE, host="", port=0, unit_id=1, endpoint="", poll_s=0.1,
        timeout_s=timeout_s, watchdog_point=None, points=tuple(map(row, POINTS)),
        goose=Goose(interface=interface, blocks=(replace(BLOCK, **block),)),
    )  # fmt: skip


def stream(**block: Any) -> Stream:
    told = connection(**block)
    assert told.goose is not None
    return Stream(told.goose.blocks[0], list(point_codecs(told).values()))


def ear(**block: Any) -> tuple[Ear, Stream]:
    made = stream(**block)
    return Ear([made]), made


def quality(bits: int = 0) -> iec.BitStringData:
    """Thirteen bits, the first the most significant."""
    return iec.BitStringData((bits << 3).to_bytes(2), 3)


def values(q: int = 0, clock: int = 0x0A) -> list[iec.IECData]:
    return [
        iec.BitStringData(b"\x80", 6),
        quality(q),
        iec.StructureData([iec.BoolData(True), quality(q), iec.TimestampData(CHANGED, clock)]),
        iec.StructureData([iec.StructureData([iec.FloatData(-12.5)]), quality(q)]),
        iec.IntData(70000),
        quality(q),
    ]


def frame(state: int = 1, sequence: int = 0, alive_ms: int = 1000, **more: Any) -> bytes:
    told: dict[str, Any] = {"app_id": BLOCK.app_id, "dst_mac": TO} | {
        k: more.pop(k) for k in ("app_id", "dst_mac", "vlan_id") if k in more
    }
    if "vlan_id" in told:
        told["vlan_priority"] = 4
    fields: dict[str, Any] = {
        "gocb_ref": BLOCK.control_block, "time_allowed_to_live": alive_ms, "dat_set": BLOCK.data_set,
        "go_id": BLOCK.go_id, "timestamp": CHANGED, "st_num": state, "sq_num": sequence, "simulation": False,
        "conf_rev": BLOCK.conf_rev, "nds_com": False, "all_data": values(), "time_quality": 0x0A,
    } | more  # fmt: skip
    pdu = goose.GoosePDU(num_dat_set_entries=len(fields["all_data"]), **fields)
    return goose.encode_goose_frame(pdu, src_mac=FROM, **told)


def places(told: bytes) -> dict[str, tuple[int, int]]:
    """Where in a frame the octets of each value are: (first, behind the last)."""
    found = {}
    for name, octets in {
        "dev.closed": b"\x84\x02\x06\x80", "dev.stop": b"\x83\x01\xff",
        "dev.p": b"\x87\x05\x08\xc1\x48\x00\x00", "dev.n": b"\x85\x03\x01\x11\x70",
    }.items():  # fmt: skip
        begin = told.index(octets, told.index(b"\xab"))
        found[name] = (begin + 2, begin + len(octets))
    return found


def spoilt(rng: random.Random, told: bytes, spare: frozenset[int] = frozenset()) -> bytes:
    """The frame as it never should be; octets at `spare` places stay as they are."""
    made = bytearray(told)
    free = [i for i in range(len(told)) if i not in spare]
    match rng.randrange(7):
        case 0:
            for i in rng.sample(free, rng.randint(1, 4)):
                made[i] ^= 1 << rng.randrange(8)
        case 1:
            for i in rng.sample(free, rng.randint(1, 3)):
                made[i] = rng.choice((0, 1, 0x7F, 0x80, 0x81, 0xA2, 0xFF, rng.randrange(256)))
        case 2:
            return bytes(made[: rng.randrange(len(made))])
        case 3:
            return bytes(made) + rng.randbytes(rng.randint(1, 64))
        case 4:
            at = rng.randrange(len(made))
            del made[at : at + rng.randint(1, 4)]
        case 5:
            at = rng.randrange(len(made))
            made[at:at] = rng.randbytes(rng.randint(1, 4))
        case 6:
            return bytes(made[:26]) + rng.randbytes(rng.randrange(200))
    return bytes(made)
