"""What is asked of a version beside its form: that its sun shines when ours does."""

from collections.abc import Iterable

from connectors.inputs.convert import Doubts
from ems.inputs import InputKind, InputParams, InputVersion
from ems.site import Site


def doubts_of(site: Site, params: InputParams) -> Doubts:
    """For one input; of prices and outages nothing is asked."""
    if params.kind not in (InputKind.WEATHER, InputKind.FORECAST):
        return lambda version: ()
    from forecasting.input_doubts import sun_doubts

    def ask(version: InputVersion) -> Iterable[tuple[str, str, str]]:
        return sun_doubts(site, version)

    return ask
