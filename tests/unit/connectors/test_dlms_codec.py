"""Data, times, answers, counters and ciphers of DLMS, byte by byte."""

import struct
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from connectors.dlms import apdus, requests
from connectors.dlms.apdus import Block, Denied
from connectors.dlms.cipher import Cipher, length
from connectors.dlms.counter import LAST, LOT, Counter
from connectors.dlms.data import Malformed, count_of, datum_of, number_of, status_of, text_of
from connectors.dlms.instants import instant_of
from connectors.dlms.requests import Asked
from connectors.dlms.scalers import scaler_of
from connectors.link import Untrusted
from ems.dlms import Dlms
from tests.contract.fake_meter import AK, EK, METERS, OURS, f32, moment, obis, octets, scaler, structure

POWER = obis("1-0:1.7.0")
# AARE of the Green Book (annex with examples): no security, logical names, conformance 00501F, PDU 0x01F4.
AARE = bytes.fromhex("6129A109060760857405080101A203020100A305A103020100BE10040E0800065F1F040000501F01F40007")


@pytest.mark.parametrize(
    ("data", "number"),
    [
        ("06000003e8", 1000), ("05ffffffff", -1), ("10ff38", -200), ("12ffff", 65535), ("0f80", -128),
        ("11ff", 255), ("15ffffffffffffffff", 2**64 - 1), ("148000000000000000", -(2**63)),
        ("1741480000", 12.5), ("184029000000000000", 12.5),
    ],
)  # fmt: skip
def test_number_is_what_its_type_says(data, number):
    assert number_of(datum_of(bytes.fromhex(data))) == number


@pytest.mark.parametrize(
    "data", ["00", "0301", "1607", "0901ff", "0203060000000106000000010600000001", "0d12"]
)
def test_other_types_are_no_numbers(data):
    assert number_of(datum_of(bytes.fromhex(data))) is None


@pytest.mark.parametrize(
    "data",
    [
        "", "06", "060000", "0600000001ff", "0905ff", "01ff", "0184ffffffff", "0285ffffffffff", "09800",
        "0a01ff", "13", "fe", "1b0000", "04",
    ],
)  # fmt: skip
def test_bytes_that_are_too_few_too_many_or_none_are_refused(data):
    with pytest.raises(Malformed):
        datum_of(bytes.fromhex(data + "0" * (len(data) % 2)))


def test_library_takes_a_number_that_is_cut_short_and_ours_does_not():
    """Why answers are read by ourselves: docs/decisions/0014-dlms-own-reader.md."""
    from dlms_cosem.dlms_data import DlmsDataParser

    cut = bytes.fromhex("060001")
    (told,) = DlmsDataParser().parse(cut, limit=1)  # without a limit it never comes back
    assert told.value == 1
    with pytest.raises(Malformed):
        datum_of(cut)


def test_structures_without_end_are_refused():
    with pytest.raises(Malformed, match="at depth"):
        datum_of(b"\x02\x01" * 5000 + b"\x00")


def test_texts_counts_and_statuses():
    assert text_of(datum_of(octets(b"4711\x00"))) == "4711"
    assert text_of(datum_of(octets(b"\x01\xff"))) == "01FF"
    assert text_of(datum_of(b"\x0a\x02AB")) == "AB"
    assert text_of(datum_of(b"\x00")) is None
    assert text_of(datum_of(b"\x03\x01")) == "1"
    assert count_of(datum_of(b"\x16\x03")) == 3
    assert count_of(datum_of(b"\x03\x01")) == 1
    assert count_of(datum_of(f32(1.0))) is None
    assert status_of(datum_of(b"\x04\x0a\x80\x40")) == 1 | 1 << 9
    assert status_of(datum_of(b"\x11\x05")) == 5
    assert status_of(datum_of(b"\x00")) == 0
    assert status_of(datum_of(f32(1.0))) is None


AT = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize("deviation", [0, -60, 120, -330, 720])
def test_time_is_local_time_and_what_is_added_for_utc(deviation):
    told = instant_of(datum_of(octets(moment(AT, deviation))))
    assert told == (AT, "", deviation)


def test_time_of_the_standard_in_central_europe_is_an_hour_behind():
    """12:00 with a deviation of -60 minutes is 11:00 UTC."""
    data = bytes.fromhex("07EA0301070C0000FFFFC400")
    assert instant_of(datum_of(b"\x19" + data)).at == datetime(2026, 3, 1, 11, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (octets(b"\x07"), "octet-string where a time"), (b"\x06\x00\x00\x00\x01", "double-long-unsigned"),
        (octets(moment(AT, 0, 0x01)), "does not believe its clock"),
        (octets(moment(AT, 0, 0x02)), "does not believe its clock"),
        (octets(moment(AT, None)), "time_zone"), (octets(moment(AT, 900)), "a deviation of 900"),
        (octets(b"\xff" * 9 + b"\x00\x00\x00"), "no time"),
        (octets(b"\x07\xea\x02\x1e\x07" + b"\x00" * 7), "no time"),
    ],
)  # fmt: skip
def test_time_that_is_none_is_not_believed(data, why):
    told = instant_of(datum_of(data))
    assert told.at is None
    assert why in told.why


def test_time_without_deviation_is_that_of_the_zone_and_the_second_hour_is_told_by_its_bit():
    zone = ZoneInfo("Europe/Berlin")
    wall = struct.pack(">HBBBBBBBhB", 2026, 10, 25, 7, 2, 30, 0, 0, -0x8000, 0x80)
    assert instant_of(datum_of(octets(wall)), zone).at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert instant_of(datum_of(octets(wall[:-1] + b"\x00")), zone).at == datetime(
        2026, 10, 25, 1, 30, tzinfo=UTC
    )
    never = struct.pack(">HBBBBBBBhB", 2026, 3, 29, 7, 2, 30, 0, 0, -0x8000, 0)
    assert "never was" in instant_of(datum_of(octets(never)), zone).why


@pytest.mark.parametrize(
    ("data", "number", "wanted", "value", "why"),
    [
        (scaler(-1, 27), 12345, "kW", 1.2345, ""),
        (scaler(3, 30), 7, "kWh", 7.0, ""),
        (scaler(0, 35), 230, "kW", None, "V is told, kW in the map"),
        (structure(b"\x0f\x00"), 1, "kW", None, "told as a structure"),
        (structure(b"\x09\x00", b"\x16\x1b"), 1, "kW", None, "its scaler is told as an octet-string"),
        (structure(b"\x0f\x00", b"\x11\x1b"), 1, "kW", None, "its unit is told as unsigned"),
        (structure(b"\x0f\x7f", b"\x16\x1b"), 1, "kW", None, "its scaler is told as integer 127"),
        (b"\x00", 1, "kW", None, "told as null-data"),
    ],
)
def test_scaler_and_unit_of_the_meter_are_applied_or_refused(data, number, wanted, value, why):
    found, told = scaler_of(datum_of(data)).applied(number, wanted)
    assert found == (None if value is None else pytest.approx(value))
    assert why in told


def test_aare_of_the_green_book_is_read():
    welcome = apdus.welcome_of(AARE)
    assert (welcome.result, welcome.diagnosis, welcome.context, welcome.mechanism) == (0, 0, 1, 0)
    assert apdus.agreed_of(welcome.information) == (0x00501F, 500)


@pytest.mark.parametrize("spoilt", range(len(AARE)))
def test_aare_with_a_byte_gone_is_refused(spoilt):
    with pytest.raises(Malformed):
        apdus.agreed_of(apdus.welcome_of(AARE[:spoilt] + AARE[spoilt + 1 :]).information)


def test_aare_with_something_twice_or_long_is_refused_or_read():
    body = AARE[2:]
    with pytest.raises(Malformed, match="twice"):
        apdus.welcome_of(b"\x61\x81" + bytes([len(body) + 5]) + body + body[11:16])
    assert apdus.welcome_of(b"\x61\x81" + bytes([len(body)]) + body).result == 0


def test_aarq_of_the_green_book_is_written():
    """Low security, password 12345678; ours proposes less, so that only the conformance differs."""
    sent = requests.associate("low", b"12345678", b"")
    head = (
        "6036A1090607608574050801018A0207808B0760857405080201AC0A80083132333435363738"
        "BE10040E01000000065F1F0400"
    )
    assert sent.hex().upper().startswith(head)
    proposed = int.from_bytes(sent[-5:-2], "big")
    assert proposed == apdus.GET | apdus.MULTIPLE | apdus.BLOCKS | apdus.SELECTIVE
    assert not proposed & (1 << 3 | 1 << 0 | 1 << 6), "neither SET nor ACTION nor ACCESS"


def test_requests_are_the_bytes_of_the_standard():
    assert requests.get([Asked(3, POWER, 2)], 1).hex() == "c00141000301000107 00ff0200".replace(" ", "")
    two = requests.get([Asked(3, POWER, 2), Asked(8, obis("0-0:1.0.0"), 2)], 5).hex()
    assert two == "c00345020003010001070 0ff020000080000010000ff0200".replace(" ", "")
    assert requests.get_next(3, 5).hex() == "c0024500000003"
    assert requests.release().hex() == "6203800100"
    part = requests.get([Asked(7, obis("1-0:99.1.0"), 2, requests.by_entry(1, 8))], 2).hex()
    assert part == "c0014200070100630100ff0201020204060000000106000000081200011200 00".replace(" ", "")


@pytest.mark.parametrize(
    ("answer", "asked", "told"),
    [
        ("c4014100060000 03e8", 0, [(6, 1000)]), ("c401410104", 0, [Denied(4)]),
        ("c40341020006000003e80103", 2, [(6, 1000), Denied(3)]),
        ("c4024100000000010002 0600", 0, Block(False, 1, b"\x06\x00")),
        ("c402410100000002 0113", 0, Block(True, 2, Denied(19))),
    ],
)  # fmt: skip
def test_response_is_read(answer, asked, told):
    assert apdus.get_response(bytes.fromhex(answer), 1, asked) == told


@pytest.mark.parametrize(
    ("answer", "asked", "why"),
    [
        ("c4014200060000 03e8", 0, "an answer to request 2, and 1"), ("c5014100060000 03e8", 0, "APDU 0xc5"),
        ("c4014100060000 03e800", 0, "1 bytes too many"), ("c401410006000003", 0, "4 bytes are to come"),
        ("c4014102060000 03e8", 0, "a result of kind 2"), ("c4044100060000 03e8", 0, "a response of kind 4"),
        ("c4034101000600 0003e8", 0, "a response of kind 3"),
        ("c4034101000600 0003e8", 2, "1 results, and 2"),
        ("c4014100060000 03e8", 2, "one value, where a list"), ("c402410200000001 000106", 0, "a block with"),
        ("c4", 0, "1 bytes are to come"), ("", 0, "1 bytes are to come"),
        ("c40141", 0, "1 bytes are to come"),
        ("c4024100000000010005 0600", 0, "5 bytes are to come"),
    ],
)  # fmt: skip
def test_response_that_is_none_is_refused(answer, asked, why):
    with pytest.raises(Malformed, match=why):
        apdus.get_response(bytes.fromhex(answer), 1, asked)


def test_exceptions_are_told_in_words():
    told = apdus.exceptional(bytes.fromhex("d8020600001234"))
    assert told is not None
    assert told.why == "invocation counter error: it wants 4660 or more"
    assert told.of_keys
    over = apdus.exceptional(bytes.fromhex("d80101"))
    assert over is not None
    assert over.is_over
    assert apdus.exceptional(b"\xc4\x01") is None


@pytest.mark.parametrize(("count", "data"), [(0, "00"), (127, "7f"), (128, "8180"), (256, "820100")])
def test_lengths(count, data):
    assert length(count).hex() == data


def keys(folder: Path, **more: str) -> Dlms:
    for name, text in {"e": EK.hex(), "a": AK.hex(), "c": "1", **more}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return Dlms(
        authentication="gmac", system_title=OURS.hex(), encryption_key_file="e", authentication_key_file="a",
        counter_file="c",
    ).located(folder)  # fmt: skip


def cipher(folder: Path) -> Cipher:
    counter = Counter(folder / "c")
    settings = keys(folder)
    counter.draw()
    made = Cipher(settings, counter)
    made.meet(METERS)
    return made


def test_ciphered_initiate_of_the_green_book():
    """Keys, title and counter of the standard's example (glo-initiate-request, suite 0)."""
    key = bytes.fromhex("000102030405060708090A0B0C0D0E0F")
    other = bytes.fromhex("D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF")
    title = bytes.fromhex("4D4D4D0000BC614E")
    plain = bytes.fromhex("01011000112233445566778899AABBCCDDEEFF0000065F1F0400007E1F04B0")
    wanted = "801302FF8A7874133D414CED25B42534D28DB0047720606B175BD52211BE6841DB204D39EE6FDB8E356855"
    assert requests.encrypt(key, other, title, 0x01234567, plain).hex().upper() == wanted
    assert requests.decrypt(key, other, title, 0x01234567, bytes.fromhex(wanted)) == plain
    for bit in (0, 100, 343):
        spoilt = bytearray.fromhex(wanted)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Malformed, match="not encrypted with our keys"):
            requests.decrypt(key, other, title, 0x01234567, bytes(spoilt))


def answered(number: int, plain: bytes, *, tag: int = 0xCC, control: int = 0x30) -> bytes:
    content = bytes([control]) + struct.pack(">I", number) + requests.encrypt(EK, AK, METERS, number, plain)
    return bytes([tag]) + length(len(content)) + content


def test_ciphered_answers_count_upwards_and_are_what_they_say(tmp_path):
    made, plain = cipher(tmp_path), bytes.fromhex("c40141000600000001")
    assert made.unprotect(answered(5, plain)) == plain
    for number in (5, 4, 0):
        with pytest.raises(Malformed, match="an old answer"):
            made.unprotect(answered(number, plain))
    assert made.unprotect(answered(6, plain)) == plain
    with pytest.raises(Malformed, match="in clear"):
        made.unprotect(plain)
    with pytest.raises(Malformed, match="security control 20"):
        made.unprotect(answered(7, plain, control=0x20))
    with pytest.raises(Malformed, match="c4 inside 0xcf"):
        made.unprotect(answered(8, plain, tag=0xCF))
    whole = answered(9, plain)
    with pytest.raises(Malformed, match="an answer of 4d5452"):
        made.unprotect(b"\xdb\x08MTR\x00\x00\x00\x10\x02" + whole[1:])
    for text in ("", "cc", "cc05300000000a", "cc11300000000a" + "00" * 12):
        with pytest.raises(Malformed):
            made.unprotect(bytes.fromhex(text))


def test_meter_that_reflects_our_title_or_proof_is_not_believed(tmp_path):
    made = cipher(tmp_path)
    challenge = bytes(16)
    assert not made.is_proved(made.proof(challenge), challenge)
    assert not made.is_proved(b"", challenge)
    theirs = requests.prove(EK, AK, METERS, 3, challenge)
    assert made.is_proved(theirs, challenge)
    assert not made.is_proved(b"\x30" + theirs[1:], challenge)
    for title in (OURS, b"", b"\x00" * 7):
        with pytest.raises(Malformed):
            made.meet(title)


@pytest.mark.parametrize("text", ["", "00" * 15, "00" * 17, "zz" * 16, "\xff" * 32])
def test_keys_that_are_none_are_refused(tmp_path, text):
    settings = keys(tmp_path, e=text)
    with pytest.raises(Untrusted, match="32 hexadecimal digits"):
        Cipher(settings, Counter(tmp_path / "c"))


def test_keys_that_others_may_read_are_refused(tmp_path):
    settings = keys(tmp_path)
    (tmp_path / "a").chmod(0o644)
    with pytest.raises(Untrusted, match="0600"):
        Cipher(settings, Counter(tmp_path / "c"))


def test_counter_goes_on_over_a_clean_end_and_skips_over_a_kill(tmp_path):
    file = tmp_path / "c"
    file.write_text("7")
    one = Counter(file)
    one.draw()
    assert file.read_text() == f"{7 + LOT}\n"
    assert [one.take() for _ in range(3)] == [7, 8, 9]
    one.give_back()
    assert file.read_text() == "10\n"
    killed = Counter(file)
    killed.draw()
    assert killed.take() == 10
    after = Counter(file)  # the one before was never closed
    after.draw()
    assert after.take() == 10 + LOT
    killed.give_back()  # too late: somebody has drawn since
    assert int(file.read_text()) == 10 + 2 * LOT


def test_counter_whose_file_goes_meanwhile_is_told_at_the_next_lot_alone(tmp_path):
    file = tmp_path / "c"
    file.write_text("1")
    one = Counter(file)
    one.draw()
    file.unlink()
    one.give_back()
    assert one.left == 0
    assert not file.exists()
    with pytest.raises(Untrusted, match="cannot be read"):
        one.draw()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read"), ("", "found ''"), ("x", "found 'x'"), ("-1", "found '-1'"),
        ("4294967296", "found"), (str(LAST), "used up"), (str(LAST - LOT + 1), "used up"), ("١", "found"),
    ],
)  # fmt: skip
def test_counter_that_is_gone_or_none_is_not_begun_anew(tmp_path, text, why):
    file = tmp_path / "c"
    if text is not None:
        file.write_text(text)
    with pytest.raises(Untrusted, match=why):
        Counter(file).draw()
    assert (file.read_text() if file.exists() else None) == text


def _draw(file: Path) -> list[int]:
    taken = []
    for _ in range(20):
        one = Counter(file)
        one.draw()
        taken += [one.take() for _ in range(3)]
        one.give_back()
    return taken


def test_counter_gives_no_number_twice_to_two_at_once(tmp_path):
    """The lock is one of open files: two threads are to it what two processes are."""
    file = tmp_path / "c"
    file.write_text("1")
    with ThreadPoolExecutor(2) as pool:
        taken = [n for part in pool.map(_draw, [file, file]) for n in part]
    assert len(set(taken)) == len(taken) == 120
