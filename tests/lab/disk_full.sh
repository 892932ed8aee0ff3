#!/usr/bin/env bash
# The disk has no byte left, then no inode: supervision and pushes go on, the status says so, a BootAgent
# that is killed comes back, and what was wanted meanwhile is on disk once there is room again.
# shellcheck source=lib.sh
. /usr/lib/lab/lib.sh

ballast=/var/lab-ballast

# Each can be called again, for what has become free meanwhile.
no_bytes() {
    local name=$ballast/$SRANDOM
    fallocate -l "$(df --output=avail -B1 / | tail -n 1)" "$name" 2>/dev/null || true
    dd if=/dev/zero of="$name.rest" bs=64K status=none 2>/dev/null || true
    dd if=/dev/zero of="$name.last" bs=512 status=none 2>/dev/null || true
}
no_inodes() {
    perl -e 'my $i = 0; while (open my $file, ">", $ARGV[0] . $i++) { }' "$ballast/$SRANDOM."
}
fill_up() {
    mkdir -p $ballast
    until is_full; do "no_$lack"; done
}
room_again() { rm -rf $ballast; }
is_full() { ! { echo something >/var/lib/bootagent/probe; } 2>/dev/null || { rm -f /var/lib/bootagent/probe && false; }; }

wanted_on_disk() { jq -e --arg name "$1" --argjson wanted "$2" \
    '.children[$name].wanted_running == $wanted' $state/metafile.json; }
steady_is_untouched() { [ "$(field steady pid)" = "$pid" ]; }
failed_one_runs_again() { [ "$(field other status)" = running ] && [ "$(field other pid)" != "$1" ]; }
told_the_server() { grep -q "\"category\":\"crash\",\"subject\":\"other\"" "$asked"; }

room_again
serve
fresh '[push]' 'min_step = 1' 'step = 2' '[restart]' 'check = 1' 'holdoff = 2' 'max_anomalies = 1000'
agentsn=$(jq -r .agentsn $state/metafile.json)
child steady '{}' /bin/sleep 987654
child other '{}' /bin/sleep 987655
child third '{}' /bin/sleep 987656
for name in steady other third; do soon is_in_state $name running; done
pid=$(pid_of steady)

for lack in bytes inodes; do
    say "no $lack left"
    soon wanted_on_disk third true
    : >"$asked"
    fill_up
    old=$(pid_of other)
    kill -9 "$old"
    soon failed_one_runs_again "$old"
    soon told_the_server
    kill_daemon
    soon steady_is_untouched
    fill_up
    timeout 120 bootctl stop third || true
    check is_in_state third stoped
    soon notices_name 'only in memory'
    fill_up

    say "there is room again"
    room_again
    soon wanted_on_disk third false
    soon not notices_name 'only in memory'
    check [ "$(jq -r .agentsn $state/metafile.json)" = "$agentsn" ]
    kill_daemon
    soon steady_is_untouched
    check is_in_state third stoped
    timeout 120 bootctl start third
done
