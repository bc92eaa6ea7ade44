"""The asking end of a mailbox, whoever keeps it: a relay behind its link, or another device behind a mailbox stream."""

from __future__ import annotations

from p2psync.limits import MAILBOX_BYTES
from p2psync.session.asking import Asker
from p2psync.wire.messages import Answer, Done, NextMail, PutMail, Side


class Mailing:
    """Leaving and taking mail. `asker` is that of the link to whoever keeps the mailbox."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def put_mail(self, nameplate: int, side: Side, index: int, body: bytes) -> None:
        """Leave message number `index` of our `side`. The same bytes again are no error; AccessRefused: others stand there
        already, of another device; NotFound: there is no such mailbox."""
        await self._asker.ask(
            lambda request: PutMail(request=request, nameplate=nameplate, side=side, index=index, size=len(body)),
            Done,
            body=[body] if body else [],
        )

    async def next_mail(self, nameplate: int, side: Side, index: int) -> bytes:
        """Wait for message number `index` of the other side; `side` is ours. NotFound when the mailbox is gone."""
        _, body = await self._asker.ask(
            lambda request: NextMail(request=request, nameplate=nameplate, side=side, index=index),
            Answer,
            most=MAILBOX_BYTES,
            waits=True,
        )
        return body
