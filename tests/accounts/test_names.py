"""What accounts of single sign-on are called."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from emailoffload.accounts.oidc.names import free_name

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("taken", ["muller", "Müller", "MULLER"])
def test_a_new_account_gets_a_name_that_the_database_takes(taken: str) -> None:
    User.objects.create_user(taken)
    name = free_name("müller")
    assert name == "müller-2"
    User.objects.create_user(name)
    assert free_name("müller") == "müller-3"


@pytest.mark.parametrize("asked", [None, 7, "", "***", "-"])
def test_who_is_called_nothing_usable_gets_a_name_all_the_same(asked: object) -> None:
    assert free_name(asked) == "sso"
