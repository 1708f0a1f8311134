"""The chunks of a model's stream, put together."""

from __future__ import annotations

import json

from consumers.adapters.openai import Response


def test_a_response_of_a_model_is_recorded_whole() -> None:
    """A server that splits a character over two chunks: the text that is given to the model again is what people read."""
    response = Response()
    for piece in ("hi \ud83d", "\ude00", "\ud83d"):
        response.feed("data: " + json.dumps({"choices": [{"delta": {"content": piece}}]}))

    assert response.recorded(100)["text"] == "hi \U0001f600\ufffd"
