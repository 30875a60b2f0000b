"""Servers of a utility: known by certificates; what they tell is a limit that is told by messages."""

from typing import Any
from urllib.parse import urlsplit

from ems.control_site import LimitKind
from ems.http_json import HttpJson
from ems.northbound import TlsFiles
from ems.site_schema.draft import Draft
from ems.site_schema.forms_utility import ONLY, ONLY_TLS, TellingForm, UtilityServerForm
from ems.site_schema.text import Loc
from ems.site_schema.words import hint
from ems.utility import (
    PORT_TLS,
    WORDS,
    Sep2Server,
    Share,
    Telling,
    UtilityProtocol,
    UtilityServer,
    VtnPrices,
    VtnServer,
    is_pin,
)

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
        _of_its_protocol(draft, loc, form)
        if form.protocol == "ieee2030_5":
            _sep2(draft, loc, form)
        else:
            _vtn(draft, loc, form)
        if not form.tells and form.prices is None:
            draft.add((*loc, "tells"), "nothing", "at least 1 entries: what it tells, and which limit")
        for word, telling in form.tells.items():
            _telling(draft, (*loc, "tells", word), form, telling, taken)
    control = draft.control
    if draft.utility and (control is None or not any("utility" in r for r in control.users.values())):
        allowed = "the user that runs `ems run` with the role utility: it hands the bounds in"
        draft.add(("utility",), "nobody with the role utility in control.users", allowed)


def _of_its_protocol(draft: Draft, loc: Loc, form: UtilityServerForm) -> None:
    """No key of another protocol."""
    for only, there, at in (
        (ONLY, form.model_fields_set, loc),
        (ONLY_TLS, form.tls.model_fields_set, (*loc, "tls")),
    ):
        for protocol, keys in only.items():
            if protocol != form.protocol:
                for key in sorted(keys & there):
                    draft.add((*at, key), f"{key} with protocol {form.protocol}", f"only with {protocol}")


def _sep2(draft: Draft, loc: Loc, form: UtilityServerForm) -> None:
    """A server of IEEE 2030.5."""
    if form.tls.server_lfdi is not None and form.tls.server_name is not None:
        found, allowed = "a value beside server_lfdi", "one of them: its certificate is known by its LFDI"
        draft.add((*loc, "tls", "server_name"), found, allowed)
    if form.pin is not None and not is_pin(form.pin):
        draft.add((*loc, "pin"), str(form.pin), "a PIN whose digits sum up to a multiple of ten")


def _vtn(draft: Draft, loc: Loc, form: UtilityServerForm) -> None:
    """A VTN of OpenADR 3: who we are there, and that our secret goes to nobody who is not known."""
    if form.client_id is None:
        draft.add((*loc, "client_id"), "nothing", "who we are at the VTN, as its owner has told us")
    if (form.client_secret_file is None) == (form.client_secret_env is None):
        found = "not one of client_secret_file and client_secret_env"
        draft.add(loc, found, "the file (mode 0600), or the variable, that holds our secret")
    token = token_place_of(form)
    if token is None:
        draft.add((*loc, "token_url"), repr(form.token_url), URL)
    pinned = form.tls.protection == "pinned"
    if pinned and "certificate" not in form.tls.model_fields_set:
        draft.add((*loc, "tls", "certificate"), "nothing", "with pinned: the certificate of the VTN itself")
    if not pinned and "certificate" in form.tls.model_fields_set:
        draft.add((*loc, "tls", "certificate"), f"with {form.tls.protection}", "only with pinned")
    place = place_of(form.url)
    if pinned and place is not None and token is not None and token[:2] != place[:2]:
        draft.add((*loc, "token_url"), f"{token[0]}:{token[1]}", "the host of url, where that is pinned")
    for key, text in (("client_id", form.client_id), ("scope", form.scope), ("ven_name", form.ven_name)):
        if text is not None and not text.isprintable():
            draft.add((*loc, key), repr(text), "printable characters")
    _prices(draft, loc, form)
    if form.ask_targets and not form.targets:
        draft.add((*loc, "ask_targets"), "true without targets", "targets that are ours, or false")


def _prices(draft: Draft, loc: Loc, form: UtilityServerForm) -> None:
    """The input that its prices go to: one with a folder, and nobody else's."""
    if form.prices is None:
        return
    fit = [
        i
        for i, x in draft.inputs.items()
        if x.kind == "price" and x.folder is not None and x.provider is None
    ]
    at, chosen = (*loc, "prices", "input"), form.prices.input
    if chosen not in fit:
        allowed = f"an input of kind price with a folder and no provider: {', '.join(fit) or 'there is none'}"
        draft.add(at, repr(chosen), allowed, hint(chosen, fit))
    others = [i for i, x in draft.utility.items() if x.prices is not None and x.prices.input == chosen]
    if others[0] != loc[1]:
        draft.add(at, f"{chosen} again", f"another input: {others[0]} tells it")
    if form.programs and form.prices.program not in form.programs:
        draft.add(
            (*loc, "prices", "program"), repr(form.prices.program), f"one of {', '.join(form.programs)}"
        )


def token_place_of(form: UtilityServerForm) -> tuple[str, int, str] | None:
    """(host, port, path) that our secret is told to; None: it may not be."""
    if form.token_url is not None:
        return place_of(form.token_url)
    place = place_of(form.url)
    return ("", 0, "") if place is None else (*place[:2], f"{place[2].rstrip('/')}/auth/token")


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
    return tuple(_built(draft, server_id, form) for server_id, form in draft.utility.items())


def _built(draft: Draft, server_id: str, form: UtilityServerForm) -> UtilityServer:
    place = place_of(form.url)
    assert place is not None, "checked"
    common: dict[str, Any] = {
        "id": server_id,
        "protocol": UtilityProtocol(form.protocol),
        "host": place[0],
        "port": place[1],
        "path": place[2],
        "tellings": tuple(
            Telling(
                word=word,
                shares=tuple(Share(x, ratio) for x, ratio in shares_of(t).items()),
                otherwise_kw=t.otherwise_kw,
            )
            for word, t in form.tells.items()
        ),
        **form.model_dump(include={"age_s_max", "clock_s_max", "timeout_s"}),
    }
    if form.protocol == "ieee2030_5":
        return _sep2_built(common, form)
    folder = None if form.prices is None else draft.inputs[form.prices.input].folder
    return _vtn_built(common, form, folder)


def _sep2_built(common: dict[str, Any], form: UtilityServerForm) -> Sep2Server:
    tls = form.tls
    return Sep2Server(
        tls=TlsFiles(**tls.model_dump(exclude={"protection", "server_lfdi", "ccm8"})),
        server_lfdi=None if tls.server_lfdi is None else tls.server_lfdi.upper(),
        ccm8=tls.ccm8,
        **form.model_dump(include=ONLY["ieee2030_5"] | {"post_meter"}),
        **common,
    )


def _vtn_built(common: dict[str, Any], form: UtilityServerForm, folder: str | None) -> VtnServer:
    tls, token, prices = form.tls, token_place_of(form), None
    if form.prices is not None:
        assert folder is not None, "checked"
        prices = VtnPrices(program=form.prices.program, input=form.prices.input, folder=folder)
    assert token is not None, "checked"
    assert form.client_id is not None, "checked"
    return VtnServer(
        http=HttpJson(
            protection=tls.protection,
            ca=tls.ca if tls.protection == "authority" else "",
            certificate=tls.certificate if tls.protection == "pinned" else "",
            server_name=tls.server_name,
        ),
        token_host=token[0],
        token_port=token[1],
        token_path=token[2],
        client_id=form.client_id,
        secret_file=form.client_secret_file,
        secret_env=form.client_secret_env,
        scope=form.scope,
        every_s=form.every_s,
        ven_name=form.ven_name,
        targets=tuple(form.targets),
        ask_targets=form.ask_targets,
        programs=tuple(form.programs),
        prices=prices,
        post_meter=form.post_meter,
        **common,
    )
