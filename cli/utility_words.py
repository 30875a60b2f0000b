"""Which servers of a utility are asked for bounds, how they are known and what they tell, in words."""

from collections.abc import Iterator

from ems.site import Site
from ems.utility import Sep2Server, Telling, UtilityServer, VtnServer, host_and_port


def known_by(server: UtilityServer) -> str:
    """How the server is known, and what is not proved."""
    if isinstance(server, VtnServer):
        return _vtn_known_by(server)
    assert isinstance(server, Sep2Server), "there are two protocols"
    who = f"by {server.tls.ca}, made out to {server.tls.server_name or server.host}"
    if server.server_lfdi is not None:
        who = f"by {server.tls.ca}, LFDI {server.server_lfdi}"
    short = ", CCM_8 with its tag of 64 bits offered too" if server.ccm8 else ""
    pin = (
        "PIN checked"
        if server.pin is not None
        else "NO PIN: which registration it holds for us is not proved"
    )
    return f"TLS, a certificate on both sides, {who}{short}; {pin}"


def _vtn_known_by(server: VtnServer) -> str:
    how = {
        "authority": f"by {server.http.ca}, made out to {server.http.server_name or server.host}",
        "pinned": f"by its certificate {server.http.certificate} alone",
        "system": f"by whom the operating system believes, made out to {server.host}",
    }[server.http.protection]
    token = f"{host_and_port(server.token_host, server.token_port)}{server.token_path}"
    who = " or ".join(x for x in (server.ven_name, *server.targets) if x)
    meant = f"events meant for {who}, or for all" if who else "events meant for all, none by a target of ours"
    return f"TLS, {how}; we are {server.client_id}, by a token of {token}; {meant}"


def told_as(telling: Telling) -> str:
    """What one of its words tells."""
    parts = [limit if ratio == 1.0 else f"{ratio:g} of it {limit}" for limit, ratio in telling.shares]
    said = ", without a word of it " + (
        "nothing" if telling.otherwise_kw is None else f"{telling.otherwise_kw:g} kW"
    )
    return f"{telling.word} tells {' and '.join(parts)}{said}"


def utility_words(site: Site) -> Iterator[str]:
    """Lines about each server, and what its words leave open."""
    for s in site.utilities:
        yield f"{s.id}: {s.protocol}, {s.where}{s.path}; {known_by(s)}"
        yield from (f"{s.id}: {told_as(t)}" for t in s.tellings)
        if isinstance(s, VtnServer) and s.prices is not None:
            yield f"{s.id}: prices of program {s.prices.program!r} go to input {s.prices.input}"
        yield from (f"{s.id}: {words}" for words in _left_open(site, s))


def _left_open(site: Site, server: UtilityServer) -> Iterator[str]:
    kinds = {x.id: x.kind.value for x in site.control.limits}
    for t in server.tellings:
        bounded = {kinds[limit] for limit, _ in t.shares}
        if t.word not in ("opModGenLimW", "opModMaxLimW") or "export" in bounded:
            continue
        left = [*(["PV"] if site.pv and "pv" not in bounded else [])]
        left += ["batteries"] if site.bess and "bess_discharge" not in bounded else []
        left += ["gensets"] if site.gensets else []
        if left:
            yield f"{t.word} does NOT bound {' and '.join(left)}: the site file gives it no limit on them"
