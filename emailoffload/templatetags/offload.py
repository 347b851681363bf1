"""`{% load offload %}`: Django looks for tag libraries here; the dashboard's live in `dashboard.tags`."""

from emailoffload.dashboard.tags import register

__all__ = ["register"]
