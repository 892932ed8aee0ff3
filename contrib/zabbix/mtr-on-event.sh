#!/bin/sh
# The command of a Zabbix action: has mtr-prober measure the way to a host whose trigger fired.
#
#   mtr-on-event.sh {HOST.IP} {EVENT.ID}
#
# Zabbix kills a command's whole process tree after some seconds; the answer is an id, at once, and the
# measurement goes on without us. MTR_PROBER_SOCKET names a Unix socket of its, as in a container.
set -eu
[ $# -eq 2 ] || {
    echo "usage: $0 ADDRESS EVENT_ID" >&2
    exit 2
}
address=$1
event=$2
set -- -sS -m 3 --get --data-urlencode "ip=$address" --data-urlencode "ref=$event" -d cause=trigger
if [ -n "${MTR_PROBER_SOCKET-}" ]; then
    set -- "$@" --unix-socket "$MTR_PROBER_SOCKET"
fi
exec curl "$@" "${MTR_PROBER_URL:-http://127.0.0.1:8081}/api/mtr"
