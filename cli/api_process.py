"""The api process: reads what edge and planner have stored, and never takes part in control."""

import os
import sys
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path

from api.app import create_app
from api.server import ServerOptions, serve
from cli.clocks import StatusClock
from cli.process_config import ProcessConfig, read_config
from cli.stopping import run_until_stopped
from connectors.historian.archive import keeper
from connectors.historian.live import LiveHistory
from connectors.inputs.store import QuietInputs, QuietStatuses
from connectors.stores.plans import PlanReader
from connectors.telemetry.ledger import statuses
from dispatch.supervision.ladder import ladder_rows
from ems.clock import SystemClock
from ems.records import StatusRow
from ems.site_schema import load_site


async def serve_api(config: ProcessConfig) -> None:
    """Compose the service of a site and run it."""
    site = load_site(config.site)
    history, plans = LiveHistory(config.directory), PlanReader(config.plans)
    of_inputs = QuietStatuses(config.directory)
    clock = SystemClock() if config.keeper_port is None else StatusClock(history)

    def more_statuses() -> Mapping[str, StatusRow]:
        own = StatusRow(process="api", pid=os.getpid(), at=clock.now().astimezone(UTC), fields={})
        links = statuses(config.telemetry) if site.links else {}
        told = of_inputs() if site.inputs else {}
        return {"api": own, **plans.statuses(), **links, **told, **keeper.statuses(config.archive)}

    app = create_app(
        site=site,
        history=history,
        plans=plans,
        clock=clock,
        more_statuses=more_statuses,
        inputs=QuietInputs(config.directory) if site.inputs else None,
        ladder=ladder_rows(),
    )
    await serve(app, ServerOptions(port=config.api_port))


if __name__ == "__main__":
    run_until_stopped(serve_api(read_config(Path(sys.argv[1]))))
