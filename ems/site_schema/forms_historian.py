"""Form of the historian: how much is kept, and where."""

from typing import Annotated

from ems.site_schema.forms_base import Form
from ems.site_schema.quantity import Quantity


class HistorianForm(Form):
    """What the historian keeps of readings."""

    recent_h: Annotated[float, Quantity("h", ge=1, le=168)] = 2.0
    disk_gb: Annotated[float, Quantity("GB", ge=0.1, le=100_000)] = 8.0
    flash_tb: Annotated[float, Quantity("TB", gt=0, le=1_000_000)] = 30.0
