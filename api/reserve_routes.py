"""Reserve and N-1 live: what is required, held and missing, and each loss as covered or short."""

from fastapi import APIRouter, Response

from api.answers import ERRORS, answer
from api.queries import NoParameters
from api.readers import Readers
from api.reserve_schemas import ReserveOut, contingencies_of


def reserve_routes(readers: Readers) -> APIRouter:
    """Reserve and contingencies."""
    router = APIRouter(prefix="/api/v1", tags=["reserve"], responses=ERRORS)

    @router.get("/reserve", response_model=ReserveOut)
    def reserve(_: NoParameters) -> Response:
        """Required, held and missing reserve, and for each loss that may come now whether it is covered."""
        edge = readers.statuses().get("edge")
        fields = {} if edge is None else edge.fields
        return answer(
            ReserveOut(
                at=None if edge is None else edge.at,
                required_kw=_number(fields.get("reserve_required_kw")),
                held_kw=_number(fields.get("reserve_held_kw")),
                short_kw=_number(fields.get("reserve_short_kw")),
                contingencies=contingencies_of(fields),
            )
        )

    return router


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
