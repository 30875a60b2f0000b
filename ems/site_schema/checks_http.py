"""JSON over HTTP: devices known by their certificate unless it is said that they are not; read only."""

from collections.abc import Iterator

from ems.http_json import PORT, PORT_TLS, HttpJson, path_fault
from ems.json_place import is_pointer
from ems.points import Access
from ems.site import Protocol
from ems.site_schema.checks_json import TEXT, json_row
from ems.site_schema.checks_opcua import is_loopback
from ems.site_schema.draft import Draft, PlacedPoint
from ems.site_schema.forms import ConnectionForm
from ems.site_schema.forms_http import HttpForm
from ems.site_schema.forms_maps import IdentityForm
from ems.site_schema.text import Loc

READ_ONLY = "http_json is read only: setpoints go over another protocol of the device"
_FILES = {"authority": ("ca", "server_name"), "pinned": ("certificate",), "system": ("server_name",)}
_SECRETS = ("password_env", "password_file", "token_env", "token_file")


def check_http(draft: Draft) -> None:
    """How each device is reached, and that nothing is to be written there."""
    for connection_id, form in draft.connections.items():
        loc: Loc = ("connections", connection_id)
        if form.protocol is not Protocol.HTTP_JSON:
            if form.http is not None:
                draft.add((*loc, "http"), "a value", f"no http with {form.protocol}")
            continue
        told = form.http if form.http is not None else HttpForm()
        for key, found, allowed, why in _contradictions(told, form.host):
            draft.add((*loc, "http", key), found, allowed, why)
        if form.watchdog_point is not None:
            draft.add(
                (*loc, "watchdog_point"), repr(form.watchdog_point), "left out with http_json", READ_ONLY
            )


def _contradictions(form: HttpForm, host: str) -> Iterator[tuple[str, str, str, str]]:
    for key in ("ca", "certificate", "server_name"):
        if key in form.model_fields_set and key not in _FILES.get(form.protection, ()):
            yield key, "a value", f"nothing with protection: {form.protection}", ""
    given = [key for key in _SECRETS if getattr(form, key) is not None]
    if len(given) > 1:
        yield given[1], "a second secret", f"one of {', '.join(_SECRETS)}", ""
        return
    password = bool(given) and given[0].startswith("password")
    if form.user is None and password:
        yield given[0], "a password without a user", "`user` beside it", ""
    elif form.user is not None and not password:
        yield "user", repr(form.user), "`password_env` or `password_file` beside it", ""
    elif form.user is not None and (":" in form.user or not form.user.isprintable()):
        yield "user", repr(form.user), "printable, without `:` (RFC 7617)", ""
    for key in ("auth_header", "auth_scheme"):
        if key in form.model_fields_set and (not given or password):
            yield key, "a value", "`token_env` or `token_file` beside it", ""
    if given and form.protection == "plain" and not is_loopback(host):
        why = "a secret would cross the network unprotected"
        yield given[0], "a secret", "protection: authority, pinned or system", why


def http_row(placed: PlacedPoint) -> None:
    """The row of a point map that says which answer a value is in, and where there."""
    form, loc, doc = placed.form, placed.loc, placed.document
    if form.writable or (placed.spec is not None and placed.spec.access is Access.WRITE):
        doc.add((*loc, "writable"), "a setpoint", "a point that is read, with http_json", READ_ONLY)
    if why := path_fault(form.address):
        doc.add((*loc, "address"), repr(form.address), why)
    for key in ("table", "byte_order", "word_order"):
        if getattr(form, key) is not None:
            doc.add((*loc, key), repr(getattr(form, key)), "nothing with http_json")
    if not form.value:
        found = "nothing" if form.value is None else repr(form.value)
        doc.add((*loc, "value"), found, "a JSON pointer (RFC 6901), such as /power/active")
    json_row(placed)
    if form.type == TEXT and not form.codes:
        doc.add((*loc, "codes"), "nothing", "the words it may tell, and what each means, with type: text")
    if form.type == TEXT and form.bit is not None:
        doc.add((*loc, "bit"), str(form.bit), "nothing with type: text")


def http_identity(placed: PlacedPoint, loc: Loc, form: IdentityForm) -> None:
    """Which answer tells one line of an identity block, and where there."""
    doc = placed.document
    for key in ("table", "length"):
        if (value := getattr(form, key)) is not None:
            doc.add((*loc, key), repr(value), "nothing with http_json")
    if why := path_fault(form.address):
        doc.add((*loc, "address"), "nothing" if form.address is None else repr(form.address), why)
    if not form.value or not is_pointer(form.value):
        found = "nothing" if form.value is None else repr(form.value)
        doc.add((*loc, "value"), found, "a JSON pointer (RFC 6901), such as /device/serial")


def http_port(form: ConnectionForm) -> int:
    """Port of a device that names none."""
    return PORT if form.http is not None and form.http.protection == "plain" else PORT_TLS


def http_of(form: ConnectionForm) -> HttpJson | None:
    """How a device is reached; None with another protocol."""
    if form.protocol is not Protocol.HTTP_JSON:
        return None
    return HttpJson(**(form.http if form.http is not None else HttpForm()).model_dump())
