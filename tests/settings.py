"""Settings of the suite: both databases on the private MariaDB; Moodle's as the least-privileged account."""

import os
import tempfile

from tests import mariadb

SERVER = mariadb.shared()
MOODLE_DATABASE = "moodle"
APP_ACCOUNT = ("offload", "offload-password")
"""May run the product on the suite's database, and no more; on databases that a test makes it may upgrade too."""
UPGRADE_ACCOUNT = ("offload_upgrade", "upgrade-password")
"""May do what docs/security.md names for `migrate`, and no more."""
MOODLE_ACCOUNT = ("offload_moodle", "moodle-password")

# Not yet in the environment: the tests' own processes shall inherit it, xdist's workers shall not (conftest.py).
DATA = os.environ.get("OFFLOAD_TEST_DATA") or tempfile.mkdtemp(prefix="eo-data-")
os.environ["OFFLOAD_ENV_FILE"] = os.devnull
os.environ["OFFLOAD_DATA_DIR"] = DATA
os.environ["DATABASE_URL"] = SERVER.url("offload", *APP_ACCOUNT)
os.environ["MOODLE_DATABASE_URL"] = SERVER.url(MOODLE_DATABASE, *MOODLE_ACCOUNT)
os.environ["MOODLE_WWWROOT"] = "http://127.0.0.1:18080"
os.environ["AWS_ACCESS_KEY_ID"] = os.environ["AWS_SECRET_ACCESS_KEY"] = "testing"
os.environ["AWS_REGION"] = os.environ["AWS_DEFAULT_REGION"] = "eu-west-1"
os.environ["AWS_ENDPOINT_URL_SESV2"] = "http://127.0.0.1:9"  # nothing listens there; tests set their own
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
for _name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "SES_CONFIGURATION_SET", "RENDER_PARITY"):
    os.environ.pop(_name, None)

from offloadsite.settings import *  # noqa: E402, F403

# Each of the tests' many clients would read the folder of static files anew; so they are looked for when asked for.
WHITENOISE_AUTOREFRESH = True
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
STATIC_ROOT.mkdir(exist_ok=True)  # noqa: F405 - WhiteNoise warns of a missing folder
# The server's own default is latin1, which cannot hold the names that people have.
DATABASES["default"]["TEST"] = {"CHARSET": "utf8mb4", "COLLATION": "utf8mb4_unicode_ci"}  # noqa: F405
