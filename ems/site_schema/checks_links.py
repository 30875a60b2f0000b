"""Databases that take records: known by their certificate unless they are on this machine."""

from collections.abc import Iterator

from ems.links import DatabaseLink
from ems.site_schema.checks_opcua import is_loopback
from ems.site_schema.draft import Draft
from ems.site_schema.forms_links import DatabaseForm

_FILES = {"verified": ("ca",), "mutual": ("ca", "certificate", "key"), "plain": ()}


def check_links(draft: Draft) -> None:
    """Contradictions in how a database is reached, and names that two links have."""
    for link_id, form in draft.databases.items():
        for key, found, allowed, why in _contradictions(form):
            draft.add(("databases", link_id, key), found, allowed, why)
        if link_id in draft.telemetry:
            loc = ("databases", link_id)
            draft.add(loc, repr(link_id), "a name that no link under `telemetry` has")


def _contradictions(form: DatabaseForm) -> Iterator[tuple[str, str, str, str]]:
    protection = protection_of(form)
    if protection == "plain" and not _is_here(form.host):
        why = "whoever is on the network could read everything, and take the place of the server"
        yield "protection", f"plain, for {form.host}", "verified or mutual", why
    elif protection != "plain" and form.host.startswith("/"):
        yield "protection", protection, "plain, or left out", "a local socket has no TLS"
    for key in _FILES["mutual"]:
        if key in form.model_fields_set and key not in _FILES[protection]:
            yield key, "a value", f"nothing with protection: {protection}", ""
    if form.password_env is not None and form.password_file is not None:
        yield "password_file", "a second place for the password", "password_env or password_file", ""


def _is_here(host: str) -> bool:
    return host.startswith("/") or is_loopback(host)


def protection_of(form: DatabaseForm) -> str:
    """What is said, or else TLS for everybody but this machine."""
    if form.protection is not None:
        return form.protection
    return "plain" if _is_here(form.host) else "verified"


def database_links(draft: Draft) -> tuple[DatabaseLink, ...]:
    """The databases, files as they are named."""
    return tuple(
        DatabaseLink(
            id=link_id,
            schema=form.schema_,
            protection=protection_of(form),
            **form.model_dump(exclude={"schema_", "protection"}),
        )
        for link_id, form in draft.databases.items()
    )
