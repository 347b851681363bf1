"""People who look at the page."""

from tests.dashboard.conftest import bound, bound_user, sign_in, support

__all__ = ["bound", "bound_user", "sign_in", "support"]
