"""The demo plant, for whatever is sent about it."""

from pathlib import Path

import pytest

from ems.site import Site
from ems.site_schema import load_site

DEMO = Path(__file__).resolve().parents[2] / "sites" / "demo" / "site.yaml"


@pytest.fixture(scope="session")
def demo() -> Site:
    return load_site(DEMO)
