"""A changed copy is what `dataclasses.replace` would have made, also of classes that check themselves."""

import dataclasses

import pytest

from dispatch.state import EdgeState, ObserverMemory
from ems.frozen import replace


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whole:
    one_kw: float = 1.0
    many: object = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WithSlots:
    one_kw: float = 1.0
    many: object = ()


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


@pytest.mark.parametrize("cls", [Whole, WithSlots])
def test_replace_of_a_copy_goes_on_as_of_the_first(cls: type[Whole | WithSlots]):
    before = cls()
    once = replace(before, many={"a": 1.0})
    twice = replace(once, one_kw=2.0)
    assert twice == cls(one_kw=2.0, many={"a": 1.0})
    assert once == cls(many={"a": 1.0})
    assert before == cls()
    assert hash(replace(before, many=())) == hash(cls(many=()))
    with pytest.raises(dataclasses.FrozenInstanceError):
        twice.one_kw = 3.0  # type: ignore[misc]


@pytest.mark.parametrize("cls", [Whole, WithSlots])
def test_replace_that_changes_nothing_is_the_same_object(cls: type[Whole | WithSlots]):
    before = cls(many={"a": 1.0})
    assert replace(before) is before
    assert replace(before, one_kw=before.one_kw, many=before.many) is before
    assert replace(before, many={"a": 1.0}) is not before
    assert replace(before, many={"a": 1.0}) == before


def test_replace_of_a_class_that_checks_itself_still_checks():
    assert replace(Checked(), low=0.25).width == 0.75
    with pytest.raises(ValueError, match="low over high"):
        replace(Checked(), low=2.0)


@pytest.mark.parametrize("cls", [Whole, WithSlots])
def test_replace_of_an_unknown_field_is_refused(cls: type[Whole | WithSlots]):
    with pytest.raises(TypeError, match=f"{cls.__name__} has no field 'one_mw'"):
        replace(cls(), one_kw=1.0, one_mw=2.0)  # type: ignore[call-arg]
