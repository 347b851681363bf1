"""The product's Django application."""

from django.apps import AppConfig


class EmailOffloadConfig(AppConfig):
    """Registers models, checks and signals."""

    name = "emailoffload"
    verbose_name = "Email Offload"

    def ready(self) -> None:
        """Register the system checks."""
        from emailoffload import checks  # noqa: F401
