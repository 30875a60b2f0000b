"""A VTN of another make: documents of toadr3 0.29.0 (OpenADR 3.0.1), HTTP of aiohttp, TLS.

Usage: vtn.py CERTIFICATE KEY SECRET. It says `port N` when it listens. Each line on its input is a JSON
object that changes what it is: `programs` and `events` (validated and written again by toadr3's models),
`instead` (by path: what is answered in the place of the truth), `token` (what a token is, and how long it
lasts), `dated` (seconds that its clock is ahead; null: it tells no time), `page` (most objects in an answer).
It answers each line with a line: what was asked of it since the one before.
"""

import asyncio
import contextlib
import json
import ssl
import sys
import time
from email.utils import formatdate
from typing import Any

from aiohttp import web
from toadr3.models import Event, Program, Report

MODELS: dict[str, Any] = {"programs": Program, "events": Event}


class Vtn:
    """What it holds, and what was asked of it."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.held: dict[str, list[Any]] = {"programs": [], "events": []}
        self.instead: dict[str, dict[str, Any]] = {}
        self.token: dict[str, Any] = {"access_token": "first", "token_type": "Bearer", "expires_in": 3600}
        self.good = "first"
        self.dated: float | None = 0.0
        self.page = 50
        self.asked: list[str] = []

    def change(self, told: dict[str, Any]) -> list[str]:
        """What was asked since the last change."""
        for name, model in MODELS.items():
            if name in told:
                self.held[name] = [model.model_validate(raw) for raw in told[name]]
        self.instead = told.get("instead", self.instead)
        if "token" in told:
            self.token, self.good = told["token"], told["token"]["access_token"]
        self.dated = told.get("dated", self.dated)
        self.page = told.get("page", self.page)
        asked, self.asked = self.asked, []
        return asked

    async def give_token(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        self.asked.append(f"token {form.get('scope', '')}".strip())
        if (found := self.instead.get(request.path)) is not None:
            return await self.told_instead(request, found)
        known = (form.get("grant_type"), form.get("client_secret")) == ("client_credentials", self.secret)
        if request.content_type != "application/x-www-form-urlencoded" or not known:
            return web.json_response({"error": "invalid_client"}, status=401)
        return web.json_response(self.token)

    async def tell(self, request: web.Request) -> web.StreamResponse:
        name = request.path.rpartition("/")[2]
        self.asked.append(f"{name} {request.query_string}")
        if (found := self.instead.get(request.path)) is not None:
            return await self.told_instead(request, found)
        if request.headers.get("Authorization") != f"Bearer {self.good}":
            return web.json_response({"title": "Unauthorized", "status": 401}, status=401)
        objects = self.held.get(name, [])
        if wanted := request.query.getall("targets", []):
            objects = [o for o in objects if wanted[0] in [v for t in o.targets or [] for v in t.values]]
        if (program := request.query.get("programID")) is not None:
            objects = [o for o in objects if o.program_id == program]
        skip = int(request.query.get("skip", 0))
        shown = objects[skip : skip + min(self.page, int(request.query.get("limit", 50)))]
        text = "[" + ",".join(o.model_dump_json(by_alias=True) for o in shown) + "]"
        return web.Response(text=text, content_type="application/json")

    async def take_report(self, request: web.Request) -> web.StreamResponse:
        if (found := self.instead.get(request.path)) is not None:
            return await self.told_instead(request, found)
        if request.headers.get("Authorization") != f"Bearer {self.good}":
            return web.json_response({"title": "Unauthorized", "status": 401}, status=401)
        report = Report.model_validate(await request.json())
        self.asked.append("report " + report.model_dump_json(by_alias=True, exclude_none=True))
        return web.json_response({"id": "r1"}, status=201)

    async def told_instead(self, request: web.Request, found: dict[str, Any]) -> web.StreamResponse:
        body, drip_s = str(found.get("body", "")).encode(), found.get("drip_s", 0.0)
        response = web.StreamResponse(status=found.get("status", 200), headers=found.get("headers", {}))
        response.content_type, response.content_length = found.get("type", "application/json"), len(body)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for i in range(0, len(body), 1 if drip_s else max(1, len(body))):
                await response.write(body[i : i + (1 if drip_s else len(body))])
                await asyncio.sleep(drip_s)
        return response

    async def date(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = (
            "soon" if self.dated is None else formatdate(time.time() + self.dated, usegmt=True)
        )


async def serve(certificate: str, key: str, secret: str) -> None:
    vtn, app = Vtn(secret), web.Application()
    app.router.add_post("/vtn/auth/token", vtn.give_token)
    app.router.add_get("/vtn/programs", vtn.tell)
    app.router.add_get("/vtn/events", vtn.tell)
    app.router.add_post("/vtn/reports", vtn.take_report)
    app.on_response_prepare.append(vtn.date)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    print(f"port {runner.addresses[0][1]}", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            print(json.dumps(vtn.change(json.loads(line))), flush=True)
        except ValueError as error:  # of JSON, or of a model
            print(json.dumps({"wrong": str(error)[:500]}), flush=True)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4]))
