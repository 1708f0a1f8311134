"""An application with two hubs in it, beside routes, sockets, middleware and a lifespan of its own. A server of ours runs it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request, WebSocket
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import Response

import hub

TENANT = os.environ["TENANT"]
GRANTS = {"conversation:*": ["read", "write"], "team:*": ["read"]}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Ours stands around it: it can tell the channel of its beginning and of its end."""
    await tokens.broadcast(TENANT, "team:life", "team.notification", note("begun"))
    yield {"theirs": "kept"}
    await tokens.broadcast(TENANT, "team:life", "team.notification", note("ended"))


def note(title: str) -> dict[str, str]:
    """A notification with a title."""
    return {"kind": "note", "title": title}


def cookie(request: HTTPConnection, token: str) -> hub.Identity | None:
    """A plain function: the cookie is the user."""
    user = request.cookies.get("user", token)
    if user == "mallory":
        raise HTTPException(401, "not you")
    if user == "broken":
        return hub.Identity("no such:name", TENANT)
    return hub.Identity(user, TENANT, GRANTS, name=request.state.theirs) if user else None


app = FastAPI(lifespan=lifespan)


@app.get("/theirs")
async def theirs(request: Request) -> dict[str, str]:
    """A route of theirs, with the state of their lifespan."""
    return {"theirs": request.state.theirs}


@app.websocket("/ws")
async def echo(socket: WebSocket) -> None:
    """A socket of theirs."""
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


@app.post("/orders/{user}")
async def order(user: str) -> dict[str, int]:
    """Tells a user of something, once however often it is asked."""
    stored = await cookies.send_to_user(TENANT, user, "team.notification", note("ordered"), key=f"order-{user}")
    return {"seq": stored.seq}


@app.post("/sign-out/{user}")
async def sign_out(user: str) -> None:
    """Ends what a user has open."""
    await cookies.sign_out(TENANT, user)


@app.get("/{path:path}")
async def everything(path: str) -> str:
    """Takes every path that nobody else takes, as the page of a single-page application does."""
    return f"page {path}"


class Marked(BaseHTTPMiddleware):
    """Middleware of the kind that reads every answer again."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Mark an answer."""
        answer = await call_next(request)
        answer.headers["X-Theirs"] = "yes"
        return answer


app.add_middleware(GZipMiddleware, minimum_size=1)
app.add_middleware(Marked)
tokens = hub.embed(app, "/rt", waits=False)
cookies = hub.embed(app, "/apps/second", authenticate=cookie, waits=False)
