#!/usr/bin/env bash
# Makes the disk of the lab's guests: the Debian tree with our package in it and the guest's side of
# the lab (serve.sh as a service, tests/lab/lib.sh for scenarios); and the initramfs that mounts it. The tree
# itself is not written to.
#
#   image.sh TREE PACKAGE.deb PROGRAMS MTR_PROBER IMAGE INITRD
#
# PROGRAMS is a folder with programs to be tested instead of the packaged ones, or empty; MTR_PROBER is that program.
set -euo pipefail

if [ "$1" != --inside ]; then
    here=$(cd "$(dirname "$0")" && pwd)
    exec unshare --mount bash "$0" --inside "$here" "$@"
fi
here=$2 tree=$3 package=$4 programs=$5 prober=$6 image=$7 initrd=$8

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
# In a container whose own root is an overlay some kernels refuse: then it is a copy in memory.
mount -t overlay -o "lowerdir=$tree,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root 2>/dev/null ||
    cp -a "$tree/." /mnt/root/
root=/mnt/root

# It outlives this script as the guest's own disk; /proc is only for the scriptlets.
mount -t proc proc "$root/proc"
cp "$package" "$root/root/package.deb"
chroot "$root" dpkg -i /root/package.deb </dev/null >&2
rm "$root/root/package.deb"
umount "$root/proc"
[ -z "$programs" ] || {
    install -m 0755 "$programs/bootagent" "$root/usr/sbin/bootagent"
    install -m 0755 "$programs/bootctl" "$root/usr/bin/bootagentctl"
}

install -m 0755 "$prober" "$root/usr/bin/mtr-prober"

install -D -m 0755 "$here/serve.sh" "$root/usr/lib/lab/serve.sh"
install -D -m 0644 "$here/../../lab/lib.sh" "$root/usr/lib/lab/lib.sh"
cat >"$root/etc/systemd/system/lab.service" <<'UNIT'
[Unit]
Description=The guest's side of the lab
After=bootagent.service

[Service]
ExecStart=/usr/lib/lab/serve.sh
KillMode=process
OOMScoreAdjust=-1000
UNIT
# The packaged unit, but for the pause that a kill -9 would otherwise cost each time, and for what a start may
# take on a machine that emulates and is busy.
install -d "$root/etc/systemd/system/bootagent.service.d"
printf '[Service]\nRestartSec=500ms\nTimeoutStartSec=900\n' >"$root/etc/systemd/system/bootagent.service.d/lab.conf"
wants=$root/etc/systemd/system/multi-user.target.wants
mkdir -p "$wants"
ln -s ../lab.service "$wants/lab.service"
# A second disk, if there is one, has what BootAgent keeps.
cat >"$root/etc/systemd/system/lab-state.service" <<'UNIT'
[Unit]
Description=What BootAgent keeps is on a disk of its own
Before=bootagent.service
ConditionKernelCommandLine=lab.state

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'until [ -b /dev/vdb ]; do sleep 0.2; done; mount -t ext4 /dev/vdb /var/lib/bootagent'
TimeoutStartSec=300
UNIT
mkdir -p "$root/etc/systemd/system/bootagent.service.requires"
ln -s ../lab-state.service "$root/etc/systemd/system/bootagent.service.requires/lab-state.service"
# What no scenario needs costs seconds of every emulated boot.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer motd-news.timer snmpd.service systemd-pcrphase.service systemd-pcrphase-sysinit.service \
    systemd-timesyncd.service systemd-update-utmp.service systemd-update-utmp-runlevel.service \
    systemd-user-sessions.service systemd-logind.service \
    modprobe@{drm,dm_mod,fuse,loop,configfs,efi_pstore}.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount getty.target; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

bash "$here/initrd.sh" "$root" "$initrd"

rm -f "$image"
# Room for what scenarios write; the file is sparse. Nothing is kept for root, and there are few inodes, so
# that either can be used up quickly.
mke2fs -q -t ext4 -L lab -m 0 -N $(($(find "$root" -xdev | wc -l) + 4000)) -d "$root" "$image" 1600M
