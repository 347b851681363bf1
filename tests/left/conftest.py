"""The people of the dashboard."""

from tests.dashboard.conftest import bound, bound_user, sign_in, support

__all__ = ["bound", "bound_user", "sign_in", "support"]
