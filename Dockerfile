# Builds the product's image: `docker build -t email-offload .`; compose.yaml shows how the parts are started.
# With single sign-on: `docker build --build-arg LOCK=requirements-oidc.lock -t email-offload .`
#
# One image for the dashboard and the worker. It runs as a plain user, with a read-only root file system if you like:
# it writes to /var/lib/email-offload (a volume), /tmp and /dev/shm only. docs/deploy/README.md

FROM python:3.11-slim-bookworm AS build
# hadolint ignore=DL3008 # Debian's stable release keeps one version of each, and removes it when a fix comes
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev pkg-config libmariadb-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv --without-pip /opt/venv
ARG LOCK=requirements.lock
COPY requirements*.lock /tmp/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r "/tmp/$LOCK"
WORKDIR /srv/email-offload
COPY manage.py pyproject.toml ./
COPY offloadsite ./offloadsite
COPY emailoffload ./emailoffload
COPY templates ./templates
COPY static ./static
# The keys that the settings make for themselves go with the folder that they lie in.
RUN OFFLOAD_DATA_DIR=/tmp/build OFFLOAD_STATIC_DIR=/srv/email-offload/collected \
    /opt/venv/bin/python manage.py collectstatic --noinput \
    && rm -r /tmp/build \
    && /opt/venv/bin/python -m compileall -q emailoffload offloadsite

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Email Offload" \
    org.opencontainers.image.description="Claims Moodle's due mail, sends it through Amazon SES and shows what became of it" \
    org.opencontainers.image.licenses="GPL-3.0-or-later"
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libmariadb3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 offload \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin offload \
    && install -d -o 10001 -g 10001 -m 750 /var/lib/email-offload
COPY --from=build /opt/venv /opt/venv
COPY --from=build /srv/email-offload /srv/email-offload
WORKDIR /srv/email-offload
# `manage.py setup` writes its environment file into the volume, and all that run from this image read it there.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OFFLOAD_DATA_DIR=/var/lib/email-offload \
    OFFLOAD_STATIC_DIR=/srv/email-offload/collected \
    OFFLOAD_ENV_FILE=/var/lib/email-offload/env
USER 10001:10001
VOLUME /var/lib/email-offload
EXPOSE 8000
# For the dashboard; a worker's is `python manage.py healthcheck worker`.
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s --retries=3 \
    CMD ["python", "manage.py", "healthcheck", "web"]
CMD ["gunicorn", "offloadsite.wsgi:application", "--config", "python:offloadsite.gunicorn", "--bind", "0.0.0.0:8000"]
