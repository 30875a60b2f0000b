"""Who vouches for a site file with its maps, or for a record of commissioning: detached signatures, Ed25519.

A signature lies beside its file (`site.yaml.sig`) and covers a whole set of files by name and SHA-256, so
that a signed map cannot be put beside another site file. Believed are the public keys in a folder, each for
what its sub-folder is called: `TRUST/site/eve.pem` may vouch for site files, and for nothing else.
Source: S. Josefsson, I. Liusvaara, Edwards-Curve Digital Signature Algorithm, RFC 8032 (2017).
"""

import base64
import binascii
import hashlib
import json
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ems.errors import ConfigError, EmsError, Problem

FORMAT = 1
SUFFIX = ".sig"
PREFIX = b"hybrid-ems signature 1\n"  # what was signed for another purpose is no signature here
KEYS = ("format", "use", "at", "files", "key", "signature")


class Use(StrEnum):
    """What a key may vouch for; the name of its sub-folder."""

    SITE = "site"
    COMMISSIONING = "commissioning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Whose signature holds: the name of the key's file, its id, and when it was signed."""

    name: str
    key_id: str
    at: str

    def __str__(self) -> str:
        return f"{self.name} ({self.key_id}) at {self.at}"


def key_id(key: Ed25519PublicKey) -> str:
    """Short name of a key: the first 16 hex digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def new_pair(passphrase: bytes | None) -> tuple[bytes, bytes]:
    """A new key: (private, PKCS 8 in PEM, encrypted where there is a passphrase; public, PEM)."""
    key = Ed25519PrivateKey.generate()
    how: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public


def read_private(path: Path, passphrase: Callable[[], bytes | None]) -> Ed25519PrivateKey:
    """The key of whoever signs; the passphrase is asked for where there is one.

    Raises
    ------
    EmsError : others may read it, it is no Ed25519 key, or the passphrase is missing or wrong.
    """
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise EmsError(f"{path}: found mode {stat.S_IMODE(mode):04o}; allowed: 0600 (chmod go= {path})")
    try:
        raw = path.read_bytes()
        locked = raw.startswith(b"-----BEGIN ENCRYPTED")
        key = serialization.load_pem_private_key(raw, passphrase() if locked else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise EmsError(f"{path}: found no private key that can be opened ({error})") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise EmsError(f"{path}: found a key of another kind; allowed: Ed25519 (ems sign key NAME)")
    return key


def sign(file: Path, names: Sequence[str], use: Use, key: Ed25519PrivateKey, at: datetime) -> bytes:
    """The signature of a set of files: contents of `signature_file(file)`.

    Parameters
    ----------
    file : the file that the set is named by.
    names : every file of the set, relative to its folder.
    at : aware UTC; part of what is signed.
    """
    body: dict[str, Any] = {
        "format": FORMAT,
        "use": use.value,
        "at": at.isoformat(timespec="seconds"),
        "files": _digests(file, names),
        "key": key_id(key.public_key()),
    }
    body["signature"] = base64.b64encode(key.sign(_signed(body))).decode()
    return (json.dumps(body, indent=1) + "\n").encode()


def signature_file(file: Path) -> Path:
    """Where the signature of a file lies."""
    return file.with_name(file.name + SUFFIX)


def verify(file: Path, names: Sequence[str], use: Use, trust: Path) -> Signer:
    """Whose signature vouches for a set of files as it is now.

    Raises
    ------
    ConfigError : nobody's does, who is trusted with this; names files, key and what is allowed.
    """
    known = trusted(trust)
    allowed = ", ".join(f"{name} ({k})" for k, name in known[use].items())
    if not allowed:
        raise ConfigError([_problem(trust / use.value, "keys", "none", "public keys, each as NAME.pem")])
    sig = signature_file(file)
    try:
        body = _read(sig)
    except FileNotFoundError:
        text = f"`ems sign {'site' if use is Use.SITE else 'record'}` makes it"
        raise ConfigError([_problem(sig, "signature", "nothing", f"one by {allowed}", text)]) from None
    if body["use"] != use.value:
        raise ConfigError([_problem(sig, "use", repr(body["use"]), repr(use.value))])
    found = body["key"]
    key = _trusted_key(trust, use, found) if found in known[use] else None
    if key is None:
        other = [
            f"{names_of[found]} is trusted with {u}" for u, names_of in known.items() if found in names_of
        ]
        raise ConfigError([_problem(sig, "key", found, allowed, "; ".join(other))])
    try:
        key.verify(base64.b64decode(body["signature"], validate=True), _signed(body))
    except (InvalidSignature, binascii.Error):
        problem = _problem(
            sig, "signature", f"none by key {found}", "the signature as it was made", "it was edited"
        )
        raise ConfigError([problem]) from None
    signer = Signer(name=known[use][found], key_id=found, at=body["at"])
    if problems := _other_files(file, body["files"], _digests(file, names), signer):
        raise ConfigError(problems)
    return signer


def _other_files(
    file: Path, signed: Mapping[str, str], now: Mapping[str, str], signer: Signer
) -> list[Problem]:
    out = []
    for name in sorted({*signed, *now}):
        if signed.get(name) != now.get(name):
            how = "a file that was not signed" if name not in signed else "other contents"
            if name not in now:
                how = "a file that the set has no more"
            what = f"as signed by {signer}"
            out.append(_problem(file.parent / name, "contents", how, what, "sign it again, or put it back"))
    return out


def trusted(trust: Path) -> dict[Use, dict[str, str]]:
    """Key id -> name, for each use.

    Raises
    ------
    ConfigError : there is no such folder, others may write it, or a file in it is no key.
    """
    if not trust.is_dir():
        raise ConfigError(
            [_problem(trust, "(the folder)", "nothing", "a folder of public keys: site/NAME.pem, "
                      "commissioning/NAME.pem")]
        )  # fmt: skip
    out: dict[Use, dict[str, str]] = {}
    for use in Use:
        folder = trust / use.value
        files = sorted(folder.glob("*.pem")) if folder.is_dir() else []
        _refuse_open([trust, *([folder] if folder.is_dir() else []), *files])
        out[use] = {key_id(_public(path)): path.stem for path in files}
    return out


def _refuse_open(paths: Sequence[Path]) -> None:
    """Whoever may write a trusted key may vouch for anything."""
    problems = [
        _problem(
            p, "mode", f"{stat.S_IMODE(p.stat().st_mode):04o}", "writable for its owner alone", "chmod go-w"
        )
        for p in paths
        if p.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ]
    if problems:
        raise ConfigError(problems)


def _trusted_key(trust: Path, use: Use, found: str) -> Ed25519PublicKey | None:
    keys = (_public(path) for path in sorted((trust / use.value).glob("*.pem")))
    return next((key for key in keys if key_id(key) == found), None)


def _public(path: Path) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError([_problem(path, "key", "none of Ed25519", "a public key made by `ems sign key`")])
    return key


def _read(sig: Path) -> dict[str, Any]:
    """A signature file that has the form of one, whatever it says. Raises ConfigError, FileNotFoundError."""
    try:
        body: Any = json.loads(sig.read_bytes())
    except (ValueError, RecursionError):
        body = None
    good = (
        isinstance(body, dict)
        and body.keys() == {*KEYS}
        and all(isinstance(body[k], str) for k in ("use", "at", "key", "signature"))
        and isinstance(body["files"], dict)
        and all(isinstance(v, str) for v in body["files"].values())
    )
    if not good:
        raise ConfigError([_problem(sig, "(the file)", "no signature", f"JSON with {', '.join(KEYS)}")])
    if body["format"] != FORMAT:
        raise ConfigError([_problem(sig, "format", repr(body["format"]), str(FORMAT))])
    return dict(body)


def _signed(body: Mapping[str, Any]) -> bytes:
    """The bytes that are signed: everything but the signature, in one spelling."""
    rest = {k: v for k, v in body.items() if k != "signature"}
    return PREFIX + json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()


def _digests(file: Path, names: Sequence[str]) -> dict[str, str]:
    return {name: hashlib.sha256((file.parent / name).read_bytes()).hexdigest() for name in names}


def _problem(file: Path, key: str, found: str, allowed: str, message: str = "") -> Problem:
    return Problem(file=str(file), line=None, key=key, found=found, allowed=allowed, message=message)
