"""Servers of a utility that tell bounds: how they are reached, and what their words tell here."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ems.control_site import LimitKind
from ems.northbound import TlsFiles

PIN_MAX = 999_999
LFDI_DIGITS = 40
PORT_TLS = 443


class UtilityProtocol(StrEnum):
    """What a server of a utility may speak."""

    IEEE2030_5 = "ieee2030_5"  # IEEE 2030.5 by the profiles CSIP and CSIP-AUS


# The modes of a DERControl that bound a plant, and the kinds of cap that each may be told as.
# CSIP-AUS, "Common Smart Inverter Profile, Australia" (SA HB 218:2023), 8.3; IEEE 2030.5-2018, 10.10.
MODES = {
    "opModExpLimW": (LimitKind.EXPORT,),
    "opModImpLimW": (LimitKind.IMPORT,),
    "opModGenLimW": (LimitKind.PV, LimitKind.BESS_DISCHARGE),
    "opModLoadLimW": (LimitKind.BESS_CHARGE,),
    "opModMaxLimW": (LimitKind.EXPORT, LimitKind.PV, LimitKind.BESS_DISCHARGE),
}
WORDS = {UtilityProtocol.IEEE2030_5: MODES}  # by protocol: the words that tell a bound


class Share(NamedTuple):
    """A limit, and how much of a value it is told."""

    limit: str
    share_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What one word of a server tells: limits of `control.limits`, each a share of the value."""

    word: str  # such as opModExpLimW
    shares: tuple[Share, ...]
    otherwise_kw: float | None = None  # told while the server answers and says nothing of this; None: nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class UtilityServer:
    """One server that is asked for bounds. No secrets."""

    id: str
    protocol: UtilityProtocol
    host: str
    port: int
    path: str  # of its DeviceCapability
    tls: TlsFiles
    server_lfdi: str | None  # of its certificate, which then need not be made out to its host
    ccm8: bool  # whether the cipher with a tag of 64 bits is offered too
    pin: int | None  # what the server must tell of our registration; None: it is not asked
    tellings: tuple[Telling, ...]
    age_s_max: float  # what the server said is told no longer than this after its last whole answer
    clock_s_max: float  # a server whose clock is further off is alarmed
    timeout_s: float  # of one answer
    set_max_kw: float | None  # what opModMaxLimW is a percentage of; None: it is not used
    post_device: bool  # whether ratings and state of the plant are told to it
    post_meter: bool  # whether the readings of the meter at the POI are

    @property
    def where(self) -> str:
        """Host and port, as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def limits(self) -> tuple[str, ...]:
        """Every limit that it tells."""
        return tuple(limit for t in self.tellings for limit, _ in t.shares)


def is_pin(pin: int) -> bool:
    """Whether a PIN is one: its last digit makes the sum of all of them a multiple of ten (2030.5, 6.3.5)."""
    return 0 <= pin <= PIN_MAX and sum(int(d) for d in str(pin)) % 10 == 0
