"""The door for site files: text becomes a Site, or a ConfigError that holds every Problem with file and line.

The only place in `ems` that knows pydantic and YAML.
"""

from pathlib import Path
from typing import Any

from ems.errors import ConfigError, Problem
from ems.site import Site
from ems.site_schema.build import build_site
from ems.site_schema.checks_authority import check_authority
from ems.site_schema.checks_control import check_control
from ems.site_schema.checks_family import check_family_file, check_silence, load_families
from ems.site_schema.checks_identity import check_identity
from ems.site_schema.checks_inputs import check_inputs
from ems.site_schema.checks_links import check_links
from ems.site_schema.checks_loads import check_deferrables
from ems.site_schema.checks_mqtt import check_mqtt
from ems.site_schema.checks_northbound import check_northbound
from ems.site_schema.checks_opcua import check_opcua
from ems.site_schema.checks_phases import check_phases
from ems.site_schema.checks_plant import check_plant
from ems.site_schema.checks_reactive import check_reactive_control
from ems.site_schema.checks_tariff import check_tariff
from ems.site_schema.checks_wire import check_wire
from ems.site_schema.checks_worst import check_worst_cases
from ems.site_schema.draft import Draft
from ems.site_schema.forms import SiteForm
from ems.site_schema.forms_maps import FamilyForm, MapForm
from ems.site_schema.placing import read_draft

__all__ = [
    "check_family_file",
    "family_json_schema",
    "files_of",
    "load_families",
    "load_site",
    "map_json_schema",
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
    check_opcua(draft)
    check_mqtt(draft)
    check_links(draft)
    check_inputs(draft)
    check_authority(draft)
    check_control(draft)
    check_northbound(draft)
    check_worst_cases(draft)
    problems = _problems(draft)
    if problems:
        raise ConfigError(problems)
    return build_site(draft)


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
