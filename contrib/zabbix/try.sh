#!/usr/bin/env bash
# Tries what is in this folder with Debian's Zabbix 6.0: server, proxy, frontend and PostgreSQL, and a mtr-prober that
# is built now. Two minutes, as root. What it starts, and what that writes, is in namespaces of
# its own and ends with it.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$repository"

[ "$(id -u)" -eq 0 ] || die "run it as root: it makes namespaces and installs Zabbix"
need_rust
need python3=python3 unshare=util-linux setpriv=util-linux ip=iproute2 curl=curl php=php-cli
need_postgresql
need_service_program zabbix_server=zabbix-server-pgsql
[ -d /usr/share/zabbix ] || without_services install_packages zabbix-frontend-php php-pgsql
# Server and proxy cannot be installed on one machine: the proxy is only unpacked.
proxy=$cache/zabbix-proxy
[ -x "$proxy/usr/sbin/zabbix_proxy" ] || {
    rm -rf "$proxy" "$proxy.part"
    mkdir -p "$proxy.part"
    (cd "$proxy.part" && apt-get -q download zabbix-proxy-sqlite3 >&2 && dpkg-deb -x ./*.deb . && rm ./*.deb)
    mv "$proxy.part" "$proxy"
}
cargo build --locked --quiet -p mtr-prober --bin mtr-prober
export PYTHONDONTWRITEBYTECODE=1
# Processes end with the first of their namespace, that one with unshare, and unshare with us, also when we are killed; it takes
# no milder signal than that.
setpriv --pdeathsig KILL unshare --net --mount --pid --fork --mount-proc --kill-child \
    python3 contrib/zabbix/try.py "${CARGO_TARGET_DIR:-$repository/target}/debug/mtr-prober" "$proxy" &
tried=$!
trap 'kill -KILL $tried 2>/dev/null || true' EXIT
trap 'exit 1' INT TERM
wait $tried
