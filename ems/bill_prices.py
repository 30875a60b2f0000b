"""Told prices on the steps of a bill: what each costs, and on which version of which input that rests."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import numpy as np

from ems.errors import DataError
from ems.inputs import InputUse
from ems.prices import QUARTER_S, ToldPrices
from ems.timegrid import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class RestsOn:
    """The part of a line that rests on one version of an input: its time of issue, hash of its bytes."""

    version: InputUse
    energy_kwh: float
    amount_money: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPrices:
    """(N,) told prices of one side [money per kWh] and index of the version of each; -1: the tariff's."""

    per_kwh: FloatArray
    by: IntArray
    versions: tuple[InputUse, ...] = ()
    expected: bool = False

    @classmethod
    def of(cls, prices: ToldPrices | None, side: str, starts: Sequence[datetime]) -> Self:
        """For steps that begin at `starts`, none of which crosses a quarter of an hour.

        Raises
        ------
        DataError : the prices do not cover them.
        """
        if prices is None:
            return cls(per_kwh=np.full(len(starts), np.nan), by=np.full(len(starts), -1))
        offset_s = np.array([(x - prices.start).total_seconds() for x in starts])
        index = np.floor(offset_s / QUARTER_S + 1e-9).astype(np.int64)
        if index.min() < 0 or index.max() >= len(prices.by[side]):
            raise DataError(
                f"the told prices are of {len(prices.by[side])} quarters from {prices.start}; the bill is of "
                f"{starts[0]} to {starts[-1]}"
            )
        return cls(
            per_kwh=prices.per_kwh[side][index],
            by=prices.by[side][index],
            versions=prices.versions,
            expected=side in prices.expected,
        )

    def over(self, own: FloatArray) -> FloatArray:
        """(N,) told prices, `own` where nobody tells [money per kWh]."""
        return np.where(self.by >= 0, self.per_kwh, own)

    def lines(
        self, kwh: FloatArray, money: FloatArray
    ) -> Iterator[tuple[str, BoolArray, tuple[RestsOn, ...]]]:
        """For each input that told a price: its name, its steps, and its versions in order of first use."""
        used = list(dict.fromkeys(self.by[self.by >= 0].tolist()))
        for name in dict.fromkeys(self.versions[n].input for n in used):
            own = [n for n in used if self.versions[n].input == name]
            here = np.isin(self.by, own)
            parts = (
                RestsOn(
                    version=self.versions[n],
                    energy_kwh=math.fsum(kwh[self.by == n]),
                    amount_money=math.fsum(money[self.by == n]),
                )
                for n in own
            )
            yield f"input {name}", here, tuple(p for p in parts if p.energy_kwh > 0.0)

    def untold(self, kwh: FloatArray, money: FloatArray) -> tuple[float, float]:
        """Energy [kWh] and money that an input should have priced and did not."""
        here = self.by < 0
        return (math.fsum(kwh[here]), math.fsum(money[here])) if self.expected else (0.0, 0.0)
