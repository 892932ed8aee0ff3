#!/usr/bin/env bash
# Somebody sets the clock while mtr-prober measures: an hour forward, an hour back, to 1970. The kernel stamps
# answers by that clock, and some are always under way: no round trip is longer, shorter or lost for it, the report
# says that the clock was set, and what is ordered under a wrong clock is found again.
# shellcheck source=lib.sh
. /usr/lib/lab/lib.sh

far=10.8.0.2
kept=/run/lab/prober

clean_up() {
    pkill -x mtr-prober || true
    soon not pgrep -x mtr-prober
    ip netns delete far 2>/dev/null || true
    ip link delete near 2>/dev/null || true
    rm -rf $kept
}
set_right() { date -s "@$((right + $(uptime_seconds) - at))" >/dev/null; }
ask() { curl -sSg --max-time 60 "http://127.0.0.1:8081$1"; }
answers() { ask /healthz; }
order() { ask "/api/mtr?ip=$far&count=$1&interval=0.2" | jq -er .id; }
report() { ask "/api/mtr/$1?format=json"; }
sent() { report "$1" | jq '[.parts[]?.hops[]?.own.sent] | max // 0'; }
has_sent() { at_least "$(sent "$1")" "$2"; }
is_finished() { [ "$(report "$1" | jq -r .state)" = finished ]; }
# All of a report's probes to the target were answered in times a line of 300 ms may have.
is_true() {
    report "$1" | jq -e '.parts[0] as $part | $part.hops[-1] as $hop
        | $part.reached and $hop.own.sent > 0 and $hop.own.received == $hop.own.sent
        and $hop.statistics.timed > 0 and $hop.statistics.best >= 300000 and $hop.statistics.worst < 600000000
        and $part.ended_at.unix_ms >= $part.started_at.unix_ms'
}
says_the_clock_was_set() { report "$1" | jq -e 'any(.faults[]?; .fault == "clock_step")'; }
is_listed() { ask "/api/reports?target=$far&limit=100" | jq -e --arg id "$1" 'any(.. | .id?; . == $id)'; }

clean_up
right=$(date +%s) at=$(uptime_seconds)
modprobe -a veth sch_netem
ip netns add far
ip link add near type veth peer name far netns far
ip address add 10.8.0.1/24 dev near
ip link set near up
ip -n far address add $far/24 dev far
ip -n far link set far up
# Longer than the pause between two probes.
tc -n far qdisc add dev far root netem delay 300ms
mkdir -p $kept
STATE_DIRECTORY=$kept setsid mtr-prober >$kept/log 2>&1 &
soon answers

long=$(order 1000)
soon has_sent "$long" 3
for jump in '1 hour' '-1 hour' '1970-01-02'; do
    say "the clock is set to $jump"
    before=$(sent "$long")
    date -s "$jump"
    soon has_sent "$long" $((before + 5))
    short=$(order 5)
    soon is_finished "$short"
    check is_true "$short"
    soon is_listed "$short"
done
set_right
curl -sS --max-time 60 -X DELETE "http://127.0.0.1:8081/api/mtr/$long"
check is_true "$long"
check says_the_clock_was_set "$long"
clean_up
