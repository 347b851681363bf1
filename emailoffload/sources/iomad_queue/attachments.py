"""The attachment of a queued mail, read from Moodle's data folder (facts §7.4).

IOMAD stores the file's path on Moodle's own host. Only its end counts, `filedir/ab/cd/<content hash>`, and only
below our own setting MOODLE_DATAROOT, which may be mounted elsewhere: nothing in a row can name another file.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
from pathlib import Path

from django.conf import settings

from emailoffload.sources import reasons
from emailoffload.sources.iomad_queue.headers import StoredFile, Unusable
from emailoffload.sources.protocol import Attachment

MAX_BYTES = 4 * 1024 * 1024
"""Largest file that is attached: with its encoding and the text it has to fit into SES's 10 MB."""
MOST_KEPT = 8
"""Files that are kept in memory during a pass."""
MAX_NAME = 255
"""Longest name that SES takes."""
_STORED = re.compile(r".*/filedir/([0-9a-f]{2})/([0-9a-f]{2})/(\1\2[0-9a-f]{36})", re.DOTALL)


class Attachments:
    """Reads each file once per pass: the rows of one template have the same attachment."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes | Unusable] = {}

    def read(self, stored: StoredFile) -> Attachment:
        """The attachment with its content. Raises Unusable where we cannot have it exactly as Moodle has it."""
        found = _STORED.fullmatch(stored.path)
        if not settings.MOODLE_DATAROOT:
            raise Unusable(reasons.ATTACHMENT, "MOODLE_DATAROOT is not set")
        if not found:
            raise Unusable(reasons.ATTACHMENT, "its path is not one of Moodle's file pool")
        name = " ".join(re.sub(r"[\x00-\x1f\x7f/\\]+", " ", stored.name).split())
        if not name or len(name) > MAX_NAME:
            raise Unusable(reasons.ATTACHMENT, "its name cannot be sent")
        content = self._content(found[3])
        if isinstance(content, Unusable):
            raise Unusable(content.reason, content.detail)
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Attachment(name=name, media_type=media_type, content=content)

    def _content(self, digest: str) -> bytes | Unusable:
        if digest not in self._contents:
            if len(self._contents) >= MOST_KEPT:
                self._contents.clear()
            self._contents[digest] = _load(digest)
        return self._contents[digest]


def _load(digest: str) -> bytes | Unusable:
    root = Path(settings.MOODLE_DATAROOT) / "filedir"
    try:
        path = (root / digest[:2] / digest[2:4] / digest).resolve(strict=True)
        if not path.is_relative_to(root.resolve(strict=True)) or not path.is_file():
            return Unusable(reasons.ATTACHMENT, "the file is not in Moodle's file pool")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        return Unusable(reasons.ATTACHMENT, f"the file cannot be read ({type(error).__name__})")
    if len(content) > MAX_BYTES:
        return Unusable(reasons.ATTACHMENT, f"the file has more than {MAX_BYTES} bytes")
    if hashlib.sha1(content, usedforsecurity=False).hexdigest() != digest:
        return Unusable(reasons.ATTACHMENT, "the file's content is not what its name says")
    return content
