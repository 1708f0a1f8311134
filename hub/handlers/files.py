"""`file.*`: requests an upload, receives its bytes, and gives access to the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from hub.errors import ErrorDetail, HubError
from hub.ports import ClientConnection, NodePort
from hub.protocol.commands import Append, Caller, Command, Nothing, Outcome, Reply
from hub.protocol.replies import error_message, reply
from hub.storage.store import StoreError, UploadGone
from hub.uploads.chunks import Chunk, MalformedChunk, decode_binary, decode_text
from hub.uploads.content_types import presentation
from hub.uploads.receiver import ChunkTaken
from hub.uploads.requests import UploadRequests, absolute, not_expired, own, wrong_state
from hub.uploads.sockets import progress_json
from streams.envelope import Guard
from streams.errors import GuardRefused
from streams.events.declaration import Action
from streams.events.files import (
    FileChunk,
    FileUploadCancel,
    FileUploadComplete,
    FileUploadProgress,
    FileUploadRequest,
    FileUploadSign,
    FileUploadStatus,
    FileUrlQuestion,
)
from streams.json_bytes import to_json
from streams.records.upload_store import guard_name
from streams.records.uploads import CHUNK_MAX_BYTES, OPEN, FailReason, Strategy, UploadRecord, UploadState, sources
from streams.times import rfc3339

_RETRY_MS: Final = 1_000
ChunkReply = Callable[[ChunkTaken | Exception], None]


class FileCommands:
    """Commands on uploads and files. Chunks are queued and answered per upload, so that no other command waits for them."""

    def __init__(self, node: NodePort) -> None:
        self._node = node

    @property
    def _uploads(self) -> UploadRequests:
        uploads = self._node.uploads
        if uploads is None:
            raise HubError(4024, "this node does not accept files")
        return uploads

    async def request(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Stores the request for an upload, and authorises sending its bytes."""
        payload = cast("FileUploadRequest", command.payload)
        with _StoreErrors():
            answer, appended = await self._uploads.request(
                command.draft(), payload, command.caller, self._origin(command.caller)
            )
        answer |= {
            "id": appended.id,
            "seq": appended.seq,
            "duplicate": appended.is_duplicate,
            "durability": appended.durability.value,
        }
        return Reply("file.upload.authorized", to_json(answer))

    async def sign(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Signs the URLs of further parts."""
        payload = cast("FileUploadSign", command.payload)
        with _StoreErrors():
            answer = await self._uploads.sign(command.place, payload, command.caller, self._origin(command.caller))
        return Reply("file.upload.authorized", to_json(answer))

    async def status(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Returns the parts that have arrived, and fresh URLs for the rest."""
        payload = cast("FileUploadStatus", command.payload)
        with _StoreErrors():
            answer = await self._uploads.status(command.place, payload, command.caller, self._origin(command.caller))
        return Reply("file.upload.authorized", to_json(answer))

    def chunk(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Receives a chunk of a file; the reply follows when it is stored."""
        if connection is None:
            raise HubError(4005, "chunks need a WebSocket")
        payload = cast("FileChunk", command.payload)
        chunk = decode_text(payload.upload_id, payload.offset, payload.data, payload.sha256)
        place = command.place
        answer = self._chunk_reply(connection, chunk, command.id, place.wire)
        self._uploads.sockets.offer(place, command.caller, chunk, answer)
        return Nothing()

    def binary(self, connection: ClientConnection, data: bytes) -> bool:
        """Receives a chunk of a file as a binary message; returns False if this client may not send any."""
        caller = connection.session.caller
        if caller is None or "binary_chunks" not in caller.capabilities:
            return False
        try:
            chunk = decode_binary(data)
        except MalformedChunk as error:
            connection.send(error_message(HubError(4005, str(error))))
            return True
        answer = self._chunk_reply(connection, chunk, None, None)
        if len(chunk.data) > CHUNK_MAX_BYTES:
            answer(HubError(4011, f"a chunk may have at most {CHUNK_MAX_BYTES} bytes"))
        else:
            self._uploads.sockets.offer(None, caller, chunk, answer)
        return True

    async def progress(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Sends the number of bytes uploaded so far to everybody who follows the channel."""
        payload = cast("FileUploadProgress", command.payload)
        upload = await self._uploads.admit(command.place, payload.upload_id, command.caller.principal.user)
        await self._uploads.records.move(upload, UploadState.UPLOADING)
        await self._uploads.listed.change(upload, payload.sent, UploadState.UPLOADING)
        return Append(command.draft(data=progress_json(upload, payload.sent, UploadState.UPLOADING)))

    async def complete(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Has the upload verified by workers, who end it with an event.

        Raises:
            HubError: 4003; 4018; 4021: bytes are missing; 4022.
        """
        upload_id = cast("FileUploadComplete", command.payload).upload_id
        upload = own(await self._uploads.records.read(command.place, upload_id), command.caller.principal.user)
        streamed = ""
        if upload.state in OPEN:  # otherwise the guard decides, so that a repeated command gets its first answer
            not_expired(upload, self._node.clock.now())
            with _StoreErrors():
                streamed = await self._finish_socket(upload)
        sets = (("state", UploadState.VERIFYING.value), ("cause", "@id"), ("streamed", streamed))
        return Append(command.draft(guards=(_guard(upload, UploadState.VERIFYING, sets),)), refused=_refused)

    async def cancel(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Cancels an upload; workers remove the bytes that arrived, then store an event.

        Raises:
            HubError: 4003 unless the caller requested it or may manage the channel; 4018.
        """
        payload, caller = cast("FileUploadCancel", command.payload), command.caller
        found = await self._uploads.records.read(command.place, payload.upload_id)
        may_manage = caller.principal.grants.allows(command.place.wire, Action.MANAGE)
        upload = own(found, found.user if found and may_manage else caller.principal.user)
        self._uploads.sockets.recheck(upload)
        sets = (
            ("state", UploadState.FAILING.value),
            ("reason", FailReason.CANCELLED.value),
            ("message", payload.reason or ""),
            ("cause", "@id"),
        )
        return Append(command.draft(guards=(_guard(upload, UploadState.FAILING, sets),)), refused=_refused)

    async def url(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Returns a short-lived URL of a file. Permission to read the channel was checked before.

        Raises:
            HubError: 4018; 4021: the file is not ready.
        """
        payload, uploads = cast("FileUrlQuestion", command.payload), self._uploads
        upload = await uploads.records.read(command.place, payload.file_id)
        if upload is None:
            raise HubError(4018, "there is no such file in this channel")
        if upload.state is not UploadState.READY:
            raise wrong_state(upload.state)
        life_s = uploads.limits.url_life_s
        address = await uploads.store.sign_get(upload.key, presentation(upload, payload.disposition), life_s)
        answer = {
            "url": absolute(self._origin(command.caller), address),
            "expires_at": rfc3339(uploads.now_ms() + life_s * 1000),
        }
        return Reply("file.url", to_json(answer))

    async def _finish_socket(self, upload: UploadRecord) -> str:
        """Waits until every chunk of a socket upload is in the store.

        Returns the digest of the whole file if this node received all of its chunks.

        Raises:
            HubError: 4021: bytes are missing.
        """
        if upload.plan.strategy is not Strategy.SOCKET:
            return ""
        arrived = await self._uploads.sockets.finish(upload)
        if arrived.size < upload.size:
            problem = ErrorDetail("next_offset", f"is {arrived.size}")
            raise HubError(4021, "bytes are missing; continue from next_offset", details=(problem,))
        return arrived.sha256

    def _chunk_reply(
        self, connection: ClientConnection, chunk: Chunk, re: str | None, channel: str | None
    ) -> ChunkReply:
        """Returns the function that answers one chunk. A binary chunk has no id, so its answer names the upload."""

        def answer(result: ChunkTaken | Exception) -> None:
            if isinstance(result, ChunkTaken):
                payload = to_json(_taken_payload(chunk.upload_id, result))
                connection.send(reply("file.upload.progress", re, channel, payload))
                return
            error = self._node.as_hub_error(result)
            if re is None and not error.details:
                error.amended(details=(ErrorDetail("upload_id", f"is {chunk.upload_id}"),))
            connection.send(error_message(error, re, channel))

        return answer

    def _origin(self, caller: Caller) -> str:
        """Returns the first part of URLs to this hub: its public address, or the one the caller used."""
        settings = self._node.settings
        return settings.public_origin or caller.origin or f"http://{settings.host}:{settings.port}"


class _StoreErrors:
    """Turns errors of the store into errors for the client: 4013 if it is unreachable, 4022 if it has no such upload."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UploadGone):
            raise HubError(4022, "the upload has ended; request a new one") from error
        if isinstance(error, StoreError):
            text = "the file store is unreachable; retry with the same id"
            raise HubError(4013, text, retry_after_ms=_RETRY_MS) from error


def _guard(upload: UploadRecord, state: UploadState, sets: tuple[tuple[str, str], ...]) -> Guard:
    return Guard(guard_name(upload.id), (("state", "in", sources(state)),), sets)


def _refused(error: GuardRefused) -> HubError:
    if error.present is None:
        return HubError(4018, "there is no such upload in this channel")
    return wrong_state(error.present)


def _taken_payload(upload_id: str, taken: ChunkTaken) -> dict[str, Any]:
    problem = {"problem": taken.problem.value} if taken.problem else {}
    return {
        "upload_id": upload_id,
        "accepted": taken.problem is None,
        **problem,
        "next_offset": taken.next_offset,
        "stored_offset": taken.stored_offset,
        "window": taken.window,
    }
