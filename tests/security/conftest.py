"""People, as the dashboard's tests have them."""

from tests.dashboard.conftest import bound, bound_user, sign_in, support, world

__all__ = ["bound", "bound_user", "sign_in", "support", "world"]
