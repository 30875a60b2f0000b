"""A folder of versions of inputs, one a file: what was known at any time of a past or a made-up year."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from connectors.inputs.convert import Doubts, read_version, told_issue
from connectors.inputs.folder import printable
from connectors.inputs.store import FILE, InputReader
from ems.errors import ConfigError, DataError, Problem
from ems.input_rules import series_rules
from ems.inputs import InputParams, InputVersion
from ems.site import Site

ALL = 10_000_000
_STAMP = re.compile(r"(\d{8}T\d{6}Z)-")  # as the archive of a drop folder names what it took
_FAR = timedelta(days=366)


class FiledInputs:
    """`ems.ports.InputKnowledge` over versions that are at hand, in whatever order."""

    def __init__(self, versions: Iterable[InputVersion]) -> None:
        self.versions = tuple(sorted(versions, key=lambda v: (v.arrived_at, v.id)))
        self._newest: dict[str, list[InputVersion]] = {}
        for version in sorted(self.versions, key=lambda v: (v.issued_at, v.id), reverse=True):
            self._newest.setdefault(version.input, []).append(version)
        self._arrived = {i: sorted(v.arrived_at for v in of) for i, of in self._newest.items()}

    def known(
        self, input_id: str, at: datetime, start: datetime, end: datetime, limit: int
    ) -> Sequence[InputVersion]:
        """Versions that tell something of [start, end), newest issue first, as known at `at`."""
        out = []
        for v in self._newest.get(input_id, ()):
            if max(v.arrived_at, v.issued_at) <= at and v.span[1] > start and v.span[0] < end:
                out.append(v)
                if len(out) == limit:
                    break
        return out

    def seen_at(self, input_id: str, at: datetime) -> datetime | None:
        """When the last version came, by `at`."""
        times = self._arrived.get(input_id, [])
        n = bisect_right(times, at)
        return times[n - 1] if n else None

    def __repr__(self) -> str:
        """The same for the same versions: a checkpoint is known again by it."""
        return f"FiledInputs({[(v.input, v.id, v.arrived_at, v.sha256) for v in self.versions]})"

    def last_at(self) -> datetime | None:
        """When the last version of all came."""
        return self.versions[-1].arrived_at if self.versions else None


def filed_inputs(
    folder: Path, site: Site, start: datetime, end: datetime, doubts: Callable[[InputParams], Doubts]
) -> FiledInputs:
    """Versions that a folder holds: those of `inputs.sqlite` there, else the files in a folder of each input.

    Parameters
    ----------
    folder : has `inputs.sqlite` as `ems run` keeps it, or folders named as the inputs of the site file, of
        files as they are dropped. A version came at the time in front of its name (`20260302T120000Z-...`, as
        in the archive of a drop folder), else when it was issued.
    start, end : what is kept in `inputs.sqlite` of this time is taken.

    Raises
    ------
    ConfigError : of a file that cannot be taken; all that is wrong, with file, line, found and allowed.
    DataError : there is nothing of any input.
    StoreError : `inputs.sqlite` cannot be read.
    """
    if (folder / FILE).is_file():
        with closing(InputReader(folder)) as reader:
            kept = [v for p in site.inputs for v in reader.known(p.id, end + _FAR, start, end, ALL)]
        return FiledInputs(kept)
    names = [p.id for p in site.inputs if (folder / p.id).is_dir()]
    if not names:
        wanted = ", ".join(p.id for p in site.inputs)
        raise DataError(
            f"{folder}: found neither {FILE} nor a folder of an input; allowed: folders named {wanted}"
        )
    found: list[InputVersion] = []
    problems: list[Problem] = []
    for params in (p for p in site.inputs if p.id in names):
        rules, ask = series_rules(site, params), doubts(params)
        for file in _files(folder / params.id, params):
            name = f"{params.id}/{printable(file.name)}"
            try:
                raw = _bytes(file, name, params)
                arrived = _arrived(file, name, raw, params)
                found.append(read_version(raw, name, params, rules, arrived, ask))
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(problems)
    found.sort(key=lambda v: (v.arrived_at, v.source))
    return FiledInputs(replace(v, id=n) for n, v in enumerate(found, 1))


def _files(folder: Path, params: InputParams) -> list[Path]:
    ending = f".{params.provider.body}"
    return sorted(f for f in folder.iterdir() if f.name.lower().endswith(ending) and f.name[0] != ".")


def _bytes(file: Path, name: str, params: InputParams) -> bytes:
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ConfigError([_problem(name, str(error.strerror), "a file that can be read")]) from None
    if len(raw) > params.bytes_max:
        raise ConfigError([_problem(name, f"{len(raw)} bytes", f"at most {params.bytes_max}")])
    return raw


def _arrived(file: Path, name: str, raw: bytes, params: InputParams) -> datetime:
    stamp = _STAMP.match(file.name)
    if stamp is not None:
        try:
            return datetime.strptime(stamp[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            allowed = "a time that there is, such as 20260302T120000Z-"
            raise ConfigError([_problem(name, stamp[1], allowed)]) from None
    issued = told_issue(raw, name, params)
    if issued is None:
        allowed = "a time of issue in the file, or when it came in front of its name: 20260302T120000Z-..."
        raise ConfigError([_problem(name, "no time of issue", allowed)])
    return issued


def _problem(name: str, found: str, allowed: str) -> Problem:
    return Problem(file=name, line=None, key="file", found=found, allowed=allowed)
