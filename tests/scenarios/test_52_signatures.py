"""52: a plant is commanded by files that somebody vouches for who is trusted with it, and by no others."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cli.main import main
from cli.process_config import ProcessConfig
from cli.writing_permit import kept_copy, permit, vouched
from connectors.stores.commissioning import Record, appended, read_record, write_record
from connectors.stores.permit import require_commissioned
from ems.errors import ConfigError
from ems.site_schema import load_site
from tests.scenarios.commissioning import AT
from tests.scenarios.signed_place import Place, placed

pytestmark = pytest.mark.scenario(52)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return placed(tmp_path)


def test_signed_set_is_believed_with_the_name_of_who_signed(place: Place, capsys: pytest.CaptureFixture[str]):
    told = vouched(place.site, place.record, place.trust)
    assert told.keys() == {"site", "commissioning"}
    assert re.fullmatch(r"eve \([0-9a-f]{16}\) at 20\d\d-.*\+00:00", str(told["site"]))
    check = ["sign", "check", str(place.site), "--record", str(place.record), "--trust", str(place.trust)]
    assert main(check) == 0
    assert capsys.readouterr().out.count("signed by eve (") == 2


def body_of(file: Path) -> Any:
    return json.loads(file.read_text())


def spoil_signature(change: Callable[[Any], object]) -> Callable[[Place], object]:
    def spoil(place: Place) -> None:
        file = place.home / "site.yaml.sig"
        body = body_of(file)
        change(body)
        file.write_text(json.dumps(body))

    return spoil


def dearer(place: Place) -> None:
    text = place.site.read_text()
    assert "diesel_per_l: 1.25" in text
    place.site.write_text(text.replace("diesel_per_l: 1.25", "diesel_per_l: 9.9"))


def other_map(place: Place) -> None:
    file = place.home / "maps" / "bess_pcs.yaml"
    file.write_text(file.read_text() + "\n# nothing that would be seen\n")


def weak_key(place: Place) -> None:
    """A key of another kind in the folder of keys."""
    pem = (
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    (place.trust / "site" / "weak.pem").write_bytes(pem)
    (place.trust / "site" / "weak.pem").chmod(0o644)


FORGERIES: dict[str, tuple[Callable[[Place], object], str]] = {
    "unsigned": (lambda p: (p.home / "site.yaml.sig").unlink(), "found nothing; allowed: one by eve ("),
    "no signature": (lambda p: (p.home / "site.yaml.sig").write_bytes(b"\xff{"), "found no signature"),
    "cut": (lambda p: os.truncate(p.home / "site.yaml.sig", 200), "found no signature"),
    "site file": (dearer, "site.yaml: contents: found other contents; allowed: as signed by eve ("),
    "a map": (other_map, "bess_pcs.yaml: contents: found other contents; allowed: as signed by eve ("),
    "another date": (spoil_signature(lambda b: b.update(at=AT)), "it was edited"),
    "another file": (spoil_signature(lambda b: b["files"].update({"site.yaml": "0" * 64})), "it was edited"),
    "no base64": (spoil_signature(lambda b: b.update(signature="*")), "it was edited"),
    "another form": (spoil_signature(lambda b: b.update(format=2)), "format: found 2; allowed: 1"),
    "of the record": (
        lambda p: (p.home / "commissioning.json.sig").replace(p.home / "site.yaml.sig"),
        "use: found 'commissioning'; allowed: 'site'",
    ),
    "a stranger's": (lambda p: p.sign("mallory"), "allowed: eve ("),
    "not his to sign": (lambda p: p.sign("sam"), "sam is trusted with site"),
    "no folder": (lambda p: p.trust.rename(p.home / "gone"), "a folder of public keys"),
    "no keys": (lambda p: (p.trust / "site").rename(p.home / "gone"), "keys: found none"),
    "open folder": (lambda p: (p.trust / "site").chmod(0o777), "found 0777; allowed: writable for its owner"),
    "open key": (lambda p: (p.trust / "site" / "sam.pem").chmod(0o666), "found 0666"),
    "another kind of key": (weak_key, "weak.pem: key: found none of Ed25519"),
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_set_is_refused_with_file_key_and_what_is_allowed(place: Place, forgery: str):
    spoil, said = FORGERIES[forgery]
    spoil(place)
    assert said in place.refusal()


def test_forged_chain_of_the_record_shows(place: Place):
    """Every hash of it is right, and it covers the site: only the signature tells."""
    forged: Record = ()
    for e in read_record(place.record):
        forged = appended(forged, at=e.at, user="mallory", kind=e.kind, data=e.data)
    write_record(place.record, forged)
    assert require_commissioned(place.record, read_record(place.record), load_site(place.site))
    said = place.refusal()
    assert "commissioning.json: contents: found other contents; allowed: as signed by eve (" in said
    assert "site.yaml" not in said


def test_run_writes_nothing_for_what_nobody_vouches_for(place: Place, capsys: pytest.CaptureFixture[str]):
    """Refused by the command, and once more by the edge at each start of it, from the copy it runs on."""
    run = [
        "run",
        str(place.site),
        "--write",
        "--record",
        str(place.record),
        "--dir",
        str(place.home / "data"),
    ]
    assert main(run) == 2
    assert "/etc/hybrid-ems/trust: (the folder): found nothing" in capsys.readouterr().err
    assert main([*run, "--trust", str(place.trust), "--unsigned"]) == 2
    other_map(place)
    assert main([*run, "--trust", str(place.trust)]) == 2
    assert "bess_pcs.yaml: contents" in capsys.readouterr().err
    assert not (place.home / "data").exists()
    place.sign()
    copy = kept_copy(place.site, place.home / "data")
    config = ProcessConfig(
        site=copy, directory=place.home / "data", shadow=False, record=place.record, trust=place.trust
    )
    permitted = permit(config, load_site(copy))
    assert permitted.vouched is not None
    assert permitted.vouched.keys() == {"site", "commissioning"}
    assert permitted.identities
    other = copy.parent / "maps" / "bess_pcs.yaml"
    other.write_text(other.read_text() + "\n# edited while it runs\n")
    with pytest.raises(ConfigError, match="other contents"):
        permit(config, load_site(copy))


def test_private_key_that_others_may_read_signs_nothing(place: Place, capsys: pytest.CaptureFixture[str]):
    Path(place.key("eve")).chmod(0o640)
    assert main(["sign", "site", str(place.site), "--key", place.key("eve")]) == 2
    assert "found mode 0640; allowed: 0600" in capsys.readouterr().err


def test_encrypted_key_signs_with_its_passphrase_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("EMS_KEY_PASSPHRASE", "correct horse")
    assert main(["sign", "key", "ann", "--into", str(place.home / "keys")]) == 0
    assert b"ENCRYPTED" in Path(place.key("ann")).read_bytes()
    sign = ["sign", "site", str(place.site), "--key", place.key("ann")]
    assert main(sign) == 0
    for wrong in ("", "battery staple"):
        monkeypatch.setenv("EMS_KEY_PASSPHRASE", wrong)
        assert main(sign) == 2
        assert "no private key that can be opened" in capsys.readouterr().err
