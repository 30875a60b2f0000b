"""Phases and reactive power of a site file: forms become what the edge and the plant look at."""

from collections.abc import Sequence

from ems.assets import FeederParams, PcsParams, PvParams
from ems.capability import PqCapability, capability_of
from ems.phases import MARGIN_RATIO, PhaseParams
from ems.reactive import (
    ReactiveAtPower,
    ReactiveAtVoltage,
    ReactiveControl,
    ReactiveTakes,
    VoltVarCurve,
)
from ems.site_schema.forms_assets import (
    FeederForm,
    GensetPhasesForm,
    GridForm,
    PcsForm,
    PvForm,
    ReactiveAtPowerForm,
    ReactiveControlForm,
)


def poi_phases(form: GridForm) -> PhaseParams | None:
    """Phases at the POI; the margin is of the larger cap unless it is said."""
    own, rated_kw = form.phases, max(form.p_import_kw_max, form.p_export_kw_max)
    if own is None:
        return None
    return PhaseParams(
        margin_kw=_margin_kw(own.margin_kw, rated_kw), worst=own.caps == "worst_phase", i_a_max=own.i_a_max
    )


def genset_phases(form: GensetPhasesForm | None, rated_kw: float) -> PhaseParams | None:
    """Phases of a genset, with its rating at the place."""
    if form is None:
        return None
    return PhaseParams(
        margin_kw=_margin_kw(form.margin_kw, rated_kw), unbalance_ratio_max=form.unbalance_ratio_max
    )


def pcs(form: PcsForm) -> PcsParams:
    """A converter with its phases."""
    own = form.phases
    phases = None if own is None else PhaseParams(margin_kw=_margin_kw(own.margin_kw, form.s_kva))
    return PcsParams(
        phases=phases,
        reactive=reactive_control(form.reactive),
        capability=capability(form.pq_corners),
        **form.model_dump(exclude={"phases", "reactive", "pq_corners"}),
    )


def pv_plant(pv_id: str, form: PvForm) -> PvParams:
    """A PV plant with where its reactive setpoint comes from."""
    return PvParams(
        id=pv_id,
        reactive=reactive_control(form.reactive),
        capability=capability(form.pq_corners),
        **form.model_dump(exclude={"reactive", "pq_corners"}),
    )


def capability(corners: Sequence[ReactiveAtPowerForm] | None) -> PqCapability | None:
    """A converter's P-Q polygon; None: its circle counts. Raises BadValue where it is no such polygon."""
    return None if corners is None else capability_of((c.p_kw, c.q_kvar) for c in corners)


TAKES = {t.name.lower(): t for t in ReactiveTakes}  # as a site file says it


def reactive_control(form: ReactiveControlForm | None) -> ReactiveControl | None:
    """Where a converter's reactive setpoint comes from."""
    if form is None:
        return None
    return ReactiveControl(
        every_s=form.every_s,
        follow_plan=form.follow_plan,
        by_power=tuple(ReactiveAtPower(p_kw=x.p_kw, q_kvar=x.q_kvar) for x in form.by_power),
        takes=TAKES[form.takes],
        pf_min=form.pf_min,
        curves=tuple(
            VoltVarCurve(
                index=c.index,
                corners=tuple(ReactiveAtVoltage(v_pu=x.v_pu, q_kvar=x.q_kvar) for x in c.corners),
            )
            for c in form.curves
        ),
    )


def feeder(feeder_id: str, form: FeederForm) -> FeederParams:
    """A feeder with the shares of its phases, even ones unless they are said."""
    params = FeederParams(id=feeder_id, **form.model_dump(exclude={"phase_share"}))
    if form.phase_share is None:
        return params
    a, b, c = form.phase_share
    return FeederParams(id=feeder_id, phase_share=(a, b, c), **form.model_dump(exclude={"phase_share"}))


def _margin_kw(said_kw: float | None, rated_kw: float) -> float:
    return MARGIN_RATIO * rated_kw if said_kw is None else said_kw
