"""Where a device listens on TCP, and how a connection to it is opened, whatever it speaks."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from connectors.expiry import Expiry
from connectors.link import LinkError, Untrusted
from connectors.opcua.certificates import CertificateError
from connectors.tls import Contexts, expiry_of, words_of
from ems.northbound import TlsFiles


class Endpoint:
    """A host and a port, inside TLS where there are files for it.

    Parameters
    ----------
    tls : files with whole paths; None: the connection is plain.
    timeout_s : of the connect, told where it is over [s wall].
    now : aware time, to compare the validity of certificates with.
    """

    def __init__(
        self, host: str, port: int, tls: TlsFiles | None, *, timeout_s: float, now: Callable[[], datetime]
    ) -> None:
        self.host, self.port, self.timeout_s = host, port, timeout_s
        self._tls = tls
        self._contexts = None if tls is None else Contexts(tls, server=False, now=now)
        self.expiries: tuple[Expiry, ...] = ()  # of the certificates of the last attempt to connect

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    async def protection(self) -> tuple[ssl.SSLContext | None, str | None]:
        """TLS, and the host in the device's certificate; None and None where the connection is plain.

        Raises
        ------
        Untrusted : one of our files is not there or not good enough.
        """
        if self._contexts is None or self._tls is None:
            return None, None
        try:
            context = await asyncio.to_thread(self._contexts.current)
        except CertificateError as error:
            raise Untrusted(str(error)) from None
        self.expiries = self._contexts.expiries
        return context, self.host if self._tls.server_name is None else self._tls.server_name

    def seen(self, certificate: bytes | None) -> None:
        """Take note of the certificate that the device has shown, DER; None: it has shown none."""
        if certificate is not None:
            self.expiries = (*self.expiries, expiry_of("the certificate of the device", certificate))

    @contextmanager
    def opening(self) -> Iterator[None]:
        """What goes wrong while a connection is opened, as a LinkError in words; each keeps its own kind."""
        try:
            yield
        except TimeoutError:
            raise LinkError(f"cannot connect to {self} in {self.timeout_s:g} s") from None
        except ssl.SSLError as error:
            raise Untrusted(words_of(error, str(self), "" if self._tls is None else self._tls.ca)) from None
        except OSError as error:
            raise LinkError(f"cannot connect to {self}: {error}") from None
        except LinkError as error:
            raise type(error)(f"cannot connect to {self}: {error}") from None
