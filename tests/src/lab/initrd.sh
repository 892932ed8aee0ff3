#!/usr/bin/env bash
# Makes the smallest initramfs that mounts the lab's disk: Debian's own unpacks 36 MB and starts a udev, which
# is a third of an emulated boot.
#
#   initrd.sh ROOT INITRD
#
# ROOT is a Debian tree with one kernel, kmod and klibc's programs; it is not changed.
set -euo pipefail
root=$1 initrd=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
kernel=$(basename "$root"/lib/modules/*)
mkdir "$folder"/{bin,lib,dev,root}
cp "$root"/lib/klibc-*.so "$folder/lib/"
cp "$root"/usr/lib/klibc/bin/{sh,insmod,mount,run-init,sleep} "$folder/bin/"
{
    printf '#!/bin/sh\nset -e\n'
    # Each after those it needs.
    for module in virtio_pci virtio_blk ext4; do
        chroot "$root" modprobe -S "$kernel" --show-depends "$module"
    done | sed -n 's/^insmod //p' | awk '!seen[$1]++ { print $1 }' | while read -r file; do
        cp "$root$file" "$folder/lib/"
        printf 'insmod /lib/%s\n' "$(basename "$file")"
    done
    cat <<'INIT'
mount -t devtmpfs devtmpfs /dev
# It comes when its driver has looked for it.
until [ -b /dev/vda ]; do sleep 0.1; done
mount -t ext4 /dev/vda /root
mount -o move /dev /root/dev
exec run-init /root /sbin/init </root/dev/console >/root/dev/console 2>&1
INIT
} >"$folder/init"
chmod 0755 "$folder/init"
(cd "$folder" && find . | cpio --quiet -o -H newc) >"$initrd"
