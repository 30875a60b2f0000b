"""Form of the historian: how much is kept, and where."""

from typing import Annotated

from pydantic import Field

from ems.site_schema.forms_base import Form
from ems.site_schema.quantity import Quantity


class HistorianForm(Form):
    """What the historian keeps of readings and audit rows."""

    recent_h: Annotated[float, Quantity("h", ge=1, le=168)] = 2.0
    disk_gb: Annotated[float, Quantity("GB", ge=0.1, le=100_000)] = 8.0
    flash_tb: Annotated[float, Quantity("TB", gt=0, le=1_000_000)] = 30.0
    audit_recent_h: Annotated[float, Quantity("h", ge=24, le=8784)] = 72.0
    audit_keep_days: Annotated[int, Field(ge=365, le=36_525)] | None = None
