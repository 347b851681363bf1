"""A site, a learner and the gates between them, as plain values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from emailoffload.moodle.messaging import Delivery, MessageGates
from emailoffload.moodle.refusals import Refusal
from emailoffload.moodle.types import Learner, SiteConfig, User

ENABLED = "message_provider_mod_reengagement_mod_reengagement_enabled"
BASE = "mod_reengagement_mod_reengagement"
DEFAULTS = {
    ENABLED: "email",
    f"email_provider_{BASE}_locked": "0",
    f"popup_provider_{BASE}_locked": "0",
    f"airnotifier_provider_{BASE}_locked": "0",
}
SUPPORT = {
    "supportemail": "support@lab.example",
    "supportname": "Admin User",
    "noreplyaddress": "noreply@lab.example",
}
ANNA = User(id=3, firstname="Anna", lastname="Plain", email="anna@lab.example")


def site(*, message: dict[str, str | None] | None = None, branch: int = 404, **config: str) -> SiteConfig:
    messages = {name: value for name, value in {**DEFAULTS, **(message or {})}.items() if value is not None}
    return SiteConfig(
        wwwroot="https://moodle.lab.example:8443/learn",
        shortname="lab",
        fullname="Lab Site",
        config={**SUPPORT, **config},
        message_config=messages,
        branch=branch,
    )


def gates(config: SiteConfig | None = None, **values: Any) -> MessageGates:
    given = {
        "processors": {"airnotifier": True, "email": True, "popup": True},
        "provider_exists": True,
        "module_visible": True,
        **values,
    }
    return MessageGates(config or site(), **given)


def reason(outcome: Delivery | Refusal) -> str:
    return outcome.reason if isinstance(outcome, Refusal) else "sent"


def learner(preferences: dict[str, str] | None = None, **columns: Any) -> Learner:
    return Learner(replace(ANNA, **columns), preferences=preferences or {})
