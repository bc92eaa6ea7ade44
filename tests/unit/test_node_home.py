"""Laws of a device's home and registry."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from p2psync.errors import StorageError, UserError
from p2psync.ids import FolderId, NamespaceId, RelayKey
from p2psync.index.membership import Role
from p2psync.node.home import Home, HomeBusy
from p2psync.node.joining import Target, target_of
from p2psync.node.registry import RELAY, RegisteredFolder, Registry, SavedPairing
from p2psync.pairing.offers import StoreLocation
from p2psync.planner.shaping import FolderType
from p2psync.wire.messages import Side

FOLDER = RegisteredFolder(FolderId(b"f" * 16), "photos", Path("/data/photos"), Role.ADMIN, "catalog")
STORE = StoreLocation("p2p://relay:1/#x", RelayKey(b"r" * 32), NamespaceId(b"n" * 16))


def test_a_home_is_private_under_any_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        home = Home(tmp_path / "deep" / "home")
        with home.lock("test", stays=True):
            Registry(home.registry).close()
            for path in (home.directory, *home.directory.rglob("*")):
                assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    finally:
        os.umask(old)


def test_one_process_at_a_time_and_the_second_is_told_who(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with (
        home.lock("serve", stays=True),
        pytest.raises(HomeBusy, match=f"process {os.getpid()} .p2psync serve.") as caught,
    ):
        with Home(tmp_path).lock("share", stays=True):
            pass
    assert "--home" in str(caught.value) and caught.value.stays
    with home.lock("again", stays=False), pytest.raises(HomeBusy) as caught:
        with Home(tmp_path).lock("serve", stays=True):
            pass
    assert not caught.value.stays


def test_a_home_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be used"):
        Home(tmp_path / "file" / "home")


def test_what_is_registered_is_there_after_a_restart(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "node.db")
    registry.add_folder(FOLDER, (STORE,))
    registry.add_folder(FOLDER, (STORE,))
    registry.set_setting(RELAY, "p2p://a:1/#x")
    registry.set_setting(RELAY, "p2p://b:1/#x")
    registry.close()
    again = Registry(tmp_path / "node.db")
    assert again.folders() == [FOLDER] and again.stores(FOLDER.folder) == (STORE,)
    assert again.setting(RELAY) == "p2p://b:1/#x" and again.setting("nothing") is None
    again.close()


def test_one_path_is_one_folder_and_names_may_be_any_bytes(tmp_path: Path) -> None:
    registry = Registry(None)
    odd = RegisteredFolder(FolderId(b"o" * 16), "odd", Path(os.fsdecode(b"/data/\xff\xfe")), Role.WRITER, "c")
    registry.add_folder(FOLDER)
    registry.add_folder(odd)
    assert odd in registry.folders()
    with pytest.raises(UserError, match="already is another folder"):
        registry.add_folder(RegisteredFolder(FolderId(b"x" * 16), "other", FOLDER.path, Role.WRITER, "d"))
    registry.close()


def test_pairings_are_kept_until_they_expire_and_never_show_their_key() -> None:
    registry = Registry(None)
    saved = SavedPairing("p2p://a:1/#x", 7, Side.JOINER, "asking", b"secret", Path("/t"), 100.0, True, "receiveonly")
    registry.save_pairing(saved)
    assert target_of(registry.pairings(99.0)[0]) == Target(Path("/t"), True, FolderType.RECEIVEONLY)
    assert registry.pairings(99.0) == [saved] and "secret" not in repr(saved)
    assert registry.pairings(100.0) == [] and registry.pairings(0.0) == []
    registry.save_pairing(saved)
    registry.forget_pairing(saved.place, saved.nameplate, saved.side)
    assert registry.pairings(0.0) == []
    registry.close()
