"""What a client is told of an upload: what is there, and how to bring the rest (`file.upload.authorized`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from hub.storage.store import NewObject, ObjectStore, Part, Signed, UploadGone
from hub.uploads.limits import UploadLimits
from streams.records.upload_plan import CHUNK_BYTES, SIGNED_PARTS_MAX, WINDOW_CHUNKS, Strategy
from streams.records.upload_record import Upload
from streams.records.upload_states import OPEN
from streams.times import rfc3339

Json = dict[str, Any]
_NOTHING: Final[Json] = {"parts": [], "next_offset": 0}


def absolute(origin: str, url: str) -> str:
    """A store's URL as a client needs it: relative ones are this hub's own."""
    return origin + url if url.startswith("/") else url


@dataclass(frozen=True, slots=True)
class Authorizer:
    """Signs and describes."""

    store: ObjectStore
    limits: UploadLimits

    async def authorize(
        self, upload: Upload, origin: str, now_ms: int, wanted: Sequence[Part] | None = None, held: int | None = None,
        *, is_new: bool = False,
    ) -> Json:  # fmt: skip
        """The whole answer.

        Args:
            upload: as the record has it.
            origin: such as `https://hub.example`.
            now_ms: Unix milliseconds.
            wanted: parts to sign; by default the first 50 that are not there.
            held: bytes this node holds of a socket upload, where it holds any.
            is_new: nobody can have brought anything yet, so the store is not asked.
        """
        done = dict(_NOTHING) if is_new else await self._done(upload, held)
        life_s = max(1, min(self.limits.url_life_s, (upload.expires_ms - now_ms) // 1000))
        strategy = upload.plan.strategy
        expires_ms = upload.expires_ms if strategy is Strategy.SOCKET else now_ms + life_s * 1000
        answer: Json = {
            "upload_id": upload.id,
            "strategy": strategy.value,
            "expires_at": rfc3339(expires_ms),
        }
        if strategy is Strategy.SINGLE:
            answer["single"] = await self._single(upload, origin, life_s)
        elif strategy is Strategy.MULTIPART:
            parts = self._missing(upload, done) if wanted is None else wanted
            answer["multipart"] = await self._multipart(upload, origin, life_s, parts)
        else:
            is_open = upload.state in OPEN
            answer["socket"] = {"chunk_size": CHUNK_BYTES, "window": WINDOW_CHUNKS if is_open else 0}
        return answer | {"done": done}

    async def _single(self, upload: Upload, origin: str, life_s: int) -> Json:
        new = NewObject(upload.key, upload.size, upload.mime, upload.sha256)
        signed = await self.store.sign_put(new, life_s)
        return {"method": signed.method, "url": absolute(origin, signed.url), "headers": dict(signed.headers)}

    async def _multipart(self, upload: Upload, origin: str, life_s: int, parts: Sequence[Part]) -> Json:
        signed: list[Signed] = []
        if parts and upload.state in OPEN:
            signed = await self.store.sign_parts(upload.key, upload.handle, parts, life_s)
        rows = [
            {"n": part.n, "url": absolute(origin, request.url), "headers": dict(request.headers)}
            for part, request in zip(parts, signed, strict=False)
        ]
        return {"part_size": upload.plan.part_size, "part_count": upload.plan.part_count, "parts": rows}

    @staticmethod
    def _missing(upload: Upload, done: Json) -> list[Part]:
        """The first parts not there, to be put without digests. Only an upload whose parts need none can have them."""
        if upload.is_checked:
            return []
        there = {part["n"] for part in done["parts"]}
        numbers = (n for n in range(1, upload.plan.part_count + 1) if n not in there)
        return [Part(n, upload.plan.part_bytes(n)) for n, _ in zip(numbers, range(SIGNED_PARTS_MAX), strict=False)]

    async def _done(self, upload: Upload, held: int | None) -> Json:
        """What is in the store already; where the socket goes on."""
        if upload.state not in OPEN:
            return {"parts": [], "next_offset": upload.size}
        if not upload.plan.is_multipart:
            stored = await self.store.look(upload.key)
            return {"parts": [], "next_offset": stored.size if stored else held or 0}
        try:
            parts = await self.store.parts(upload.key, upload.handle)
        except UploadGone:
            return dict(_NOTHING)
        rows = [{"n": p.n, "size": p.size, **({"sha256": p.sha256} if p.sha256 else {})} for p in parts]
        return {"parts": rows, "next_offset": max(_contiguous(parts), held or 0)}


def _contiguous(parts: Sequence[Part]) -> int:
    """Bytes from the start without a hole."""
    offset = 0
    for n, part in enumerate(parts, 1):
        if part.n != n:
            break
        offset += part.size
    return offset
