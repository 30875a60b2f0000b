"""The rules of a draft become the frozen parameters that the edge decides by."""

from ems.rules import RulesParams, TouParams
from ems.site_schema.forms_rules import RulesForm


def rules_params(form: RulesForm) -> TouParams:
    """Parameters of the rules; what is left out has its default."""
    base = RulesParams(**form.model_dump(exclude={"tou"}))
    return TouParams(base=base, **form.tou.model_dump())
