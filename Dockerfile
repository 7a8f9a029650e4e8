# durableq and its command, with all extras that it runs with. Your application is built on it:
#
#   FROM durableq
#   COPY --chown=root:root shop /app
#
# or mounted at /app. docs/DEPLOYMENT.md describes the volume, the health check and signals.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY durableq durableq
COPY migrations migrations
ENV PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/durableq
RUN /opt/durableq/bin/pip install ".[dashboard,metrics,otel,postgres,serve]"

FROM python:${PYTHON}-slim
COPY --from=build /opt/durableq /opt/durableq
COPY packaging/docker/healthy.py /opt/durableq/bin/durableq-healthy
RUN useradd --uid 10001 --user-group --create-home --home-dir /var/lib/durableq durableq
ENV PATH=/opt/durableq/bin:$PATH DURABLEQ_DB=/var/lib/durableq/durableq.db PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
VOLUME /var/lib/durableq
USER 10001:10001
# A worker or recovery process of this container has shown a sign of life within three minutes.
HEALTHCHECK --interval=30s --timeout=20s --start-period=90s CMD ["python", "/opt/durableq/bin/durableq-healthy"]
# As PID 1 it reaps orphans and hands signals on: no tini, no --init.
ENTRYPOINT ["durableq"]
CMD ["--help"]
