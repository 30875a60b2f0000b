"""Buffered report control blocks: what a device kept while nobody heard it, as history and nothing else.

They are heard over an association of their own: a buffer of thousands of entries never stands between a poll
and its answer, and no entry ever becomes a present value. How far a block was read (its EntryID) is stored
with what was read. A buffer is never purged, and nothing is written whose change would purge it.
Source: IEC 61850-7-2 (2010), 17.2.3; IEC 61850-8-1 (2011), 17.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import structlog
from open61850 import data as iec
from open61850.mms.errors import DataAccessError
from open61850.mms.pdu import InformationReport, ObjectName
from open61850.mms.report import OptFlds, Report, TrgOps, decode_report

from connectors.iec61850.meaning import meaning
from connectors.iec61850.mms import FAULTS, Mms, ServiceFault, words
from connectors.iec61850.places import Place, Surveyor, Unlike
from connectors.iec61850.reports import AGREED, ASKED, NUMBERS, WHOLE, part_of, put
from connectors.iec61850.values import AccessFault
from connectors.link import LinkError
from connectors.point_map import PointCodec
from connectors.recorded import Collector, Mark, Recorded
from ems.clock import wall_s, wall_sleep
from ems.iec61850_reference import Block
from ems.telemetry import Quality

log = structlog.get_logger()

FIELDS = OptFlds(
    sequence_number=True, report_time_stamp=True, buffer_overflow=True, entry_id=True, conf_revision=True
)
RESERVED_S = 60  # after the association is lost, so that nobody else takes the block meanwhile (ResvTms)
AGAIN_S = 10.0  # before a block that is refused or held up, or a device that is lost, is tried again [s wall]
LOOK_S = 0.2  # between two looks at whether the association stands [s wall]
ENTRY_BYTES = 8  # of an EntryID; all zero: from the oldest that is kept


class Entries:
    """The reports of one block on one association. No I/O.

    Parameters
    ----------
    block : it is.
    names : that its reports may carry (RptID).
    members : of its data set, in order.
    places : codec and place of each point that it tells.
    revision : of its configuration (ConfRev).
    is_resumed : it goes on behind the entry that was read last.
    collector : takes what it tells.
    """

    def __init__(
        self,
        block: Block,
        names: Sequence[str],
        members: Sequence[ObjectName],
        places: Sequence[tuple[PointCodec, Place]],
        *,
        revision: int,
        is_resumed: bool,
        collector: Collector,
    ) -> None:
        self.block, self.names, self.members = block, tuple(names), tuple(members)
        self.places, self._revision, self._collector = places, revision, collector
        self._values: dict[ObjectName, iec.IECData | AccessFault] = {}
        self._is_first = not is_resumed  # its flag of overflow says nothing of what we have missed
        self._last: int | None = None  # number of the last report
        self.fault = ""  # why nothing more of it is taken
        self.entry = b""  # the last one that was handed over
        self.reports = 0

    def take(self, report: Report) -> None:
        """One report, in its order. Never raises: what is wrong is `fault`, and the device keeps the rest."""
        if self.fault or (fault := self._fault_of(report)):
            self.fault = self.fault or fault
            return
        self._check_losses(report)
        told = set()
        for entry in report.entries:
            value, name = entry.value, self.members[entry.index]
            self._values[name] = AccessFault(value.code) if isinstance(value, DataAccessError) else value
            told.add(name)
        samples = [s for codec, place in self.places if (s := self._sample(codec, place, told, report))]
        is_whole, entry_id = not report.more_segments_follow, report.entry_id
        assert entry_id is not None, "a report without one is a fault"
        mark = Mark(name=str(self.block), text=entry_id.hex()) if is_whole else None
        if self._collector.take(samples, mark).is_refused:
            self.fault = "held up: too much waits for the disk"
            return
        self.reports += 1
        if is_whole:
            self.entry = entry_id

    def _fault_of(self, report: Report) -> str:
        if len(report.inclusion) != len(self.members):
            return f"a report of {len(report.inclusion)} members, the data set has {len(self.members)}"
        if report.conf_rev is not None and report.conf_rev != self._revision:
            return f"configured anew: revision {report.conf_rev}, it was {self._revision}"
        return "a report without its EntryID" if not report.entry_id else ""

    def _check_losses(self, report: Report) -> None:
        if report.buf_ovfl and not self._is_first:
            self._collector.lost(f"{self.block}: its buffer overflowed (BufOvfl)")
        self._is_first = False
        last, self._last = self._last, report.seq_num
        if last is None or report.seq_num is None or report.sub_seq_num:
            return
        if report.seq_num not in {(last + 1) % n for n in NUMBERS}:
            self._collector.lost(f"{self.block}: reports are missing: {last}, then {report.seq_num}")

    def _sample(
        self, codec: PointCodec, place: Place, told: set[ObjectName], report: Report
    ) -> Recorded | None:
        """What a report says of a point; None where it tells neither its value nor its quality."""
        quality, time = place.quality, place.time
        if place.value.held not in told and (quality is None or quality.held not in told):
            return None
        is_timed = time is not None and time.held in told
        unproved = quality is not None and quality.held not in self._values
        known = replace(place, time=time if is_timed else None, quality=None if unproved else quality)
        meant = meaning(codec, known, self._values)
        told_at = meant.told_at if is_timed else report.time_of_entry
        value, stated = meant.value.value, meant.value.quality
        if unproved and stated is Quality.GOOD:
            stated = Quality.STALE  # its quality was told before we listened
        return Recorded(codec.point.point, value, stated, told_at, not (is_timed and meant.doubt))


class BufferedReports:
    """Keeps the buffered blocks of one device reporting, for as long as its task runs.

    Parameters
    ----------
    blocks : in the order of the site file.
    codecs : points of the map.
    associate : makes an association that is told of each report. Raises LinkError.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        codecs: Sequence[PointCodec],
        associate: Callable[[Callable[[InformationReport], None]], Awaitable[Mms]],
    ) -> None:
        self._blocks, self._codecs, self._associate = blocks, tuple(codecs), associate
        self._on: dict[Block, Entries] = {}
        self._entries: dict[Block, str] = {}  # the last one that was handed over, since the start
        self._reports = 0
        self.refused: dict[Block, str] = {}  # why a block does not report

    @property
    def counts(self) -> dict[str, int]:
        """For the status row."""
        reports = self._reports + sum(e.reports for e in self._on.values())
        on, refused = len(self._on), len(self.refused)
        return {"buffered_reports": reports, "blocks_buffered": on, "buffered_refused": refused}

    async def run(self, collector: Collector) -> None:
        """Listen until cancelled; whatever is lost is made anew, and goes on behind the last entry."""
        while True:
            mms: Mms | None = None
            try:
                mms = await self._associate(self._heard)
                await self._listen(mms, collector)
            except (LinkError, ServiceFault) as error:
                for block in self._blocks:
                    self._refuse(block, str(error))
            finally:
                if mms is not None:
                    mms.abort()
                for block in list(self._on):
                    self._off(block)
            await wall_sleep(AGAIN_S)

    async def _listen(self, mms: Mms, collector: Collector) -> None:
        """Raises LinkError once the association is lost."""
        surveyor, places = Surveyor(mms), list[tuple[PointCodec, Place]]()
        for codec in self._codecs:
            try:
                places.append((codec, await surveyor.place(codec)))
            except Unlike:
                continue  # the poll says so
        tried_s: dict[Block, float] = {}
        while not mms.is_over:
            for block, entries in list(self._on.items()):
                if entries.fault:  # the device goes on keeping what it would tell
                    self._refuse(block, f"{block}: {entries.fault}")
                    self._off(block)
                    tried_s[block] = wall_s()
                    await put(mms, block, "RptEna", iec.BoolData(False))
            for block in self._blocks:
                if block not in self._on and wall_s() - tried_s.get(block, -1e9) >= AGAIN_S:
                    tried_s[block] = wall_s()
                    try:
                        await self._enable(mms, block, surveyor, places, collector)
                    except (Unlike, ServiceFault) as error:
                        self._refuse(block, str(error))
            await wall_sleep(LOOK_S)
        raise LinkError(mms.broken or "it has hung up")

    async def _enable(
        self,
        mms: Mms,
        block: Block,
        surveyor: Surveyor,
        places: Sequence[tuple[PointCodec, Place]],
        collector: Collector,
    ) -> None:
        """Have a block go on behind the last entry. Raises Unlike, ServiceFault and LinkError."""
        name, revision, members = await arranged(mms, block)
        mine = [(c, told) for c, p in places if (told := surveyor.told(p, members)) is not None]
        if not mine:
            raise Unlike(f"{block}: its data set holds no point of the map with its quality")
        last = self._entries.get(block)
        if last is None:
            last = await asyncio.to_thread(collector.mark, str(block))
        is_resumed = False
        if last is not None:
            why = await put(mms, block, "EntryID", iec.OctetStringData(bytes.fromhex(last)))
            is_resumed = not why
            if why:
                collector.lost(f"{block}: the entry that was read last is not kept any more ({why})")
        if not is_resumed:
            await put(mms, block, "EntryID", iec.OctetStringData(bytes(ENTRY_BYTES)))
        entries = Entries(
            block,
            [name, f"{block.device}/{block.mms_name}"],
            members,
            mine,
            revision=revision,
            is_resumed=is_resumed,
            collector=collector,
        )
        self._on[block] = entries
        try:
            if why := await put(mms, block, "RptEna", iec.BoolData(True)):
                raise Unlike(f"{block}: RptEna: {why}")
        except (Unlike, ServiceFault):
            self._off(block)
            raise
        if self.refused.pop(block, None) is not None:
            log.info("reports.buffered.heard", block=str(block))

    def _refuse(self, block: Block, why: str) -> None:
        """Logged once for each reason."""
        if self.refused.get(block) != why:
            log.warning("reports.buffered.refused", block=str(block), why=why)
        self.refused[block] = why

    def _off(self, block: Block) -> None:
        entries = self._on.pop(block)
        self._reports += entries.reports
        if entries.entry:
            self._entries[block] = entries.entry.hex()

    def _heard(self, report: InformationReport) -> None:
        try:
            decoded = decode_report(report)
        except FAULTS as error:
            for entries in self._on.values():
                entries.fault = entries.fault or f"a report that cannot be read: {words(error)}"
            return
        for entries in self._on.values():
            if decoded.rpt_id in entries.names:
                entries.take(decoded)
                return


async def arranged(mms: Mms, block: Block) -> tuple[str, int, list[ObjectName]]:
    """Reserve a block: the name of its reports, its revision and its members.

    Its triggers, periods and data set are as they are: to write them would purge its buffer.

    Raises
    ------
    Unlike : it does not report as we need it; says why. ServiceFault, LinkError : as ever.
    """
    name, data_set, enabled = await mms.read([part_of(block, a) for a in ASKED])
    if not isinstance(name, iec.VisibleStringData) or not isinstance(data_set, iec.VisibleStringData):
        raise Unlike(f"{block}: no report control block with a buffer")
    if not isinstance(enabled, iec.BoolData) or enabled.value:
        raise Unlike(f"{block}: it reports to somebody else")
    if not data_set.value:
        raise Unlike(f"{block}: no data set")
    why = await put(mms, block, "ResvTms", iec.IntData(RESERVED_S))
    if "temporarily" in why:
        raise Unlike(f"{block}: it is reserved: {why}")
    await put(mms, block, "OptFlds", FIELDS.to_bitstring())
    revision, fields, triggers, _ = await mms.read([part_of(block, a) for a in AGREED])
    if not isinstance(revision, WHOLE):
        raise Unlike(f"{block}: no ConfRev")
    if not (isinstance(fields, iec.BitStringData) and OptFlds.from_bitstring(fields).entry_id):
        raise Unlike(f"{block}: its reports do not carry their EntryID (OptFlds)")
    if not (isinstance(triggers, iec.BitStringData) and TrgOps.from_bitstring(triggers).data_change):
        raise Unlike(f"{block}: it does not report changes of value (TrgOps): set them at the device")
    domain, slash, item = data_set.value.partition("/")
    members = await mms.members_of(ObjectName(item, domain) if slash else ObjectName(domain, block.device))
    return name.value, revision.value, members
