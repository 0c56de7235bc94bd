# What stands in for debian:bookworm-slim: the same, and the Python packages that pip would fetch.
ARG ROOT
FROM ${ROOT}
COPY wheels /opt/wheels
RUN printf '[global]\nno-index = true\nfind-links = /opt/wheels\n' >/etc/pip.conf
