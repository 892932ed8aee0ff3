#!/usr/bin/env bash
# The kernel makes the root read-only, as after an error of the disk: children and supervision go on, the
# status says so, and all is kept again once it can be written.
# shellcheck source=lib.sh
. /usr/lib/lab/lib.sh

log=/var/log/bootagent/agents/steady.log

# Also over files that are open for writing, which `mount` would refuse.
read_only() { echo u >/proc/sysrq-trigger; }
writable() { touch /var/lib/bootagent/probe 2>/dev/null && rm /var/lib/bootagent/probe; }
wanted_on_disk() { jq -e --arg name "$1" --argjson wanted "$2" \
    '.children[$name].wanted_running == $wanted' $state/metafile.json; }
steady_is_untouched() { [ "$(field steady pid)" = "$pid" ]; }
failed_one_runs_again() { [ "$(field other status)" = running ] && [ "$(field other pid)" != "$1" ]; }
has_more_lines_than() { at_least "$(wc -l <$log)" "$(($1 + 1))"; }

mount -o remount,rw /
fresh '[restart]' 'check = 1' 'holdoff = 2' 'max_anomalies = 1000'
child steady '{}' /bin/sh -c 'while :; do echo tick; sleep 0.5; done'
child other '{}' /bin/sleep 987655
for name in steady other; do soon is_in_state $name running; done
pid=$(pid_of steady)
soon test -s $log
soon wanted_on_disk other true

say 'read only'
read_only
soon not writable
old=$(pid_of other)
kill -9 "$old"
soon failed_one_runs_again "$old"
kill_daemon
soon steady_is_untouched
check not writable
timeout 120 bootctl stop other || true
check is_in_state other stoped
soon notices_name 'only in memory'

say 'writable again'
mount -o remount,rw /
check writable
soon wanted_on_disk other false
soon not notices_name 'only in memory'
lines=$(wc -l <$log)
soon has_more_lines_than "$lines"
check steady_is_untouched
