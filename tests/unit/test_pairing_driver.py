"""Laws of carrying a pairing through: kills, restarts of the relay, expiry (properties 37, 40, 41).

The relay's own mailboxes take part, without the network between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
import trio

from p2psync.errors import AccessRefused, LinkLost, P2psyncError, TimedOut, UserError, WrongCode
from p2psync.ids import FolderId
from p2psync.pairing import driver
from p2psync.pairing.dialogue import Admitted, Asking, Offered, Welcomed, decode_admitted, decode_asking, decode_offered
from p2psync.pairing.mail import Mailboxes as Links
from p2psync.pairing.mail import Place
from p2psync.pairing.offers import Admission, OfferedFolder, Request
from p2psync.pairing.words import Code
from p2psync.vault.device_keys import DeviceKeys
from p2psync.wire.messages import Side
from relay.mailboxes import Mailboxes
from tests.support.pairing import CODE, SeededRandomness, make_admission, make_table

TABLE = make_table(folders=2)
WORDS = CODE.words


class Killed(Exception):
    """The process ends here."""


class TrioClock:
    def now(self) -> float:
        return 1_700_000_000 + trio.current_time()


class Relay:
    """Mailboxes that a test can restart; whoever waits then loses the link."""

    def __init__(self) -> None:
        self.boxes = Mailboxes()
        self._waits: set[trio.CancelScope] = set()

    def restart(self) -> None:
        self.boxes = Mailboxes()
        for scope in list(self._waits):
            scope.cancel()

    async def links(self) -> Links:
        await trio.lowlevel.checkpoint()
        return self

    async def claim_mailbox(self, wanted: int | None = None) -> int:
        await trio.lowlevel.checkpoint()
        return self.boxes.claim("local", wanted)

    async def put_mail(self, nameplate: int, side: Side, index: int, body: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.boxes.put(nameplate, side, index, body)

    async def next_mail(self, nameplate: int, side: Side, index: int) -> bytes:
        with trio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                return await self.boxes.wait(nameplate, side, index)
            finally:
                self._waits.discard(scope)
        raise LinkLost("the relay restarted")

    async def close_mailbox(self, nameplate: int) -> None:
        await trio.lowlevel.checkpoint()
        self.boxes.close(nameplate)


@dataclass
class Disk:
    """What survives a kill, and at which step of its life the process is killed (once)."""

    kill_at: str = ""
    saved: tuple[str, bytes] | None = None
    members: set[FolderId] = field(default_factory=set)
    agrees: bool = True
    settled: list[str] = field(default_factory=list)
    hook: Callable[[str], Awaitable[None]] | None = None

    async def reach(self, step: str) -> None:
        await trio.lowlevel.checkpoint()
        if self.hook is not None:
            await self.hook(step)
        if self.kill_at == step:
            self.kill_at = ""
            raise Killed


class AdminNode:
    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    @property
    def device(self) -> DeviceKeys:
        return TABLE.admin

    async def save(self, step: Offered | Admitted) -> None:
        name = "offered" if isinstance(step, Offered) else "admitted"
        await self._disk.reach(f"before {name}")
        self._disk.saved = (name, step.encode())
        await self._disk.reach(f"after {name}")

    def settle(self, place: str) -> None:
        self._disk.settled.append(place)

    async def confirm(self, request: Request) -> bool:
        await self._disk.reach("confirm")
        return self._disk.agrees

    async def admit(self, request: Request) -> tuple[Admission, ...]:
        await self._disk.reach("before admit")
        self._disk.members |= {folder.folder for folder in TABLE.folders}
        await self._disk.reach("after admit")
        return tuple(
            make_admission(folder.folder, newcomer)
            for folder, newcomer in zip(TABLE.folders, request.newcomers, strict=True)
        )

    async def forget(self) -> None:
        await self._disk.reach("before forget")
        self._disk.saved = None


class JoinerNode:
    device_name = "laptop"

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    @property
    def device(self) -> DeviceKeys:
        return TABLE.joiner

    async def accept(self, folders: tuple[OfferedFolder, ...]) -> None:
        await self._disk.reach("accept")
        if not self._disk.agrees:
            raise UserError("no room for it here")

    async def save(self, step: Asking) -> None:
        await self._disk.reach("before asking")
        self._disk.saved = ("asking", step.encode())
        await self._disk.reach("after asking")

    async def adopt(self, welcomed: Welcomed) -> None:
        await self._disk.reach("before adopt")
        self._disk.members |= {secrets.folder for secrets in welcomed.secrets}
        await self._disk.reach("after adopt")

    async def forget(self) -> None:
        await self._disk.reach("before forget")
        self._disk.saved = None


def _pairing(relay: Relay, name: str, expires_at: float) -> driver.Pairing:
    place = Place("relay", relay.links)
    return driver.Pairing(place, clock=TrioClock(), randomness=SeededRandomness(name), expires_at=expires_at)


async def run_admin(relay: Relay, disk: Disk, code: Code, expires_at: float) -> None:
    with suppress(Killed):
        await driver.offer(_pairing(relay, "admin", expires_at), code, TABLE.folders, AdminNode(disk))
        return
    await trio.sleep(1)  # the process starts again
    if disk.saved is not None:
        name, state = disk.saved
        step = decode_offered(state) if name == "offered" else decode_admitted(state)
        await driver.resume_offer(_pairing(relay, "admin again", expires_at), step, AdminNode(disk))


async def run_joiner(relay: Relay, disk: Disk, code: Code, expires_at: float) -> None:
    with suppress(Killed):
        await driver.redeem(_pairing(relay, "joiner", expires_at), code, JoinerNode(disk))
        return
    await trio.sleep(1)
    if disk.saved is not None:
        pairing = _pairing(relay, "joiner again", expires_at)
        await driver.resume_redeem(pairing, decode_asking(disk.saved[1]), JoinerNode(disk))


async def run_both(relay: Relay, admin: Disk, joiner: Disk, *, typed: Code | None = None) -> dict[str, P2psyncError]:
    """Both sides to their end; the errors they ended with."""
    code = Code(await relay.claim_mailbox(), WORDS)
    errors: dict[str, P2psyncError] = {}
    expires_at = TrioClock().now() + 600

    async def side(name: str, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except P2psyncError as error:
            errors[name] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(side, "admin", lambda: run_admin(relay, admin, code, expires_at))
        nursery.start_soon(side, "joiner", lambda: run_joiner(relay, joiner, typed or code, expires_at))
    return errors


ADMIN_STEPS = [
    "before offered", "after offered", "confirm", "before admit", "after admit", "before admitted", "after admitted",
    "before forget",
]  # fmt: skip
JOINER_STEPS = ["accept", "before asking", "after asking", "before adopt", "after adopt", "before forget"]


async def test_an_undisturbed_pairing_completes_and_frees_its_number(autojump_clock: trio.abc.Clock) -> None:
    relay, admin, joiner = Relay(), Disk(), Disk()
    assert await run_both(relay, admin, joiner) == {}
    assert admin.members == joiner.members == {folder.folder for folder in TABLE.folders}
    assert admin.saved is None and joiner.saved is None and len(relay.boxes) == 0


@pytest.mark.parametrize("step", ADMIN_STEPS)
async def test_an_admin_killed_at_any_step_leaves_nothing_or_all(step: str, autojump_clock: trio.abc.Clock) -> None:
    admin, joiner = Disk(kill_at=step), Disk()
    await run_both(Relay(), admin, joiner)
    assert not admin.kill_at, "the step was reached"
    assert admin.members == joiner.members
    assert bool(admin.members) == (step != "before offered")


@pytest.mark.parametrize("step", JOINER_STEPS)
async def test_a_joiner_killed_at_any_step_leaves_nothing_or_all(step: str, autojump_clock: trio.abc.Clock) -> None:
    admin, joiner = Disk(), Disk(kill_at=step)
    await run_both(Relay(), admin, joiner)
    assert not joiner.kill_at, "the step was reached"
    assert admin.members == joiner.members
    assert bool(joiner.members) == (step not in ("accept", "before asking"))


@pytest.mark.parametrize("step", [*ADMIN_STEPS, *JOINER_STEPS])
async def test_a_relay_that_restarts_at_any_step_does_not_stop_a_pairing(
    step: str, autojump_clock: trio.abc.Clock
) -> None:
    relay = Relay()

    async def hook(reached: str) -> None:
        if reached == step:
            relay.restart()

    admin, joiner = Disk(hook=hook), Disk(hook=hook)
    errors = await run_both(relay, admin, joiner)
    assert admin.members == joiner.members == {folder.folder for folder in TABLE.folders}
    # A last acknowledgement that got lost with the relay costs the admin its certainty, never the pairing.
    assert set(errors) <= {"admin"} and all(isinstance(error, TimedOut) for error in errors.values())


async def test_a_wrong_code_tells_both_and_burns_the_code(autojump_clock: trio.abc.Clock) -> None:
    relay, admin, joiner = Relay(), Disk(), Disk()
    errors = await run_both(relay, admin, joiner, typed=Code(1, ("crossover", "clockwork", "atlas")))
    assert {name: type(error) for name, error in errors.items()} == {"admin": WrongCode, "joiner": WrongCode}
    assert not admin.members and not joiner.members and admin.saved is None and joiner.saved is None
    with pytest.raises(P2psyncError):
        await driver.redeem(_pairing(relay, "late", TrioClock().now() + 600), Code(1, WORDS), JoinerNode(joiner))
    assert not joiner.members


async def test_a_device_that_the_admin_declines_gets_nothing(autojump_clock: trio.abc.Clock) -> None:
    admin, joiner = Disk(agrees=False), Disk()
    errors = await run_both(Relay(), admin, joiner)
    assert {name: type(error) for name, error in errors.items()} == {"admin": AccessRefused, "joiner": AccessRefused}
    assert not admin.members and not joiner.members


async def test_a_joiner_without_room_tells_the_admin_before_any_identity_is_sent(
    autojump_clock: trio.abc.Clock,
) -> None:
    admin, joiner = Disk(), Disk(agrees=False)
    errors = await run_both(Relay(), admin, joiner)
    assert isinstance(errors["joiner"], UserError)
    assert isinstance(errors["admin"], UserError) and "its screen says why" in str(errors["admin"])
    assert not admin.members and joiner.saved is None


async def test_a_code_nobody_redeems_expires_after_ten_minutes(autojump_clock: trio.abc.Clock) -> None:
    relay = Relay()
    code = Code(await relay.claim_mailbox(), WORDS)
    started = trio.current_time()
    with pytest.raises(TimedOut):
        await run_admin(relay, Disk(), code, TrioClock().now() + 600)
    assert trio.current_time() - started == pytest.approx(600)


async def test_an_unknown_number_is_said_at_once(autojump_clock: trio.abc.Clock) -> None:
    started = trio.current_time()
    with pytest.raises(UserError, match="no pairing waits under number 77"):
        await run_joiner(Relay(), Disk(), Code(77, WORDS), TrioClock().now() + 600)
    assert trio.current_time() - started < 5


async def test_a_second_joiner_is_refused_and_the_first_one_goes_on(autojump_clock: trio.abc.Clock) -> None:
    relay, admin, joiner, second = Relay(), Disk(), Disk(), Disk()
    refused: list[P2psyncError] = []

    async def hook(step: str) -> None:
        if step == "accept" and not refused:
            pairing = _pairing(relay, "second", TrioClock().now() + 600)
            try:
                await driver.redeem(pairing, Code(1, WORDS), JoinerNode(replace(second, hook=None)))
            except P2psyncError as error:
                refused.append(error)

    joiner.hook = hook
    assert await run_both(relay, admin, joiner) == {}
    assert isinstance(refused[0], AccessRefused) and not second.members and joiner.members
