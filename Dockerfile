# The server in a container: not root, nothing to write but /tmp, asked for its health.
#
#   docker build -t diffspeaker .
#   docker run --read-only --tmpfs /tmp -e DIFFSPEAKER_TOKEN="$(cat token.txt)" -p 127.0.0.1:8600:8600 diffspeaker
#
# Every option of `diffspeaker serve` is a variable: DIFFSPEAKER_LOOKAHEAD_MS, DIFFSPEAKER_LOG_FORMAT …

FROM node:22.17.0-bookworm-slim AS page
WORKDIR /page
COPY clients/web/package.json clients/web/package-lock.json ./
RUN ["npm", "ci", "--omit=dev", "--no-audit", "--no-fund"]

FROM python:3.12.11-slim-bookworm AS build
# requirements/serve-gpu.txt is for a machine with an NVIDIA card; run it with `--gpus all`. serve-cluster.txt and
# serve-cluster-gpu.txt have Ray besides, for gateways and for the pool (deploy/kubernetes).
ARG LOCK=serve.txt
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY requirements requirements
RUN python -m venv /opt/diffspeaker \
    && /opt/diffspeaker/bin/pip install --require-hashes -r "requirements/$LOCK" \
    && python -m pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml hatch_build.py README.md LICENSE NOTICE ./
COPY streamer streamer
COPY clients clients
COPY --from=page /page/node_modules clients/web/node_modules
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/diffspeaker/bin/pip install --no-deps /wheels/*.whl

FROM python:3.12.11-slim-bookworm
COPY --from=build /opt/diffspeaker /opt/diffspeaker
# Outside of a container nothing listens beyond loopback by default; in one, the published port decides. Strangers are
# kept out by the token, without which the server does not start.
ENV DIFFSPEAKER_HOST=0.0.0.0 DIFFSPEAKER_PORT=8600 DIFFSPEAKER_LOG_FORMAT=json PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 8600
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["/opt/diffspeaker/bin/python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8600/healthz', timeout=2)"]
ENTRYPOINT ["/opt/diffspeaker/bin/diffspeaker"]
CMD ["serve"]
