"""The control socket `home/control.sock`: commands of other processes to the running peer.

One JSON object per line. A connection carries one request; the peer says events, asks questions (`{"ask": …}`, the
client answers `{"answer": …}`), and ends with `{"done": true}` or `{"failed": sentence, "exit_code": n}`. Whoever may
open the socket is the user: it is 0600 in a 0700 directory. A client that goes away ends its command. Knows nothing of
what commands mean.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import trio

from p2psync import errors
from p2psync.errors import LinkLost, P2psyncError, PeerError, StorageError
from p2psync.node.failures import first_failure

Json = dict[str, Any]
LINE_MAX = 1 << 20
"""Bytes of one line; a status of thousands of folders fits."""
PARTING_SECONDS = 1.0
"""How long the answer to a command may take to leave when the peer ends."""
_READ = 64 * 1024


class Console(Protocol):
    async def say(self, event: Json) -> None: ...

    async def ask(self, question: Json) -> str | None: ...


class NoPeer(LinkLost):
    """Nobody listens on the control socket. Reaction: run the command in a peer of one's own."""


Perform = Callable[[Json, Console], Awaitable[None]]


class Lines:
    """JSON objects, one a line, over a byte stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._held = bytearray()
        self._sending = trio.Lock()

    async def send(self, value: Json) -> None:
        """LinkLost when the other end is gone."""
        async with self._sending:
            try:
                await self._stream.send_all(json.dumps(value).encode() + b"\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise LinkLost("the command's other end is gone") from error

    async def receive(self) -> Json | None:
        """The next object, None at the end. PeerError when it is none."""
        while (end := self._held.find(b"\n")) < 0:
            if len(self._held) > LINE_MAX:
                raise PeerError("a line on the control socket is too long")
            try:
                more = await self._stream.receive_some(_READ)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            if not more:
                return None
            self._held += more
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise PeerError("a line on the control socket is not a JSON object")
        return value


class _RemoteConsole:
    """The console at the client's end."""

    def __init__(self, lines: Lines, answers: trio.MemoryReceiveChannel[str | None]) -> None:
        self._lines, self._answers = lines, answers

    async def say(self, event: Json) -> None:
        await self._lines.send({"event": event})

    async def ask(self, question: Json) -> str | None:
        await self._lines.send(question)
        return await self._answers.receive()


async def serve_control(
    path: Path, perform: Perform, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve commands until cancelled. The caller holds the home's lock, so a socket left behind is nobody's."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await _serve_one(Lines(stream), perform)

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(_listen(path)))
    try:
        task_status.started()
        await trio.serve_listeners(serve, [listener])
    finally:
        _remove(path)


def _listen(path: Path) -> socket.socket:
    """A listening socket at `path`, in place of one a killed process left. StorageError when it cannot be made."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as address:
            _remove(path)
            listening.bind(address)
            path.chmod(0o600)
            listening.listen(16)
    except OSError as error:
        listening.close()
        raise StorageError(f"the control socket {path} cannot be made: {error.strerror}") from error
    return listening


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _serve_one(lines: Lines, perform: Perform) -> None:
    try:
        request = await lines.receive()
        if request is None:
            return
        try:
            await _perform_watched(lines, request, perform)
        except (P2psyncError, BaseExceptionGroup) as error:
            failure = first_failure(error)
            if failure is None:
                raise
            await lines.send({"failed": str(failure), "exit_code": failure.exit_code, "kind": type(failure).__name__})
    except (LinkLost, PeerError):
        return  # the command's process is gone, or never was one of ours


async def _perform_watched(lines: Lines, request: Json, perform: Perform) -> None:
    give, answers = trio.open_memory_channel[str | None](1)
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            while (said := await lines.receive()) is not None:
                answer = said.get("answer")
                await give.send(answer if isinstance(answer, str) else None)
            nursery.cancel_scope.cancel()

        nursery.start_soon(listen)
        await perform(request, _RemoteConsole(lines, answers))
        with trio.move_on_after(PARTING_SECONDS, shield=True):
            await lines.send({"done": True})  # also when what was asked for is the end of this peer
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connect_control(path: Path) -> AsyncIterator[Lines]:
    """A connection to the running peer. NoPeer when none listens."""
    try:
        with _short(path) as address:
            stream = await trio.open_unix_socket(address)
    except OSError as error:
        raise NoPeer(f"no peer answers at {path}: {error.strerror}") from error
    async with stream:
        yield Lines(stream)


async def request_peer(path: Path, request: Json, console: Console) -> None:
    """Have the running peer perform `request`; its error is raised here as it was there."""
    async with connect_control(path) as lines:
        await lines.send(request)
        while (said := await lines.receive()) is not None:
            if "event" in said:
                await console.say(said["event"])
            elif "ask" in said:
                await lines.send({"answer": await console.ask(said)})
            elif "failed" in said:
                raise _failure(said)
            else:
                return
    raise LinkLost("the running peer ended before it answered")


def _failure(said: Json) -> P2psyncError:
    kind = getattr(errors, str(said.get("kind")), None)
    if not (isinstance(kind, type) and issubclass(kind, P2psyncError)):
        kind = P2psyncError
    return kind(str(said["failed"]))


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for `path` that fits a socket address (107 bytes), however deep its directory is."""
    if len(os.fsencode(path)) < 100 or not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
