"""Browse paths as they are written in point maps."""

import pytest

from ems.errors import BadValue
from ems.ua_path import BASE, browse_path, is_path


@pytest.mark.parametrize(
    ("address", "steps"),
    [
        ("nsu=urn:a;path=Plant/Meter", (("urn:a", "Plant"), ("urn:a", "Meter"))),
        ("path=Server/{urn:a/b}Power", ((BASE, "Server"), ("urn:a/b", "Power"))),
        ("nsu=urn:a;path=A&/B/C&&D/&{x&}", (("urn:a", "A/B"), ("urn:a", "C&D"), ("urn:a", "{x}"))),
        ("nsu=urn:a;path={urn:b}Sät 1.P", (("urn:b", "Sät 1.P"),)),
    ],
)
def test_path_is_read_step_by_step(address, steps):
    assert is_path(address)
    assert browse_path(address) == steps


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("nsu=urn:a;path=", "'' is no browse name"),
        ("nsu=urn:a;path=/Plant", "'' is no browse name"),
        ("nsu=urn:a;path=Plant//Meter", "'' is no browse name"),
        ("nsu=urn:a;path={urn:bPlant/Meter", "a brace is not closed"),
        ("nsu=urn:a;path={}Plant", "no namespace URI in braces"),
        ("nsu=urn:a;path=Pl}ant", "'}' in 'Pl}ant': write &}"),
        ("nsu=urn:a;path=Plant&", "'Plant&' is no browse name"),
    ],
)
def test_path_that_is_none_refused_with_what_is_wrong(address, why):
    with pytest.raises(BadValue) as caught:
        browse_path(address)
    assert why in str(caught.value)


@pytest.mark.parametrize("address", ["nsu=urn:a;s=path=x", "i=85", "s=path"])
def test_node_id_is_no_path(address):
    assert not is_path(address)
