"""Servers of a utility: known by certificates; what they tell is a limit that is told by messages."""

from urllib.parse import urlsplit

from ems.control_site import LimitKind
from ems.northbound import TlsFiles
from ems.site_schema.draft import Draft
from ems.site_schema.forms_utility import TellingForm, UtilityServerForm
from ems.site_schema.text import Loc
from ems.site_schema.words import hint
from ems.utility import PORT_TLS, WORDS, Share, Telling, UtilityProtocol, UtilityServer, is_pin

WATCHDOG_S_MIN = 10.0  # a limit is told three times in its watchdog, from a loop of a second
SHARES_SLACK = 1e-9  # of the sum of decimal fractions
URL = "https://host:port/path, such as https://utility.example.org:8443/dcap; other letters as %C3%A4"


def check_utility(draft: Draft) -> None:
    """All checks of the servers that are asked for bounds."""
    taken = _written_by_others(draft)
    for server_id, form in draft.utility.items():
        loc: Loc = ("utility", server_id)
        if place_of(form.url) is None:
            draft.add((*loc, "url"), repr(form.url), URL)
        if form.tls.server_lfdi is not None and form.tls.server_name is not None:
            found = "a value beside server_lfdi"
            draft.add(
                (*loc, "tls", "server_name"), found, "one of them: its certificate is known by its LFDI"
            )
        if form.pin is not None and not is_pin(form.pin):
            draft.add((*loc, "pin"), str(form.pin), "a PIN whose digits sum up to a multiple of ten")
        for word, telling in form.tells.items():
            _telling(draft, (*loc, "tells", word), form, telling, taken)
    control = draft.control
    if draft.utility and (control is None or not any("utility" in r for r in control.users.values())):
        allowed = "the user that runs `ems run` with the role utility: it hands the bounds in"
        draft.add(("utility",), "nobody with the role utility in control.users", allowed)


def _written_by_others(draft: Draft) -> dict[str, str]:
    """limit -> who tells it already, beside the utility."""
    if draft.northbound is None:
        return {}
    servers = draft.northbound
    told: dict[str, str] = {}
    for forms in (servers.modbus, servers.opc_ua, servers.iec104):
        for server_id, form in forms.items():
            if form.writes is not None:
                told |= dict.fromkeys(form.writes.limits, f"northbound server {server_id}")
    return told


def _telling(
    draft: Draft, loc: Loc, server: UtilityServerForm, form: TellingForm, taken: dict[str, str]
) -> None:
    words = WORDS[UtilityProtocol(server.protocol)]
    kinds = words.get(str(loc[-1]))
    if kinds is None:
        draft.add(loc, repr(loc[-1]), ", ".join(words), hint(str(loc[-1]), words))
        return
    if (form.limit is None) == (not form.shares):
        draft.add(loc, "not one of limit and shares", "limit, or shares: {LIMIT: share, ...}")
    if sum(form.shares.values()) > 1.0 + SHARES_SLACK:
        draft.add((*loc, "shares"), f"{sum(form.shares.values()):g} in all", "1 or less")
    for limit in shares_of(form):
        key = (*loc, "limit") if form.limit is not None else (*loc, "shares", limit)
        _limit(draft, key, limit, kinds)
        if (other := taken.setdefault(limit, f"{loc[1]}, {loc[-1]}")) != f"{loc[1]}, {loc[-1]}":
            draft.add(key, f"{limit} again", f"another limit: {other} tells it")


def _limit(draft: Draft, key: Loc, limit: str, kinds: tuple[LimitKind, ...]) -> None:
    limits = {} if draft.control is None else draft.control.limits
    told = [i for i, x in limits.items() if x.point is None and not x.contacts]
    if limit not in told:
        allowed = f"a limit of control.limits that is told by messages: {', '.join(told) or 'there is none'}"
        draft.add(key, repr(limit), allowed, hint(limit, told))
        return
    if limits[limit].kind not in [k.value for k in kinds]:
        draft.add(key, f"{limit} of kind {limits[limit].kind}", " or ".join(k.value for k in kinds))
    if limits[limit].watchdog_s < WATCHDOG_S_MIN:
        found = f"{limit} with watchdog_s of {limits[limit].watchdog_s:g} s"
        draft.add(key, found, f"a limit with {WATCHDOG_S_MIN:g} s or more: it is told three times in it")


def shares_of(form: TellingForm) -> dict[str, float]:
    """limit -> share of the value."""
    return dict(form.shares) if form.limit is None else {form.limit: 1.0}


def place_of(url: str) -> tuple[str, int, str] | None:
    """(host, port, path) of a URL that may be asked; None: it may not."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError:
        return None
    plain = url.isascii() and url.isprintable() and " " not in url
    more = parts.query or parts.fragment or parts.username is not None or parts.password is not None
    if parts.scheme != "https" or not host or port == 0 or not plain or more:
        return None
    return host, PORT_TLS if port is None else port, parts.path or "/"


def utility_servers(draft: Draft) -> tuple[UtilityServer, ...]:
    """The servers of a site. The draft must have passed every check."""
    return tuple(_built(server_id, form) for server_id, form in draft.utility.items())


def _built(server_id: str, form: UtilityServerForm) -> UtilityServer:
    place = place_of(form.url)
    assert place is not None, "checked"
    tls = form.tls
    return UtilityServer(
        id=server_id,
        protocol=UtilityProtocol(form.protocol),
        host=place[0],
        port=place[1],
        path=place[2],
        tls=TlsFiles(**tls.model_dump(exclude={"server_lfdi", "ccm8"})),
        server_lfdi=None if tls.server_lfdi is None else tls.server_lfdi.upper(),
        ccm8=tls.ccm8,
        pin=form.pin,
        tellings=tuple(
            Telling(
                word=word,
                shares=tuple(Share(x, ratio) for x, ratio in shares_of(t).items()),
                otherwise_kw=t.otherwise_kw,
            )
            for word, t in form.tells.items()
        ),
        **form.model_dump(exclude={"protocol", "url", "tls", "pin", "tells"}),
    )
