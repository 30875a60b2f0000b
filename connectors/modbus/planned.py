"""The requests of one poll as they are planned, before a device has refused any."""

from connectors.modbus.blocks import ReadBlock, read_blocks
from connectors.modbus.registers import terms_of
from connectors.modbus.rtu_link import registers_max
from connectors.point_map import point_codecs
from ems.modbus import REGISTERS_MAX
from ems.site import Connection


def planned_reads(connection: Connection) -> tuple[ReadBlock, ...]:
    """Of a Modbus device with a point map. Raises BadValue where the map cannot be worked with."""
    c, terms = connection, terms_of(connection)
    most = registers_max(c.serial, c.timeout_s) if c.protocol.is_rtu else REGISTERS_MAX
    return read_blocks(point_codecs(c).values(), terms.holes_max, min(most, terms.registers_max))
