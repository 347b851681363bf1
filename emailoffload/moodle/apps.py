"""Moodle's tables as a Django application of their own, so that the router can tell them apart."""

from django.apps import AppConfig


class MoodleConfig(AppConfig):
    """Unmanaged models only: Django never creates, changes or drops one of these tables."""

    name = "emailoffload.moodle"
    label = "moodle"
    verbose_name = "Moodle"
