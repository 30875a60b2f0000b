"""Everything that keeps the connections of a site from being worked with, whatever they speak."""

from connectors.dlms.package import dlms_problems
from connectors.iec61850.package import iec61850_problems
from connectors.ieee2030_5.package import ieee2030_5_problems
from connectors.map_check import check_point_maps
from connectors.modbus.pauses import pause_problems
from connectors.sunspec.faults import sunspec_problems
from ems.errors import Problem
from ems.site import Devices, Site


def connection_problems(site: Site | Devices) -> list[Problem]:
    """What the site file alone cannot know: `ems check` joins these to its own."""
    packages = [*iec61850_problems(site), *dlms_problems(site), *ieee2030_5_problems(site)]
    maps = [*check_point_maps(site.connections), *sunspec_problems(site)]
    return [*maps, *([] if maps else pause_problems(site)), *packages]
