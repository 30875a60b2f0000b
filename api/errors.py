"""Error answers of the API: plain words, never an echo of what was sent (a NaN echoed is a crash)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from ems.errors import EmsError


class ProblemDetail(BaseModel):
    """One thing that is wrong with a request: where, and what is expected."""

    where: str
    message: str


class ErrorAnswer(BaseModel):
    """Body of every answer that is not a success."""

    error: str
    problems: list[ProblemDetail] = []


class QueryRefusedError(Exception):
    """A query parameter that cannot be used."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.detail = ProblemDetail(where=where, message=message)


def finite(value: Any) -> Any:
    """The same JSON value with every NaN and infinity replaced by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [finite(v) for v in value]
    return value


def error_answer(status: int, error: str, problems: Sequence[ProblemDetail] = ()) -> Response:
    """One error in the common form."""
    body = ErrorAnswer(error=error, problems=list(problems))
    return JSONResponse(body.model_dump(mode="json"), status_code=status)


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of `app` an ErrorAnswer."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(QueryRefusedError, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(EmsError, _unavailable)
    app.add_exception_handler(OSError, _unavailable)
    app.add_exception_handler(Exception, _broken)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [
        ProblemDetail(where=".".join(str(p) for p in e["loc"]), message=str(e["msg"])) for e in error.errors()
    ]
    return error_answer(422, "the request cannot be used", problems)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, QueryRefusedError)
    return error_answer(422, "the request cannot be used", [error.detail])


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = error_answer(error.status_code, str(error.detail))
    for name, value in ({} if error.headers is None else error.headers).items():
        answer.headers[name] = value
    return answer


async def _unavailable(_: Request, error: Exception) -> Response:
    return error_answer(503, f"the data cannot be read now: {error}")


async def _broken(_: Request, error: Exception) -> Response:
    return error_answer(500, f"internal error ({type(error).__name__})")
