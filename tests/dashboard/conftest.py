"""People who look at the dashboard, one for each role."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from tests.dashboard.browsing import axe, browser, screenshots, visit
from tests.dashboard.world import LAB, OWN, PASSWORD, World, bind, signed_in

__all__ = ["PASSWORD", "axe", "browser", "screenshots", "visit"]
SignIn = Callable[[str], Client]


def make_user(role: str | None, username: str = "") -> User:
    """A user with a role: the name of a group, "superuser", or None for an account without any permission."""
    username = username or (role or "nobody").split()[0].lower()
    if role == "superuser":
        return User.objects.create_superuser(username, password=PASSWORD)
    user = User.objects.create_user(username, password=PASSWORD)
    if role:
        user.groups.add(Group.objects.get(name=role))
    return user


@pytest.fixture
def sign_in() -> SignIn:
    """A function: role → a client that is logged in as somebody with it."""

    def make(role: str) -> Client:
        client = Client()
        client.force_login(make_user(None if role == "nobody" else role))
        return client

    return make


@pytest.fixture
def support(sign_in: SignIn) -> Client:
    """A client that is logged in as support staff."""
    return sign_in("Support staff")


@pytest.fixture
def bound_user() -> User:
    """Somebody with every permission there is, but not a superuser, in a bound group and in unbound ones."""
    user = make_user("Offload administrators", "bea")
    user.groups.add(Group.objects.get(name="Support staff"))
    user.is_staff = True
    user.save()
    user.user_permissions.set(Permission.objects.all())
    bind(user, OWN, LAB)
    return user


@pytest.fixture
def bound(bound_user: User) -> Client:
    """A client that is logged in as the bound user."""
    return signed_in(bound_user)


@pytest.fixture
def world() -> World:
    """The records before anything is asked."""
    return World()
