"""The read-only service of one plant: it is handed its ports and never touches a device."""

from collections.abc import Mapping, Sequence

from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry

from api.alarm_metrics import AlarmCollector
from api.alarm_routes import alarm_routes, authority_routes, ladder_routes
from api.errors import install_error_handlers
from api.input_routes import input_routes
from api.metrics import CONTENT_TYPE, PlantCollector, exposition
from api.middleware import LOOPBACK_HOSTS, Guard
from api.page import PAGE, content_security_policy
from api.queries import NoParameters
from api.readers import Limits, Readers, StatusSource
from api.reserve_routes import reserve_routes
from api.routes import health_routes, plan_routes, plant_routes, record_routes
from ems.clock import Clock
from ems.ports import HistoryReader, InputKnowledge, PlanArchive
from ems.site import Site

API_VERSION = "1"


def create_app(  # noqa: PLR0913  the composition root wires every port once
    *,
    site: Site,
    history: HistoryReader,
    plans: PlanArchive,
    clock: Clock,
    more_statuses: StatusSource | None = None,
    inputs: InputKnowledge | None = None,
    ladder: Sequence[Mapping[str, str]] = (),
    allowed_hosts: Sequence[str] = LOOPBACK_HOSTS,
    limits: Limits | None = None,
) -> FastAPI:
    """Build the service.

    Parameters
    ----------
    site : the plant as configured.
    history, plans : the read sides of the historian and the plan store.
    clock : record time; ages are measured on it.
    more_statuses : status rows kept elsewhere than in the historian (the planner's, the API's own).
    inputs : what is known of the inputs of the site; None: nobody keeps any.
    ladder : the rungs of the edge's ladder, best first, as it documents them.
    allowed_hosts : what a request's Host header may name.
    limits : when something is too old.

    Notes
    -----
    There are no writes, so there is nothing to log in to; the server listens on loopback only. Swagger's page
    comes from a CDN and is left out; the plain description is at /api/v1/openapi.json.
    """
    readers = Readers(
        site=site,
        history=history,
        plans=plans,
        clock=clock,
        more_statuses=more_statuses,
        inputs=inputs,
        limits=Limits() if limits is None else limits,
    )
    app = FastAPI(
        title=f"Energy management of {site.name}",
        description="Read-only. Positive power flows into the site's bus; times are UTC; a step is named by "
        "its start.",
        version=API_VERSION,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    install_error_handlers(app)
    headers = {
        "cache-control": "no-store",
        "content-security-policy": content_security_policy(),
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }
    app.add_middleware(Guard, allowed_hosts=allowed_hosts, headers=headers)
    routers = (health_routes, plant_routes, input_routes, plan_routes, record_routes, alarm_routes)
    for router in (*routers, authority_routes, reserve_routes):
        app.include_router(router(readers))
    app.include_router(ladder_routes(readers, ladder))
    _add_page_and_metrics(app, readers, [rung["rung"] for rung in ladder])
    return app


def _add_page_and_metrics(app: FastAPI, readers: Readers, rungs: Sequence[str]) -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PlantCollector(readers))
    registry.register(AlarmCollector(readers, rungs))

    @app.get("/metrics", tags=["metrics"], response_class=Response)
    def metrics() -> Response:
        """Prometheus' text format."""
        return Response(exposition(registry), media_type=CONTENT_TYPE)

    @app.get("/", include_in_schema=False)
    def page(_: NoParameters) -> Response:
        return Response(PAGE, media_type="text/html; charset=utf-8")
