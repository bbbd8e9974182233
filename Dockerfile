# The daemon and every offline command in one image: non-root, nothing written outside /var/lib/streamer and /tmp.
#
#   docker build -t streamer .
#   docker run --rm streamer --help
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

# ---- build: everything is installed into one virtual environment, the only thing copied on
FROM ${PYTHON_IMAGE} AS dependencies
WORKDIR /src

# Rebuilt only when a lock changes. setup_env.py installs the CPU build of torch: no GPU is visible during an image build.
COPY requirements-run.lock requirements-torch.lock ./
COPY tools/setup_env.py tools/
RUN python tools/setup_env.py --venv /opt/streamer --runtime --no-project

FROM dependencies AS build
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY streamer streamer
RUN python tools/setup_env.py --venv /opt/streamer --runtime

# ---- run
FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="streamer" \
      org.opencontainers.image.description="Watches live time series in Kafka with an LSTM autoencoder" \
      org.opencontainers.image.licenses="Apache-2.0"

# A fixed number, so that volumes and securityContext can name it.
RUN groupadd --gid 10001 streamer \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/streamer --shell /usr/sbin/nologin streamer \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/streamer /var/lib/streamer/bundles /var/lib/streamer/state \
      /var/lib/streamer/data /var/lib/streamer/requests \
 && install -d -m 0755 /etc/streamer

COPY --from=build /opt/streamer /opt/streamer

# MPLCONFIGDIR: matplotlib wants a writable cache, and the root file system is read-only.
ENV PATH=/opt/streamer/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    HOME=/tmp

USER 10001:10001
WORKDIR /var/lib/streamer
EXPOSE 9108

# Ready means: broker, topics, ACLs and model are verified. Offline commands have no port: disable it for them.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9108/readyz', timeout=4)"]

STOPSIGNAL SIGTERM
ENTRYPOINT ["streamer"]
CMD ["run", "--config", "/etc/streamer/streamer.yaml"]
