"""What a device tells by itself: report control blocks without a buffer, and the book of their reports.

A value is as fresh as the last report of its block, since what changes is reported, and everything is each
integrity period. Reports carry numbers: after one that is missing nothing is believed any more, and the
connection is made anew, with it every value. Source: IEC 61850-7-2 (2010), clause 17; IEC 61850-8-1, 17.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from open61850 import data as iec
from open61850.mms.errors import DataAccessError
from open61850.mms.pdu import InformationReport, ObjectName
from open61850.mms.report import OptFlds, Report, TrgOps, decode_report

from connectors.iec61850.mms import FAULTS, Mms, ServiceFault, words
from connectors.iec61850.places import Unlike
from connectors.iec61850.values import AccessFault
from connectors.link import LinkError
from ems.clock import wall_s
from ems.iec61850_reference import Block

TRIGGERS = TrgOps(data_change=True, quality_change=True, integrity=True, general_interrogation=True)
FIELDS = OptFlds(sequence_number=True, report_time_stamp=True, data_set_name=True, conf_revision=True)
NUMBERS = (256, 65536)  # of reports: of the standard, and of some devices
WHOLE = (iec.UIntData, iec.IntData)
ASKED = ("RptID", "DatSet", "RptEna")
AGREED = ("ConfRev", "OptFlds", "TrgOps", "IntgPd")


class Book:
    """The newest value of each member of one block's data set, and when it was proved last. No I/O.

    Parameters
    ----------
    names : that its reports may carry (RptID).
    members : of its data set, in order.
    revision : of its configuration (ConfRev).
    silence_s : with no report for so long the block is dead [s].
    at_s : now [s wall].
    """

    def __init__(
        self,
        names: Sequence[str],
        members: Sequence[ObjectName],
        *,
        revision: int,
        silence_s: float,
        at_s: float,
    ) -> None:
        self.names, self.members, self._revision = tuple(names), tuple(members), revision
        self.values: dict[ObjectName, iec.IECData | AccessFault] = {}
        self.reports = 0
        self.changed = asyncio.Event()
        self._silence_s, self._proved_s = silence_s, at_s
        self._last: tuple[int, int] | None = None  # number of the last report, and of its part
        self._more = False  # parts of it are to come
        self._broken = ""

    @property
    def is_whole(self) -> bool:
        """Whether every member has been told."""
        return not self._more and len(self.values) == len(set(self.members))

    def age_s(self, now_s: float) -> float:
        """How long ago it was proved [s]."""
        return max(0.0, now_s - self._proved_s)

    def check(self, now_s: float) -> None:
        """Raises LinkError where it is not to be trusted any more."""
        if self._broken:
            raise LinkError(f"reports {self.names[0]}: {self._broken}")
        if self.age_s(now_s) > self._silence_s:
            raise LinkError(f"reports {self.names[0]}: none for {self.age_s(now_s):.1f} s")

    def spoil(self, why: str) -> None:
        """Nothing of it is believed any more."""
        self._broken = self._broken or why
        self.changed.set()

    def take(self, report: Report, at_s: float) -> None:
        """One report, as it comes. Never raises: what is wrong with it is told by `check`."""
        if fault := self._fault(report):
            self.spoil(fault)
            return
        for entry in report.entries:
            value = entry.value
            known = AccessFault(value.code) if isinstance(value, DataAccessError) else value
            self.values[self.members[entry.index]] = known
        self.reports += 1
        self._proved_s = at_s
        self.changed.set()

    def _fault(self, report: Report) -> str:
        if len(report.inclusion) != len(self.members):
            return f"a report of {len(report.inclusion)} members, the data set has {len(self.members)}"
        if report.conf_rev is not None and report.conf_rev != self._revision:
            return f"configured anew: revision {report.conf_rev}, it was {self._revision}"
        if report.seq_num is None:
            return "a report without a number"
        part = 0 if report.sub_seq_num is None else report.sub_seq_num
        last, more = self._last, self._more
        self._last, self._more = (report.seq_num, part), bool(report.more_segments_follow)
        if last is None:
            return "" if part == 0 else "the beginning of a report was lost"
        if more:
            return "" if self._last == (last[0], last[1] + 1) else "a part of a report was lost"
        follows = {(last[0] + 1) % n for n in NUMBERS}
        if report.seq_num not in follows or part != 0:
            return f"a report was lost: {last[0]}, then {report.seq_num}"
        return ""


def heard(report: InformationReport, books: Sequence[Book]) -> None:
    """One report, put into its book; one that cannot be read spoils them all."""
    try:
        decoded = decode_report(report)
    except FAULTS as error:
        for book in books:
            book.spoil(f"a report that cannot be read: {words(error)}")
        return
    for book in books:
        if decoded.rpt_id in book.names:
            book.take(decoded, wall_s())
            return


async def enable(mms: Mms, block: Block, integrity_s: float, timeout_s: float, books: list[Book]) -> Book:
    """Have a block report, and wait until each member has told its first value.

    Parameters
    ----------
    integrity_s : how often it shall tell everything [s].
    timeout_s : how long the first values may take [s wall]; a report may be so much late.
    books : where its book is from the moment on that it may report.

    Raises
    ------
    Unlike : it does not report as we need it; says why. What it was to tell is to be read.
    LinkError : the connection is of no more use.
    """
    try:
        book = await _arranged(mms, block, integrity_s, timeout_s)
    except ServiceFault as error:
        raise Unlike(f"{block}: {error}") from None
    books.append(book)
    try:
        for attribute in ("RptEna", "GI"):
            if why := await put(mms, block, attribute, iec.BoolData(True)):
                raise Unlike(f"{block}: {attribute}: {why}")
        await _first_values(book, timeout_s)
        if not book.is_whole:
            raise Unlike(f"{block}: not every value came in {timeout_s:g} s")
        book.check(wall_s())
    except (Unlike, ServiceFault) as error:
        books.remove(book)
        with contextlib.suppress(ServiceFault):
            await put(mms, block, "RptEna", iec.BoolData(False))
        raise Unlike(str(error)) from None
    return book


async def _arranged(mms: Mms, block: Block, integrity_s: float, timeout_s: float) -> Book:
    """Reserve and configure a block. Raises Unlike, ServiceFault and LinkError."""
    name, data_set, enabled = await mms.read([part_of(block, a) for a in ASKED])
    if not isinstance(name, iec.VisibleStringData) or not isinstance(data_set, iec.VisibleStringData):
        raise Unlike(f"{block}: no report control block")
    if not isinstance(enabled, iec.BoolData) or enabled.value:
        raise Unlike(f"{block}: it reports to somebody else")
    if not data_set.value:
        raise Unlike(f"{block}: no data set")
    domain, slash, item = data_set.value.partition("/")
    if not slash:  # some devices leave out their own logical device
        domain, item = block.device, domain
    if (why := await put(mms, block, "Resv", iec.BoolData(True))) and "non existent" not in why:
        raise Unlike(f"{block}: it is reserved: {why}")
    for attribute, value in (
        ("TrgOps", TRIGGERS.to_bitstring()),
        ("OptFlds", FIELDS.to_bitstring()),
        ("IntgPd", iec.UIntData(round(1000.0 * integrity_s))),
    ):
        await put(mms, block, attribute, value)  # some devices have them fixed: what counts is what they are
    revision, fields, triggers, period = await mms.read([part_of(block, a) for a in AGREED])
    if not isinstance(revision, WHOLE) or not isinstance(period, WHOLE):
        raise Unlike(f"{block}: no ConfRev or IntgPd")
    if not (isinstance(fields, iec.BitStringData) and OptFlds.from_bitstring(fields).sequence_number):
        raise Unlike(f"{block}: its reports have no numbers (OptFlds)")
    kinds = TrgOps.from_bitstring(triggers) if isinstance(triggers, iec.BitStringData) else TrgOps()
    if not (kinds.data_change and kinds.quality_change and kinds.integrity and kinds.general_interrogation):
        raise Unlike(f"{block}: it does not report changes of value and quality, and all at times (TrgOps)")
    period_s = period.value / 1000.0
    if not 0.0 < period_s <= 1.001 * integrity_s:
        raise Unlike(
            f"{block}: it tells everything each {period_s:g} s (IntgPd), {integrity_s:g} s are asked"
        )
    members = await mms.members_of(ObjectName(item, domain))
    return Book(
        [name.value, f"{block.device}/{block.mms_name}"],
        members,
        revision=revision.value,
        silence_s=period_s + timeout_s,
        at_s=wall_s(),
    )


async def put(mms: Mms, block: Block, attribute: str, value: iec.IECData) -> str:
    """Why an attribute of a block is not taken; "": it is."""
    (refused,) = await mms.write([part_of(block, attribute)], [value])
    return refused


async def _first_values(book: Book, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not book.is_whole:
                book.check(wall_s())
                book.changed.clear()
                await book.changed.wait()


def part_of(block: Block, attribute: str) -> ObjectName:
    """The MMS name of an attribute of a block."""
    return ObjectName(f"{block.mms_name}${attribute}", block.device)
