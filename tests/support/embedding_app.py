"""An application with two embedded hubs, and with routes, sockets, middleware and a lifespan of its own."""

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
    """The application's lifespan, which encloses the hub's: it can write to a channel at its start and at its end."""
    await tokens.broadcast(TENANT, "team:life", "team.notification", note("begun"))
    yield {"theirs": "kept"}
    await tokens.broadcast(TENANT, "team:life", "team.notification", note("ended"))


def note(title: str) -> dict[str, str]:
    """A notification with a title."""
    return {"kind": "note", "title": title}


def cookie(request: HTTPConnection, token: str) -> hub.Identity | None:
    """Authenticate by a cookie that contains the user's name. A plain function, not a coroutine."""
    user = request.cookies.get("user", token)
    if user == "mallory":
        raise HTTPException(401, "not you")
    if user == "broken":
        return hub.Identity("no such:name", TENANT)
    return hub.Identity(user, TENANT, GRANTS, name=request.state.theirs) if user else None


app = FastAPI(lifespan=lifespan)


@app.get("/theirs")
async def theirs(request: Request) -> dict[str, str]:
    """A route of the application that uses the state of its lifespan."""
    return {"theirs": request.state.theirs}


@app.websocket("/ws")
async def echo(socket: WebSocket) -> None:
    """A socket of the application."""
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


@app.post("/orders/{user}")
async def order(user: str) -> dict[str, int]:
    """Notify a user, only once per key however often the route is requested."""
    stored = await cookies.send_to_user(TENANT, user, "team.notification", note("ordered"), key=f"order-{user}")
    return {"seq": stored.seq}


@app.post("/sign-out/{user}")
async def sign_out(user: str) -> None:
    """Close everything that a user has open."""
    await cookies.sign_out(TENANT, user)


@app.get("/{path:path}")
async def everything(path: str) -> str:
    """Answer every other path, as a single-page application does."""
    return f"page {path}"


class Marked(BaseHTTPMiddleware):
    """Middleware that reads the body of every response."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Mark an answer."""
        answer = await call_next(request)
        answer.headers["X-Theirs"] = "yes"
        return answer


app.add_middleware(GZipMiddleware, minimum_size=1)
app.add_middleware(Marked)
tokens = hub.embed(app, "/rt", waits=False)
cookies = hub.embed(app, "/apps/second", authenticate=cookie, waits=False)
