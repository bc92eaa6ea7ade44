"""Renames that never overwrite: into a free name, and the exchange of two names.

It owns the choice between the kernel's atomic way (renameat2) and the fallback where the filesystem lacks the flags
(FUSE, exFAT, other systems). It works on directory descriptors and single names, and knows neither paths nor temps.

What the fallbacks cannot promise, in falling order of what the filesystem has:
- hard links: a new name is made by link and unlink, which is as safe as the real thing; an exchange links the old
  file aside first, so that it is kept whatever happens next, but a file that another program puts in its place
  between that link and the rename is lost (microseconds; looked at again just before).
- no hard links, or a directory: the name is looked at, then renamed; something created in between is overwritten
  if it is a file. An exchange leaves the name empty for a moment.
"""

from __future__ import annotations

import errno
import os
import stat

from p2psync.replica import linux

_LACKS_FLAG = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})
_LACKS_LINK = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EISDIR})
_ASIDE = b".aside.tmp"
"""Ends the name an old file stands under while names are exchanged in steps; short names only, see `_aside_name`."""


def rename_new(source_dir: int, source: bytes, target_dir: int, target: bytes) -> None:
    """Rename to a name that must be free; FileExistsError if it is not."""
    try:
        linux.renameat2(source_dir, source, target_dir, target, linux.RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in _LACKS_FLAG:
            raise
        rename_new_in_steps(source_dir, source, target_dir, target)


def exchange(directory: int, left: bytes, right: bytes) -> None:
    """Exchange two names of one directory; both must exist."""
    try:
        linux.renameat2(directory, left, directory, right, linux.RENAME_EXCHANGE)
    except OSError as error:
        if error.errno not in _LACKS_FLAG:
            raise
        exchange_in_steps(directory, left, right)


def rename_new_in_steps(source_dir: int, source: bytes, target_dir: int, target: bytes) -> None:
    """`rename_new` without kernel help: link and unlink, or look and rename."""
    try:
        os.link(source, target, src_dir_fd=source_dir, dst_dir_fd=target_dir, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _LACKS_LINK:
            raise
        if _exists(target_dir, target):
            raise FileExistsError(errno.EEXIST, "something is there already", target) from None
        os.rename(source, target, src_dir_fd=source_dir, dst_dir_fd=target_dir)
    else:
        os.unlink(source, dir_fd=source_dir)


def exchange_in_steps(directory: int, temp: bytes, final: bytes) -> None:
    """`exchange` without kernel help; `final` is the name that must not be missing for longer than needed."""
    aside = _aside_name(temp)
    linked = not _is_directory(directory, temp) and _link_aside(directory, final, aside)
    if not linked:
        os.rename(final, aside, src_dir_fd=directory, dst_dir_fd=directory)
    try:
        os.rename(temp, final, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        if linked:
            os.unlink(aside, dir_fd=directory)
        else:
            rename_new_in_steps(directory, aside, directory, final)
        raise
    os.rename(aside, temp, src_dir_fd=directory, dst_dir_fd=directory)


def _link_aside(directory: int, final: bytes, aside: bytes) -> bool:
    """Give the old file a second name; False if it can have none (a directory, or no hard links here)."""
    try:
        os.link(final, aside, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _LACKS_LINK:
            raise
        return False
    kept = os.stat(aside, dir_fd=directory, follow_symlinks=False)
    now = os.stat(final, dir_fd=directory, follow_symlinks=False)
    if (kept.st_dev, kept.st_ino) != (now.st_dev, now.st_ino):
        os.unlink(aside, dir_fd=directory)
        raise FileExistsError(errno.EEXIST, "another program replaced it at this moment", final)
    return True


def _is_directory(directory: int, name: bytes) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _aside_name(temp: bytes) -> bytes:
    """A name beside the temp, still ending as temps do so that a crash leaves nothing a scan takes for a user's."""
    return temp[: 255 - len(_ASIDE)] + _ASIDE


def _exists(directory: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
