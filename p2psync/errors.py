"""Errors, one class per reaction. The docstring says whose fault it is and what the catcher does.

`str(error)` is one sentence a user can act on. `exit_code` is what the command line returns for it
(architecture, "Command line"): 0 ok, 1 error, 2 usage, 3 nobody reachable, 4 timed out.
"""

from __future__ import annotations


class P2psyncError(Exception):
    """Root of everything this product raises on purpose."""

    exit_code = 1


class BugError(P2psyncError):
    """Our own fault: an invariant does not hold. Never caught to go on; reported with a traceback."""

    exit_code = 70


class PeerError(P2psyncError):
    """The other end broke the protocol. Reaction: drop this connection, keep all state."""


class LinkLost(P2psyncError):
    """The connection ended or could not be made. Nobody's fault. Reaction: reconnect with back-off."""

    exit_code = 3


class IntegrityError(P2psyncError):
    """Stored or received data does not verify. Reaction: discard it, name it, fetch it from elsewhere."""


class AccessRefused(P2psyncError):
    """The relay or a member does not let this key do that. Reaction: tell the user, retry seldom."""


class NotFound(P2psyncError):
    """A store does not hold the object asked for. Reaction: try another source."""


class QuotaExceeded(P2psyncError):
    """The store is full. A state of the store, not of the folder. Reaction: show it, retry seldom."""


class StorageError(P2psyncError):
    """The local disk refused (full, read-only, I/O error). Reaction: keep old files, show it, retry."""


class FolderStopped(P2psyncError):
    """The folder must not be touched now (marker or root missing). Reaction: state `error`, no deletes."""


class UserError(P2psyncError):
    """Only the user can mend this; the message says how. Reaction: print the sentence and stop."""


class UsageError(UserError):
    """A wrong command line."""

    exit_code = 2


class NobodyReachable(UserError):
    """No peer and no store of the folder could be reached."""

    exit_code = 3


class TimedOut(UserError):
    """The time the user allowed ran out before the work was done."""

    exit_code = 4


class WrongCode(UserError):
    """The pairing code did not match. The code is burned; the users need a new one."""

    exit_code = 5
