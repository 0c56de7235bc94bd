# The servers that a node stores in, and what loads it. The names that say which one it is come from the lines below.
ARG BASE
FROM ${BASE}
# No database is made before somebody asks for one.
RUN mkdir -p /etc/postgresql-common \
 && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \
 && apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      postgresql mariadb-server-core mariadb-client-core redis-server sip-tester iproute2 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --home /var/lib/mysql mysql
COPY serve-postgres serve-mariadb /usr/local/bin/
