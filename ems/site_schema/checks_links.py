"""Databases and folders that take records; databases are known by their certificate."""

from collections.abc import Iterator

from ems.links import DatabaseLink, ExportLink
from ems.site_schema.checks_opcua import is_loopback
from ems.site_schema.draft import Draft
from ems.site_schema.forms_links import DatabaseForm

_FILES = {"verified": ("ca",), "mutual": ("ca", "certificate", "key"), "plain": ()}


def check_links(draft: Draft) -> None:
    """Contradictions in how a database is reached, and names that two links have."""
    for link_id, form in draft.databases.items():
        for key, found, allowed, why in _contradictions(form):
            draft.add(("databases", link_id, key), found, allowed, why)
    named: dict[str, str] = dict.fromkeys(draft.telemetry, "telemetry")
    for section, links in (("databases", draft.databases), ("exports", draft.exports)):
        for link_id in links:
            if (other := named.setdefault(link_id, section)) != section:
                draft.add((section, link_id), repr(link_id), f"a name that no link under `{other}` has")
    folders: dict[str, str] = {}
    for link_id, export in draft.exports.items():
        if (other := folders.setdefault(export.folder, link_id)) != link_id:
            loc = ("exports", link_id, "folder")
            draft.add(loc, repr(export.folder), f"another folder than that of {other!r}")


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


_PERIOD_S = {"hour": 3600.0, "day": 86400.0}


def export_links(draft: Draft) -> tuple[ExportLink, ...]:
    """The folders; unless it is said otherwise, rows may wait for two periods and a half."""
    return tuple(
        ExportLink(
            id=link_id,
            backlog_s_max=2.5 * _PERIOD_S[f.every] + f.settle_s
            if f.backlog_s_max is None
            else f.backlog_s_max,
            **f.model_dump(exclude={"backlog_s_max"}),
        )
        for link_id, f in draft.exports.items()
    )
