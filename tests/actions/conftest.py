"""A fake SES, a Moodle that bars nobody, and people at the dashboard."""

from tests.dashboard.conftest import bound, bound_user, sign_in, support
from tests.worker.conftest import ses, source

__all__ = ["bound", "bound_user", "ses", "sign_in", "source", "support"]
