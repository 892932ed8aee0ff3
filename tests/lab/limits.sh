#!/usr/bin/env bash
# Limits hold: memory ends the whole child with its cause, CPU is throttled, processes are refused.
# shellcheck source=lib.sh
. /usr/lib/lab/lib.sh

groups=/sys/fs/cgroup/system.slice/bootagent-agents.scope

told_of() { bootctl --json events | jq -e --arg category "$1" --arg text "$2" \
    'any(.events[]; .category == $category and (.message | contains($text)))'; }
value() { awk -v key="$2" '$1 == key { print $2 }' "$groups/$1"; }
used_cpu() { value "$1/cpu.stat" usage_usec; }
is_throttled() { at_least "$(value "$1/cpu.stat" nr_throttled)" 5; }
was_refused_a_process() { at_least "$(value "$1/pids.events" max)" 1; }
# reported NAME KEY LEAST: what a status and bootctl tell of a child's limits.
reported() { bootctl --json agents | jq -e --arg name "$1" --arg key "$2" --argjson least "$3" \
    '.status.agents[] | select(.name == $name) | .limits | .enforced_by == "cgroup2" and .[$key] >= $least'; }
processes() { wc -l <"$groups/$1/cgroup.procs"; }

fresh '[restart]' 'check = 1' 'holdoff = 600' 'stable = 900'

say 'memory: the child and its helper end together, and the cause is told'
child hungry '{"limits": {"memory": "20M"}}' /bin/sh -c 'sleep 987654 & tail /dev/zero'
soon is_in_state hungry killed
soon told_of killed 'memory limit 20M'
check not pgrep -f '^sleep 987654'
check reported hungry oom_kills 1

say 'CPU: a loop gets its share and no more'
child busy '{"limits": {"CPU": "20%"}}' /bin/sh -c 'while :; do :; done'
soon is_in_state busy running
soon is_throttled busy
from=$(date +%s%N) before=$(used_cpu busy)
sleep 5
used=$(($(used_cpu busy) - before)) microseconds=$((($(date +%s%N) - from) / 1000))
say "used $used of $microseconds microseconds"
# 20 %, and a period more.
check at_least $((microseconds / 5 + 200000)) "$used"
check reported busy throttled_periods 5
check reported busy throttled_seconds 0.1
check reported busy cpu_seconds 0.5
check reported busy memory_used 1

say 'pids: no more processes than allowed'
# shellcheck disable=SC2016 # perl's variables
child many '{"limits": {"pids": 8}}' /usr/bin/perl -e \
    'for (1..40) { my $pid = fork; last unless defined $pid; exec "sleep", 987 unless $pid } sleep 987'
soon was_refused_a_process many
check [ "$(processes many)" = 8 ]
check reported many refused_forks 1
check reported many pids_used 8
