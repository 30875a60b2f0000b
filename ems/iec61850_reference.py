"""References of IEC 61850: `LD0/MMXU1.TotW.mag.f [MX]`, an attribute with its functional constraint.

Source: IEC 61850-7-2 (2010), 22.2 (references), table 20 (functional constraints). The name before the slash
is the whole name of the logical device as the server tells it, that of the IED included.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ems.errors import BadValue

READ_FCS = ("ST", "MX", "SP", "SV", "CF", "DC", "SG", "BL", "EX", "OR")
SETPOINT, CONTROL = "SP", "CO"
UNBUFFERED, BUFFERED = "RP", "BR"  # of report control blocks
_NAME = r"[A-Za-z][A-Za-z0-9_]*"
_FORM = re.compile(rf"({_NAME})/({_NAME})\.({_NAME}(?:\.{_NAME})*)\s*\[([A-Z]{{2}})\]")
NAME_MAX = 64  # letters of a logical device (IEC 61850-7-2, table 4)
TEXT_MAX = 129  # of a whole reference
PORT, PORT_TLS = 102, 3782  # RFC 1006; IEC 62351-3 and -4
ORIGINATORS = {  # orCat of IEC 61850-7-3: who commands
    "bay": 1, "station": 2, "remote": 3, "automatic_bay": 4, "automatic_station": 5, "automatic_remote": 6,
}  # fmt: skip


def is_name(text: str) -> bool:
    """Whether a part of a reference is one; what a device calls so may be anything."""
    return re.fullmatch(_NAME, text) is not None and len(text) <= NAME_MAX


@dataclass(frozen=True, slots=True)
class Reference:
    """Logical device, logical node, functional constraint, and the way from the data object on."""

    device: str
    node: str
    path: tuple[str, ...]
    fc: str

    @property
    def is_control(self) -> bool:
        """A data object that is operated, not an attribute that is written."""
        return self.fc == CONTROL

    def __str__(self) -> str:
        return f"{self.device}/{self.node}.{'.'.join(self.path)} [{self.fc}]"


def parse_reference(text: str) -> Reference:
    """The parts of a reference.

    Raises
    ------
    BadValue : it is not written as one is; says what is wrong.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        if re.search(r"\[\w*\]$", text.strip()) is None:
            raise BadValue("no functional constraint in brackets at the end, such as [MX]")
        if "$" in text:
            raise BadValue("$ belongs to the MMS name; write LD/LN.DO.DA [FC]")
        if "(" in text:
            raise BadValue("an element of an array cannot be a point")
        raise BadValue("not LD/LN.DO.DA [FC]")
    device, node, path, fc = found.groups()
    if fc not in (*READ_FCS, CONTROL):
        raise BadValue(f"functional constraint {fc}; known: {' '.join((*READ_FCS, CONTROL))}")
    if len(device) > NAME_MAX or len(text) > TEXT_MAX:
        raise BadValue(
            f"longer than a reference may be ({NAME_MAX} letters before the slash, {TEXT_MAX} in all)"
        )
    return Reference(device, node, tuple(path.split(".")), fc)


@dataclass(frozen=True, slots=True)
class Block:
    """A report control block, with a buffer (BR) or without (RP)."""

    device: str
    node: str
    name: str
    fc: str = UNBUFFERED

    def __str__(self) -> str:
        return f"{self.device}/{self.node}.{self.name} [{self.fc}]"

    @property
    def mms_name(self) -> str:
        """Its name inside the logical device, which its reports carry unless they have another."""
        return f"{self.node}${self.fc}${self.name}"


def parse_block(text: str, fc: str = UNBUFFERED) -> Block:
    """The parts of the reference of a report control block of one kind. Raises BadValue."""
    found = _FORM.fullmatch(text.strip())
    if found is None or "." in found[3] or found[4] != fc:
        name = "urcbMeas01" if fc == UNBUFFERED else "brcbEvents01"
        other = {UNBUFFERED: "blocks", BUFFERED: "buffered"}.get("" if found is None else found[4], "")
        place = f"; one of {found[4]} is named in `{other}`" if found is not None and other else ""
        raise BadValue(f"not LD/LN.block [{fc}], such as IED1LD0/LLN0.{name} [{fc}]{place}")
    return Block(found[1], found[2], found[3], fc)


def reference_faults(address: str, data_type: str, *, writable: bool) -> Iterator[tuple[str, str]]:
    """What of a row of a point map cannot be worked with: (key, what is allowed)."""
    try:
        reference = parse_reference(address)
    except BadValue as error:
        yield "address", f"LD/LN.DO.DA [FC]: {error}"
        return
    if reference.is_control and not writable:
        yield "address", "a control object (CO) only where the point is writable"
    elif writable and reference.fc not in (SETPOINT, CONTROL):
        yield "address", "functional constraint SP or CO where the point is writable"
    if writable and data_type == "Dbpos":
        yield "data_type", "BOOLEAN: a control of two positions is told off or on"
