#!/usr/bin/env bash
# Whatever systemd or a kill does to BootAgent: a child keeps its process, its cgroup and its limits, is
# known again, and what it prints is still written down.
# shellcheck source=lib.sh
. /usr/lib/lab/lib.sh

scope=/system.slice/bootagent-agents.scope
log=/var/log/bootagent/agents/keeper.log

logger() { cat /sys/fs/cgroup$scope/logger.process/cgroup.procs; }
start_time() { awk '{ print $22 }' "/proc/$1/stat"; }
group_of() { sed -n 's/^0:://p' "/proc/$1/cgroup"; }
limits_of() { (cd "/sys/fs/cgroup$(group_of "$1")" && cat memory.max cpu.max pids.max); }
what_it_is() {
    echo "pid $pid, started $(start_time "$pid"), in $(group_of "$pid"), limits:" && limits_of "$pid"
}
child_is_what_it_was() { [ "$(what_it_is)" = "$was" ]; }
child_is_known() { [ "$(field keeper pid)" = "$pid" ] && [ "$(field keeper status)" = running ]; }
another_logger_runs() { [ -n "$(logger)" ] && [ "$(logger)" != "$1" ]; }
limits_are_enforced() { [ "$(field keeper limits | jq -r .enforced_by)" = cgroup2 ]; }
# As many lines as there are, and then one more.
output_goes_on() {
    local lines
    lines=$(wc -l <$log)
    soon has_more_lines_than "$lines"
}
has_more_lines_than() { [ "$(wc -l <$log)" -gt "$1" ]; }

all_is_well() {
    check child_is_what_it_was
    soon child_is_known
    check limits_are_enforced
    output_goes_on
}

fresh "# every default"
child keeper '{"limits": {"CPU": "50%", "memory": "64M", "pids": 20}}' \
    /bin/sh -c 'while :; do echo tick; sleep 0.5; done'
soon is_in_state keeper running
pid=$(pid_of keeper)
was=$(what_it_is)
say "$was"
check [ "$(group_of "$pid")" = "$scope/keeper" ]
check [ "$(limits_of "$pid" | tr '\n' ' ')" = '67108864 50000 100000 20 ' ]
soon test -s $log
all_is_well

say 'kill -9'
kill_daemon
all_is_well

say 'systemctl restart'
old=$(daemon)
systemctl restart bootagent
check another_daemon_runs "$old"
all_is_well

say 'daemon-reload, and kill -9 after it'
systemctl daemon-reload
all_is_well
kill_daemon
all_is_well

say 'daemon-reexec, and kill -9 after it'
systemctl daemon-reexec
all_is_well
kill_daemon
all_is_well

say 'stop and start'
systemctl stop bootagent
check child_is_what_it_was
output_goes_on
systemctl daemon-reload
check child_is_what_it_was
systemctl start bootagent
all_is_well

say 'kill -9, three times in a row'
for _ in 1 2 3; do kill_daemon; done
all_is_well

say 'a killed logger comes back, and the child never notices'
old=$(logger)
kill -9 "$old"
soon another_logger_runs "$old"
all_is_well

say 'daemon and logger killed at once'
old=$(logger) old_daemon=$(daemon)
kill -9 "$old" "$old_daemon"
soon another_daemon_runs "$old_daemon"
soon another_logger_runs "$old"
all_is_well

say 'a logger that was the last process of the scope: the next child has limits again'
timeout 120 bootctl stop keeper
kill -9 "$(logger)"
soon another_logger_runs none
timeout 120 bootctl start keeper
soon is_in_state keeper running
pid=$(pid_of keeper)
check [ "$(limits_of "$pid" | tr '\n' ' ')" = '67108864 50000 100000 20 ' ]
output_goes_on
check [ "$(systemctl show -p Result --value bootagent)" = success ]
