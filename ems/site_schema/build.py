"""A draft without problems becomes the frozen Site that all packages share."""

from typing import Any

from ems.assets import (
    ActuatorSafety,
    BatteryParams,
    BessParams,
    BurnOff,
    DeviceBehaviour,
    DroopParams,
    Exercise,
    GensetParams,
    GridParams,
    LowLoad,
    QuietHours,
    Rating,
    ReactivePolicy,
    ReversePower,
)
from ems.battery_terms import FullCharge, RestingSoc, SocLimit, SocReserve, TemperatureLimit, Warranty
from ems.contracts import (
    CoincidentPeak,
    Contracts,
    DemandResponse,
    EnergyContract,
    ExportCredit,
    ExportWindow,
    PeakHour,
)
from ems.cycle_life import CycleLife
from ems.derating import EngineDerating, cut_curve, derated_ratio
from ems.loss_curve import loss_curve, standing_loss_kw
from ems.outage import OutageNotice
from ems.poi import CapWindow, FlappingPolicy, Supervision, TransformerParams, TransitionPolicy
from ems.points import PointSpec
from ems.reactive import VoltageRule
from ems.site import (
    Authority,
    FormingOrder,
    FuelDelivery,
    Hierarchy,
    HistorianParams,
    Maintenance,
    ReservePolicy,
    SetpointAuthority,
    Site,
    WeatherSource,
)
from ems.site_schema.build_control import control_params
from ems.site_schema.build_inputs import input_params
from ems.site_schema.build_phases import feeder, genset_phases, pcs, poi_phases, pv_plant
from ems.site_schema.build_rules import rules_params
from ems.site_schema.build_wire import connections, in_unit
from ems.site_schema.checks_links import database_links, export_links
from ems.site_schema.checks_loads import deferrable
from ems.site_schema.checks_mqtt import telemetry_links
from ems.site_schema.checks_northbound import modbus_servers
from ems.site_schema.checks_northbound_iec104 import iec104_servers
from ems.site_schema.checks_northbound_ua import ua_servers
from ems.site_schema.checks_utility import utility_servers
from ems.site_schema.draft import Draft
from ems.site_schema.forms import DispatchForm, HierarchyForm, SetpointForm, SourcesForm
from ems.site_schema.forms_assets import (
    BatteryForm,
    CapForm,
    CycleLifeForm,
    ExerciseForm,
    GensetForm,
    GridForm,
    LowLoadForm,
    QuietHoursForm,
    RatingForm,
    SocReserveForm,
    WarrantyForm,
)
from ems.site_schema.forms_historian import HistorianForm
from ems.site_schema.forms_tariff import (
    DemandChargeForm,
    DemandWindowForm,
    ExportWindowForm,
    TariffForm,
    TouWindowForm,
)
from ems.sources import SourceSets, StrengthPolicy
from ems.tariff import DemandCharge, EnergyBlock, LocalWindow, PowerFactorCharge, Tariff, TouWindow

_ISO_8528: dict[str, tuple[float | None, float | None]] = {  # mean over 24 h of operation, hours a year
    "continuous": (None, None),
    "prime": (0.7, None),
    "limited_time": (None, 500.0),
    "standby": (0.7, 200.0),
}
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday")  # by number; ems.tariff.HOLIDAY is 7


def build_site(draft: Draft) -> Site:
    """Build the Site; the draft must have passed every check."""
    assert draft.name is not None
    assert draft.hierarchy is not None
    assert draft.location is not None
    assert draft.money is not None
    assert draft.grid is not None
    assert draft.tariff is not None
    assert draft.forming is not None
    assert draft.reserve is not None
    dispatch = DispatchForm() if draft.dispatch is None else draft.dispatch
    historian = HistorianForm() if draft.historian is None else draft.historian
    return Site(
        name=draft.name,
        hierarchy=_hierarchy(draft.hierarchy),
        **draft.location.model_dump(),
        **draft.money.model_dump(),
        grid=_grid(draft.grid),
        bess=tuple(
            BessParams(id=i, battery=_battery(b.battery), pcs=pcs(b.pcs)) for i, b in draft.bess.items()
        ),
        gensets=tuple(_genset(i, g, draft.location.altitude_m) for i, g in draft.gensets.items()),
        pv=tuple(pv_plant(i, p) for i, p in draft.pv.items()),
        feeders=tuple(feeder(i, f) for i, f in draft.feeders.items()),
        tariff=_tariff(draft.tariff),
        forming=FormingOrder(
            grid_tied=tuple(draft.forming.grid_tied), islanded=tuple(draft.forming.islanded)
        ),
        reserve=ReservePolicy(
            **{
                **draft.reserve.model_dump(),
                "n_minus_1": tuple(draft.reserve.n_minus_1),
                "n_minus_1_tied": tuple(draft.reserve.n_minus_1_tied),
            },
        ),
        authority=Authority(setpoints={p: setpoint(draft.spec(p), p, s) for p, s in draft.authority.items()}),
        outages=tuple(OutageNotice(**o.model_dump()) for o in draft.outages.values()),
        connections=connections(draft),
        telemetry=telemetry_links(draft),
        databases=database_links(draft),
        exports=export_links(draft),
        inputs=input_params(draft),
        utilities=utility_servers(draft),
        modbus_servers=modbus_servers(draft),
        opcua_servers=ua_servers(draft),
        iec104_servers=iec104_servers(draft),
        historian=HistorianParams(**historian.model_dump()),
        maintenance=tuple(Maintenance(**m.model_dump()) for m in draft.maintenance.values()),
        deferrables=tuple(deferrable(i, d) for i, d in draft.deferrables.items()),
        sources=_sources(draft.sources),
        cycle_s=dispatch.cycle_s,
        plan_soc_tolerance=dispatch.plan_soc_tolerance,
        droop={i: DroopParams(**d.model_dump()) for i, d in dispatch.droop.items()},
        rules=None if dispatch.rules is None else rules_params(dispatch.rules),
        control=control_params(draft),
        deliveries=tuple(FuelDelivery(**d.model_dump()) for d in draft.deliveries.values()),
        weather=WeatherSource(**draft.weather.model_dump()) if draft.weather is not None else None,
    )


def _hierarchy(form: HierarchyForm) -> Hierarchy:
    return Hierarchy(
        organisation=form.organisation,
        portfolio=form.portfolio,
        plant=form.plant,
        subsystem_of={asset: name for name, assets in form.subsystems.items() for asset in assets},
    )


def _sources(form: SourcesForm | None) -> SourceSets | None:
    if form is None:
        return None
    return SourceSets(
        islanded=tuple(tuple(k) for k in form.islanded),
        grid_tied=tuple(tuple(k) for k in form.grid_tied),
        unpermitted_cost_per_h=form.unpermitted_cost_per_h,
    )


_GRID_PARTS = {
    "reactive",
    "caps",
    "transformer",
    "flapping",
    "strength",
    "supervision",
    "transitions",
    "phases",
    "voltage",
}


def _grid(form: GridForm) -> GridParams:
    reactive = None if form.reactive is None else ReactivePolicy(**form.reactive.model_dump())
    return GridParams(
        reactive=reactive,
        caps=tuple(_cap(c) for c in form.caps),
        transformer=None if form.transformer is None else TransformerParams(**form.transformer.model_dump()),
        flapping=None if form.flapping is None else FlappingPolicy(**form.flapping.model_dump()),
        strength=None if form.strength is None else StrengthPolicy(**form.strength.model_dump()),
        transitions=TransitionPolicy(**form.transitions.model_dump()),
        supervision=Supervision(**form.supervision.model_dump()),
        phases=poi_phases(form),
        voltage=None if form.voltage is None else VoltageRule(**form.voltage.model_dump()),
        **form.model_dump(exclude=_GRID_PARTS),
    )


def _cap(form: CapForm) -> CapWindow:
    """Local hours or dates: the checks have seen to it that it is one of them."""
    local = None
    if form.from_h is not None and form.to_h is not None:
        local = LocalWindow(start_h=form.from_h, end_h=form.to_h, **_calendar(form))
    return CapWindow(
        p_import_kw_max=form.p_import_kw_max,
        p_export_kw_max=form.p_export_kw_max,
        local=local,
        start=form.start,
        end=form.end,
    )


_LOSSES = (
    "eta_charge", "eta_discharge", "loss_charge_pu", "loss_discharge_pu",
    "efficiency_charge", "efficiency_discharge", "no_load_loss_kw",
)  # fmt: skip


def _battery(form: BatteryForm) -> BatteryParams:
    values = form.model_dump(
        exclude={
            "wear_per_kwh",
            "cycle_life",
            "soc_reserve",
            "resting",
            "warranty",
            "full_charge",
            "derating",
            "power_by_soc",
            *_LOSSES,
        }
    )
    return BatteryParams(
        wear_per_kwh=0.0 if form.wear_per_kwh is None else form.wear_per_kwh,
        cycle_life=None if form.cycle_life is None else cycle_life(form.cycle_life),
        soc_reserve=tuple(_soc_reserve(r) for r in form.soc_reserve),
        resting=None if form.resting is None else RestingSoc(**form.resting.model_dump()),
        warranty=None if form.warranty is None else _warranty(form.warranty, form.energy_kwh),
        power_by_soc=tuple(SocLimit(**row.model_dump()) for row in form.power_by_soc),
        derating=tuple(TemperatureLimit(**row.model_dump()) for row in form.derating),
        full_charge=None if form.full_charge is None else FullCharge(**form.full_charge.model_dump()),
        **_losses(form),
        **values,
    )


def efficiency_points(form: BatteryForm, way: str) -> list[tuple[float, float]]:
    """(power [kW], efficiency) of a direction, `charge` or `discharge`; none given: []."""
    return [(row.p_kw, row.eta_ratio) for row in getattr(form, f"efficiency_{way}")]


def _losses(form: BatteryForm) -> dict[str, Any]:
    """Efficiencies and losses, or points: the checks have seen to it that it is one of the two, each way."""
    charge, discharge = (efficiency_points(form, way) for way in ("charge", "discharge"))
    standing_kw = form.no_load_loss_kw
    if standing_kw is None:
        standing_kw = standing_loss_kw(charge, discharge)
    lines = {name: getattr(form, name) for name in _LOSSES if name.startswith(("eta", "loss"))}
    return {
        **{name: 0.0 if value is None else value for name, value in lines.items()},
        "no_load_loss_kw": standing_kw,
        "charge_curve": loss_curve(charge, standing_kw, charge=True),
        "discharge_curve": loss_curve(discharge, standing_kw, charge=False),
    }


def _soc_reserve(form: SocReserveForm) -> SocReserve:
    local = None
    if form.from_h is not None and form.to_h is not None:
        local = LocalWindow(start_h=form.from_h, end_h=form.to_h, **_calendar(form))
    elif len(form.days) < len(_DAYS) or len(form.months) < 12:
        local = LocalWindow(start_h=0.0, end_h=24.0, **_calendar(form))
    return SocReserve(soc=form.soc, local=local, price_per_kwh=form.price_per_kwh)


def _warranty(form: WarrantyForm, energy_kwh: float) -> Warranty:
    """Cycles become energy discharged; the checks have seen to it that a limit is given once."""

    def limit(kwh: float | None, cycles: float | None) -> float | None:
        return kwh if cycles is None else cycles * energy_kwh

    return Warranty(
        day_kwh_max=limit(form.day_kwh_max, form.day_cycles_max),
        year_kwh_max=limit(form.year_kwh_max, form.year_cycles_max),
        pace_per_kwh=form.pace_per_kwh,
        charge_per_h_max=form.charge_per_h_max,
        discharge_per_h_max=form.discharge_per_h_max,
        mean_soc_max=form.mean_soc_max,
    )


def cycle_life(form: CycleLifeForm) -> CycleLife:
    """Cycle life of a form; its depths must ascend."""
    return CycleLife(
        depth_ratio=tuple(x.depth_ratio for x in form.cycles_to_end_of_life),
        cycles_count=tuple(x.cycles for x in form.cycles_to_end_of_life),
        replacement_cost=form.replacement_cost,
    )


def _genset(genset_id: str, form: GensetForm, altitude_m: float) -> GensetParams:
    """With its rating at the place: every part of the system knows that one alone."""
    derating = None if form.derating is None else EngineDerating(**form.derating.model_dump())
    ratio = 1.0 if derating is None else derated_ratio(derating, altitude_m)
    rated_kw = ratio * form.p_rated_kw
    fuel_kw, fuel_l_h = cut_curve(
        tuple(p.p_kw for p in form.fuel_points), tuple(p.fuel_l_h for p in form.fuel_points), rated_kw
    )
    built = {
        "fuel_points",
        "quiet",
        "low_load",
        "reverse_power",
        "rating",
        "exercise",
        "derating",
        "p_rated_kw",
        "step_load_kw_max",
        "phases",
    }
    return GensetParams(
        id=genset_id,
        p_rated_kw=rated_kw,
        step_load_kw_max=min(rated_kw, form.step_load_kw_max),
        fuel_kw=fuel_kw,
        fuel_l_h=fuel_l_h,
        quiet=tuple(_quiet(q) for q in form.quiet),
        low_load=None if form.low_load is None else _low_load(form.low_load),
        reverse_power=None if form.reverse_power is None else ReversePower(**form.reverse_power.model_dump()),
        rating=None if form.rating is None else _rating(form.rating),
        phases=genset_phases(form.phases, rated_kw),
        exercise=None if form.exercise is None else _exercise(form.exercise),
        **form.model_dump(exclude=built),
    )


def _quiet(form: QuietHoursForm) -> QuietHours:
    return QuietHours(
        start_h=form.start, end_h=form.end, cost_per_h=form.cost_per_h, starts_for=form.starts_for
    )


def _exercise(form: ExerciseForm) -> Exercise:
    return Exercise(
        every_h=24.0 * form.every_days,
        for_h=form.for_s / 3600.0,
        load_ratio=form.load_ratio,
        start_h=form.start,
        end_h=form.end,
    )


def _rating(form: RatingForm) -> Rating:
    """Figures of ISO 8528-1 for its kind, where none are given."""
    mean, hours = _ISO_8528[form.kind]
    return Rating(
        mean_ratio_max=mean if form.mean_ratio_max is None else form.mean_ratio_max,
        year_h_max=hours if form.year_h_max is None else form.year_h_max,
    )


def _low_load(form: LowLoadForm) -> LowLoad:
    burn_off = None if form.burn_off is None else BurnOff(**form.burn_off.model_dump())
    return LowLoad(burn_off=burn_off, **form.model_dump(exclude={"burn_off"}))


def _tariff(form: TariffForm) -> Tariff:
    built = {
        "windows", "holidays", "demand_charges", "energy_blocks", "power_factor", "export_windows",
        "export_credit", "coincident_peaks", "energy_contracts", "demand_response",
    }  # fmt: skip
    credit = form.export_credit
    pf = form.power_factor
    return Tariff(
        windows=tuple(
            TouWindow(name=w.name, import_per_kwh=w.import_per_kwh, **_window(w)) for w in form.windows
        ),
        holidays=frozenset(form.holidays),
        demand_charges=tuple(_demand_charge(d) for d in form.demand_charges),
        energy_blocks=tuple(EnergyBlock(**b.model_dump()) for b in form.energy_blocks),
        power_factor=None if pf is None else PowerFactorCharge(**pf.model_dump()),
        export_windows=tuple(
            ExportWindow(name=w.name, export_per_kwh=w.export_per_kwh, **_window(w))
            for w in form.export_windows
        ),
        export_credit=None if credit is None else ExportCredit(**credit.model_dump()),
        contracts=_contracts(form),
        **form.model_dump(exclude=built),
    )


def _contracts(form: TariffForm) -> Contracts:
    return Contracts(
        coincident_peaks=tuple(
            CoincidentPeak(
                name=p.name,
                per_kw=p.per_kw,
                hours=tuple(PeakHour(**h.model_dump()) for h in p.hours),
                windows=tuple(LocalWindow(**_window(w)) for w in p.windows),
                window_probability_ratio=p.window_probability_ratio,
            )
            for p in form.coincident_peaks
        ),
        energy=tuple(EnergyContract(**c.model_dump()) for c in form.energy_contracts),
        events=tuple(DemandResponse(**e.model_dump()) for e in form.demand_response),
    )


def _window(form: TouWindowForm | DemandWindowForm | ExportWindowForm) -> dict[str, Any]:
    return {"start_h": form.start, "end_h": form.end, **_calendar(form)}


def _calendar(
    form: TouWindowForm | DemandWindowForm | ExportWindowForm | CapForm | SocReserveForm,
) -> dict[str, frozenset[int]]:
    return {
        "weekdays": frozenset(_DAYS.index(d) for d in form.days),
        "months": frozenset(form.months),
    }


def _demand_charge(form: DemandChargeForm) -> DemandCharge:
    """Its figures are all in kW or all in kVA: the checks have seen to it."""
    apparent = form.per_kva is not None
    rate, excess = (form.per_kva, form.excess_per_kva) if apparent else (form.per_kw, form.excess_per_kw)
    assert rate is not None
    past = form.past_peaks_kva if apparent else form.past_peaks_kw
    return DemandCharge(
        name=form.name,
        per_kw=rate,
        windows=tuple(LocalWindow(**_window(w)) for w in form.windows),
        apparent=apparent,
        ratchet_ratio=form.ratchet_ratio,
        ratchet_count=form.ratchet_months,
        past_peaks_kw={} if past is None else past,
        contracted_kw=form.contracted_kva if apparent else form.contracted_kw,
        contracted_ratio=form.contracted_ratio,
        excess_per_kw=0.0 if excess is None else excess,
    )


def setpoint(spec: PointSpec | None, point: str, form: SetpointForm) -> SetpointAuthority:
    """Authority over one setpoint, every number in the setpoint's unit.

    Raises
    ------
    BadValue : a number carries a unit of another dimension.
    """
    unit = spec.unit if spec is not None else ""
    safe = [
        None if v is None else in_unit(v, unit)
        for v in (form.safe.grid_tied, form.safe.islanded, form.safe.black)
    ]
    value = None if form.silence.value is None else in_unit(form.silence.value, unit)
    return SetpointAuthority(
        point=point,
        low=in_unit(form.low, unit),
        high=in_unit(form.high, unit),
        ramp_per_s=None if form.ramp_per_s is None else in_unit(form.ramp_per_s, f"{unit or '1'}/s"),
        deadband=in_unit(form.deadband, unit),
        refresh_s=form.refresh_s,
        safety=ActuatorSafety(
            grid_tied=safe[0],
            islanded=safe[1],
            black=safe[2],
            behaviour=DeviceBehaviour(
                timeout_s=form.silence.timeout_s,
                on_silence=form.silence.action,
                value=value,
                timeout_point=form.silence.timeout_point,
                value_point=form.silence.value_point,
            ),
        ),
        writer=form.writer,
    )
