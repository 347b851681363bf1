# Builds the product's image: `docker build -t email-offload .`; compose.yaml shows how the parts are started.
# With single sign-on: `docker build --build-arg LOCK=requirements-oidc.lock -t email-offload .`

FROM python:3.11-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev pkg-config libmariadb-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/venv
ARG LOCK=requirements.lock
COPY requirements.lock requirements-oidc.lock /tmp/
RUN /opt/venv/bin/pip install --no-cache-dir --require-hashes -r "/tmp/$LOCK"

FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends libmariadb3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /srv/email-offload --shell /usr/sbin/nologin offload \
    && install -d -o offload -g offload /var/lib/email-offload
COPY --from=build /opt/venv /opt/venv
WORKDIR /srv/email-offload
COPY manage.py ./
COPY offloadsite ./offloadsite
COPY emailoffload ./emailoffload
COPY templates ./templates
COPY static ./static
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OFFLOAD_DATA_DIR=/var/lib/email-offload
USER offload
VOLUME /var/lib/email-offload
EXPOSE 8000
CMD ["gunicorn", "offloadsite.wsgi:application", "--bind", "0.0.0.0:8000", "--workers", "2", "--threads", "4", "--worker-tmp-dir", "/dev/shm"]
