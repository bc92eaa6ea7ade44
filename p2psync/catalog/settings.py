"""What the user chose for one folder on this device: the brake's limits and how long versions are kept. Not synced."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2psync.catalog.catalog import Catalog
from p2psync.encoding import decode, encode
from p2psync.planner.brake import BrakeLimits
from p2psync.planner.retention import KeepRules

_KEY = "settings"


@dataclass(frozen=True, slots=True)
class FolderSettings:
    brake: BrakeLimits = field(default_factory=BrakeLimits)
    keep: KeepRules = field(default_factory=KeepRules)


def load_settings(catalog: Catalog) -> FolderSettings:
    data = catalog.get(_KEY)
    if data is None:
        return FolderSettings()
    percent, files, seconds, size = decode(data, 256)
    return FolderSettings(BrakeLimits(percent, files), KeepRules(seconds, size))


def save_settings(catalog: Catalog, settings: FolderSettings) -> None:
    brake, keep = settings.brake, settings.keep
    catalog.set(_KEY, encode([brake.percent, brake.files, keep.seconds, keep.size]))
