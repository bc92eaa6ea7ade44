"""Paths as the folder keeps them: exact byte components, and which of them no record may name.

Linux names are bytes, and an NFC name does not open an NFD file, so nothing is normalised. The fold key (NFC and case
fold) serves collision checks only. In SQL and in sort order a path is its components joined by `/`.
Source: formats, "Versions"; properties 25.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from p2psync.limits import NAME_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX

Path = tuple[bytes, ...]
"""Components from the folder's root down; () is the root itself."""

MARKER = b".p2psync"
TEMP_PREFIX = b".p2psync."
TEMP_SUFFIX = b".tmp"
_FOREIGN = (b".stfolder", b".stversions")
"""Syncthing's own, left alone so that both can run on one tree."""


def join(path: Path) -> bytes:
    return b"/".join(path)


def split(joined: bytes) -> Path:
    return tuple(joined.split(b"/")) if joined else ()


def show(path: Path) -> str:
    """For people: control characters, newlines and bidirectional overrides are escaped, never emitted."""
    text = join(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text)


def fold_key(name: bytes) -> bytes:
    """Two names with one fold key collide on a case-insensitive or normalising filesystem."""
    try:
        return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.decode()).casefold()).encode()
    except UnicodeDecodeError:
        return name


def is_temp(name: bytes) -> bool:
    """Our temporary files and Syncthing's: never scanned, never synced."""
    if name.startswith(TEMP_PREFIX) and name.endswith(TEMP_SUFFIX):
        return True
    return name.startswith((b".syncthing.", b"~syncthing~")) and name.endswith(TEMP_SUFFIX)


def is_internal(name: bytes) -> bool:
    """Names the product keeps for itself (in any case or Unicode fold) or leaves to Syncthing."""
    if name.isascii() and not name.startswith((b".", b"~")):
        return False  # most names are so, and a tree has thousands; all that is kept begins with one of the two
    return _plainest(name) == MARKER or is_temp(name) or name in _FOREIGN


def is_kept_apart(path: Path) -> bool:
    """What is left alone without a word: our own marker, temps, and what is Syncthing's. Whoever else uses such names is told."""
    return path == (MARKER,) or is_temp(path[-1]) or path[-1] in _FOREIGN


def _plainest(name: bytes) -> bytes:
    """The fold key without compatibility forms and invisible characters, which some filesystems ignore."""
    if name.isascii():
        return name.lower()
    try:
        text = unicodedata.normalize("NFKC", name.decode())
    except UnicodeDecodeError:
        return name
    return fold_key("".join(c for c in text if unicodedata.category(c) != "Cf").encode())


def refuse_reason(path: Path) -> str | None:
    """Why no record may carry this path, or None when it may."""
    if not path:
        return "the folder's root itself cannot be a record"
    if len(path) > PATH_DEPTH_MAX or sum(map(len, path)) + len(path) > PATH_BYTES_MAX:
        return f"deeper than {PATH_DEPTH_MAX} levels or longer than {PATH_BYTES_MAX} bytes"
    for name in path:
        if len(name) > NAME_MAX:
            return f"has a component of more than {NAME_MAX} bytes"
        if reason := _name_refused(name):
            return reason
    return None


@lru_cache(maxsize=1024)
def _name_refused(name: bytes) -> str | None:
    """The same of one component. A scan asks for each directory above a file once more with every file in it."""
    if not name or name in (b".", b".."):
        return "has an empty, `.` or `..` component"
    if b"/" in name or b"\0" in name:
        return "has a component with `/` or NUL"
    if is_internal(name):
        return "names something p2psync or Syncthing keeps for itself"
    return None
