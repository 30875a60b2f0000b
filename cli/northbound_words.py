"""What the values of our servers are, in words."""

from ems.northbound_names import ANSWER, ANSWERS, OF_A_SERVER, OF_A_STATION, names
from ems.site import Site


def about(site: Site, name: str) -> tuple[str, str]:
    """(unit, meaning) of a name."""
    own = OF_A_SERVER | OF_A_STATION
    if name in own:
        return "", own[name]
    if name.startswith(ANSWER):
        return "", f"what the edge made of the last write of the limit: {ANSWERS}"
    return next(((n.unit, n.meaning) for n in names(site) if n.name == name), ("", ""))
