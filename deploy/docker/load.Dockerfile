# Phones that call: sipp with the scenarios of the tests. From the top of the project, see compose.yaml.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN command -v sipp || { apt-get update \
 && apt-get install -y --no-install-recommends sip-tester \
 && rm -rf /var/lib/apt/lists/*; }
COPY tests/sipp /scenarios
COPY deploy/docker/load /usr/local/bin/load
CMD ["load"]
