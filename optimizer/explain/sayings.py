"""The sentence of a setpoint: what it is, at which limit, what power is worth there, because of what."""

from dataclasses import dataclass, replace

from ems.explanation import ReasonCode, SetpointWhy
from ems.plan import Plan
from optimizer.explain.purpose import use_words
from optimizer.explain.words import Words, exactly_kw, kw
from optimizer.problem import PlanningProblem

AT_LIMIT_KW = 0.05
SMALL_COST = 0.01  # money: below, two plans cost the same
NOTHING_TO_DECIDE = (ReasonCode.UNAVAILABLE, ReasonCode.COMMITMENT, ReasonCode.OUTAGE)
AT_LIMIT_SOC = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerFacts:
    """What a sentence may use besides the answer itself."""

    problem: PlanningProblem
    plan: Plan
    low_kw: float
    high_kw: float
    own_cost: float  # what keeping the setpoint costs above the best with the same commitment


def power_sentence(facts: PowerFacts, why: SetpointWhy) -> SetpointWhy:
    """The answer with its sentence."""
    say = Words(facts.problem.site)
    parts = [f"{_subject(facts, why)} {say.span(why.start, why.end)}"]
    limit = _at_limit(facts, why)
    if limit:
        parts[0] += f", {limit}"
    made_up = ""
    if why.use is not None:
        feeders = [f.id for f in facts.problem.site.feeders]
        purpose, made_up = use_words(say, why.use, feeders)
        if why.p_kw < -AT_LIMIT_KW and (why.use.start >= why.end):
            parts[0] += f", for {purpose}"
    if why.code is ReasonCode.GAP:
        parts.append(
            f"another power would be {say.money(facts.own_cost)} better with the same commitment: "
            "the plan was accepted within its gap"
        )
    else:
        parts += [*_worths(say, why), made_up, *_because(say, why), *_or_else(say, why)]
    return replace(why, sentence="; ".join(p for p in parts if p) + ".")


def _subject(facts: PowerFacts, why: SetpointWhy) -> str:
    p, site, t = why.p_kw, facts.problem.site, why.step
    off = abs(p) <= AT_LIMIT_KW
    if why.quantity == "shed_kw":
        load = facts.plan.load_kw[why.asset][t]
        return (
            f"{why.asset} is served in full ({kw(load)})"
            if off
            else f"{kw(p)} of {kw(load)} of {why.asset} are shed"
        )
    if why.quantity == "deferrable_kw":
        return f"{why.asset} takes nothing" if off else f"{why.asset} takes {kw(p)}"
    if why.asset == site.grid.id:
        if not facts.problem.grid_available[t]:
            return f"{why.asset} gives nothing, the mains are away"
        return (
            "nothing is imported or exported" if off else f"{kw(abs(p))} are {'im' if p > 0 else 'ex'}ported"
        )
    if why.asset in facts.plan.pv_available_kw:
        there = facts.plan.pv_available_kw[why.asset][t]
        if there <= AT_LIMIT_KW:
            return f"{why.asset} has nothing to give"
        return (
            f"{why.asset} is used in full ({kw(there)})"
            if there - p <= AT_LIMIT_KW
            else f"{why.asset} is curtailed by {kw(there - p)} of {kw(there)}"
        )
    if why.asset in facts.plan.genset_on:
        on = facts.plan.genset_on[why.asset][t] > 0.5
        return f"{why.asset} gives {kw(p)}" if on else f"{why.asset} is off"
    return f"{why.asset} idles" if off else f"{why.asset} {'charges' if p < 0 else 'discharges'} {kw(abs(p))}"


def _at_limit(facts: PowerFacts, why: SetpointWhy) -> str:
    p, site, t = why.p_kw, facts.problem.site, why.step
    out = []
    if (
        why.quantity == "p_kw"
        and why.asset not in facts.plan.pv_available_kw
        and facts.high_kw > facts.low_kw
    ):
        word = {site.grid.id: ("its export cap", "its import cap")}.get(why.asset, ("its limit", "its limit"))
        if why.asset in facts.plan.genset_on:
            word = ("its minimum load", "its rating")
        if p - facts.low_kw <= AT_LIMIT_KW and (p < -AT_LIMIT_KW or why.asset in facts.plan.genset_on):
            out.append(word[0])
        elif facts.high_kw - p <= AT_LIMIT_KW and p > AT_LIMIT_KW:
            out.append(word[1])
    unit = next((b.battery for b in site.bess if b.id == why.asset), None)
    if unit is not None:
        soc = facts.plan.bess_soc_end[why.asset][t]
        if soc >= unit.soc_max - AT_LIMIT_SOC:
            out.append("full at its end")
        elif soc <= unit.soc_min + AT_LIMIT_SOC:
            out.append("empty at its end")
    return ", ".join(out)


def _worths(say: Words, why: SetpointWhy) -> list[str]:
    power, stored = why.power_worth_per_kwh, why.stored_worth_per_kwh
    if power is None or why.quantity == "shed_kw" or (why.code in NOTHING_TO_DECIDE and not why.alternatives):
        return []
    text = f"a kWh less demand would save {say.worth(power)}"
    if stored is not None:
        text += f", a kWh more stored {say.worth(stored)}"
    return [text]


def _because(say: Words, why: SetpointWhy) -> list[str]:
    return [f"{r.change} leaving it would save {say.money(r.saving_cost)}" for r in why.reasons]


def _or_else(say: Words, why: SetpointWhy) -> list[str]:
    if not why.alternatives:
        return []
    shed = why.quantity == "shed_kw"
    parts, free = [], []
    for a in why.alternatives:
        kw = exactly_kw(a.p_kw)
        name = f"shedding {kw} instead" if shed else f"{'+' if a.p_kw > 0 else ''}{kw} instead"
        if a.more_cost is None:
            parts.append(f"{name} is impossible")
        elif a.more_cost <= SMALL_COST:
            free.append(name)
        else:
            parts.append(f"{name} would cost {say.more(a.more_cost)}")
    if free:
        parts.insert(0, f"{' or '.join(free)} would cost no more than {say.money(SMALL_COST)}")
    return [", ".join(parts)]
