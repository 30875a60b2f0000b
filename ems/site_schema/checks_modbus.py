"""What Modbus devices take: the map says it for all of a kind, a site file for one of them."""

from ems.modbus import ModbusTerms
from ems.site import Protocol
from ems.site_schema.checks_identity import first_of
from ems.site_schema.draft import Draft
from ems.site_schema.forms import ConnectionForm
from ems.site_schema.forms_modbus import ModbusForm
from ems.site_schema.text import Document, Loc

_OF_MODELS = ("holes_max", "write_with")  # of registers that we lay into requests ourselves


def check_modbus(draft: Draft) -> None:
    """Each `modbus` block belongs to a device that speaks it, and leaves room for what is asked."""
    checked: set[str] = set()
    for connection_id, form in draft.connections.items():
        if form.modbus is not None:
            check_block(draft, ("connections", connection_id, "modbus"), form.modbus, form.protocol)
        placed = first_of(draft, connection_id)
        if placed is None:
            continue
        if placed.map.modbus is not None and placed.document.file not in checked:
            checked.add(placed.document.file)
            check_block(placed.document, ("modbus",), placed.map.modbus, form.protocol)
        terms = modbus_of(draft, connection_id, form)
        for name, field in placed.map.identity.items():
            if terms is not None and field.length is not None and field.length > terms.registers_max:
                draft.add(
                    ("connections", connection_id),
                    f"an identity of {field.length} registers ({name} in {placed.document.file})",
                    f"registers_max, {terms.registers_max}, or fewer",
                )


def check_block(document: Draft | Document, loc: Loc, told: ModbusForm, protocol: Protocol) -> None:
    """One `modbus` block, of a device, a map or a family."""
    if not protocol.wire.is_modbus:
        document.add(loc, "a value", f"no modbus with {protocol}")
    elif protocol.family == "sunspec":
        for key in _OF_MODELS:
            if (value := getattr(told, key)) is not None:
                document.add((*loc, key), str(value), f"left out with {protocol}: its models say it")


def modbus_of(draft: Draft, connection_id: str, form: ConnectionForm) -> ModbusTerms | None:
    """What a device takes; None with another protocol."""
    if not form.protocol.wire.is_modbus:
        return None
    placed = first_of(draft, connection_id)
    of_map = None if placed is None else placed.map.modbus
    told = [{} if m is None else m.model_dump(exclude_none=True) for m in (of_map, form.modbus)]
    return ModbusTerms(**(told[0] | told[1]))
