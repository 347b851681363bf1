"""The product's Django application."""

from django.apps import AppConfig


class EmailOffloadConfig(AppConfig):
    """Registers models, checks and signals."""

    name = "emailoffload"
    verbose_name = "Email Offload"

    def ready(self) -> None:
        """Register the system checks, and what happens when somebody logs in."""
        from emailoffload import checks  # noqa: F401
        from emailoffload.accounts import sessions  # noqa: F401
