#!/usr/bin/env bash
# Somebody sets the clock: an hour forward, an hour back, to 1970. Nothing is restarted, nothing comes
# early, nothing stalls.
# shellcheck source=lib.sh
. /usr/lib/lab/lib.sh

starts=/var/lib/bootagent/agents/failing/starts
holdoff=6

set_right() { date -s "@$((right + $(uptime_seconds) - at))" >/dev/null; }
started_times() { at_least "$(wc -l <$starts)" "$1"; }
asked_times() { at_least "$(wc -l <"$asked")" "$1"; }
# Seconds since boot between the last two starts of the failing child.
last_pause() { tail -n 2 $starts | awk 'NR == 1 { first = $1 } END { print int($1 - first) }'; }
steady_is_untouched() { [ "$(field steady pid)" = "$pid" ] && [ -d "/proc/$pid" ]; }

right=$(date +%s) at=$(uptime_seconds)
serve
fresh '[push]' 'min_step = 1' 'step = 3' '[restart]' 'check = 1' "holdoff = $holdoff" 'max_anomalies = 1000'
child steady '{}' /bin/sleep 987654
# shellcheck disable=SC2016 # the child's shell expands it
child failing '{}' /bin/sh -c 'cut -d" " -f1 /proc/uptime >>"$STATE_DIRECTORY/starts"; exit 1'
soon is_in_state steady running
pid=$(pid_of steady)

for jump in '1 hour' '-1 hour' '1970-01-02'; do
    say "the clock is set to $jump"
    soon test -e $starts
    before=$(wc -l <$starts) age=$(field steady uptime)
    soon started_times $((before + 1))
    pushes=$(wc -l <"$asked")
    date -s "$jump"
    # The pending start and the pending push come when they had to come.
    soon started_times $((before + 2))
    check at_least "$(last_pause)" $holdoff
    soon asked_times $((pushes + 3))
    check steady_is_untouched
    check at_least "$(field steady uptime)" "$age"
    check at_least $((age + 300)) "$(field steady uptime)"
done
set_right
check steady_is_untouched
say "$(wc -l <"$asked") statuses, $(wc -l <$starts) starts"
# About one each 3 s, whatever the clock did: no storm.
check at_least $((($(uptime_seconds) - at) / 2 + 15)) "$(wc -l <"$asked")"
