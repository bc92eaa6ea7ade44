"""The golden transcript of one pairing, from fixed seeds: `python -m tests.support.pairing_vectors` rewrites it."""

from __future__ import annotations

import json
from pathlib import Path

from p2psync.catalog.keystore import credentials_of
from tests.support.pairing import CODE, make_admission, make_table

FILE = Path(__file__).parents[1] / "vectors" / "pairing.json"


def transcript() -> dict[str, str]:
    """Every message of both sides in the order they are said, and the session key, as hex."""
    table = make_table()
    offered, asking = table.asking()
    asked = offered.hear(asking.said[1])
    admitted = asked.admit(
        (make_admission(table.folders[0].folder, asked.request.newcomers[0]),), credentials_of(table.admin), b"3" * 32
    )
    done = asking.hear(admitted.said[2], table.joiner).finish(b"4" * 32)
    return {
        "code": str(CODE),
        "admin 0 exchange": offered.said[0].hex(),
        "joiner 0 guess": asking.said[0].hex(),
        "admin 1 offer": offered.said[1].hex(),
        "joiner 1 request": asking.said[1].hex(),
        "admin 2 admission": admitted.said[2].hex(),
        "joiner 2 done": done[2].hex(),
        "session key": offered.session.key.hex(),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(transcript(), indent=1) + "\n")
