"""A site in a folder of its own with a signed record, people with keys, and whom the plant trusts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.main import main
from cli.writing_permit import vouched
from connectors.stores.commissioning import write_record
from ems.errors import ConfigError
from ems.site_schema import load_site
from tests.scenarios.commissioning import whole_record
from tests.scenarios.conftest import DEMO


@dataclass(frozen=True)
class Place:
    """A site of its own with a record of its commissioning, three people, and whom the plant trusts."""

    home: Path

    @property
    def site(self) -> Path:
        return self.home / "site.yaml"

    @property
    def record(self) -> Path:
        return self.home / "commissioning.json"

    @property
    def trust(self) -> Path:
        return self.home / "trust"

    def key(self, name: str) -> str:
        return str(self.home / "keys" / f"{name}.key")

    def sign(self, name: str = "eve") -> None:
        assert main(["sign", "site", str(self.site), "--key", self.key(name)]) == 0
        assert main(["sign", "record", str(self.record), "--key", self.key(name)]) == 0

    def refusal(self) -> str:
        with pytest.raises(ConfigError) as refused:
            vouched(self.site, self.record, self.trust)
        return str(refused.value)


def placed(tmp_path: Path, identities: Mapping[str, Mapping[str, str]] | None = None) -> Place:
    """Eve may sign both, Sam site files alone, Mallory nothing; `identities`: of devices, in the record."""
    here = Place(tmp_path)
    (tmp_path / "maps").mkdir()
    for path in (DEMO.parent / "maps").iterdir():
        (tmp_path / "maps" / path.name).write_bytes(path.read_bytes())
    here.site.write_bytes(DEMO.read_bytes())
    write_record(here.record, whole_record(load_site(here.site), identities=identities or {}))
    for use, names in {"site": ["eve", "sam"], "commissioning": ["eve"]}.items():
        (here.trust / use).mkdir(parents=True, mode=0o755)
        for name in names:
            if not Path(here.key(name)).exists():
                assert main(["sign", "key", name, "--into", str(tmp_path / "keys")]) == 0
            (here.trust / use / f"{name}.pem").write_bytes((tmp_path / "keys" / f"{name}.pem").read_bytes())
            (here.trust / use / f"{name}.pem").chmod(0o644)
    assert main(["sign", "key", "mallory", "--into", str(tmp_path / "keys")]) == 0
    here.sign()
    return here
