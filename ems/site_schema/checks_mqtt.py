"""MQTT: brokers known by their certificate unless it is said that they are not; nothing is written there."""

from collections.abc import Iterator

from ems.links import SparkplugNode
from ems.points import Access
from ems.site import MqttBroker, Protocol, TelemetryLink
from ems.site_schema.checks_json import json_row
from ems.site_schema.checks_opcua import is_loopback
from ems.site_schema.draft import Draft, PlacedPoint
from ems.site_schema.forms import ConnectionForm
from ems.site_schema.forms_mqtt import BrokerForm, TelemetryForm
from ems.site_schema.text import Loc

READ_ONLY = "MQTT carries no setpoints: nobody could tell a late or lost one from one that was taken"
_WAYS = "protection: mutual, password or anonymous"
_FILES = {"mutual": ("ca", "certificate", "key", "server_name"), "password": ("ca", "server_name")}
_FILES["anonymous"] = _FILES["password"]


def check_mqtt(draft: Draft) -> None:
    """Brokers of connections and of telemetry links, and what is asked of the points of a connection."""
    for connection_id, form in draft.connections.items():
        loc: Loc = ("connections", connection_id)
        if form.protocol is not Protocol.MQTT:
            if form.mqtt is not None:
                draft.add((*loc, "mqtt"), "a value", f"no mqtt with {form.protocol}")
            continue
        _broker(draft, (*loc, "mqtt"), form.mqtt if form.mqtt is not None else BrokerForm(), form.host)
        _connection(draft, loc, connection_id, form)
    names: dict[tuple[str, int | None, str], str] = {
        (c.host, c.port, client_id(draft, i, c.mqtt)): i
        for i, c in draft.connections.items()
        if c.protocol is Protocol.MQTT
    }
    for link_id, link in draft.telemetry.items():
        loc = ("telemetry", link_id)
        _broker(draft, (*loc, "mqtt"), link.mqtt, link.host)
        _payload(draft, loc, link)
        if link.mqtt.session_expiry_s:
            found = f"{link.mqtt.session_expiry_s} s"
            draft.add((*loc, "mqtt", "session_expiry_s"), found, "0: a telemetry link hears nothing")
        own = (link.host, link.port, client_id(draft, link_id, link.mqtt))
        if (other := names.setdefault(own, link_id)) != link_id:
            wanted = f"another name than {other!r} has at this broker, which lets in one of them at a time"
            draft.add((*loc, "mqtt", "client_id"), repr(own[2]), wanted)


def _payload(draft: Draft, loc: Loc, link: TelemetryForm) -> None:
    """What belongs to JSON lines alone, or to Sparkplug alone; no two links are the same node."""
    if link.payload == "json":
        if link.topic is None:
            draft.add((*loc, "topic"), "nothing", "a topic that all topics of the link begin with")
        elif why := _topic_fault(link.topic):
            draft.add((*loc, "topic"), repr(link.topic), why)
        if "sparkplug" in link.model_fields_set:
            draft.add((*loc, "sparkplug"), "a value", "nothing without payload: sparkplug")
        return
    why = "Sparkplug has topics of its own, which say whether we are there"
    if link.topic is not None:
        draft.add((*loc, "topic"), repr(link.topic), "nothing with payload: sparkplug", why)
    if link.mqtt.status_topic is not None:
        found = repr(link.mqtt.status_topic)
        draft.add((*loc, "mqtt", "status_topic"), found, "nothing with payload: sparkplug", why)
    mine = sparkplug_node(draft, link)
    for other, form in draft.telemetry.items():
        if form is link:
            return
        if form.payload == "sparkplug" and _place(draft, form) == _place(draft, link):
            found = f"{mine.group}/{mine.node}"
            draft.add(
                (*loc, "sparkplug", "node"), found, f"another node than that of {other!r} at this broker"
            )


def _place(draft: Draft, form: TelemetryForm) -> tuple[str, int, str, str]:
    node = sparkplug_node(draft, form)
    return form.host, form.port, node.group, node.node


def sparkplug_node(draft: Draft, form: TelemetryForm) -> SparkplugNode:
    """Group and node, by the hierarchy unless they are named."""
    told, above = form.sparkplug, draft.hierarchy
    return SparkplugNode(
        group=told.group or ("" if above is None else above.portfolio),
        node=told.node or ("" if above is None else above.plant),
        primary_host=told.primary_host,
        resend_s=told.resend_s,
    )


def _connection(draft: Draft, loc: Loc, connection_id: str, form: ConnectionForm) -> None:
    if form.watchdog_point is not None:
        draft.add((*loc, "watchdog_point"), repr(form.watchdog_point), "left out with mqtt", READ_ONLY)
    points = [p for p in draft.points if p.connection_id == connection_id]
    stamped = [p for p in points if p.form.time is not None]
    unstamped = [p for p in points if p.form.time is None]
    if points and points[0].map.identity:
        points[0].document.add(("identity",), "a value", "left out with mqtt: nobody is asked there")
    for placed in unstamped if stamped or form.stamps_sampled else []:
        placed.document.add(placed.loc, "no `time`", "`time` at every point of the map, or at none")
    if unstamped and form.mqtt is not None and form.mqtt.session_expiry_s:
        draft.add(
            (*loc, "mqtt", "session_expiry_s"),
            f"{form.mqtt.session_expiry_s} s",
            "0, or `time` at every point of the map",
            "what the broker kept meanwhile could not be told from what is new",
        )


def _broker(draft: Draft, loc: Loc, form: BrokerForm, host: str) -> None:
    for key, found, allowed, why in _contradictions(form, host):
        draft.add((*loc, key), found, allowed, why)
    if form.status_topic is not None and (fault := _topic_fault(form.status_topic)):
        draft.add((*loc, "status_topic"), repr(form.status_topic), fault)


def _contradictions(form: BrokerForm, host: str) -> Iterator[tuple[str, str, str, str]]:
    passwords = [k for k in ("password_env", "password_file") if getattr(form, k) is not None]
    for key in _FILES["mutual"]:
        if key in form.model_fields_set and key not in _FILES.get(form.protection, ()):
            yield key, "a value", f"nothing with protection: {form.protection}", ""
    if len(passwords) > 1:
        yield "password_file", "a second place for the password", "password_env or password_file", ""
    elif form.user is None and passwords:
        yield passwords[0], "a password without a user", "`user` beside it", ""
    elif form.user is not None and not passwords:
        yield "user", repr(form.user), "`password_env` or `password_file` beside it", ""
    if form.user is None and form.protection == "password":
        yield "user", "nothing", "a user with protection: password", ""
    elif form.user is not None and form.protection == "anonymous":
        yield "user", repr(form.user), "nothing with protection: anonymous", ""
    elif form.user is not None and form.protection == "plain" and not is_loopback(host):
        yield "user", repr(form.user), _WAYS, "a password would cross the network unprotected"


def mqtt_row(placed: PlacedPoint) -> None:
    """The row of a point map that says where in which messages a value is."""
    form, loc, doc = placed.form, placed.loc, placed.document
    if form.writable or (placed.spec is not None and placed.spec.access is Access.WRITE):
        doc.add((*loc, "writable"), "a setpoint", "a point that is read, with mqtt", READ_ONLY)
    if not isinstance(form.address, str):
        doc.add((*loc, "address"), repr(form.address), "a topic, such as plant/meter1/state")
    elif why := _topic_fault(form.address):
        doc.add((*loc, "address"), repr(form.address), why)
    if form.table is not None:
        doc.add((*loc, "table"), repr(form.table), "nothing with mqtt")
    for key in ("quality", "time"):
        if (pointer := getattr(form, key)) is not None and form.value is None:
            doc.add((*loc, key), repr(pointer), "`value` beside it: the payload is then JSON")
    json_row(placed)


def _topic_fault(topic: str) -> str:
    """What a topic must be (MQTT 5.0, 4.7), where this is none that a message can be published under."""
    if any(c in topic for c in "+#"):
        return "a topic without the wildcards + and #"
    if not topic.isprintable() or len(topic.encode()) > 65535 or topic.startswith(("$", "/")):
        return "printable characters, neither / nor $ first"
    return ""


def client_id(draft: Draft, link_id: str, form: BrokerForm | None) -> str:
    """Our name at a broker, which lets in one client of a name at a time."""
    if form is not None and form.client_id is not None:
        return form.client_id
    return f"ems-{draft.name}-{link_id}"


def broker(draft: Draft, link_id: str, form: BrokerForm | None) -> MqttBroker:
    """How a broker is reached, its files as they are named."""
    told = form if form is not None else BrokerForm()
    return MqttBroker(client_id=client_id(draft, link_id, form), **told.model_dump(exclude={"client_id"}))


def telemetry_links(draft: Draft) -> tuple[TelemetryLink, ...]:
    """Where records are sent; whether the link is up stands under its topic unless another one is named."""
    return tuple(
        TelemetryLink(
            id=link_id,
            topic="" if form.topic is None else form.topic,
            broker=broker(draft, link_id, _with_status(form)),
            sparkplug=sparkplug_node(draft, form) if form.payload == "sparkplug" else None,
            **form.model_dump(exclude={"mqtt", "payload", "topic", "sparkplug"}),
        )
        for link_id, form in draft.telemetry.items()
    )


def _with_status(form: TelemetryForm) -> BrokerForm:
    if form.payload == "sparkplug":
        return form.mqtt
    told = form.mqtt.status_topic
    return form.mqtt.model_copy(update={"status_topic": f"{form.topic}/status" if told is None else told})
