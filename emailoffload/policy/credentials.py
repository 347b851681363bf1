"""Which mails carry credentials, and are therefore *sensitive* (design §5)."""

from __future__ import annotations

from emailoffload.policy.models import SensitiveTemplate

ALWAYS = frozenset({"user_create", "user_reset", "password_update"})
"""IOMAD's templates whose bodies hold a new password in clear text (facts §7.6). Nobody can take them off."""


def sensitive_templates() -> frozenset[str]:
    """Names of the templates whose mails are sensitive: those that always are, and what administrators added.

    One query. Raises database errors of our own database.
    """
    return ALWAYS | frozenset(SensitiveTemplate.objects.values_list("name", flat=True))
