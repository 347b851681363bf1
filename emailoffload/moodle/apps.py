"""Moodle's tables as a Django application of their own, so that the router can tell them apart."""

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class MoodleConfig(AppConfig):
    """Unmanaged models only: Django never creates, changes or drops one of these tables."""

    name = "emailoffload.moodle"
    label = "moodle"
    verbose_name = "Moodle"

    def ready(self) -> None:
        """Guard each connection to Moodle's database against writes."""
        from emailoffload.moodle import guard

        connection_created.connect(guard.install, dispatch_uid="moodle-guard")
