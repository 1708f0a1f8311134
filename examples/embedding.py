"""The hub inside a FastAPI application of your own, under /realtime, with tokens from its login.

export HUB_JWT_SECRET=put-at-least-32-random-bytes-here REDIS_URL=redis://127.0.0.1:6379/0
uvicorn --app-dir examples --ws websockets-sansio embedding:app
"""

import os
import time

import jwt
from fastapi import FastAPI

from hub.app import create_app

hub = create_app()
app = FastAPI(lifespan=lambda _: hub.router.lifespan_context(hub))  # the hub starts and ends with the application
app.mount("/realtime", hub)  # sockets at /realtime/ws, HTTP at /realtime/v1


@app.post("/login/{user}")
def login(user: str) -> dict[str, str]:
    """A real one asks for a password first."""
    claims = {"sub": user, "tenant": "acme", "aud": "hub", "exp": int(time.time()) + 900}
    grants = {"conversation:*": ["read", "write"]}
    return {"token": jwt.encode(claims | {"grants": grants}, os.environ["HUB_JWT_SECRET"], algorithm="HS256")}
