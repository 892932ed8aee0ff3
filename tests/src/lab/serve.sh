#!/usr/bin/env bash
# The guest's side of the lab, its service: runs what the test sends over the port, one at a time.
#
#   from the test   run NAME SECONDS BYTES, a line feed, and BYTES of script
#   to the test     ready BOOT_ID, once; then for each run: its output, each line after a '|',
#                   and: end EXIT_CODE (124 when it was ended at its deadline)
#
# Each run is a scope of its own: what it leaves running ends with it.
set -u
port=/dev/virtio-ports/lab
work=/run/lab

mkdir -p "$work"
# The first card reaches the test's machine at 10.0.2.2. There is no name service.
ip link set lo up
# Its driver may be loaded later than this begins.
until [ -e /sys/class/net/eth0 ]; do sleep 0.2; done
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2

until [ -e "$port" ]; do sleep 0.2; done
exec 3<>"$port"
printf 'ready %s\n' "$(cat /proc/sys/kernel/random/boot_id)" >&3
while read -r word name seconds bytes <&3; do
    [ "$word" = run ] || continue
    script=$work/$name.sh log=$work/$name.log
    head -c "$bytes" <&3 >"$script"
    : >"$log"
    systemd-run --scope --quiet --collect --unit="lab-$name" \
        timeout --kill-after=10 "$seconds" bash "$script" </dev/null >>"$log" 2>&1 3<&- &
    run=$!
    # A file and not a pipe: what the script leaves running would hold a pipe open.
    tail -s 0.2 -n +1 -f --pid=$run "$log" 3<&- | sed -u 's/^/|/' >&3
    wait $run
    code=$?
    systemctl kill --signal=KILL "lab-$name.scope" 2>/dev/null
    # What it laid over a program, and was ended at its deadline before it took it away.
    grep -o ' /usr/s\?bin/[^ ]*' /proc/mounts | while read -r place; do umount -l "$place"; done 2>/dev/null
    # The output may have ended without a line feed.
    printf '\nend %s\n' "$code" >&3
done
