"""GOOSE connections: interface, control blocks, and points that are members of their data sets."""

from ems.goose import Goose, GooseBlock, block_faults, is_interface, point_fault
from ems.points import Access
from ems.site import Protocol
from ems.site_schema.draft import Draft, PlacedPoint
from ems.site_schema.forms import ConnectionForm
from ems.site_schema.forms_goose import GooseBlockForm
from ems.site_schema.text import Loc

READ_ONLY = "GOOSE is listened to alone: nothing is published"
FORM = "a member of a data set, such as IED1LD0/XCBR1.Pos.stVal [ST]"


def check_goose(draft: Draft) -> None:
    """Interface and control blocks of each connection; nothing is asked, nothing is written."""
    for connection_id, form in draft.connections.items():
        loc: Loc = ("connections", connection_id)
        if form.protocol is not Protocol.GOOSE:
            if form.goose is not None:
                draft.add((*loc, "goose"), "a value", f"no goose with {form.protocol}")
            continue
        if form.watchdog_point is not None:
            draft.add((*loc, "watchdog_point"), repr(form.watchdog_point), "left out with goose", READ_ONLY)
        placed = next((p for p in draft.points if p.connection_id == connection_id), None)
        if placed is not None and placed.map.identity:
            placed.document.add(("identity",), "a value", "left out with goose: nobody is asked there")
        if form.goose is None:
            draft.add((*loc, "goose"), "nothing", "`goose` with its interface and blocks")
            continue
        if not is_interface(form.goose.interface):
            draft.add((*loc, "goose", "interface"), repr(form.goose.interface), "the name of an interface")
        first: set[str] = set()
        for index, block in enumerate(form.goose.blocks):
            at: Loc = (*loc, "goose", "blocks", index)
            for key, allowed, why in block_faults(_block(block)):
                name, _, member = key.partition(".")
                found = block.members[int(member)] if member else getattr(block, name)
                draft.add((*at, name, int(member)) if member else (*at, name), repr(found), allowed, why)
            if block.control_block in first:
                draft.add((*at, "control_block"), repr(block.control_block), "each control block once")
            first.add(block.control_block)


def goose_row(placed: PlacedPoint) -> None:
    """The row of a point map that says which member of a data set a point is."""
    form, loc, doc = placed.form, placed.loc, placed.document
    if form.table is not None:
        doc.add((*loc, "table"), repr(form.table), "nothing with goose")
    if form.writable or (placed.spec is not None and placed.spec.access is Access.WRITE):
        doc.add((*loc, "writable"), "a setpoint", "a point that is read, with goose", READ_ONLY)
    if not isinstance(form.address, str):
        doc.add((*loc, "address"), repr(form.address), FORM)
        return
    goose = goose_of(placed.connection)
    if goose is None or any(True for block in goose.blocks for _ in block_faults(block)):
        return
    if fault := point_fault(goose, form.address):
        doc.add((*loc, "address"), repr(form.address), FORM, fault)


def goose_of(form: ConnectionForm) -> Goose | None:
    """What a connection listens to; None with another protocol."""
    if form.goose is None:
        return None
    return Goose(interface=form.goose.interface, blocks=tuple(_block(b) for b in form.goose.blocks))


def _block(form: GooseBlockForm) -> GooseBlock:
    told = form.model_dump(exclude={"members"})
    return GooseBlock(members=tuple(form.members), **told)
