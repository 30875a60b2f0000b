"""A PostgreSQL of our own on a free port, run by a user without rights; looked into with psql."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ems.links import DatabaseLink
from tests.contract.plants import free_port

# Where the packages of distributions put what is not for everybody's PATH.
FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin")
CONF = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
fsync = off
full_page_writes = off
shared_buffers = 32MB
max_wal_size = 256MB
ssl = on
ssl_cert_file = '{folder}/server.pem'
ssl_key_file = '{folder}/server.key'
ssl_ca_file = '{folder}/ca.pem'
"""
HBA = """
local   all all trust
hostssl all cert_user 127.0.0.1/32 cert map=ours
hostssl all all 127.0.0.1/32 scram-sha-256
host    all all 127.0.0.1/32 scram-sha-256
"""


def find_postgres() -> Path:
    """The folder of its programs, or the test is skipped."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += [p for f in FOLDERS for p in sorted(Path("/").glob(f[1:]), reverse=True)]
    folder = next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)
    if folder is None or shutil.which("psql") is None:
        pytest.skip("the program 'postgres' is not installed")
    return folder


@dataclass(slots=True)
class Postgres:
    """Make, start, stop, kill, freeze; its data outlives that."""

    programs: Path
    pki: Path
    port: int = field(default_factory=free_port)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="ems-pg-")))
    process: "subprocess.Popen[Any] | None" = None

    def make(self) -> "Postgres":
        for ours, theirs in (
            ("broker.pem", "server.pem"),
            ("broker.key", "server.key"),
            ("ca.pem", "ca.pem"),
        ):
            shutil.copy(self.pki / ours, self.folder / theirs)
            (self.folder / theirs).chmod(0o600)
        if os.geteuid() == 0:  # PostgreSQL runs as anybody but root
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, "postgres", "postgres")
        self._run("initdb", "-D", self.data, "-A", "trust", "-U", "root", "-E", "UTF8", "--locale=C", "-N")
        conf = CONF.format(port=self.port, folder=self.folder)
        (self.folder / "data" / "postgresql.conf").write_text(conf)
        (self.folder / "data" / "pg_hba.conf").write_text(HBA)
        (self.folder / "data" / "pg_ident.conf").write_text("ours ems cert_user\n")
        return self

    @property
    def data(self) -> str:
        return str(self.folder / "data")

    def start(self) -> "Postgres":
        give_up = time.monotonic() + 20.0
        while subprocess.run(self._psql("postgres", "SELECT 1"), capture_output=True, check=False).returncode:
            assert time.monotonic() < give_up, (self.folder / "log").read_text()
            if self.process is None or self.process.poll() is not None:  # those of before are still leaving
                with (self.folder / "log").open("ab") as log:
                    arguments = [str(self.programs / "postgres"), "-D", self.data]
                    self.process = subprocess.Popen(arguments, stdout=log, stderr=log, **self._user)
            time.sleep(0.05)
        return self

    def kill(self) -> None:
        """Every process of it at once, as a power cut would."""
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def freeze(self, frozen: bool) -> None:
        self._signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """To the postmaster and to what it has started."""
        assert self.process is not None
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def sql(self, text: str, database: str = "plants") -> str:
        """Rows by psql, a line each, columns between bars."""
        done = subprocess.run(self._psql(database, text), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def fresh(self) -> "Postgres":
        """An empty database `plants` of the user `ems`."""
        self.sql("DROP DATABASE IF EXISTS plants WITH (FORCE)", "postgres")
        for role in ("ems LOGIN PASSWORD 'secret'", "cert_user LOGIN"):
            known = "EXCEPTION WHEN duplicate_object THEN"
            self.sql(f"DO $$ BEGIN CREATE ROLE {role}; {known} END $$", "postgres")
        self.sql("CREATE DATABASE plants OWNER ems TEMPLATE template0", "postgres")
        return self

    def link(self, folder: Path, **changes: object) -> DatabaseLink:
        """How one of ours reaches it, with TLS and a password."""
        secret = folder / "password"
        if not secret.exists():
            secret.touch(mode=0o600)
            secret.write_text("secret\n")
        given: dict[str, object] = {
            "id": "plants", "host": "127.0.0.1", "port": self.port, "database": "plants", "schema": "ems",
            "user": "ems", "protection": "verified", "ca": str(self.pki / "ca.pem"),
            "certificate": str(self.pki / "own.pem"), "key": str(self.pki / "own.key"),
            "password_file": str(secret), "timeout_s": 10.0, "backfill_per_s": None, "backlog_s_max": 900.0,
        }  # fmt: skip
        return DatabaseLink(**{**given, **changes})  # type: ignore[arg-type]

    @property
    def _user(self) -> dict[str, Any]:
        return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}

    def _run(self, program: str, *arguments: str) -> None:
        full = [str(self.programs / program), *arguments]
        done = subprocess.run(
            full, cwd=self.folder, capture_output=True, text=True, check=False, **self._user
        )
        assert done.returncode == 0, done.stderr

    def _psql(self, database: str, text: str) -> list[str]:
        where = ["-h", str(self.folder), "-p", str(self.port), "-U", "root", "-d", database]
        return ["psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", *where, "-c", text]


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and those that these have."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [p for c in children for p in (int(c), *descendants(int(c)))]
