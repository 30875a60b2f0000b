"""`utility` in a site file: how a server is known, what its words tell, what contradicts itself."""

import dataclasses
from pathlib import Path

import pytest

from cli.check import summary
from cli.main import main
from cli.runbook_text import runbook
from connectors.stores.permit import sections
from ems.control_site import LimitKind
from ems.errors import ConfigError
from ems.http_json import HttpJson
from ems.northbound import TlsFiles
from ems.site import Site
from ems.site_schema import load_site
from ems.utility import MODES, Sep2Server, Share, Telling, UtilityProtocol, VtnPrices, VtnServer
from tests.contract.utility_peer import Pki

GOOD = Path(__file__).parent / "broken_sites"
LIMITS = """
  limits:
    out: {kind: export, watchdog_s: 60, on_loss_kw: 0}
    into: {kind: import, watchdog_s: 60, on_loss_kw: 0}
    sun: {kind: pv, watchdog_s: 60, on_loss_kw: 0}
    stored: {kind: bess_discharge, watchdog_s: 60, on_loss_kw: 0}
    quick: {kind: export, watchdog_s: 5, on_loss_kw: 0}
    read: {kind: import, watchdog_s: 60, on_loss_kw: 0, point: grid1.p_kw}
"""
URL = "url: https://utility.example.org/dcap"
TELLS = "tells: {opModExpLimW: {limit: out}}"


@pytest.fixture
def loaded(tmp_path: Path):
    def load(server: str, more: str = "", *, servers: str = "") -> Site:
        (tmp_path / "maps").symlink_to(GOOD / "maps")
        text = (GOOD / "good.yaml").read_text().replace("\n  limits:\n", LIMITS, 1)
        servers = servers or f"dnsp: {{protocol: ieee2030_5, {server}}}"
        (tmp_path / "site.yaml").write_text(f"{text}utility: {{{servers}}}\n{more}")
        return load_site(tmp_path / "site.yaml")

    return load


def said(site: Site) -> str:
    """What `ems check` and the runbook say of it."""
    return "\n".join([*summary(site), runbook(site, {})])


def test_server_left_to_itself_is_asked_with_certificates_on_both_sides(loaded):
    site = loaded(f"{URL}, {TELLS}")
    assert site.utilities == (
        Sep2Server(
            id="dnsp", protocol=UtilityProtocol.IEEE2030_5, host="utility.example.org", port=443,
            path="/dcap",
            tls=TlsFiles(
                ca="pki/utility/ca.pem", certificate="pki/utility/own.pem", key="pki/utility/own.key"
            ),
            server_lfdi=None, ccm8=False, pin=None,
            tellings=(Telling(word="opModExpLimW", shares=(Share("out", 1.0),)),),
            age_s_max=900.0, clock_s_max=30.0, timeout_s=20.0, set_max_kw=None,
            post_device=True, post_meter=True,
        ),
    )  # fmt: skip
    text = said(site)
    assert text.count("opModExpLimW tells out, without a word of it nothing") == 2
    assert text.count("NO PIN") == 2
    assert "made out to utility.example.org" in text


def test_server_that_is_known_by_its_lfdi_says_so_and_shares_are_told(loaded):
    lfdi = "ab" * 20
    site = loaded(
        f"url: 'https://10.0.0.9:8443', pin: 111115, tls: {{server_lfdi: '{lfdi}', ccm8: true}}, "
        "tells: {opModGenLimW: {shares: {sun: 0.75, stored: 0.25}, otherwise_kw: 500 kW}}"
    )
    (server,) = site.utilities
    assert (server.port, server.path, server.server_lfdi, server.ccm8) == (8443, "/", lfdi.upper(), True)
    assert server.tellings[0].otherwise_kw == 500.0
    text = said(site)
    assert "0.75 of it sun and 0.25 of it stored, without a word of it 500 kW" in text
    assert f"LFDI {lfdi.upper()}, CCM_8" in text
    assert "PIN checked" in text


def test_what_a_mode_leaves_unbounded_is_said_loudly(loaded):
    assert "opModGenLimW does NOT bound batteries and gensets" in said(
        loaded(f"{URL}, tells: {{opModGenLimW: {{limit: sun}}}}")
    )


def test_commissioning_holds_whatever_servers_there_are(loaded):
    site = loaded(f"{URL}, {TELLS}")
    assert sections(site) == sections(dataclasses.replace(site, utilities=()))


def test_every_mode_may_be_told_as_some_kind():
    assert set(MODES["opModGenLimW"]) == {LimitKind.PV, LimitKind.BESS_DISCHARGE}
    assert all(MODES.values())


WRONG = [
    (f"url: http://h/dcap, {TELLS}", "url", "https://host:port/path"),
    (f"url: https://u@h/dcap, {TELLS}", "url", "https://host:port/path"),
    (f"url: 'https://h/a?b=1', {TELLS}", "url", "https://host:port/path"),
    (f"url: 'https://h:0/a', {TELLS}", "url", "https://host:port/path"),
    (f"url: 'https:///a', {TELLS}", "url", "https://host:port/path"),
    (f"{URL}, pin: 111116, {TELLS}", "pin", "a multiple of ten"),
    (f"{URL}, pin: 1111115, {TELLS}", "pin", "999999"),
    (f"{URL}, tls: {{server_lfdi: abc}}, {TELLS}", "tls.server_lfdi", "40 hexadecimal digits"),
    (
        f"{URL}, tls: {{server_lfdi: '{'a' * 40}', server_name: x}}, {TELLS}",
        "tls.server_name",
        "one of them",
    ),
    (f"{URL}, tells: {{opModExpLim: {{limit: out}}}}", "tells.opModExpLim", "did you mean"),
    (f"{URL}, tells: {{opModFixedW: {{limit: out}}}}", "tells.opModFixedW", "opModExpLimW, opModImpLimW"),
    (f"{URL}, tells: {{}}", "tells", "at least 1"),
    (f"{URL}, tells: {{opModExpLimW: {{}}}}", "tells.opModExpLimW", "limit, or shares"),
    (
        f"{URL}, tells: {{opModGenLimW: {{limit: sun, shares: {{stored: 1}}}}}}",
        "tells.opModGenLimW",
        "limit, or shares",
    ),
    (
        f"{URL}, tells: {{opModGenLimW: {{shares: {{sun: 0.6, stored: 0.5}}}}}}",
        "tells.opModGenLimW.shares",
        "1 or less",
    ),
    (f"{URL}, tells: {{opModExpLimW: {{limit: read}}}}", "tells.opModExpLimW.limit", "told by messages"),
    (
        f"{URL}, tells: {{opModExpLimW: {{limit: outt}}}}",
        "tells.opModExpLimW.limit",
        "did you mean 'out'",
    ),
    (f"{URL}, tells: {{opModExpLimW: {{limit: into}}}}", "tells.opModExpLimW.limit", "export"),
    (f"{URL}, tells: {{opModExpLimW: {{limit: quick}}}}", "tells.opModExpLimW.limit", "10 s or more"),
    (
        f"{URL}, tells: {{opModExpLimW: {{limit: out}}, opModMaxLimW: {{limit: out}}}}",
        "tells.opModMaxLimW.limit",
        "opModExpLimW tells it",
    ),
    (f"{URL}, age_s_max: 30, {TELLS}", "age_s_max", "60 s or more"),
    (f"{URL}, clock_s_max: 0, {TELLS}", "clock_s_max", "1 s or more"),
]


def test_contradictions_are_refused_each_with_its_key(loaded):
    servers = ", ".join(f"s{i}: {{protocol: ieee2030_5, {server}}}" for i, (server, _, _) in enumerate(WRONG))
    with pytest.raises(ConfigError) as caught:
        loaded("", servers=servers)
    told = {p.key: str(p) for p in reversed(caught.value.problems)}
    for i, (_, key, text) in enumerate(WRONG):
        assert text in told.get(f"utility.s{i}.{key}", ""), (key, text)
    assert len(told) >= len(WRONG)


def test_limit_that_a_server_of_ours_may_be_told_too_is_refused(loaded):
    more = "northbound: {modbus: {ppc: {writes: {limits: [out], plain_from: [127.0.0.1]}}}}\n"
    with pytest.raises(ConfigError, match="northbound server ppc tells it"):
        loaded(f"{URL}, {TELLS}", more)


def test_identity_is_told_for_the_utility(loaded, tmp_path, capsys):
    loaded(f"{URL}, pin: 111115, {TELLS}")
    pki = Pki(tmp_path / "pki")
    (tmp_path / "pki" / "utility").mkdir()
    (tmp_path / "pki" / "utility" / "own.pem").write_bytes(pki.own.certificate.read_bytes())
    assert main(["utility", "identity", str(tmp_path / "site.yaml")]) == 0
    text = capsys.readouterr().out
    assert f"LFDI  {pki.identity.lfdi}" in text
    assert f"SFDI  {pki.identity.sfdi}" in text
    assert "PIN   111115" in text


def test_status_needs_a_folder_of_a_plant(tmp_path, capsys):
    assert main(["utility", "status", "--dir", str(tmp_path)]) == 2
    assert "no server of a utility was asked" in capsys.readouterr().err


VTN = "protocol: openadr3, client_id: plant-7, client_secret_env: VTN_SECRET"
AT_VTN = "url: https://vtn.example.org/openadr3/3.0.1"
LIMIT = "tells: {EXPORT_CAPACITY_LIMIT: {limit: out}}"


def test_vtn_left_to_itself_is_known_by_its_authority_and_asked_each_minute(loaded):
    site = loaded("", servers=f"dso: {{{VTN}, {AT_VTN}, {LIMIT}}}")
    assert site.utilities == (
        VtnServer(
            id="dso", protocol=UtilityProtocol.OPENADR3, host="vtn.example.org", port=443,
            path="/openadr3/3.0.1", http=HttpJson(ca="pki/utility/ca.pem"), token_host="vtn.example.org",
            token_port=443, token_path="/openadr3/3.0.1/auth/token", client_id="plant-7", secret_file=None,
            secret_env="VTN_SECRET", scope="", every_s=60.0, ven_name="", targets=(), ask_targets=False,
            programs=(), tellings=(Telling(word="EXPORT_CAPACITY_LIMIT", shares=(Share("out", 1.0),)),),
            age_s_max=900.0, clock_s_max=30.0, timeout_s=20.0,
        ),
    )  # fmt: skip
    text = said(site)
    assert text.count("EXPORT_CAPACITY_LIMIT tells out, without a word of it nothing") == 2
    assert text.count("by a token of vtn.example.org:443/openadr3/3.0.1/auth/token") == 2
    assert "none by a target of ours" in text


def test_vtn_that_is_pinned_or_of_the_system_is_said_to_be_so(loaded):
    site = loaded(
        "",
        servers=f"a: {{{VTN}, {AT_VTN}, tls: {{protection: pinned, certificate: v.pem}}, ven_name: me, "
        f"targets: [north], {LIMIT}}}, b: {{{VTN}, {AT_VTN}, tls: {{protection: system}}, "
        "token_url: 'https://id.example.org/token', tells: {IMPORT_CAPACITY_LIMIT: {limit: into}}}",
    )
    text = said(site)
    assert "by its certificate v.pem alone; we are plant-7" in text
    assert "events meant for me or north, or for all" in text
    assert "by whom the operating system believes" in text
    assert "a token of id.example.org:443/token" in text


INPUTS = """inputs:
  retail: {kind: price, folder: inbox}
  asked: {kind: price, url: 'https://p.example.org/prices'}
"""


def test_prices_of_a_vtn_go_to_an_input_with_a_folder(loaded):
    server = f"dso: {{{VTN}, {AT_VTN}, prices: {{program: tou, input: retail}}}}"
    site = loaded("", INPUTS, servers=server)
    (one,) = site.utilities
    assert isinstance(one, VtnServer)
    assert (one.prices, one.tellings) == (VtnPrices(program="tou", input="retail", folder="inbox"), ())
    assert "prices of program 'tou' go to input retail" in said(site)


def test_prices_of_a_vtn_that_nobody_could_take_are_refused(loaded):
    prices = "prices: {program: tou, input: INPUT}"
    servers = [
        prices.replace("INPUT", "asked"),
        prices.replace("INPUT", "retial"),
        prices.replace("INPUT", "retail"),
        prices.replace("INPUT", "retail") + ", programs: [other]",
        "ven_name: a",
    ]
    rows = ", ".join(f"s{i}: {{{VTN}, {AT_VTN}, {x}}}" for i, x in enumerate(servers))
    with pytest.raises(ConfigError) as caught:
        loaded("", INPUTS, servers=rows)
    told = [str(p) for p in caught.value.problems]
    for key, text in (
        ("s0.prices.input", "with a folder and no provider: retail"),
        ("s1.prices.input", "did you mean 'retail'"),
        ("s3.prices.input", "s2 tells it"),
        ("s3.prices.program", "one of other"),
        ("s4.tells", "at least 1"),
    ):
        assert any(f"utility.{key}" in t and text in t for t in told), (key, told)


WRONG_VTN = [
    (f"{AT_VTN}, client_id: x, {LIMIT}", "", "client_secret_file and client_secret_env"),
    (f"{AT_VTN}, client_secret_env: X, {LIMIT}", "client_id", "who we are at the VTN"),
    (f"{VTN}, {AT_VTN}, client_secret_file: x, {LIMIT}", "", "the variable, that holds our secret"),
    (f"{VTN}, url: 'http://vtn.example.org', {LIMIT}", "url", "https://host:port/path"),
    (f"{VTN}, {AT_VTN}, token_url: 'http://x/t', {LIMIT}", "token_url", "https://host:port/path"),
    (f"{VTN}, {AT_VTN}, pin: 111115, {LIMIT}", "pin", "only with ieee2030_5"),
    (f"{VTN}, {AT_VTN}, tls: {{key: a}}, {LIMIT}", "tls.key", "only with ieee2030_5"),
    (
        f"{VTN}, {AT_VTN}, tls: {{protection: pinned}}, {LIMIT}",
        "tls.certificate",
        "the certificate of the VTN",
    ),
    (f"{VTN}, {AT_VTN}, tls: {{certificate: a}}, {LIMIT}", "tls.certificate", "only with pinned"),
    (
        f"{VTN}, {AT_VTN}, tls: {{protection: pinned, certificate: a}}, token_url: 'https://b/t', {LIMIT}",
        "token_url",
        "the host of url",
    ),
    (f"{VTN}, {AT_VTN}, ask_targets: true, {LIMIT}", "ask_targets", "targets that are ours"),
    (f'{VTN}, {AT_VTN}, ven_name: "a\\nb", {LIMIT}', "ven_name", "printable"),
    (f"{VTN}, {AT_VTN}, every_s: 1, {LIMIT}", "every_s", "10 s or more"),
    (f"{VTN}, {AT_VTN}, tells: {{SIMPLE: {{limit: out}}}}", "tells.SIMPLE", "EXPORT_CAPACITY_LIMIT, IMPORT"),
    (
        f"{VTN}, {AT_VTN}, tells: {{EXPORT_CAPACITY_LIMIT: {{limit: into}}}}",
        "tells.EXPORT_CAPACITY_LIMIT.limit",
        "export",
    ),
    (f"protocol: ieee2030_5, {URL}, targets: [a], {TELLS}", "targets", "only with openadr3"),
    (
        f"protocol: ieee2030_5, {URL}, tls: {{protection: system}}, {TELLS}",
        "tls.protection",
        "only with openadr3",
    ),
]


def test_contradictions_of_a_vtn_are_refused_each_with_its_key(loaded):
    rows = [
        r if r[0].startswith(("protocol", VTN)) else (f"protocol: openadr3, {r[0]}", *r[1:])
        for r in WRONG_VTN
    ]
    with pytest.raises(ConfigError) as caught:
        loaded("", servers=", ".join(f"s{i}: {{{server}}}" for i, (server, _, _) in enumerate(rows)))
    told = [(p.key, str(p)) for p in caught.value.problems]
    for i, (_, key, text) in enumerate(rows):
        where = f"utility.s{i}.{key}".rstrip(".")
        assert any(k == where and text in words for k, words in told), (where, text)
