"""A device's keys are made once, however many processes begin at the same moment."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from p2psync.catalog.keystore import Keystore
from p2psync.seams import SystemRandomness
from p2psync.vault.device_keys import DeviceKeys

TOGETHER = 8


def test_who_begins_at_the_same_moment_gets_the_keys_that_stay_on_the_disk(tmp_path: Path) -> None:
    for turn in range(2):
        directory, start = tmp_path / str(turn), threading.Barrier(TOGETHER)

        def begin(directory: Path = directory, start: threading.Barrier = start) -> DeviceKeys:
            keystore = Keystore(directory)
            start.wait()
            return keystore.device(SystemRandomness())

        with ThreadPoolExecutor(TOGETHER) as threads:
            made = [each.result().encode() for each in [threads.submit(begin) for _ in range(TOGETHER)]]
        assert set(made) == {Keystore(directory).device(SystemRandomness()).encode()}
