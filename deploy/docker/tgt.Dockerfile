# A target to try things on: tgt with one disk on two portals. Not for data that anybody wants to keep.
# docker build -f deploy/docker/tgt.Dockerfile -t orion-tgt .
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends tgt \
 && rm -rf /var/lib/apt/lists/*
COPY deploy/docker/tgt-start.sh /usr/local/bin/tgt-start
ENV TARGET_NAME=iqn.2026-11.lab:disk1 \
    DISK_FILE=/var/lib/tgt/disk1.img \
    DISK_SIZE=1G
VOLUME /var/lib/tgt
EXPOSE 3260 3261
# It stays on SIGTERM while somebody is logged in.
STOPSIGNAL SIGKILL
ENTRYPOINT ["/bin/sh", "/usr/local/bin/tgt-start"]
