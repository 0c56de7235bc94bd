#!/usr/bin/env bash
# Installs the third-party programs that the tests run against, when it may (root on a Debian machine);
# says what is missing when it may not.
set -euo pipefail
declare -A packages=([sipp]=sip-tester [baresip]=baresip-core [ip]=iproute2 [iptables]=iptables [openssl]=openssl
  [kamailio]=kamailio [linphone-daemon]=linphone-cli [sip-options]=sofia-sip-bin [sipsak]=sipsak
  [node]=nodejs [npm]=npm [sngrep]=sngrep [turnserver]=coturn [redis-server]=redis-server
  [mariadbd]=mariadb-server-core [my_print_defaults]=mariadb-client-core
  [dockerd]=docker.io [docker]=docker.io [debootstrap]=debootstrap
  [rtpengine]=rtpengine-daemon [faketime]=faketime [keepalived]=keepalived [ocf-tester]=resource-agents [xmllint]=libxml2-utils [systemd-analyze]=systemd)
if [ "${1:-}" = cluster ]; then
  packages+=([pacemakerd]=pacemaker [crm_resource]=pacemaker-cli-utils [corosync]=corosync [pcs]=pcs)
fi
if [ "${1:-}" = containers ]; then
  packages+=([docker-compose]=docker-compose)
fi
PATH=$PATH:/usr/sbin:/sbin
missing=()
for program in "${!packages[@]}"; do
  command -v "$program" >/dev/null || missing+=("${packages[$program]}")
done
# Not on the path: modules of Kamailio,
bench_only=$([ "${1:-}" != bench ] || echo sqlite postgres)
for module in tls outbound websocket $bench_only; do
  compgen -G "/usr/lib/*/kamailio/modules/*${module}.so" >/dev/null || missing+=("kamailio-$module-modules")
done
# PostgreSQL's server, and the ODBC drivers, which enter themselves in a list.
compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null || missing+=(postgresql)
drivers=$(cat /etc/odbcinst.ini 2>/dev/null || true)
[[ $drivers == *"[PostgreSQL Unicode]"* ]] || missing+=(odbc-postgresql)
[[ $drivers == *"[MariaDB Unicode]"* ]] || missing+=(odbc-mariadb)
[[ $drivers == *"[SQLite3]"* ]] || missing+=(libsqliteodbc)
install_programs() {
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "the tests need: ${missing[*]} (install them, or run this as root on Debian)" >&2
    exit 1
  fi
  # A service that starts by itself would take the ports of the tests.
  policy=/usr/sbin/policy-rc.d
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; trap 'rm -f /usr/sbin/policy-rc.d' EXIT; }
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ${missing[*]} >/dev/null
}
[ ${#missing[@]} -eq 0 ] || install_programs
# A SIP stack for browsers, in the versions of its lock file.
phone=$(dirname "$0")/jssip
if [ "${1:-}" != bench ] && [ "$phone/package-lock.json" -nt "$phone/node_modules/.package-lock.json" ]; then
  npm ci --prefix "$phone" --silent --no-audit --no-fund
  touch "$phone/node_modules/.package-lock.json"
fi
