# deploy-watchdog: `docker build -t deploy-watchdog .`, then mount a config and a volume for the ledger:
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     -v "$PWD/config.toml:/etc/deploy-watchdog/config.toml:ro" -v watchdog-ledger:/var/lib/deploy-watchdog \
#     -p 127.0.0.1:8811:8811 -e WATCHDOG_CI_TOKEN deploy-watchdog
# For -p the config needs listen = "0.0.0.0:8811", and therefore a token or secret in [auth]. The programs of `command`
# hooks are not in the image: build yours FROM it, or use an `http` hook. One container per ledger volume.
# The base is pinned to a version here, and by you to a digest: --build-arg BASE=python:3.11.13-slim-bookworm@sha256:...
# `make image` builds it where there is no engine, and runs the demo in it.
ARG BASE=python:3.11.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY deploy/requirements.lock ./
RUN python3 -m venv /opt/deploy-watchdog \
    && /opt/deploy-watchdog/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE deploy_watchdog.py ./
COPY watchdog watchdog
COPY analysis analysis
# What only builds stays here. So do the tests and C headers of others, and the parts of Arrow that talk to networks.
RUN /opt/deploy-watchdog/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/deploy-watchdog/bin/pip uninstall --yes --quiet hatchling pathspec pluggy trove-classifiers pip setuptools \
    && find /opt/deploy-watchdog -depth -path '*/site-packages/*' \( \
        -type d \( -name tests -o -path '*/pyarrow/include' -o -path '*/pyarrow/src' \) \
        -o -path '*/pyarrow/*' \( -name '*_flight.*' -o -name '*arrow_s3.so*' -o -name '_s3fs.*.so' \) \
        \) -exec rm -rf {} +

FROM ${BASE}
LABEL org.opencontainers.image.title="deploy-watchdog" \
      org.opencontainers.image.description="Watches every deploy and rolls it back once when it is worse" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 watchdog \
    && useradd --uid 10001 --gid watchdog --no-create-home --home-dir /nonexistent watchdog \
    && install --directory --owner watchdog --group watchdog --mode 0750 /var/lib/deploy-watchdog
COPY --from=build /opt/deploy-watchdog /opt/deploy-watchdog
ENV PATH=/opt/deploy-watchdog/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# The ledger, and the locks of running hooks. Everything else may be read-only.
VOLUME /var/lib/deploy-watchdog
WORKDIR /var/lib/deploy-watchdog
USER 10001:10001
EXPOSE 8811
# Alive is: a tick not long ago and a ledger that answers. Set this where `listen` has another port.
ENV WATCHDOG_HEALTH_URL=http://127.0.0.1:8811/-/healthy
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(os.environ['WATCHDOG_HEALTH_URL'], timeout=2)"]
ENTRYPOINT ["python", "-m", "watchdog"]
CMD ["run", "--config", "/etc/deploy-watchdog/config.toml"]
