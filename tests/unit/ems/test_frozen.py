"""A changed copy is what `dataclasses.replace` would have made, also of classes that check themselves."""

import dataclasses

import pytest

from dispatch.state import EdgeState, ObserverMemory
from ems.frozen import replace


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    low: float = 0.0  # ratio
    high: float = 1.0  # ratio
    width: float = dataclasses.field(init=False)  # ratio

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low over high")
        object.__setattr__(self, "width", self.high - self.low)


def test_replace_copies_every_field_and_changes_the_named_ones():
    before = EdgeState(epoch=3, seq=7, held_safe=True, observer=ObserverMemory(last_s=1.5))
    after = replace(before, seq=8, heartbeat=2)
    assert after == dataclasses.replace(before, seq=8, heartbeat=2)
    assert before.seq == 7
    assert after.observer is before.observer


def test_replace_without_changes_is_an_equal_copy():
    before = ObserverMemory(last_good={"a": 1.0})
    assert replace(before) == before
    assert replace(before) is not before


def test_replace_of_a_class_that_checks_itself_still_checks():
    assert replace(Checked(), low=0.25).width == 0.75
    with pytest.raises(ValueError, match="low over high"):
        replace(Checked(), low=2.0)


def test_replace_of_an_unknown_field_is_refused():
    with pytest.raises(TypeError, match="no field 'sequence'"):
        replace(EdgeState(epoch=1), sequence=2)  # type: ignore[call-arg]
