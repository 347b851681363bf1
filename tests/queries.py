"""How many statements a piece of work costs, whichever threads and connections it uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db.backends.utils import CursorWrapper


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Statements executed during the block, by database alias."""
    counts: Counter[str] = Counter()
    whole = CursorWrapper.execute

    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        counts[self.db.alias] += 1
        return whole(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CursorWrapper, "execute", execute)
        yield counts
