"""The hub inside a FastAPI application of your own, under /realtime, for the users that its login knows by a cookie.

export REDIS_URL=redis://127.0.0.1:6379/0
uvicorn --app-dir examples --timeout-graceful-shutdown 5 embedding:app
"""

import secrets

from fastapi import FastAPI, Response
from starlette.requests import HTTPConnection

import hub

SESSIONS: dict[str, str] = {}  # a real application keeps them in its database


async def who(request: HTTPConnection, token: str) -> hub.Identity | None:
    user = SESSIONS.get(request.cookies.get("session", ""))
    return hub.Identity(user, "acme", {"conversation:*": ["read", "write"]}) if user else None


app = FastAPI()
live = hub.embed(app, "/realtime", authenticate=who)  # sockets at /realtime/ws, HTTP at /realtime/v1


@app.post("/login/{user}")
def login(user: str, response: Response) -> None:
    """Start a session for the user. A real application would check a password first."""
    session = secrets.token_urlsafe()
    SESSIONS[session] = user
    response.set_cookie("session", session, httponly=True, samesite="lax")


@app.post("/orders/{number}")
async def order(number: int, user: str) -> dict[str, int]:
    """Notify the user of an order: every device shows it, at once or when it next connects."""
    note = {"kind": "order", "title": f"Order {number} is on its way"}
    stored = await live.send_to_user("acme", user, "team.notification", note, key=f"order-{number}")
    return {"seq": stored.seq}
