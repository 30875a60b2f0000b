"""What a Modbus device takes: how much is read at once, how fast it is asked, and what it is written with."""

from dataclasses import dataclass

REGISTERS_MAX = 125  # of one read request. Source: Modbus Application Protocol V1.1b3, 6.3
HOLES_MAX = 8  # unmapped registers read along to save a request
REGISTERS_LEAST = 4  # a value of 64 bits is never split


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusTerms:
    """How one device is asked.

    Parameters
    ----------
    registers_max : of one read request.
    holes_max : registers in a row that no point lies in, and that are read along to save a request.
    pause_s : from an answer to the next request, to every unit where several share a line [s wall].
    write_with : function that a single register is written with, 6 or 16.
    """

    registers_max: int = REGISTERS_MAX
    holes_max: int = HOLES_MAX
    pause_s: float = 0.0
    write_with: int = 6
