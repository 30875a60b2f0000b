"""Plants for the scenarios: the small one built in code, and the demonstration site."""

from pathlib import Path

import pytest

from ems.site import Site
from ems.site_schema import load_site
from tests import builders

DEMO = Path(__file__).resolve().parents[2] / "sites" / "demo" / "site.yaml"


@pytest.fixture(scope="session")
def demo() -> Site:
    """One battery that can form, two gensets, PV, three feeders; point maps and a watchdog on the battery."""
    return load_site(DEMO)


@pytest.fixture(scope="session")
def small() -> Site:
    """The small plant of tests.builders, without connections: every point can be read."""
    return builders.site()
