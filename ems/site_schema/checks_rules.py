"""`dispatch.rules`: thresholds in order inside the windows of the batteries, ratios that go together."""

from ems.rules import ISLAND, TIED, TOU, Window, ratio_faults, soc_faults
from ems.site_schema.build_rules import rules_params
from ems.site_schema.draft import Draft
from ems.site_schema.forms_rules import RulesForm


def check_rules(draft: Draft) -> None:
    """All checks of the rules; thresholds of a group of which none is given fit by themselves."""
    form = None if draft.dispatch is None else draft.dispatch.rules
    if form is None:
        return
    params, given = rules_params(form), form.model_fields_set | form.tou.model_fields_set
    batteries = {i: b.battery for i, b in draft.bess.items()}
    windows = [Window(i, b.soc_min, b.soc_max) for i, b in batteries.items() if b.soc_min < b.soc_max]
    for group in (ISLAND, (*TIED, *TOU)):
        for fault in soc_faults(params, windows, group) if given & {*group} else ():
            _add(draft, form, fault.key, fault.found, fault.allowed)
    if "gensets" not in draft.complete:
        return
    ratios = {i: g.p_min_kw / g.p_rated_kw for i, g in draft.gensets.items()}
    for fault in ratio_faults(params, ratios):
        _add(draft, form, fault.key, fault.found, fault.allowed)


def _add(draft: Draft, form: RulesForm, key: tuple[str, ...], found: str, allowed: str) -> None:
    """A number that is left out is told as the default that it is."""
    owner = form.tou if key[0] == "tou" else form
    note = "" if key[-1] in owner.model_fields_set else "it is left out: give it, too"
    draft.add(("dispatch", "rules", *key), found, allowed, note)
