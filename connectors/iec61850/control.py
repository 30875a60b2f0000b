"""Controls: a value is operated, selected before where the device wants it, and its end is waited for.

Source: IEC 61850-7-2 (2010), clause 20 (control models, AddCause); IEC 61850-8-1 (2011), clause 20.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from open61850 import data as iec
from open61850.mms.control import ADD_CAUSES, LAST_APPL_ERROR, LastApplError, Origin
from open61850.mms.errors import DataAccessError
from open61850.mms.pdu import InformationReport, ObjectName
from open61850.mms.types import PrimitiveType

from connectors.iec61850.mms import FAULTS, Mms, ServiceFault
from connectors.iec61850.places import Control
from connectors.iec61850.values import AccessFault, data_of
from connectors.link import LinkError, NotSent, WriteReply
from connectors.raw_types import Raw
from ems.clock import wall_s
from ems.commands import WriteOutcome
from ems.errors import BadValue

SBO_NORMAL, DIRECT_ENHANCED, SBO_ENHANCED = 2, 3, 4
WHO = b"ems"
TIME_UNSURE = 0x3F  # T: not synchronised, accuracy unspecified: nobody here knows better
CHECKS = iec.BitStringData(b"\xc0", 6)  # synchrocheck and interlocking: the device shall look at both
CONFIRMED = WriteReply(WriteOutcome.CONFIRMED, "")


@dataclass(frozen=True, slots=True)
class Order:
    """One command as it is sent: the same value in selection, operation and cancellation."""

    control: Control
    value: iec.StructureData
    number: int

    def part(self, attribute: str) -> ObjectName:
        """The MMS name of one of its services."""
        return ObjectName(f"{self.control.name.item}${attribute}", self.control.name.domain)


def order(
    control: Control, raw: Raw, type_name: str, *, unsigned: bool, origin: int, number: int, at: datetime
) -> Order:
    """A command.

    Parameters
    ----------
    type_name : of the point map.
    unsigned : the device's own integer has no sign.
    origin : category of who commands (IEC 61850-7-3, orCat).
    number : ctlNum, 0 to 255; the same value under another number is another command.
    at : now.
    """
    value = data_of(raw, type_name, unsigned=unsigned)
    parts: dict[str, iec.IECData] = {
        "ctlVal": iec.StructureData([value]) if control.value else value,
        "operTm": iec.TimestampData(datetime.fromtimestamp(0, at.tzinfo)),  # at once
        "origin": Origin(origin, WHO).to_data(),
        "ctlNum": iec.UIntData(number),
        "T": iec.TimestampData(at, TIME_UNSURE),
        "Test": iec.BoolData(False),
        "Check": CHECKS,
    }
    if "T" in control.members and _is_binary_time(control, "T"):  # edition 1
        parts["T"] = iec.RawData(iec.TAG_BINARY_TIME, iec.encode_binary_time(at))
    return Order(control, iec.StructureData([parts[m] for m in control.members]), number)


def _is_binary_time(control: Control, member: str) -> bool:
    held = control.parts[control.members.index(member)]
    return isinstance(held, PrimitiveType) and held.kind == "binary-time"


async def operate(
    mms: Mms, it: Order, timeout_s: float, until_s: float, stands: Callable[[], bool]
) -> WriteReply:
    """Carry a command out; says in words why not. Raises LinkError where it is unknown whether it was.

    `timeout_s` is how long the end of a command with enhanced security is waited for; from `until_s` on
    nothing is operated any more, though it was selected [s wall], and nothing that does not stand any more.
    """
    model = it.control.model
    if model in (SBO_NORMAL, SBO_ENHANCED):
        try:
            refused = await _select(mms, it)
        except LinkError as error:
            mms.abort()
            return WriteReply(WriteOutcome.NOT_SENT, f"not selected: {error}")
        if refused:
            return WriteReply(WriteOutcome.REJECTED, f"not selected: {refused}")
        if wall_s() >= until_s:
            await _cancel(mms, it)
            return WriteReply(
                WriteOutcome.NOT_SENT, "selected, and the cycle was over before it was operated"
            )
        if not _stands(stands):
            await _cancel(mms, it)
            return WriteReply(WriteOutcome.NOT_SENT, "selected, and another value is allowed now")
    refused = await _write(mms, it, "Oper")
    if refused:
        if model in (SBO_NORMAL, SBO_ENHANCED):
            await _cancel(mms, it)
        return WriteReply(WriteOutcome.REJECTED, refused)
    if model in (DIRECT_ENHANCED, SBO_ENHANCED):
        return await _end(mms, it, timeout_s)
    return CONFIRMED


def _stands(asked: Callable[[], bool]) -> bool:
    try:
        return asked()
    except (NotSent, BadValue):
        return False


async def _select(mms: Mms, it: Order) -> str:
    """Why it is not selected; "": it is."""
    if it.control.model == SBO_ENHANCED:
        return await _write(mms, it, "SBOw")
    try:
        (told,) = await mms.read([it.part("SBO")])
    except ServiceFault as error:
        return str(error)
    if isinstance(told, AccessFault):
        return _why(mms.unasked, it, "the device refuses")
    selected = isinstance(told, iec.VisibleStringData) and bool(told.value)
    return "" if selected else _why(mms.unasked, it, "the device refuses")


async def _write(mms: Mms, it: Order, attribute: str) -> str:
    """Why a service of the control was refused; "": it was not."""
    try:
        (refused,) = await mms.write([it.part(attribute)], [it.value])
    except ServiceFault as error:
        return str(error)
    return _why(mms.unasked, it, refused) if refused else ""


async def _cancel(mms: Mms, it: Order) -> None:
    """Give a selection back; where that fails it ends by itself."""
    members = [v for m, v in zip(it.control.members, it.value.members, strict=True) if m != "Check"]
    try:
        await mms.write([it.part("Cancel")], [iec.StructureData(members)])
    except ServiceFault:
        pass
    except LinkError:
        mms.abort()


async def _end(mms: Mms, it: Order, timeout_s: float) -> WriteReply:
    """Wait for the CommandTermination. Raises LinkError: nobody knows whether it was carried out."""
    until_s = wall_s() + timeout_s
    while True:
        for report in mms.unasked:
            if it.part("Oper") not in report.variables or not _is_of(report, it):
                continue
            failed = _error(report, it)
            if failed is None and LAST_APPL_ERROR not in report.variables:
                return CONFIRMED
            return WriteReply(WriteOutcome.REJECTED, _cause(failed, "ended without success"))
        mms.unasked.clear()
        try:
            await mms.await_unasked(max(0.0, until_s - wall_s()))
        except (TimeoutError, OSError):
            raise LinkError(f"accepted, and no CommandTermination in {timeout_s:g} s") from None


def _is_of(report: InformationReport, it: Order) -> bool:
    """Whether the Oper that has ended is ours, by its ctlNum; a late one of an old command is not."""
    index = it.control.members.index("ctlNum")
    for name, result in zip(report.variables, report.results, strict=False):
        if name != it.part("Oper"):
            continue
        if not isinstance(result, iec.StructureData) or len(result.members) != len(it.control.members):
            return isinstance(result, DataAccessError)
        number = result.members[index]
        return isinstance(number, iec.UIntData | iec.IntData) and number.value == it.number
    return False


def _why(reports: Sequence[InformationReport], it: Order, otherwise: str) -> str:
    """The AddCause that came with a refusal, which the device sends before it (IEC 61850-8-1, 20.3)."""
    found = next((e for r in reversed(reports) if (e := _error(r, it)) is not None), None)
    return _cause(found, otherwise)


def _error(report: InformationReport, it: Order) -> LastApplError | None:
    for name, result in zip(report.variables, report.results, strict=False):
        if name != LAST_APPL_ERROR or isinstance(result, DataAccessError):
            continue
        try:
            error = LastApplError.from_data(result)
        except FAULTS:
            continue
        whole = str(it.control.name)
        if error.ctl_num == it.number and f"{error.control_object}$".startswith(f"{whole}$"):
            return error
    return None


def _cause(error: LastApplError | None, otherwise: str) -> str:
    if error is None:
        return otherwise
    return f"{ADD_CAUSES.get(error.add_cause, 'unknown').replace('-', ' ')} (AddCause {error.add_cause})"
