"""A serial port in the event loop, by termios alone. Why no library: docs/decisions/0006-modbus-rtu.md."""

import asyncio
import contextlib
import fcntl
import os
import termios

from connectors.link import LinkError
from ems.site import SerialLine

READ_BYTES = 1024
_PARITY = {"none": 0, "even": termios.PARENB, "odd": termios.PARENB | termios.PARODD}
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _ISPEED, _OSPEED, _CC = range(7)


class SerialPort:
    """An open port: bytes come as `data_received`, its loss as `connection_lost` of `receiver`."""

    def __init__(self, descriptor: int, receiver: asyncio.Protocol) -> None:
        self._descriptor, self._receiver = descriptor, receiver
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._readable)

    def write(self, data: bytes) -> None:
        """Hand a frame to the port; it is far shorter than the buffer of any port."""
        try:
            if os.write(self._descriptor, data) != len(data):
                self._lose(OSError("the port took a part of the frame only"))
        except OSError as error:
            self._lose(error)

    def abort(self) -> None:
        """Close the port, what was not sent yet included."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        self._loop.remove_reader(descriptor)
        with contextlib.suppress(termios.error):  # the adapter was pulled
            termios.tcflush(descriptor, termios.TCIOFLUSH)
        os.close(descriptor)

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        if data:
            self._receiver.data_received(data)
        else:
            self._lose(OSError("the port hung up"))

    def _lose(self, error: OSError) -> None:
        self.abort()
        self._loop.call_soon(self._receiver.connection_lost, error)


def open_serial(line: SerialLine, receiver: asyncio.Protocol) -> SerialPort:
    """Open a port raw, for this process alone.

    Raises
    ------
    LinkError : it is not there, is no serial port, or another process holds it.
    """
    try:
        descriptor = os.open(line.device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise LinkError(f"cannot open {line.device}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.ioctl(descriptor, termios.TIOCEXCL)
        _make_raw(descriptor, line)
    except BlockingIOError:
        os.close(descriptor)
        raise LinkError(f"{line.device} is held by another process: one bus, one writer") from None
    except (OSError, termios.error) as error:
        os.close(descriptor)
        raise LinkError(f"cannot set up {line.device}: {error}") from None
    return SerialPort(descriptor, receiver)


def _make_raw(descriptor: int, line: SerialLine) -> None:
    mode = termios.tcgetattr(descriptor)
    mode[_IFLAG] = termios.INPCK if line.parity != "none" else 0
    mode[_OFLAG] = mode[_LFLAG] = 0
    stop_bits = termios.CSTOPB if line.stop_bits == 2 else 0
    mode[_CFLAG] = termios.CS8 | termios.CREAD | termios.CLOCAL | _PARITY[line.parity] | stop_bits
    mode[_ISPEED] = mode[_OSPEED] = getattr(termios, f"B{line.baud}")
    mode[_CC][termios.VMIN], mode[_CC][termios.VTIME] = 1, 0
    termios.tcsetattr(descriptor, termios.TCSANOW, mode)
    termios.tcflush(descriptor, termios.TCIOFLUSH)
