#!/bin/bash
# Starts a throwaway Debian machine and ends it when stdin ends, whatever happened to the caller.
#
#   machine.sh TREE systemd|shell CONSOLE
#
# The tree is read only; what the machine writes is in memory and gone with it. It has its own mounts,
# process ids, cgroups, network, host name. Prints "init PID" when commands can be run in it:
# PID is its first process, seen from outside. CONSOLE is the file for what that process prints.
set -eu

if [ "$1" = --inside ]; then
    tree=$2 first=$3 ready=$4
    mount --make-rprivate /
    mount -t tmpfs -o mode=755 tmpfs /mnt
    mkdir /mnt/upper /mnt/work /mnt/root
    # In a container whose own root is an overlay some kernels refuse: then it is a copy in memory.
    mount -t overlay -o "lowerdir=$tree,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root 2>/dev/null ||
        { mount --bind /mnt/root /mnt/root && cp -a "$tree/." /mnt/root/; }
    cd /mnt/root
    mount -t proc proc proc
    mount -t sysfs -o ro sysfs sys
    if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
        mount -t cgroup2 cgroup2 sys/fs/cgroup
    else
        # cgroup v1: the same hierarchies as outside. systemd would mount the controllers in its own
        # combinations (cpu with cpuacct), which fails where the kernel has them in others.
        mount -t tmpfs tmpfs sys/fs/cgroup
        mkdir sys/fs/cgroup/systemd
        mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
        for hierarchy in /sys/fs/cgroup/*; do
            controllers=$(basename "$hierarchy")
            # Combined controllers have links with the single names beside them.
            if [ -L "$hierarchy" ] || [ "$controllers" = systemd ] ||
                [ "$(stat -f -c %T "$hierarchy")" != cgroupfs ]; then
                continue
            fi
            mkdir "sys/fs/cgroup/$controllers"
            mount -t cgroup -o "$controllers" cgroup "sys/fs/cgroup/$controllers" ||
                rmdir "sys/fs/cgroup/$controllers"
        done
    fi
    mount -t tmpfs -o mode=755 tmpfs dev
    for device in null zero full random urandom tty; do
        : >"dev/$device"
        mount --bind "/dev/$device" "dev/$device"
    done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    mount -t tmpfs -o mode=755 tmpfs run
    mount -t tmpfs tmpfs tmp
    mkdir -p .outside
    exec 3>"$ready"
    pivot_root . .outside
    cd /
    umount -l /.outside
    printf 'ready\n' >&3
    exec 3>&-
    if [ "$first" = systemd ]; then
        exec env -i container=bootagent-test PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --log-target=console
    fi
    # It reaps whatever loses its parent, as a first process must.
    exec env -i PATH=/usr/sbin:/usr/bin /bin/sh -c 'trap : TERM; while :; do sleep 3600 & wait; done'
fi

tree=$1 first=$2 console=$3
folder=$(mktemp -d)
name=bootagent-test-$$
groups=()
child=

end() {
    # The shell would report the kill below.
    exec 2>/dev/null
    [ -z "$child" ] || kill -KILL "$child" || true
    wait || true
    for group in "${groups[@]}"; do
        # The last process of a dead namespace may need a moment to leave.
        for _ in $(seq 50); do
            find "$group" -depth -type d -exec rmdir {} + || true
            [ -d "$group" ] || break
            sleep 0.1
        done
    done
    rm -rf "$folder"
}
trap end EXIT
trap 'exit 1' TERM INT

# A cgroup of its own in every hierarchy becomes the root that the machine sees.
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ -f "$hierarchy/cgroup.procs" ] || continue
    case $(stat -f -c %T "$hierarchy") in cgroup2fs | cgroupfs) ;; *) continue ;; esac
    # On v2 the folders below the first one are ordinary groups.
    [ "$hierarchy" = /sys/fs/cgroup ] || [ ! -f /sys/fs/cgroup/cgroup.procs ] || continue
    mkdir "$hierarchy/$name"
    groups+=("$hierarchy/$name")
    for file in cpuset.cpus cpuset.mems; do
        # v1 takes no process into a group without them.
        if [ -f "$hierarchy/$file" ] && [ "$(stat -f -c %T "$hierarchy")" = cgroupfs ]; then
            cat "$hierarchy/$file" >"$hierarchy/$name/$file"
        fi
    done
done

mkfifo "$folder/ready"
(
    for group in "${groups[@]}"; do echo "$BASHPID" >"$group/cgroup.procs"; done
    exec unshare --mount --pid --fork --kill-child --cgroup --net --uts --ipc \
        bash "$0" --inside "$tree" "$first" "$folder/ready"
) </dev/null >"$console" 2>&1 &
child=$!
# Opened for both directions, so that a child that dies early does not leave us waiting in open().
exec 4<>"$folder/ready"
tries=0
until read -r -t 0.2 _ <&4; do
    tries=$((tries + 1))
    if [ $tries -gt 600 ] || ! kill -0 "$child" 2>/dev/null; then
        printf 'the machine did not come up: %s\n' "$(tail -n 5 "$console")" >&2
        exit 1
    fi
done
# The kernel writes no newline there, which read calls a failure.
read -r init _ <"/proc/$child/task/$child/children" || [ -n "$init" ]
printf 'init %s\n' "$init"
cat >/dev/null
