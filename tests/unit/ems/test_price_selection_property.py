"""Of each quarter the newest issue that was known tells the price, whatever came in which order."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.inputs.files import FiledInputs
from connectors.inputs.store import InputReader, InputStore
from ems.inputs import IMPORT, InputVersion
from ems.ports import InputKnowledge
from ems.prices import TodaysPrices, day_prices, told_prices
from ems.series import UniformSeries
from tests.builders import tariff
from tests.unit.ems.test_bill_prices import START, market

HOUR = timedelta(hours=1)
INPUTS = (market(), market("other"))
HOURS = 6


@dataclass(frozen=True, slots=True)
class Drawn:
    """A version as it is drawn: hours after START, and a price for each hour, None where it tells nothing."""

    input: str
    issued_h: int
    late_h: int
    first_h: int
    prices: tuple[int | None, ...]

    def version(self, number: int) -> InputVersion:
        values = np.array([np.nan if p is None else p / 100.0 for p in self.prices])
        issued = START + self.issued_h * HOUR
        return InputVersion(
            id=number, input=self.input, issued_at=issued, issued_told=True,
            arrived_at=issued + self.late_h * HOUR, source=f"{number}.csv", sha256=f"{number:064d}",
            series={IMPORT: UniformSeries(start=START + self.first_h * HOUR, step_s=3600.0, values=values)},
        )  # fmt: skip


# Any cell may be a gap but one: a file without a value is refused at the door.
CELLS = st.lists(st.one_of(st.none(), st.integers(-50, 300)), min_size=1, max_size=4)
DRAWN = st.builds(
    Drawn,
    st.sampled_from(["market", "other"]),
    st.integers(-4, HOURS),
    st.integers(0, 5),
    st.integers(0, HOURS - 1),
    st.tuples(st.integers(-50, 300), CELLS).map(lambda both: (both[0], *both[1])),
)
MANY = st.lists(DRAWN, max_size=7)
AT = st.integers(-4, HOURS + 6)


def versions(drawn: list[Drawn]) -> list[InputVersion]:
    """In order of arrival, as a store numbers them."""
    ordered = sorted(drawn, key=lambda d: d.issued_h + d.late_h)
    return [d.version(n) for n, d in enumerate(ordered, 1)]


def by_definition(given_: list[InputVersion], at: datetime, hour: int) -> tuple[float, int]:
    """Price of an hour and number of its version, spelled out; NaN and 0 where nobody tells."""
    for name in ("market", "other"):
        telling = [
            (v.issued_at, v.id, v.series[IMPORT].at(START + hour * HOUR))
            for v in given_
            if v.input == name and v.issued_at <= at and v.arrived_at <= at
        ]
        finite = [t for t in telling if np.isfinite(t[2])]
        if finite:
            _, number, price = max(finite)
            return price, number
    return float("nan"), 0


def check(known: InputKnowledge, given_: list[InputVersion], at: datetime) -> None:
    told = told_prices(INPUTS, tariff(), known, at, START, START + HOURS * HOUR)
    for quarter in range(4 * HOURS):
        price, index = told.find(IMPORT, START + quarter * HOUR / 4)
        number = told.versions[index].version if index >= 0 else 0
        wanted = by_definition(given_, at, quarter // 4)
        assert number == wanted[1]
        assert price == pytest.approx(wanted[0], abs=1e-9, nan_ok=True)


@given(MANY, AT, st.randoms())
def test_chosen_version_is_the_newest_issue_that_was_known_whatever_the_order_of_arrival(
    drawn: list[Drawn], at_h: int, random: object
):
    known = versions(drawn)
    shuffled = list(known)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    check(FiledInputs(shuffled), known, START + at_h * HOUR)


@settings(max_examples=15)
@given(MANY)
def test_store_chooses_as_it_is_defined_at_every_time(drawn: list[Drawn]):
    with TemporaryDirectory() as folder:
        store, kept = InputStore(Path(folder)), list[InputVersion]()
        for version in versions(drawn):
            look = store.take(version, b"")
            if look.outcome != "same":
                assert look.version is not None
                kept.append(replace(version, id=look.version))
        store.close()
        reader = InputReader(Path(folder))
        for at_h in range(-4, HOURS + 6, 3):
            check(reader, kept, START + at_h * HOUR)
        reader.close()


@given(MANY, MANY, AT)
def test_what_comes_later_changes_nothing_that_was_decided_before(
    early: list[Drawn], later: list[Drawn], at_h: int
):
    at = START + at_h * HOUR
    all_of_them = versions([*early, *later])
    known = [v for v in all_of_them if v.arrived_at <= at and v.issued_at <= at]
    assert day_prices(INPUTS, tariff(), FiledInputs(all_of_them), at) == day_prices(
        INPUTS, tariff(), FiledInputs(known), at
    )
    within = at + timedelta(minutes=14)
    assert TodaysPrices(INPUTS, tariff(), FiledInputs(all_of_them))(within) == day_prices(
        INPUTS, tariff(), FiledInputs(known), at
    ), "what comes within a quarter of an hour counts from the next on"
