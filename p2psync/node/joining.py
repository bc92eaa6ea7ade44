"""The newcomer's part of a pairing, as the node carries it out: where folders go, save the step, adopt.

Owns the decision which directory each offered folder gets, before anything is said that costs the code. Every step may
be done again after a restart: a folder adopted already is not adopted twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2psync.errors import UserError
from p2psync.ids import FolderId
from p2psync.index.paths import refuse_reason, show
from p2psync.node.registry import RegisteredFolder, Registry, SavedPairing
from p2psync.pairing.dialogue import Asking, Welcomed
from p2psync.pairing.offers import OfferedFolder
from p2psync.planner.shaping import FolderType, parse_type
from p2psync.replica.importing import check_importable
from p2psync.replica.marker import existing_marker
from p2psync.seams import Workers
from p2psync.vault.device_keys import DeviceKeys
from p2psync.wire.messages import Side

ASKING = "asking"


@dataclass(frozen=True, slots=True)
class Target:
    """Where joined folders go: `directory` itself for a single folder if `exact`, else one below it per label."""

    directory: Path
    exact: bool
    type: FolderType = FolderType.SENDRECEIVE
    """Of the folders here. It must hold from their first moment, or something is written or published before."""

    def place(self, folders: Sequence[OfferedFolder]) -> list[Path]:
        """One directory per folder; UserError when a label is no safe name or names clash."""
        if self.exact and len(folders) == 1:
            return [self.directory]
        places = [self.directory / _safe_name(folder.label) for folder in folders]
        if len({str(place).casefold() for place in places}) != len(places):
            raise UserError("two of the offered folders have the same label; pair them one at a time")
        return places


def _safe_name(label: str) -> str:
    name = (label.encode(),)
    if reason := refuse_reason(name):
        raise UserError(f"the folder's label {show(name)!r} {reason}; give a PATH of your own")
    return label


def check_free(path: Path, folders: Sequence[RegisteredFolder]) -> None:
    """UserError when `path` is, holds or lies in a folder of this device: two replicas must not share files."""
    for held in folders:
        if path == held.path or path in held.path.parents or held.path in path.parents:
            raise UserError(f"{path} overlaps {held.path}, which is a folder of this device already; choose another")


Adopt = Callable[[Welcomed, int, Path], Awaitable[None]]


class Joining:
    """Implements `pairing.driver.JoinerHost` for one code."""

    def __init__(
        self, *, device: DeviceKeys, device_name: str, registry: Registry, workers: Workers, place: str,
        nameplate: int, expires_at: float, target: Target, adopt: Adopt,
    ) -> None:  # fmt: skip
        self.device, self.device_name = device, device_name
        self._registry, self._workers = registry, workers
        self._place, self._nameplate, self._expires_at = place, nameplate, expires_at
        self._target, self._adopt = target, adopt
        self.places: list[Path] = []

    async def accept(self, folders: tuple[OfferedFolder, ...]) -> None:
        """Refuse what could not be adopted later."""
        held = await self._workers.run(self._registry.folders)
        places = self._target.place(folders)
        for folder, place in zip(folders, places, strict=True):
            if any(other.folder == folder.folder for other in held):
                raise UserError(f"this device already has the folder {show((folder.label.encode(),))}")
            check_free(place, held)
            await self._workers.run(_check_unmarked, place)
            await self._workers.run(check_importable, place)
        self.places = places

    async def save(self, step: Asking) -> None:
        saved = SavedPairing(
            self._place,
            self._nameplate,
            Side.JOINER,
            ASKING,
            step.encode(),
            self._target.directory,
            self._expires_at,
            self._target.exact,
            self._target.type.value,
        )
        await self._workers.run(self._registry.save_pairing, saved)

    async def adopt(self, welcomed: Welcomed) -> None:
        self.places = self._target.place(welcomed.asking.folders)
        for number, place in enumerate(self.places):
            await self._adopt(welcomed, number, place)

    async def forget(self) -> None:
        await self._workers.run(self._registry.forget_pairing, self._place, self._nameplate, Side.JOINER)


def target_of(saved: SavedPairing) -> Target:
    """The target a saved pairing was made for: `agreed` of a joiner's row says whether the path is exact."""
    return Target(saved.target, saved.agreed, parse_type(saved.type))


def _check_unmarked(place: Path) -> None:
    if existing_marker(place) is not None:
        raise UserError(
            f"{place} is a p2psync folder already; if its device is gone for good, remove {place}/.p2psync and try again"
        )


def clear_half_adopted(catalog: Path, place: Path, folder: FolderId) -> bool:
    """Whether a killed process adopted `folder` at `place` before it could note that; half an adoption is removed.

    The marker is the last step of adopting. Without it nothing was published yet, so it begins anew.
    """
    marker = existing_marker(place)
    if not catalog.exists():
        return False
    if marker is not None and f"folder {folder.hex()}\n".encode() in marker:
        return True
    for suffix in ("", "-wal", "-shm"):
        catalog.with_name(catalog.name + suffix).unlink(missing_ok=True)
    return False
