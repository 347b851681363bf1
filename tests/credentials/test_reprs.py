"""What a mail says is in no description of the objects that carry it: these end up in error pages and logs."""

from __future__ import annotations

import pytest

from emailoffload.moodle.iomad import QueuedText
from emailoffload.outbox.content import Parts
from emailoffload.sources.iomad_queue.letter import Letter
from emailoffload.sources.protocol import Attachment, RenderedMail

SECRET = "Kx7#fresh-Pass"
FILE = Attachment("logo.png", "image/png", SECRET.encode())


@pytest.mark.parametrize(
    "carrier",
    [
        QueuedText("Welcome", SECRET, SECRET),
        Letter(SECRET, SECRET),
        Parts("a@b.example", "", "c@d.example", "", "", "", "Welcome", SECRET, SECRET, (FILE,)),
        RenderedMail("user", "a@b.example", "", "c@d.example", "", "", "", "Welcome", SECRET, SECRET,
                     attachments=(FILE,)),
        FILE,
    ],
    ids=lambda carrier: type(carrier).__name__,
)  # fmt: skip
def test_the_text_of_a_mail_is_in_no_description(carrier: object) -> None:
    assert SECRET not in f"{carrier!r} {carrier}"
