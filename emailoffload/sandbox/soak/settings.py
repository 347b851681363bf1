"""The product's settings for a soak: shorter times than a real site may choose, so that hours become minutes."""

import json
import os

from offloadsite.settings import *  # noqa: F403

globals().update(json.loads(os.environ["SOAK_SETTINGS"]))
