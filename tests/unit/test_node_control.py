"""Laws of the control socket: requests, questions, errors, and who may open it."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2psync.errors import LinkLost, NobodyReachable, P2psyncError
from p2psync.node.control import Console, Json, Lines, connect_control, request_peer, serve_control


class Answering:
    """A console that remembers what was said and answers every question alike."""

    def __init__(self, answer: str | None = None) -> None:
        self.said: list[Json] = []
        self._answer = answer

    async def say(self, event: Json) -> None:
        await trio.lowlevel.checkpoint()
        self.said.append(event)

    async def ask(self, question: Json) -> str | None:
        await trio.lowlevel.checkpoint()
        self.said.append(question)
        return self._answer


class Service:
    """Commands to try the socket with."""

    def __init__(self) -> None:
        self.cancelled = trio.Event()
        self.waiting = trio.Event()

    async def perform(self, request: Json, console: Console) -> None:
        match request["command"]:
            case "count":
                for number in range(request["to"]):
                    await console.say({"number": number})
            case "ask":
                await console.say({"answer": await console.ask({"ask": "what"})})
            case "fail":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._fail)
            case "wait":
                self.waiting.set()
                try:
                    await trio.sleep_forever()
                finally:
                    self.cancelled.set()

    async def _fail(self) -> None:
        await trio.lowlevel.checkpoint()
        raise NobodyReachable("the relay is away")


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[Service]:
    service = Service()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, path, service.perform)
        yield service
        nursery.cancel_scope.cancel()


@pytest.fixture(params=["short", "x" * 150])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Also one that does not fit a socket address."""
    directory: Path = tmp_path / str(request.param)
    directory.mkdir()
    return directory / "control.sock"


def _mode(path: Path) -> int | None:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


def _leave_a_file(path: Path) -> None:
    path.touch()


async def test_events_come_in_order_and_the_socket_is_private(path: Path) -> None:
    async with serving(path):
        assert _mode(path) == 0o600
        console = Answering()
        await request_peer(path, {"command": "count", "to": 100}, console)
        assert console.said == [{"number": number} for number in range(100)]
    assert _mode(path) is None


async def test_questions_are_answered_by_the_client(path: Path) -> None:
    async with serving(path):
        console = Answering("yes")
        await request_peer(path, {"command": "ask"}, console)
        assert console.said == [{"ask": "what"}, {"answer": "yes"}]


async def test_an_error_keeps_its_class_and_sentence(path: Path) -> None:
    async with serving(path):
        with pytest.raises(NobodyReachable, match="the relay is away") as caught:
            await request_peer(path, {"command": "fail"}, Answering())
        assert caught.value.exit_code == 3


async def test_a_client_that_goes_away_ends_its_command_only(path: Path) -> None:
    async with serving(path) as service:
        async with connect_control(path) as lines:
            await lines.send({"command": "wait"})
            await service.waiting.wait()
        with trio.fail_after(5):
            await service.cancelled.wait()
        await request_peer(path, {"command": "count", "to": 1}, Answering())


async def test_garbage_closes_that_connection_only(path: Path) -> None:
    async with serving(path):
        for garbage in (b"\xff\n", b"[1]\n", b"[" * 5000 + b"\n", b"{}", b""):
            async with await _raw(path) as stream:
                await stream.send_all(garbage)
                await stream.send_eof()
                while await stream.receive_some():
                    pass
        await request_peer(path, {"command": "count", "to": 1}, Answering())


async def _raw(path: Path) -> trio.SocketStream:
    async with connect_control(path) as lines:
        assert isinstance(lines, Lines)
        stream = lines._stream
        assert isinstance(stream, trio.SocketStream)
        return trio.SocketStream(
            trio.socket.fromfd(stream.socket.fileno(), trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        )


async def test_a_socket_left_by_a_killed_peer_is_replaced(path: Path) -> None:
    async with serving(path):
        pass
    _leave_a_file(path)
    with pytest.raises(LinkLost):
        await request_peer(path, {"command": "count", "to": 1}, Answering())
    async with serving(path):
        await request_peer(path, {"command": "count", "to": 1}, Answering())


async def test_no_peer_is_a_lost_link(tmp_path: Path) -> None:
    with pytest.raises(P2psyncError) as caught:
        await request_peer(tmp_path / "control.sock", {"command": "count", "to": 1}, Answering())
    assert isinstance(caught.value, LinkLost)
