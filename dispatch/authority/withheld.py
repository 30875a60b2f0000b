"""Devices at which nothing is written whatever the modes say: not the one commissioned, or not agreed to."""

from collections.abc import Iterator, Mapping

from dispatch.layout import Layout
from dispatch.vocabulary import Alarm, TickInput


def withheld(layout: Layout, given: TickInput) -> dict[str, str]:
    """Asset -> why none of its setpoints is written."""
    out = dict.fromkeys(given.untouched, "nobody has agreed to its being written")
    if given.strangers:
        for point in (*layout.setpoints, *layout.watchdogs):
            device = layout.device(point)
            if device in given.strangers:
                asset = point.partition(".")[0]
                out[asset] = f"{device} is not the device commissioned: {given.strangers[device]}"
    return out


def stranger_alarms(layout: Layout, strangers: Mapping[str, str]) -> Iterator[Alarm]:
    """One for each device that is not what its map, the site file or the commissioning record says."""
    for device, why in strangers.items():
        if device in layout.devices:
            yield Alarm(code="device.identity", asset=device, text=f"{device} is not written to: {why}")
