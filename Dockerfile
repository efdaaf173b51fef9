# syntax=docker/dockerfile:1
# The service as a container: `docker build -t nightshift .`, or `make image` where there is no
# Docker. Nothing but the binary, the libraries that it needs and the certificates of public
# authorities is in it: no shell, no package manager.

FROM rust:1.95-slim-bookworm AS build
# Debian's present patches of these are wanted, not those of the day on which this was written.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libssl-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Both caches outlive the layer: a change of the sources compiles no dependency again.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p nightshift \
    && install -D target/release/nightshift /out/nightshift

FROM debian:bookworm-slim AS files
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/nightshift /usr/local/bin/nightshift
# Where OpenSSL, which libpq uses, looks for certificates is a link into /etc/ssl. The folder of the
# data has its owner here, so that a new volume gets the same.
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN mkdir -p /files/etc/ssl/certs /files/usr/lib/ssl /files/usr/local/bin \
    && ldd /usr/local/bin/nightshift | grep -o '/[^ ]*' | xargs cp -L --parents -t /files \
    && cp -P /usr/lib/ssl/{cert.pem,certs,openssl.cnf} /files/usr/lib/ssl \
    && cp /etc/ssl/openssl.cnf /files/etc/ssl \
    && cp /etc/ssl/certs/ca-certificates.crt /files/etc/ssl/certs \
    && cp /usr/local/bin/nightshift /files/usr/local/bin \
    && echo 'nightshift:x:10001:10001::/data:/sbin/nologin' > /files/etc/passwd \
    && echo 'nightshift:x:10001:' > /files/etc/group \
    && echo 'hosts: files dns' > /files/etc/nsswitch.conf \
    && install -d -m 1777 /files/tmp \
    && install -d -o 10001 -g 10001 -m 750 /files/data

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Nightshift" \
      org.opencontainers.image.description="Background tasks for any web stack over plain HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=files /files/ /
# The port of a container that listens on loopback reaches nobody; anything else needs a token,
# which the service says when it is started without one. SQLite's file, nightshift.toml and the
# compiled plugins lie in /data unless settings say otherwise. It is no VOLUME: one without a name
# would be lost with the container, and nobody be told.
ENV PATH=/usr/local/bin \
    HOME=/data \
    NIGHTSHIFT_BIND=0.0.0.0:8700
WORKDIR /data
USER 10001:10001
EXPOSE 8700
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s \
    CMD ["nightshift", "health"]
# Longer than shutdown_grace_seconds has to be the engine's own grace (`docker stop --time 40`).
STOPSIGNAL SIGTERM
ENTRYPOINT ["nightshift"]
CMD ["serve"]
