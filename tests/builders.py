"""A small plant built in code, for unit tests that should not depend on a site file."""

from datetime import UTC, datetime
from typing import Any

from ems.assets import (
    ActuatorSafety,
    BatteryParams,
    BessParams,
    DeviceBehaviour,
    FeederParams,
    GensetParams,
    GridParams,
    OnSilence,
    PcsParams,
    PvParams,
    Sharing,
)
from ems.site import Authority, FormingOrder, Hierarchy, ReservePolicy, SetpointAuthority, Site
from ems.tariff import Tariff, TouWindow

T0 = datetime(2026, 3, 2, 0, 0, tzinfo=UTC)  # a Monday


def battery(**changes: Any) -> BatteryParams:
    values: dict[str, Any] = {
        "energy_kwh": 1000.0,
        "soc_min": 0.1,
        "soc_max": 0.95,
        "p_charge_kw_max": 500.0,
        "p_discharge_kw_max": 500.0,
        "eta_charge": 0.975,
        "eta_discharge": 0.975,
        "loss_charge_pu": 0.0173,
        "loss_discharge_pu": 0.0188,
        "no_load_loss_kw": 2.0,
        "aux_kw": 2.0,
        "self_discharge_per_h": 2e-5,
        "soc_taper_low": 0.15,
        "soc_taper_high": 0.9,
        "taper_ratio": 0.2,
        "wear_per_kwh": 0.02,
    }
    return BatteryParams(**(values | changes))


def bess(**changes: Any) -> BessParams:
    pcs = PcsParams(s_kva=550.0, can_form=True, overload_ratio=1.2, overload_s=10.0, restart_s=60.0)
    return BessParams(id="bess1", battery=battery(**changes), pcs=pcs)


def genset(genset_id: str = "gen1", rated_kw: float = 400.0) -> GensetParams:
    return GensetParams(
        id=genset_id,
        p_rated_kw=rated_kw,
        p_min_kw=0.3 * rated_kw,
        s_kva=rated_kw / 0.8,
        fuel_kw=(0.25 * rated_kw, 0.5 * rated_kw, 0.75 * rated_kw, rated_kw),
        fuel_l_h=(0.08425 * rated_kw, 0.141 * rated_kw, 0.2015 * rated_kw, 0.27075 * rated_kw),
        start_cost=15.0,
        running_cost_per_h=6.0,
        min_up_s=1800.0,
        min_down_s=900.0,
        crank_s=10.0,
        warm_up_s=20.0,
        synchronise_s=10.0,
        cool_down_s=180.0,
        ramp_kw_s=rated_kw / 20.0,
        step_load_kw_max=0.6 * rated_kw,
        overload_ratio=1.1,
        sharing=Sharing.BASE_LOAD,
        start_attempts=3,
        mains_failure_start=True,
        mains_failure_delay_s=120.0,
        tank_l=2000.0,
    )


def feeders() -> tuple[FeederParams, ...]:
    rows = (
        ("critical", 1, False, 20.0, 120.0),
        ("essential", 2, True, 4.0, 250.0),
        ("deferrable", 3, True, 0.8, 150.0),
    )
    return tuple(
        FeederParams(
            id=i, tier=tier, has_breaker=breaker, voll_per_kwh=voll, p_peak_kw=peak, power_factor_ratio=0.95,
            restore_dwell_s=60.0,
        )
        for i, tier, breaker, voll, peak in rows
    )  # fmt: skip


def _setpoint(
    point: str, low: float, high: float, safe: tuple[float | None, float | None, float | None]
) -> SetpointAuthority:
    on_silence = OnSilence.HOLD if safe[0] is None else OnSilence.VALUE
    silence = DeviceBehaviour(timeout_s=15.0, on_silence=on_silence, value=safe[0])
    safety = ActuatorSafety(grid_tied=safe[0], islanded=safe[1], black=safe[2], behaviour=silence)
    return SetpointAuthority(
        point=point, low=low, high=high, ramp_per_s=None, deadband=0.5, refresh_s=5.0, safety=safety
    )


def authority(gensets: tuple[GensetParams, ...]) -> Authority:
    rows = [
        _setpoint("bess1.p_set_kw", -500.0, 500.0, (0.0, None, None)),
        _setpoint("pv1.p_limit_kw", 0.0, 600.0, (0.0, 0.0, 0.0)),
        _setpoint("essential.close_request", 0.0, 1.0, (None, None, None)),
        _setpoint("deferrable.close_request", 0.0, 1.0, (None, None, None)),
    ]
    for g in gensets:
        rows.append(_setpoint(f"{g.id}.run_request", 0.0, 1.0, (None, None, None)))
        rows.append(_setpoint(f"{g.id}.p_set_kw", 0.0, g.p_rated_kw, (None, None, None)))
    return Authority(setpoints={r.point: r for r in rows})


def tariff() -> Tariff:
    every_day, every_month = frozenset(range(7)), frozenset(range(1, 13))
    return Tariff(
        timezone="Africa/Nairobi",
        currency="USD",
        default_import_per_kwh=0.16,
        windows=(
            TouWindow(
                name="peak",
                start_h=18.0,
                end_h=22.0,
                weekdays=every_day,
                months=every_month,
                import_per_kwh=0.28,
            ),
            TouWindow(
                name="night",
                start_h=0.0,
                end_h=6.0,
                weekdays=every_day,
                months=every_month,
                import_per_kwh=0.09,
            ),
        ),
        export_per_kwh=0.04,
        demand_charge_per_kw=9.0,
        billing_interval_s=900.0,
        fixed_per_month=50.0,
    )


def site() -> Site:
    """One BESS, two unlike gensets, one PV plant, three feeders behind a 350 kW grid."""
    gensets = (genset("gen1", 400.0), genset("gen2", 200.0))
    ids = ("grid1", "bess1", "gen1", "gen2", "pv1", "critical", "essential", "deferrable", "bus")
    return Site(
        name="small",
        hierarchy=Hierarchy(
            organisation="org", portfolio="portfolio", plant="small", subsystem_of=dict.fromkeys(ids, "plant")
        ),
        latitude_deg=-1.3,
        longitude_deg=36.8,
        altitude_m=1600.0,
        timezone="Africa/Nairobi",
        currency="USD",
        diesel_per_l=1.25,
        co2_kg_per_l=2.68,
        grid=GridParams(
            id="grid1",
            p_import_kw_max=350.0,
            p_export_kw_max=0.0,
            v_nominal_v=400.0,
            r_ohm=0.012,
            x_ohm=0.02,
            v_min_pu=0.85,
            v_max_pu=1.1,
            transfer_s=0.2,
            reconnect_dwell_s=60.0,
        ),
        bess=(bess(),),
        gensets=gensets,
        pv=(
            PvParams(
                id="pv1",
                p_dc_kwp=700.0,
                p_ac_kw=600.0,
                gamma_per_degc=-0.0037,
                noct_degc=45.0,
                system_loss_ratio=0.1,
                tilt_deg=10.0,
                azimuth_deg=0.0,
                reconnect_s=60.0,
            ),
        ),
        feeders=feeders(),
        tariff=tariff(),
        forming=FormingOrder(grid_tied=("grid1",), islanded=("bess1", "gen1", "gen2")),
        reserve=ReservePolicy(
            load_ratio=0.1, pv_ratio=0.25, critical_tier=1, failed_starts=1, shortfall_per_kwh=2.0
        ),
        authority=authority(gensets),
        outages=(),
        connections=(),
    )
