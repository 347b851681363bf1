"""The page Alarms, and the worker's sign of life for an outside watch."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django.contrib.auth.decorators import login_not_required
from django.db.utils import Error as DatabaseFailure
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy, pgettext_lazy
from django.views import View
from django.views.decorators.cache import never_cache

from emailoffload.dashboard import access, links, paging
from emailoffload.dashboard.alarm_lines import line
from emailoffload.dashboard.views import PAGE_SIZE, Page
from emailoffload.feedback.models import Alarm
from emailoffload.worker import alarm_conditions, alarm_telling

SHOWN: Final[dict[str, Promise]] = {
    "": gettext_lazy("all"),
    "open": pgettext_lazy("alarms", "open"),
    "past": gettext_lazy("past"),
}


class AlarmsPage(Page):
    """Alarms, open and past, newest first; they concern the whole site."""

    template_name = "offload/alarms.html"
    permissions = (access.VIEW_ALARM,)
    whole_site = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of alarms, of one kind if the address names it."""
        params = self.request.GET
        shown = params.get("show", "")
        code = params.get("code", "")
        rows = Alarm.objects.all()
        if shown in {"open", "past"}:
            rows = rows.filter(ended_at__isnull=shown == "open")
        if code in alarm_conditions.TITLES:
            rows = rows.filter(code=code)
        found = paging.page(rows, params, PAGE_SIZE)
        return super().get_context_data(
            lines=[line(alarm) for alarm in found.rows],
            page=found,
            shown=shown if shown in SHOWN else "",
            show=SHOWN.items(),
            code=code,
            codes=[(name, title) for name, title in alarm_conditions.TITLES.items() if name != "test"],
            filtered=bool(shown or code),
            channels=len(alarm_telling.channels()),
            older=links.with_key(params, "before", found.older_than),
            newer=links.with_key(params, "after", found.newer_than),
            newest=links.without_keys(params),
            **kwargs,
        )


@method_decorator([login_not_required, never_cache], name="dispatch")
class WorkerHealthz(View):
    """For a watch from outside: 200 while the worker shows signs of life, 503 when it is silent. Says nothing more."""

    def get(self, request: HttpRequest) -> JsonResponse:
        """Look at the last sign of life; two queries."""
        try:
            last = alarm_conditions.last_sign()
        except DatabaseFailure:
            return JsonResponse({"status": "database does not answer"}, status=503)
        if last is None or _silent(last, timezone.now()):
            return JsonResponse({"status": "worker is silent"}, status=503)
        return JsonResponse({"status": "ok"})


def _silent(last: datetime, now: datetime) -> bool:
    return now - last > alarm_conditions.SILENT
