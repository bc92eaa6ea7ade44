"""A folder's secrets on their way to a newcomer: sealed to his X25519 key, bound to folder and recipient.

They travel inside the pairing session, but do not rest on it: whoever broke the session key without the newcomer's own
box key still reads nothing. Knows nothing of messages or links.
"""

from __future__ import annotations

from p2psync.crypto import domains
from p2psync.crypto.hashing import lp, split_lp
from p2psync.errors import IntegrityError, PeerError
from p2psync.ids import FolderId
from p2psync.index.membership import Credentials
from p2psync.vault.boxes import seal_box
from p2psync.vault.device_keys import DeviceKeys
from p2psync.vault.secrets import FolderSecrets, decode_folder_secrets


def seal_secrets(secrets: FolderSecrets, newcomer: Credentials, ephemeral_seed: bytes) -> bytes:
    """`ephemeral_seed` is 32 fresh random bytes."""
    plain = lp(domains.BOX_ADMISSION, secrets.folder, newcomer.identity, secrets.encode())
    return seal_box(newcomer.box, plain, ephemeral_seed)


def open_secrets(folder: FolderId, device: DeviceKeys, sealed: bytes) -> FolderSecrets:
    """IntegrityError unless they were sealed to this device for this folder."""
    try:
        inner_folder, recipient, data = split_lp(domains.BOX_ADMISSION, device.box.open(sealed), 3)
        if inner_folder != folder or recipient != device.identity_key:
            raise IntegrityError("the admission carries secrets meant for another folder or device")
        return decode_folder_secrets(folder, data)
    except PeerError as error:
        raise IntegrityError(f"the admission carries damaged secrets: {error}") from None
