"""Controllers as the site file wants them: the one place that makes them for an edge, real or simulated."""

from dispatch.controllers.plan_follower import PlanFollower
from dispatch.controllers.rules import Rules
from dispatch.controllers.rules_tou import RulesTou
from ems.rules import TouParams
from ems.site import Site


def rules_params(site: Site) -> TouParams:
    """What rules decide by: `dispatch.rules` of the site file, else the defaults."""
    return TouParams() if site.rules is None else site.rules


def rules_of(site: Site) -> Rules:
    """Plain rules of a site."""
    return Rules(params=rules_params(site).base)


def rules_tou_of(site: Site) -> RulesTou:
    """Rules of a site that know its tariff and its announced outages."""
    return RulesTou(params=rules_params(site))


def follower_of(site: Site) -> PlanFollower:
    """What the edge decides with: the plan, and the rules of the site where there is none to follow."""
    return PlanFollower(fallback=rules_tou_of(site))
