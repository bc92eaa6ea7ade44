"""Extended attributes of a version: which a record may carry, and how two sets of them become one.

A set is a tuple of (name, value), ascending by name. Only names of the `user.` namespace are ever read, written or taken
from a record; of those, not the ones by which other programs give a file another owner, type or place. Decides nothing
about disks: which set is agreed and which was seen is `planner/xattrs.py`'s. Source: formats, "Records".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from p2psync.encoding import Fields, encode
from p2psync.errors import PeerError
from p2psync.limits import NAME_MAX, XATTRS_MAX

Xattrs = tuple[tuple[bytes, bytes], ...]

_NAMESPACE = b"user."
_FOREIGN = (b"user.overlay.", b"user.fuseoverlayfs.", b"user.containers.", b"user.virtfs.", b"user.rsync.%")
"""Names by which overlayfs, containers, QEMU and `rsync --fake-super` keep owner, mode, device numbers and redirections:
from a stranger they could make a set-uid file or a device of a plain one (property 27)."""
_PAIRS_MAX = XATTRS_MAX // 8
"""More pairs cannot fit: the shortest takes more than 8 bytes."""


def is_synced(name: bytes) -> bool:
    """Whether an attribute of this name is any of ours; all others are left alone, on every disk."""
    return (
        name.startswith(_NAMESPACE)
        and len(_NAMESPACE) < len(name) <= NAME_MAX
        and b"\0" not in name
        and not name.startswith(_FOREIGN)
    )


def fits(xattrs: Xattrs) -> bool:
    """Whether a record can carry this set."""
    return len(encode(xattrs)) <= XATTRS_MAX


def read_xattrs(fields: Fields) -> Xattrs:
    """The set at the end of a record, none if nothing is left. PeerError names the rule it breaks."""
    if not fields.more:
        return ()
    pairs, last = [], b""
    for pair in fields.array("extended attributes", _PAIRS_MAX):
        inner = Fields(pair, "extended attribute")
        name, value = inner.data("name"), inner.data("value")
        inner.end()
        if not is_synced(name):
            raise PeerError("version: an extended attribute has a name that is not synced")
        if name <= last:
            raise PeerError("version: extended attributes are not sorted by name")
        last = name
        pairs.append((name, value))
    found = tuple(pairs)
    if not found:
        raise PeerError("version: an empty set of extended attributes is left out")
    if not fits(found):
        raise PeerError(f"version: extended attributes take more than {XATTRS_MAX} bytes")
    return found


def sorted_xattrs(pairs: Iterable[tuple[bytes, bytes]]) -> Xattrs:
    return tuple(sorted(pairs))


def united(agreed: Xattrs, disk: Xattrs) -> Xattrs:
    """Both sets: where they say different things under one name, what the disk shows stands nowhere else and counts."""
    return sorted_xattrs({**dict(agreed), **dict(disk)}.items())


def followed(agreed: Xattrs, before: Xattrs, now: Xattrs) -> Xattrs:
    """`agreed` with what was changed on a disk that showed `before` and shows `now`."""
    result, old, new = dict(agreed), dict(before), dict(now)
    for name in old.keys() - new.keys():
        result.pop(name, None)
    result |= {name: value for name, value in new.items() if old.get(name) != value}
    return sorted_xattrs(result.items())


def merged(base: Xattrs, winner: Xattrs, loser: Xattrs) -> Xattrs:
    """What both sides made of `base`; where both changed one name, the winner's counts."""
    return followed(followed(base, base, loser), base, winner)


def as_recalled(behind: Sequence[Any]) -> Xattrs:
    """The set of a record that was checked before: `behind` is what stands behind its other fields."""
    found: Xattrs = behind[0] if behind else ()
    return found
