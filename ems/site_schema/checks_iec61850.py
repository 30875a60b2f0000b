"""IEC 61850 connections: references of points, identities and report control blocks, and the port."""

from ems.bacnet import PORT as BACNET_PORT
from ems.dlms import PORT as DLMS_PORT
from ems.dnp3 import PORT as DNP3_PORT
from ems.errors import BadValue
from ems.iec104 import PORT as IEC104_PORT
from ems.iec104 import PORT_TLS as IEC104_PORT_TLS
from ems.iec61850_reference import (
    BUFFERED,
    PORT,
    PORT_TLS,
    UNBUFFERED,
    parse_block,
    parse_reference,
    reference_faults,
)
from ems.site import MmsReports, Protocol
from ems.site_schema.checks_http import http_port
from ems.site_schema.checks_opcua import check_proofs
from ems.site_schema.draft import Draft, PlacedPoint
from ems.site_schema.forms import ConnectionForm
from ems.site_schema.forms_maps import IdentityForm
from ems.site_schema.text import Loc

FORM = "a reference with its functional constraint, such as IED1LD0/MMXU1.TotW.mag.f [MX]"


def port_of(form: ConnectionForm) -> int:
    """Port of a connection; 0: it says none, and its protocol has none of its own."""
    if form.port is None and form.protocol is Protocol.IEC_61850:
        return PORT if form.tls is None else PORT_TLS
    if form.port is None and form.protocol is Protocol.DNP3:
        return DNP3_PORT
    if form.port is None and form.protocol is Protocol.IEC_104:
        return IEC104_PORT if form.tls is None else IEC104_PORT_TLS
    if form.port is None and form.protocol is Protocol.BACNET:
        return BACNET_PORT
    if form.port is None and form.protocol is Protocol.DLMS:
        return DLMS_PORT
    if form.port is None and form.protocol is Protocol.HTTP_JSON:
        return http_port(form)
    return 0 if form.port is None else form.port


def check_iec61850(draft: Draft) -> None:
    """Report control blocks of each connection: named once, and told often enough."""
    for connection_id, form in draft.connections.items():
        if form.protocol is not Protocol.IEC_61850 or form.reports is None:
            continue
        loc: Loc = ("connections", connection_id, "reports")
        first: set[str] = set()
        named = (("blocks", UNBUFFERED, form.reports.blocks), ("buffered", BUFFERED, form.reports.buffered))
        for key, fc, texts in named:
            for index, text in enumerate(texts):
                try:
                    block = str(parse_block(text, fc))
                except BadValue as error:
                    draft.add((*loc, key, index), repr(text), "a report control block", str(error))
                    continue
                if block in first:
                    draft.add((*loc, key, index), repr(text), "each block once")
                first.add(block)
        if not (form.reports.blocks or form.reports.buffered):
            draft.add((*loc, "blocks"), "none", "blocks of one kind at least, in blocks or buffered")
        if form.reports.blocks:
            check_proofs(draft, connection_id, (*loc, "integrity_s"), form.reports.integrity_s, "")


def mms_reports(form: ConnectionForm) -> MmsReports | None:
    """Report control blocks of a connection; None where it is polled."""
    if form.reports is None:
        return None
    told = form.reports
    return MmsReports(
        blocks=tuple(told.blocks), integrity_s=told.integrity_s, buffered=tuple(told.buffered) or None
    )


def iec61850_row(placed: PlacedPoint) -> None:
    """The row of a point map that says which attribute is read, or which control is operated."""
    form, loc, doc = placed.form, placed.loc, placed.document
    if form.table is not None:
        doc.add((*loc, "table"), repr(form.table), "nothing with iec61850")
    if not isinstance(form.address, str):
        doc.add((*loc, "address"), repr(form.address), FORM)
        return
    for key, allowed in reference_faults(form.address, form.type, writable=form.writable):
        found = repr(form.address if key == "address" else form.type)
        doc.add((*loc, "type" if key == "data_type" else key), found, allowed)


def identity_reference(placed: PlacedPoint, loc: Loc, form: IdentityForm) -> None:
    """Where one line of an identity block is read."""
    doc = placed.document
    for key in ("table", "length"):
        if (value := getattr(form, key)) is not None:
            doc.add((*loc, key), repr(value), "nothing with iec61850")
    try:
        if not isinstance(form.address, str):
            raise BadValue("no text")
        reference = parse_reference(form.address)
        if reference.is_control:
            raise BadValue("a control tells nothing")
    except BadValue as error:
        found = "nothing" if form.address is None else repr(form.address)
        doc.add((*loc, "address"), found, "such as IED1LD0/LPHD1.PhyNam.vendor [DC]", str(error))
