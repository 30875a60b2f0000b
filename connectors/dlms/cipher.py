"""Protection of a ciphered association: AES-GCM-128, authenticated and encrypted (suite 0), global keys."""

import hmac
from pathlib import Path

from connectors.dlms import apdus, requests
from connectors.dlms.counter import Counter
from connectors.dlms.data import Cursor, Malformed
from connectors.link import Untrusted
from connectors.opcua.certificates import CertificateError, read_secret
from ems.dlms import Dlms

KEY_BYTES = 16
_TITLE = 8
_REQUESTS = {0xC0: 0xC8, 0xC3: 0xCB}  # GET and ACTION with the global key
_RESPONSES = {apdus.GLO_GET: apdus.GET_RESPONSE, apdus.GLO_ACTION: apdus.ACTION_RESPONSE}
_CONTROL: bytes = requests.ENCRYPTED.to_bytes()


def key_of(file: str) -> bytes:
    """Sixteen bytes, written as 32 hexadecimal digits. Raises Untrusted."""
    try:
        text = read_secret(Path(file)).decode("ascii").strip()
        key = bytes.fromhex(text)
    except CertificateError as error:
        raise Untrusted(str(error)) from None
    except ValueError:  # of either
        key = b""
    if len(key) != KEY_BYTES:
        raise Untrusted(f"{file}: allowed: 32 hexadecimal digits, a key of suite 0")
    return key


class Cipher:
    """Keys, titles and counters of one association.

    Parameters
    ----------
    settings : with whole paths of files.
    counter : ours.
    """

    def __init__(self, settings: Dlms, counter: Counter) -> None:
        assert settings.encryption_key_file is not None, "the site schema wants it with gmac"
        assert settings.authentication_key_file is not None, "the same"
        self._key = key_of(settings.encryption_key_file)
        self._other = key_of(settings.authentication_key_file)
        self.title = bytes.fromhex(settings.system_title)
        self._counter = counter
        self.meter = b""  # its system title
        self._heard = -1  # its invocation counter
        self.general = False  # general-glo-ciphering was agreed

    def meet(self, title: bytes) -> None:
        """Told who the meter says it is. Raises Malformed."""
        if len(title) != _TITLE or title == self.title:
            raise Malformed("a system title that is none, or our own")
        self.meter = title

    def initiate(self) -> tuple[int, bytes]:
        """Invocation counter and ciphered InitiateRequest."""
        number = self._counter.take()
        return number, self._encrypt(number, requests.initiate(ciphered=True))

    def welcome(self, information: bytes) -> bytes:
        """The InitiateResponse of an AARE. Raises Malformed."""
        cursor = Cursor(information)
        if cursor.byte() != apdus.GLO_INITIATE_RESPONSE:
            raise Malformed("an association in clear, where a ciphered one was asked for")
        content = cursor.take(cursor.length())
        cursor.end()
        return self._decrypt(content)

    def protect(self, apdu: bytes) -> bytes:
        """A request as it is sent."""
        number = self._counter.take()
        text = self._encrypt(number, apdu)
        content = _CONTROL + number.to_bytes(4, "big") + text
        if self.general:
            return bytes([apdus.GENERAL_GLO, _TITLE]) + self.title + length(len(content)) + content
        return bytes([_REQUESTS[apdu[0]]]) + length(len(content)) + content

    def unprotect(self, apdu: bytes) -> bytes:
        """What was answered. Raises Malformed."""
        cursor = Cursor(apdu)
        tag = cursor.byte()
        if tag == apdus.GENERAL_GLO:
            if (title := cursor.take(cursor.length())) not in (self.meter, b""):
                raise Malformed(f"an answer of {title.hex()}, and this is {self.meter.hex()}")
        elif tag not in _RESPONSES:
            raise Malformed(f"APDU {tag:#04x} in clear, in a ciphered association")
        content = cursor.take(cursor.length())
        cursor.end()
        plain = self._decrypt(content)
        if tag in _RESPONSES and plain[:1] != bytes([_RESPONSES[tag]]):
            raise Malformed(f"{plain[:1].hex()} inside {tag:#04x}")
        return plain

    def proof(self, challenge: bytes) -> bytes:
        """Pass 3: our answer to its challenge."""
        return requests.prove(self._key, self._other, self.title, self._counter.take(), challenge)

    def is_proved(self, told: bytes, challenge: bytes) -> bool:
        """Pass 4: whether it is its answer to ours."""
        if len(told) != 5 + requests.TAG_BYTES:
            return False
        number = int.from_bytes(told[1:5], "big")
        wanted = requests.prove(self._key, self._other, self.meter, number, challenge)
        return hmac.compare_digest(told, wanted)

    def _encrypt(self, number: int, plain: bytes) -> bytes:
        return requests.encrypt(self._key, self._other, self.title, number, plain)

    def _decrypt(self, content: bytes) -> bytes:
        """Of security control, invocation counter, text and tag. Raises Malformed."""
        if content[:1] != _CONTROL:
            raise Malformed(f"security control {content[:1].hex()}, where {_CONTROL.hex()} was agreed")
        if len(content) < 5 + requests.TAG_BYTES:
            raise Malformed(f"{len(content)} bytes of a ciphered answer")
        number = int.from_bytes(content[1:5], "big")
        if number <= self._heard:
            raise Malformed(f"invocation counter {number} after {self._heard}: an old answer, or none of it")
        plain = requests.decrypt(self._key, self._other, self.meter, number, content[5:])
        self._heard = number
        return plain


def length(count: int) -> bytes:
    """A length of A-XDR."""
    if count < 0x80:
        return bytes([count])
    size = (count.bit_length() + 7) // 8
    return bytes([0x80 | size]) + count.to_bytes(size, "big")
