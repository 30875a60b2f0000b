"""Servers of a utility that tell bounds: how they are reached, and what their words tell here."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ems.control_site import LimitKind
from ems.http_json import HttpJson
from ems.northbound import TlsFiles

PIN_MAX = 999_999
LFDI_DIGITS = 40
PORT_TLS = 443


class UtilityProtocol(StrEnum):
    """What a server of a utility may speak."""

    IEEE2030_5 = "ieee2030_5"  # IEEE 2030.5 by the profiles CSIP and CSIP-AUS
    OPENADR3 = "openadr3"  # OpenADR 3.0 and 3.1, as a VEN


# The modes of a DERControl that bound a plant, and the kinds of cap that each may be told as.
# CSIP-AUS, "Common Smart Inverter Profile, Australia" (SA HB 218:2023), 8.3; IEEE 2030.5-2018, 10.10.
MODES: dict[str, tuple[LimitKind, ...]] = {
    "opModExpLimW": (LimitKind.EXPORT,),
    "opModImpLimW": (LimitKind.IMPORT,),
    "opModGenLimW": (LimitKind.PV, LimitKind.BESS_DISCHARGE),
    "opModLoadLimW": (LimitKind.BESS_CHARGE,),
    "opModMaxLimW": (LimitKind.EXPORT, LimitKind.PV, LimitKind.BESS_DISCHARGE),
}
# The types of an event's payload that bound a site, in KW: OpenADR 3.1.0 Definitions, "Event Enumerations".
PAYLOADS: dict[str, tuple[LimitKind, ...]] = {
    "EXPORT_CAPACITY_LIMIT": (LimitKind.EXPORT,),
    "IMPORT_CAPACITY_LIMIT": (LimitKind.IMPORT,),
}
WORDS = {  # by protocol: the words that tell a bound
    UtilityProtocol.IEEE2030_5: MODES,
    UtilityProtocol.OPENADR3: PAYLOADS,
}


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
    path: str  # of its DeviceCapability; of a VTN: in front of /programs and /events
    tellings: tuple[Telling, ...]
    age_s_max: float  # what the server said is told no longer than this after its last whole answer
    clock_s_max: float  # a server whose clock is further off is alarmed
    timeout_s: float  # of one answer

    @property
    def where(self) -> str:
        """Host and port, as in a URL."""
        return host_and_port(self.host, self.port)

    @property
    def limits(self) -> tuple[str, ...]:
        """Every limit that it tells."""
        return tuple(limit for t in self.tellings for limit, _ in t.shares)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sep2Server(UtilityServer):
    """A server of IEEE 2030.5."""

    tls: TlsFiles
    server_lfdi: str | None  # of its certificate, which then need not be made out to its host
    ccm8: bool  # whether the cipher with a tag of 64 bits is offered too
    pin: int | None  # what the server must tell of our registration; None: it is not asked
    set_max_kw: float | None  # what opModMaxLimW is a percentage of; None: it is not used
    post_device: bool  # whether ratings and state of the plant are told to it
    post_meter: bool  # whether the readings of the meter at the POI are


@dataclass(frozen=True, slots=True, kw_only=True)
class VtnPrices:
    """Where the prices of a program of a VTN go: into the folder of an input, as files of anybody else."""

    program: str  # its name
    input: str
    folder: str  # of that input, as the site file says


@dataclass(frozen=True, slots=True, kw_only=True)
class VtnServer(UtilityServer):
    """A VTN of OpenADR 3, and who we are there."""

    http: HttpJson  # how it is known; who we are is `client_id`
    token_host: str  # is given our secret, and gives a token
    token_port: int
    token_path: str
    client_id: str
    secret_file: str | None  # of one of the two
    secret_env: str | None
    scope: str  # asked for with the token; "": none
    every_s: float  # it is asked
    ven_name: str  # ours, as in the targets of an event; "": none
    targets: tuple[str, ...]  # ours beside it
    ask_targets: bool  # each is put into a question of its own, as a VTN of 3.1 wants it
    programs: tuple[str, ...]  # names of those that count; (): all that it shows us
    prices: VtnPrices | None = None
    post_meter: bool = True  # whether the mean power at the POI is told where an event asks for it


def host_and_port(host: str, port: int) -> str:
    """Both, as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_pin(pin: int) -> bool:
    """Whether a PIN is one: its last digit makes the sum of all of them a multiple of ten (2030.5, 6.3.5)."""
    return 0 <= pin <= PIN_MAX and sum(int(d) for d in str(pin)) % 10 == 0
