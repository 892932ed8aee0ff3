#!/usr/bin/env bash
# systemd-run fails: it is asked three times, then children live in groups at the top of the hierarchy, with
# their limits, and outlive whatever happens to BootAgent. Once none is left there, the scope is asked for again.
# shellcheck source=lib.sh
. /usr/lib/lab/lib.sh

program=/usr/bin/systemd-run
broken=/usr/local/bin/broken-systemd-run
asked=/run/lab/scope-asked
log=/var/log/bootagent/agents/keeper.log

put_back() { umount -l $program 2>/dev/null || true; }
# Also when it fails: the next scenario shares this machine.
finish() {
    local code=$?
    put_back
    set +e
    (exit $code)
    at_the_end
}
trap finish EXIT

group_of() { sed -n 's/^0:://p' "/proc/$1/cgroup"; }
keeper_is_untouched() { [ "$(field keeper pid)" = "$pid" ] && [ "$(field keeper status)" = running ]; }
is_limited() { [ "$(cat /sys/fs/cgroup/bootagent/keeper/memory.max)" = 67108864 ]; }
limits_are_told() { [ "$(field keeper limits | jq -r .enforced_by)" = cgroup2 ]; }
times_asked() { [ "$(wc -l <$asked)" = "$1" ]; }
is_told() { journalctl -u bootagent --since "@$begun" | grep -q 'systemd made no bootagent-agents.scope'; }
keep() { child keeper '{"limits": {"memory": "64M"}}' /bin/sh -c 'while :; do echo tick; sleep 0.5; done'; }

put_back
clear_away
mkdir -p /run/lab
: >$asked
printf '#!/bin/sh\necho asked >>%s\necho "not today" >&2\nexit 1\n' $asked >$broken
chmod 755 $broken
mount --bind $broken $program
begun=$(date +%s)
fresh '# every default'
keep
soon is_in_state keeper running
pid=$(pid_of keeper)
check times_asked 3
check is_told
check [ "$(group_of "$pid")" = /bootagent/keeper ]
check is_limited
check limits_are_told
soon test -s $log

say 'kill -9, then systemctl restart: nobody asks again while a child is at the top'
kill_daemon
soon keeper_is_untouched
old=$(daemon)
systemctl restart bootagent
check another_daemon_runs "$old"
soon keeper_is_untouched
check limits_are_told
check times_asked 3

say 'systemd-run works again'
put_back
fresh '# every default'
keep
soon is_in_state keeper running
check [ "$(group_of "$(pid_of keeper)")" = /system.slice/bootagent-agents.scope/keeper ]
