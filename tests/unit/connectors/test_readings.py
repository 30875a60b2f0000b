"""A reading made the quick way is a reading like any other."""

from dataclasses import FrozenInstanceError, fields

import pytest

from connectors.readings import reading
from ems.telemetry import Quality, Reading
from tests.builders import T0


def test_reading_quick_equals_the_plain_one_and_stays_frozen():
    quick = reading("bess1.p_kw", 1.5, Quality.GOOD, T0, 3.0)
    plain = Reading(point="bess1.p_kw", value=1.5, quality=Quality.GOOD, source_time=T0, arrived_s=3.0)
    assert quick == plain
    assert hash(quick) == hash(plain)
    assert repr(quick) == repr(plain)
    with pytest.raises(FrozenInstanceError):
        quick.value = 2.0  # type: ignore[misc]


def test_reading_quick_sets_every_field_there_is():
    assert [f.name for f in fields(Reading)] == ["point", "value", "quality", "source_time", "arrived_s"]
