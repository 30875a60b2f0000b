"""What all routes share: how a model is answered, pages, and the errors they declare."""

from collections.abc import Sequence
from typing import Any, TypeVar

from fastapi import Response
from pydantic import BaseModel
from starlette.responses import JSONResponse

from api.errors import ErrorAnswer, finite
from api.queries import Window

T = TypeVar("T")
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "wrong host"},
    422: {"model": ErrorAnswer, "description": "unusable parameters"},
    503: {"model": ErrorAnswer, "description": "the store cannot be read"},
}


def answer(model: BaseModel, status: int = 200) -> Response:
    """A model as JSON in which a number that is not finite is null."""
    return JSONResponse(finite(model.model_dump(mode="json")), status_code=status)


def page_of(rows: Sequence[T], window: Window) -> tuple[list[T], bool]:
    """The rows asked for, and whether there were more (readers are asked for one more than wanted)."""
    return list(rows[: window.limit]), len(rows) > window.limit
