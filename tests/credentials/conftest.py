"""A fake SES, a Moodle that bars nobody, and people who look."""

from tests.dashboard.conftest import sign_in
from tests.delivery.conftest import ses
from tests.worker.conftest import source

__all__ = ["ses", "sign_in", "source"]
