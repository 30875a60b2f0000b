"""The door for site files: text becomes a Site, or a ConfigError that holds every Problem with file and line.

The only place in `ems` that knows pydantic and YAML.
"""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ems.errors import ConfigError, Problem
from ems.site import Devices, Site
from ems.site_schema.build import build_site
from ems.site_schema.build_wire import connections
from ems.site_schema.checks_authority import check_authority
from ems.site_schema.checks_bacnet import check_bacnet
from ems.site_schema.checks_control import check_control
from ems.site_schema.checks_dlms import check_dlms
from ems.site_schema.checks_dnp3 import check_dnp3
from ems.site_schema.checks_family import check_family_file, check_silence, load_families
from ems.site_schema.checks_goose import check_goose
from ems.site_schema.checks_http import check_http
from ems.site_schema.checks_identity import check_identity
from ems.site_schema.checks_iec104 import check_iec104
from ems.site_schema.checks_iec61850 import check_iec61850
from ems.site_schema.checks_inputs import check_inputs
from ems.site_schema.checks_j1939 import check_j1939
from ems.site_schema.checks_links import check_links
from ems.site_schema.checks_loads import check_deferrables
from ems.site_schema.checks_modbus import check_modbus
from ems.site_schema.checks_mqtt import check_mqtt
from ems.site_schema.checks_northbound import check_northbound
from ems.site_schema.checks_opcua import check_opcua
from ems.site_schema.checks_phases import check_phases
from ems.site_schema.checks_plant import check_plant
from ems.site_schema.checks_reactive import check_reactive_control
from ems.site_schema.checks_rules import check_rules
from ems.site_schema.checks_tariff import check_tariff
from ems.site_schema.checks_utility import check_utility
from ems.site_schema.checks_wire import check_wire
from ems.site_schema.checks_worst import check_worst_cases
from ems.site_schema.draft import Draft
from ems.site_schema.families import FOLDER
from ems.site_schema.forms import SiteForm
from ems.site_schema.forms_inputs import ProviderForm
from ems.site_schema.forms_maps import FamilyForm, MapForm
from ems.site_schema.placing import read_draft

__all__ = [
    "check_family_file",
    "family_json_schema",
    "files_of",
    "load_devices",
    "load_families",
    "load_site",
    "map_json_schema",
    "provider_json_schema",
    "site_json_schema",
]


def load_site(path: Path | str) -> Site:
    """Read a site file and every point map it names.

    Parameters
    ----------
    path : the site file; maps are relative to its folder.

    Raises
    ------
    ConfigError : with all problems of form and meaning, each with file, line, key, found and allowed.
    """
    draft = read_draft(Path(path))
    check_plant(draft)
    check_tariff(draft)
    check_deferrables(draft)
    check_wire(draft)
    check_phases(draft)
    check_reactive_control(draft)
    check_identity(draft)
    check_silence(draft)
    check_modbus(draft)
    check_opcua(draft)
    check_iec61850(draft)
    check_dnp3(draft)
    check_iec104(draft)
    check_bacnet(draft)
    check_dlms(draft)
    check_goose(draft)
    check_j1939(draft)
    check_mqtt(draft)
    check_http(draft)
    check_links(draft)
    check_inputs(draft)
    check_authority(draft)
    check_control(draft)
    check_rules(draft)
    check_northbound(draft)
    check_utility(draft)
    check_worst_cases(draft)
    problems = _problems(draft)
    if problems:
        raise ConfigError(problems)
    return build_site(draft)


def load_devices(path: Path | str, wanted: Sequence[str] = ()) -> Devices:
    """Devices of a site file that need not be finished: only what is said of these devices must be right.

    Parameters
    ----------
    path : the site file; maps are relative to its folder.
    wanted : names of connections; none: all of them.

    Raises
    ------
    ConfigError : with the problems of these devices, of their maps, and of the file where it has no devices.
    """
    draft = read_draft(Path(path))
    known = draft.document.data.get("connections") if isinstance(draft.document.data, dict) else None
    names = [str(k) for k in known] if isinstance(known, dict) else []
    for name in [n for n in wanted if n not in names]:
        close = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {close[0]!r}?" if close else ""
        draft.add(("connections", name), "no such connection", ", ".join(names) or "none", hint)
    mine = tuple(wanted) or tuple(names)
    if not mine:
        draft.add(("connections",), "no connection", "at least one device")
    check_wire(draft, whole=False)
    wires = (check_opcua, check_iec61850, check_dnp3, check_iec104, check_bacnet, check_dlms, check_goose)
    for check in (check_identity, check_modbus, *wires, check_j1939, check_mqtt, check_http):
        check(draft)
    theirs = re.compile("|".join(rf"connections\.{re.escape(name)}(\..*)?" for name in mine))
    draft.points = [p for p in draft.points if p.connection_id in mine]
    draft.connections = {name: form for name, form in draft.connections.items() if name in mine}
    forms = draft.connections.values()
    maps = {*(f.map for f in forms), *(f"{FOLDER}/{f.family}.yaml" for f in forms)}
    documents = draft.map_documents | draft.shipped_documents
    files = {d.file for name, d in documents.items() if name in maps}
    problems = [
        p
        for p in _problems(draft)
        if p.file in files or (p.file == draft.document.file and (not names or theirs.fullmatch(p.key)))
    ]
    if problems:
        raise ConfigError(problems)
    return Devices(connections=connections(draft))


def files_of(path: Path) -> tuple[str, ...]:
    """Names of the files a site is made of, relative to its folder: the site file, its maps and own families.

    A family that came with the package is no file of the site: it changes with the program, and what it says
    is in the record of commissioning.
    """
    return (path.name, *read_draft(path).map_documents)


def _problems(draft: Draft) -> list[Problem]:
    documents = [draft.document, *draft.map_documents.values(), *draft.shipped_documents.values()]
    unique = dict.fromkeys(p for d in documents for p in d.problems)
    return sorted(
        unique, key=lambda p: (p.file != draft.document.file, p.file, -1 if p.line is None else p.line)
    )


def site_json_schema() -> dict[str, Any]:
    """JSON Schema of a site file, for editors."""
    schema = SiteForm.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def map_json_schema() -> dict[str, Any]:
    """JSON Schema of a point map file, for editors."""
    schema = MapForm.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def family_json_schema() -> dict[str, Any]:
    """JSON Schema of a device family, for editors."""
    schema = FamilyForm.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def provider_json_schema() -> dict[str, Any]:
    """JSON Schema of a provider of inputs, for editors."""
    schema = ProviderForm.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
