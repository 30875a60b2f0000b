"""Every float field of a dataclass says its unit (docs/conventions.md, section 1)."""

import ast
from collections.abc import Iterator

from tests.architecture.source_tree import Module, modules, parsed, report

# A field passes when a part of its name after the first is a unit: p_charge_kw_max, fuel_l_h, price_per_kwh.
UNITS = frozenset(
    "kw kwp kva kvar kwh kvarh w v a hz ohm s h l m m2 m3 kg deg degc k kpa bar rpm "
    "pu ratio share per money count gb tb".split()
)
# Any part of a name may be a dimensionless quantity, or an amount of money (always in the site's currency).
UNITS_OF_THEIR_OWN = frozenset(["soc", "soh", "eta", "pf", "ratio", "share"])
MONEY = frozenset(["cost", "revenue", "objective", "bound"])
# In a record that names its point or its unit, these are in the unit of that point.
IN_THE_POINTS_UNIT = frozenset("value values amount low high limit deadband scale offset ge gt le lt".split())
UNIT_CARRIERS = frozenset("unit dimension point setpoint".split())
# The few that are left, each with its reason. Keys are "Class.field".
EXEMPT = {
    "ActuatorSafety.grid_tied": "in the unit of the setpoint whose safety this is",
    "ActuatorSafety.islanded": "in the unit of the setpoint whose safety this is",
    "ActuatorSafety.black": "in the unit of the setpoint whose safety this is",
    "DeviceBehaviour.value": "in the unit of the setpoint whose behaviour this is",
    "ControlParams.emergency_stop": "what each setpoint is to be, in its own unit",
    "SetLimit.value": "in the unit of its subject: kW, or that of the setpoint it names",
    "StandingLimit.value": "in the unit of its subject: kW, or that of the setpoint it names",
    "SunSpecRow.states": "values of the point whose row this is, by symbol",
    "PointMap.codes": "raw counts and what each stands for, in the unit of the point",
    "Snapshot.good": "readings by point, each in the unit of its point",
    "Sample.value": "a stored reading, in the unit of the point that was asked for",
    **{f"Bucket.{n}": "stored readings, in the unit of the point asked for" for n in ("low", "mean", "high")},
    "UniformSeries.values": "a series of any quantity; who holds it says the unit",
}
FLOATS = frozenset(["float", "float64", "FloatArray"])


def says_its_unit(name: str) -> bool:
    parts = name.lower().strip("_").split("_")
    return bool((UNITS_OF_THEIR_OWN | MONEY).intersection(parts) or UNITS.intersection(parts[1:]))


def is_dataclass(node: ast.ClassDef) -> bool:
    for decorator in node.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
        if name == "dataclass":
            return True
    return False


def holds_floats(annotation: ast.expr) -> bool:
    """Tell whether the annotation is a float, or a container of floats."""
    for node in ast.walk(annotation):
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
        if name in FLOATS:
            return True
        if name in ("ClassVar", "Callable"):
            return False
    return False


def fields_without_unit(module: Module) -> Iterator[str]:
    for node in module.nodes:
        if not (isinstance(node, ast.ClassDef) and is_dataclass(node)):
            continue
        fields = [f for f in node.body if isinstance(f, ast.AnnAssign) and isinstance(f.target, ast.Name)]
        names = {f.target.id for f in fields if isinstance(f.target, ast.Name)}
        for field in fields:
            assert isinstance(field.target, ast.Name)
            name = field.target.id
            generic = name in IN_THE_POINTS_UNIT and names & UNIT_CARRIERS
            exempt = f"{node.name}.{name}" in EXEMPT
            if holds_floats(field.annotation) and not (says_its_unit(name) or generic or exempt):
                yield f"{module.at(field.lineno)} {node.name}.{name}"


def test_float_fields_shipped_types_say_their_unit():
    found = [line for module in modules(("ems", "plant_models")) for line in fields_without_unit(module)]
    assert not found, report("float fields without a unit in their name:", found)


def test_fields_without_unit_made_up_class_finds_only_the_bare_ones():
    module = parsed(
        "@dataclass(frozen=True)\n"
        "class A:\n"
        "    power: float\n"
        "    p_kw_max: float\n"
        "    eta_charge: float | None\n"
        "    price: tuple[float, ...]\n"
        "    price_per_kwh: NDArray[np.float64]\n"
        "    name: str\n"
        "class B:\n"
        "    power: float\n"
    )
    assert list(fields_without_unit(module)) == ["made_up.py:3 A.power", "made_up.py:6 A.price"]
