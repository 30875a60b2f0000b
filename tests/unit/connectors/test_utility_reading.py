"""Documents of IEEE 2030.5 that are sound, and each way of being spoilt: none is another bound."""

from dataclasses import replace

import pytest
from py20305.security.identity import compute_lfdi, compute_sfdi

from connectors.ieee2030_5 import package
from connectors.ieee2030_5.documents import BYTES_MAX, BadDocument, Documents
from connectors.ieee2030_5.identity import grouped, identity_of
from connectors.ieee2030_5.package import ieee2030_5_problems
from connectors.ieee2030_5.ratings import scaled
from connectors.ieee2030_5.reading import Reader, path_of, rate_s
from ems.utility import Share, Telling, is_pin
from tests.builders import site as plain_site
from tests.contract.utility_peer import Pki, params
from tests.contract.utility_server import UtilityServer

NS = 'xmlns="urn:ieee:std:2030.5:ns" xmlns:c="https://csipaus.org/ns"'
BASE = "<c:opModExpLimW><multiplier>1</multiplier><value>500</value></c:opModExpLimW>"
EVENT = (
    '<DERControl replyTo="/rsp" responseRequired="03"><mRID>A1</mRID><creationTime>100</creationTime>'
    "<EventStatus><currentStatus>0</currentStatus><dateTime>1</dateTime>"
    "<potentiallySuperseded>false</potentiallySuperseded></EventStatus>"
    "<interval><duration>300</duration><start>200</start></interval>"
    f"<randomizeDuration>5</randomizeDuration><DERControlBase>{BASE}</DERControlBase></DERControl>"
)
LIST = f'<DERControlList {NS} all="1" results="1" href="/d" pollRate="60">{EVENT}</DERControlList>'


class Served(UtilityServer):
    """Of which only the port counts."""

    def __init__(self) -> None:
        self.port = 8443


@pytest.fixture(scope="module")
def documents() -> Documents:
    return Documents()


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def server(pki):
    tellings = tuple(
        Telling(word=w, shares=(Share("out", 1.0),)) for w in ("opModExpLimW", "opModMaxLimW", "opModImpLimW")
    )
    return params(Served(), pki.own, pki.authority.file, tellings=tellings)


@pytest.fixture
def control(documents, server):
    def of(text: str):
        (row,) = documents.read(text.encode(), documents.sep.DercontrolList).dercontrol
        return Reader(server, documents.modes, 700.0).control(row, "/a", 1)

    return of


def test_control_is_read_as_it_stands(control):
    one = control(LIST)
    assert (one.mrid, one.start_s, one.duration_s, one.random_duration_s) == ("A1", 200, 300, 5)
    assert (one.ask.bounds_kw, one.reply_to, one.replies) == ({"opModExpLimW": 5.0}, "/rsp", 3)


@pytest.mark.parametrize(
    ("base", "bounds_kw", "unmet"),
    [
        (BASE.replace(">1<", ">-1<"), {"opModExpLimW": 0.05}, ()),
        (BASE.replace(">1<", ">3<"), {"opModExpLimW": 500.0}, ()),
        (BASE.replace("500", "0"), {"opModExpLimW": 0.0}, ()),
        (BASE.replace("500", "40000"), {"opModExpLimW": 400.0}, ()),
        ("<opModMaxLimW>5000</opModMaxLimW>", {"opModMaxLimW": 350.0}, ()),
        ("<opModConnect>true</opModConnect><opModEnergize>1</opModEnergize>", {}, ()),
        ("<opModConnect>false</opModConnect>", {}, ("opModConnect false",)),
        (f"<opModEnergize>0</opModEnergize>{BASE}", {"opModExpLimW": 5.0}, ("opModEnergize false",)),
        ("<opModFixedW>10</opModFixedW><rampTms>5</rampTms>", {}, ("opModFixedW",)),
        (BASE.replace("ExpLim", "GenLim"), {}, ("opModGenLimW",)),
        (BASE.replace("ExpLim", "StorageTarget"), {}, ("opModStorageTargetW",)),
        ('<v:hint xmlns:v="urn:v">1</v:hint>', {}, ()),
        ('<v:opModExpLimW xmlns:v="urn:v">1</v:opModExpLimW>', {}, ("opModExpLimW of 'urn:v'",)),
    ],
)
def test_modes_are_bounds_or_cannot_be_done(control, base, bounds_kw, unmet):
    ask = control(LIST.replace(BASE, base)).ask
    assert (ask.bounds_kw, ask.unmet, ask.wrong) == (bounds_kw, unmet, "")


@pytest.mark.parametrize("version", ["", "/v1.2", "/v1.3"])
def test_limits_of_every_version_of_csip_aus_are_the_same(control, version):
    ask = control(LIST.replace("https://csipaus.org/ns", f"https://csipaus.org/ns{version}")).ask
    assert ask.bounds_kw == {"opModExpLimW": 5.0}


@pytest.mark.parametrize("version", ["", "/v1.3"])
@pytest.mark.parametrize(
    "base",
    [
        BASE.replace("500", "-1"),
        BASE.replace(">1<", ">10<"),
        BASE.replace(">1<", ">-10<"),
        BASE.replace(">1<", ">9<"),
        BASE.replace("500", "2147483648"),
        "<opModMaxLimW>10001</opModMaxLimW>",
    ],
)
def test_values_out_of_bounds_are_wrong_and_nothing_of_the_event_holds(control, base, version):
    ask = control(
        LIST.replace(BASE, base).replace("https://csipaus.org/ns", f"https://csipaus.org/ns{version}")
    ).ask
    assert ask.wrong
    assert ask.bounds_kw == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<start>200<", "<start>99999999999999999999<"),
        ("<start>200<", "<start>-1<"),
        ("<duration>300<", "<duration>-300<"),
        ("<duration>300<", "<duration>4294967296<"),
        ("Duration>5<", "Duration>3601<"),
        ("Status>0<", "Status>9<"),
        ('"/rsp"', '"https://elsewhere.example/rsp"'),
        ('"/rsp"', '"//elsewhere.example/rsp"'),
    ],
)
def test_frame_of_an_event_that_is_wrong_is_told_with_its_id(control, old, new):
    one = control(LIST.replace(old, new, 1))
    assert one.mrid == "A1"
    assert one.ask.wrong
    assert one.ask.bounds_kw == {}


@pytest.mark.parametrize(
    "raw",
    [
        LIST[:-20].encode(),
        b"",
        b"\xff\xfe\x00",
        LIST.replace("<interval>", "<future>1</future><interval>").encode(),
        LIST.replace(">500<", ">NaN<").encode(),
        LIST.replace(">500<", ">5e2<").encode(),
        LIST.replace(">500<", ">" + "9" * 5000 + "<").encode(),
        LIST.replace("<value>500</value>", "<value>500</value><value>900000</value>").encode(),
        LIST.replace("<value>500</value>", "").encode(),
        LIST.replace(BASE, BASE + BASE).encode(),
        LIST.replace("<mRID>A1", "<mRID>xyz").encode(),
        LIST.replace("<mRID>A1", "<mRID>&x;").encode(),
        ('<!DOCTYPE l [<!ENTITY x "A1">]>' + LIST).encode(),
        ('<?xml-stylesheet href="/x"?>' + LIST).encode(),
        ('<?xml version="1.0" encoding="utf-7"?>' + LIST).encode(),
        b"<a>" * 100_000,
        LIST.replace("DERControlList", "DERProgramList").encode(),
        LIST.replace("urn:ieee:std:2030.5:ns", "urn:other").encode(),
        LIST.replace(EVENT, EVENT * 60_000).encode()[:BYTES_MAX],
        b" " * (BYTES_MAX + 1),
        (f"<DERControlList {NS} all='1' results='1'>" + "<mRID/>" * 60_000 + "</DERControlList>").encode(),
    ],
    ids=range(21),
)
def test_spoilt_document_is_refused_whole(documents, raw):
    with pytest.raises(BadDocument):
        documents.read(raw, documents.sep.DercontrolList)


@pytest.mark.parametrize(
    ("href", "path"),
    [("/a", "/a"), ("https://127.0.0.1:8443/a?x=1", "/a?x=1"), ("HTTPS://127.0.0.1:8443/a", "/a")],
)
def test_link_on_the_server_itself_is_followed(server, href, path):
    assert path_of(href, server) == path


@pytest.mark.parametrize(
    "href",
    [
        None, "", "a", "http://127.0.0.1:8443/a", "https://127.0.0.1/a", "https://127.0.0.1:8444/a", "//x/a",
        "https://u@127.0.0.1:8443/a", "/a b", "/a\r\nHost: x", "/ä", "/" + "a" * 300, "https://[/a",
        "https://127.0.0.1:99999/a",
    ],
)  # fmt: skip
def test_link_that_leads_elsewhere_is_not_followed(server, href):
    with pytest.raises(BadDocument):
        path_of(href, server)


def test_identity_is_that_which_another_maker_reckons(pki):
    us = identity_of(pki.own.certificate)
    lfdi = compute_lfdi(pki.own.certificate.read_text())
    assert (us.lfdi, us.sfdi) == (lfdi.upper(), compute_sfdi(lfdi))
    assert grouped(us.lfdi).count("-") == 9
    assert sum(int(d) for d in str(us.sfdi)) % 10 == 0


def test_pins_have_a_digit_that_makes_their_sum_whole():
    assert [is_pin(x) for x in (111115, 0, 111116, -5, 1_000_000, 19)] == [
        True,
        True,
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("value", [0.0, 1.0, 32_767.0, 32_768.0, 1_234_567.0, -40_000.0, 9.9e9])
def test_numbers_of_sixteen_bits_are_as_near_as_they_can_be(value):
    number, multiplier = scaled(value)
    assert abs(number) <= 32_767
    assert number * 10.0**multiplier == pytest.approx(value, rel=2e-4)


def test_rate_that_is_none_is_the_one_of_before(documents):
    page = documents.read(LIST.replace('"60"', '"0"').encode(), documents.sep.DercontrolList)
    assert rate_s(page, 7.0) == 7.0
    assert rate_s(documents.read(LIST.encode(), documents.sep.DercontrolList), 7.0) == 60.0


def test_package_of_another_version_is_told_by_check(monkeypatch, server):
    site = replace(plain_site(), utilities=(server,))
    assert ieee2030_5_problems(site) == []
    monkeypatch.setattr(package, "VERSION", "99")
    (problem,) = ieee2030_5_problems(site)
    assert (problem.key, "only with py20305 99" in problem.allowed) == ("utility.dnsp.protocol", True)
