"""The product's Django application."""

from django.apps import AppConfig


class EmailOffloadConfig(AppConfig):
    """Registers models, checks and signals."""

    name = "emailoffload"
    verbose_name = "Email Offload"
