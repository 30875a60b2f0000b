"""Published problems with known answers, kept beside the shared data sets."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def known_answers(shared_data: Path) -> Path:
    """The folder of known answers beside `shared_data`; skips the test by name where it is absent."""
    folder = shared_data.parent / "reference" / "known_answers"
    if not folder.is_dir():
        pytest.skip(f"the known answers are not there ({folder}; EMS_SHARED_DATA may name their neighbour)")
    return folder
