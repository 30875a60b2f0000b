"""OPC UA connections: protected unless it is said that they are not, polled or told; checked and built."""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Protocol as Interface

from ems.points import AssetKind
from ems.site import Protocol, UaSecurity, UaSubscription
from ems.site_schema.draft import Draft, PlacedPoint
from ems.site_schema.forms import ConnectionForm, UaSecurityForm
from ems.site_schema.text import Loc

LOST_S, LOST_CYCLES = 3.0, 2.5  # meter at the POI and PV: older readings are none (docs/edge.md)
LOST_RATIO = 0.8  # of that may pass between two proofs: the rest is for the way and the tick
COST = "with None whoever is on this network can read and write the device as we do"
_POLICIES = "Basic256Sha256, Aes128Sha256RsaOaep or Aes256Sha256RsaPss"
_PROTECTED = ("mode", "user", "password_env", "password_file", "user_certificate", "user_key", "server_name")


def check_opcua(draft: Draft) -> None:
    """Security and updates of each connection."""
    for connection_id, form in draft.connections.items():
        loc = ("connections", connection_id)
        if form.protocol is not Protocol.OPC_UA:
            _not_here(draft, loc, form)
            continue
        check_security(draft, (*loc, "security"), form.host, form.security)
        if form.updates == "subscribe":
            _subscription(draft, loc, connection_id, form)
        elif form.subscription is not None:
            draft.add((*loc, "subscription"), "a value", "only with `updates: subscribe`")


class Notes(Interface):
    """Where problems are noted."""

    def add(self, loc: Loc, found: str, allowed: str, message: str = "") -> None:
        """Note one."""
        ...


def check_security(notes: Notes, loc: Loc, host: str, form: UaSecurityForm | None) -> None:
    """How a server at `host` is protected: said so where it is not, and without contradiction."""
    if form is not None:
        _security(notes, loc, form)
    elif host and not is_loopback(host):
        wanted = f"a policy ({_POLICIES}), or `security: {{policy: None}}`"
        notes.add(loc, f"nothing, for {host}", wanted, COST)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, so that nobody else hears what is said."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _not_here(draft: Draft, loc: Loc, form: ConnectionForm) -> None:
    for key, given in (
        ("security", form.security is not None),
        ("updates", form.updates != "poll"),
        ("subscription", form.subscription is not None),
    ):
        if given:
            draft.add((*loc, key), "a value", f"no {key} with {form.protocol}")


def _security(notes: Notes, loc: Loc, form: UaSecurityForm) -> None:
    if form.policy == "None":
        for key in _PROTECTED:
            if key in form.model_fields_set:
                why = "a password would cross the network unprotected" if "password" in key else ""
                notes.add((*loc, key), "a value", f"nothing with policy None, or a policy ({_POLICIES})", why)
        return
    for key, found, allowed in _contradictions(form):
        notes.add((*loc, key), found, allowed)


def _contradictions(form: UaSecurityForm) -> Iterator[tuple[str, str, str]]:
    passwords = [k for k in ("password_env", "password_file") if getattr(form, k) is not None]
    if form.user is None and passwords:
        yield passwords[0], "a password without a user", "`user` beside it"
    elif form.user is not None and not passwords:
        yield "user", repr(form.user), "`password_env` or `password_file` beside it"
    elif len(passwords) > 1:
        yield "password_file", "a second place for the password", "password_env or password_file"
    if (form.user_certificate is None) is not (form.user_key is None):
        given = "user_key" if form.user_certificate is None else "user_certificate"
        yield given, "one of two files", "`user_certificate` and `user_key`"
    elif form.user is not None and form.user_certificate is not None:
        yield "user_certificate", "a second way to say who we are", "user or user_certificate"


def _subscription(draft: Draft, loc: Loc, connection_id: str, form: ConnectionForm) -> None:
    asked = ua_subscription(form)
    assert asked is not None, "told, not polled"
    if asked.keep_alive_s < asked.publishing_s:
        draft.add(
            (*loc, "subscription", "keep_alive_s"),
            f"{asked.keep_alive_s:g} s",
            f"publishing_s, {asked.publishing_s:g} s, or more",
        )
    longest_s = asked.keep_alive_s + asked.publishing_s
    check_proofs(draft, connection_id, (*loc, "subscription", "keep_alive_s"), longest_s, "publishing_s")


def check_proofs(draft: Draft, connection_id: str, loc: Loc, longest_s: float, beside: str) -> None:
    """Values that are told must be proved before they are taken for old, or their device for lost.

    Parameters
    ----------
    loc : of the key that says how often they are proved.
    longest_s : between two proofs, together with the key `beside`, where there is one.
    """
    together = f" together with {beside}" if beside else ""
    cycle_s = draft.dispatch.cycle_s if draft.dispatch is not None else 1.0
    allowed_s = LOST_RATIO * max(LOST_S, LOST_CYCLES * cycle_s)
    watched = sorted(
        {p.asset for p in draft.points if p.connection_id == connection_id and _watched(draft, p)}
    )
    if watched and longest_s > allowed_s:
        draft.add(
            loc,
            f"{longest_s:g} s{together}",
            f"{allowed_s:g} s or less",
            f"{', '.join(watched)} would be taken for lost while nothing changes",
        )
    for placed in draft.points:
        if placed.connection_id == connection_id and placed.form.age_s_max <= longest_s:
            keys = f"{loc[-1]} and {beside}" if beside else str(loc[-1])
            placed.document.add(
                (*placed.loc, "age_s_max"),
                f"{placed.form.age_s_max:g} s",
                f"more than {keys} of {connection_id!r}{' together' if beside else ''}, {longest_s:g} s",
                "a value that does not change is proved so often",
            )


def _watched(draft: Draft, placed: PlacedPoint) -> bool:
    """Whether the edge takes the device for lost after `LOST_S`, whatever its map says."""
    return draft.kinds.get(placed.asset) in (AssetKind.GRID, AssetKind.PV)


def ua_security(form: ConnectionForm) -> UaSecurity | None:
    """The security of a connection, its files as they are named."""
    return None if form.security is None else UaSecurity(**form.security.model_dump())


def ua_subscription(form: ConnectionForm) -> UaSubscription | None:
    """What is asked of the server; None where it is polled."""
    if form.updates == "poll":
        return None
    s = form.subscription
    publishing_s = s.publishing_s if s is not None and s.publishing_s is not None else 0.5 * form.poll_s
    sampling_s = s.sampling_s if s is not None else None
    keep_alive_s = s.keep_alive_s if s is not None else None
    return UaSubscription(
        publishing_s=publishing_s,
        sampling_s=publishing_s if sampling_s is None else sampling_s,
        keep_alive_s=2.0 * publishing_s if keep_alive_s is None else keep_alive_s,
        queue=4 if s is None else s.queue,
    )
