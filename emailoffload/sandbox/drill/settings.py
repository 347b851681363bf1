"""Settings of the rehearsals' processes: the product's own, with what takes minutes on a site taking seconds.

Only `plan.environment` makes the environment that these need; without it nothing starts, so that no process of
a rehearsal can come near a real database.
"""

from __future__ import annotations

import os

from django.core.exceptions import ImproperlyConfigured

from emailoffload.sandbox.drill.pace import ENVIRONMENT, Pace
from offloadsite.settings import *  # noqa: F403
from offloadsite.settings import DATABASES, SAMPLE_SITE

if ENVIRONMENT not in os.environ or not SAMPLE_SITE:
    raise ImproperlyConfigured("These settings belong to the processes that `manage.py drill` starts.")

PACE = Pace.from_json(os.environ[ENVIRONMENT])
SEND_DEADLINE_SECONDS = PACE.deadline
CLAIM_LEAD_SECONDS = PACE.lead
CLAIM_MARGIN_SECONDS = PACE.margin
MOODLE_CRON_PERIOD_SECONDS = PACE.cron
LEASE_SECONDS = PACE.lease
SES_CONNECT_TIMEOUT_SECONDS = SES_READ_TIMEOUT_SECONDS = PACE.answer
DATABASES["moodle"]["ENGINE"] = "emailoffload.sandbox.drill.moodledb"
