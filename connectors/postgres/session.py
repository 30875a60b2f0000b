"""One session with a PostgreSQL server: made once, used by one thread, never mended."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo

from connectors.link import LinkError, Refused, Untrusted
from connectors.opcua.certificates import CertificateError, read_secret
from connectors.passwords import password_of
from ems.links import DatabaseLink

Connection = psycopg.Connection[tuple[object, ...]]
CONNECT_S_MAX = 10.0
GUARD_S = 2.0  # the server is given up so much later than it should have given up by itself
# SQLSTATE classes that a person has to look at: who we are, what we may do, what is there.
OF_PEOPLE = ("28", "3D", "3F", "42", "0A")
SESSION = (
    "SET synchronous_commit = on",  # what is confirmed is on its disk
    "SET TIME ZONE 'UTC'",
    "SET jit = off",
    "SET client_min_messages = warning",
)


class TooSlow(LinkError):
    """It was not done in time."""


class Unfit(Exception):
    """Rows that the database does not take, whatever is tried."""


class Session:
    """From connecting to the first error.

    Parameters
    ----------
    link : its files are relative to `folder`.
    name : ours, as the server's own lists show it.
    """

    def __init__(self, link: DatabaseLink, folder: Path, name: str) -> None:
        self._link, self._folder, self._name = link, folder, name
        self._connection: Connection | None = None
        self._cut = threading.Event()  # the deadline has passed

    @property
    def where(self) -> str:
        """The database, for a message."""
        return f"{self._link.database} at {self._link.host}:{self._link.port}"

    def open(self) -> None:
        """Connect and be let in. Raises LinkError; Untrusted or Refused where a person has to look."""
        try:
            where = self._where_and_who()
        except CertificateError as error:
            raise Untrusted(str(error)) from None
        try:
            self._connection = psycopg.connect(where, autocommit=True)
        except psycopg.Error as error:
            text = _words(error)
            # Before there is a session, libpq tells only in words why it was not let in.
            of_people = ("authentication", "password", "certificate", "pg_hba", "does not exist", "SSL")
            kind = Refused if any(w in text for w in of_people) else LinkError
            raise kind(f"cannot connect to {self.where}: {text}") from None
        with self.within(self._link.timeout_s) as connection:
            for text in SESSION:
                connection.execute(text)
            connection.execute(f"SET statement_timeout = {round(1000 * self._link.timeout_s)}")
            if connection.info.parameter_status("server_encoding") != "UTF8":
                raise Refused(f"{self.where} does not keep UTF8; allowed: a database of that encoding")

    @contextmanager
    def within(self, timeout_s: float) -> Iterator[Connection]:
        """Use the connection, for so long at most [s wall].

        Raises
        ------
        LinkError : it is of no use any more; Refused where a person has to look; TooSlow.
        Unfit : what was given is not taken, whatever is tried.
        """
        connection = self._connection
        if connection is None:
            raise LinkError(f"{self.where} is not connected")
        timer = threading.Timer(timeout_s + GUARD_S, self._hang_up, [connection])
        timer.daemon = True
        timer.start()
        try:
            yield connection
        except (errors.DataError, errors.IntegrityError) as error:
            raise Unfit(f"{self.where} does not take it: {_words(error)}") from None
        except errors.QueryCanceled:
            raise TooSlow(f"{self.where} takes longer than {timeout_s:g} s") from None
        except psycopg.Error as error:
            if self._cut.is_set():
                raise TooSlow(f"{self.where} answers nothing within {timeout_s + GUARD_S:g} s") from None
            state = error.sqlstate
            kind = Refused if state is not None and state[:2] in OF_PEOPLE else LinkError
            raise kind(f"{self.where}: {_words(error)}") from None
        finally:
            timer.cancel()

    def close(self) -> None:
        """Drop it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                connection.close()

    def _hang_up(self, connection: Connection) -> None:
        """Wakes whoever waits for a server that hangs: what it waits for has ended."""
        self._cut.set()
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    def _where_and_who(self) -> str:
        """Raises CertificateError: a secret is not there, or open to others."""
        link = self._link
        out: dict[str, Any] = {
            "host": link.host,
            "port": link.port,
            "dbname": link.database,
            "user": link.user,
            "application_name": self._name,
            "connect_timeout": max(2, round(min(CONNECT_S_MAX, link.timeout_s))),
            "client_encoding": "UTF8",
            "options": f"-c search_path={link.schema},pg_temp",
            "gssencmode": "disable",
            "target_session_attrs": "read-write",
            "sslmode": "disable",
        }
        if link.protection != "plain":
            out |= {"sslmode": "verify-full", "sslrootcert": self._whole(link.ca), "sslcertmode": "disable"}
            self._present(link.ca)
        if link.protection == "mutual":
            read_secret(Path(self._whole(link.key)))
            self._present(link.certificate)
            out |= {"sslcert": self._whole(link.certificate), "sslkey": self._whole(link.key)}
            out["sslcertmode"] = "require"
        file = None if link.password_file is None else self._whole(link.password_file)
        if (password := password_of(link.user, link.password_env, file)) is not None:
            out["password"] = password  # else libpq looks in ~/.pgpass, or none is asked for
        return make_conninfo(**out)

    def _present(self, name: str) -> None:
        if not Path(self._whole(name)).is_file():
            raise CertificateError(f"{self._whole(name)} is not there")

    def _whole(self, name: str) -> str:
        return str((self._folder / name).absolute())


def _words(error: psycopg.Error) -> str:
    """The first line of what the server says, and its code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return f"{text} (SQLSTATE {error.sqlstate})" if error.sqlstate else text
