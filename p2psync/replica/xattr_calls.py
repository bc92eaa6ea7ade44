"""Extended attributes of a real disk: the system calls, through a descriptor or its name below `/proc/self/fd`.

It owns which refusals mean what, and that names which are not ours are neither read nor touched. What is agreed, and what
follows from what the disk shows, is `planner/xattrs.py`'s.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from p2psync.index.xattrs import Xattrs, fits, is_synced, sorted_xattrs
from p2psync.planner.xattrs import Look, Shown

Target = int | str
"""An open descriptor, or the name of one that was opened only to say which file is meant (O_PATH)."""

_PROBE = b"user.p2psync"
"""Asked for where none are listed: some filesystems list none, and do not say that they keep none."""
_TRIES = 4
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS)
_UNREADABLE = (errno.EACCES, errno.EPERM)
_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.E2BIG, errno.ERANGE, errno.ENODATA, *_UNREADABLE)
"""ext4 says ENOSPC when a file's attributes outgrow their block: a matter of this file, not of a full disk."""


def read_set(target: Target) -> Shown:
    """The attributes that are ours. OSError when the disk itself fails."""
    for _ in range(_TRIES):
        try:
            names = [os.fsencode(name) for name in os.listxattr(target)]
            found = sorted_xattrs((name, os.getxattr(target, name)) for name in names if is_synced(name))
            if not names:
                _probe(target)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.ERANGE):
                continue  # one of them changed meanwhile
            if error.errno in _UNSUPPORTED:
                return Look.UNSUPPORTED
            if error.errno in _UNREADABLE:
                return Look.UNKNOWN
            if error.errno == errno.E2BIG:
                return Look.TOO_LARGE
            raise
        return found if fits(found) else Look.TOO_LARGE
    return Look.UNKNOWN


def _probe(target: Target) -> None:
    try:
        os.getxattr(target, _PROBE)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise


def write_set(target: Target, wanted: Xattrs) -> Shown:
    """Make the attributes that are ours exactly these, as far as the disk takes them; returns what it then shows.

    Nothing is touched where they cannot be read, or are more than a version can say: then they are the user's alone.
    """
    before = read_set(target)
    if isinstance(before, Look):
        return before
    have, then, refused = dict(before), dict(wanted), False
    try:
        for name in have.keys() - then.keys():
            with _refusals() as noted:
                os.removexattr(target, name)
            refused = refused or bool(noted)
        for name, value in wanted:
            if have.get(name) != value:
                with _refusals() as noted:
                    os.setxattr(target, name, value)
                refused = refused or bool(noted)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return Look.UNSUPPORTED
        raise
    return read_set(target) if refused else wanted


@contextmanager
def _refusals() -> Iterator[list[OSError]]:
    """One attribute that the disk refuses does not stop the others."""
    noted: list[OSError] = []
    try:
        yield noted
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        noted.append(error)
