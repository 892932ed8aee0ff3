#!/usr/bin/env bash
# The Debian tree in which packages are installed and which the lab boots: made once by mmdebstrap,
# kept in the user's cache under the hash of its recipe (this file), never written to afterwards.
# Prints the path of the tree. Needs root.
#
# Beside Debian's own packages its rpm database holds one package that stands for the libraries of
# CentOS 7 (glibc 2.17, libgcc 4.8) and for /bin/sh. So rpm checks our packages' dependencies there
# as it would on CentOS 7, and installing never needs --nodeps.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

suite=bookworm
include=systemd,systemd-sysv,dbus,udev,rpm,procps,psmisc,curl,jq,ca-certificates,kmod
include+=,ppp,pppoe,iproute2,iputils-ping,ethtool,tcpdump,snmpd,linux-image-amd64

[ $# -eq 0 ] || die "usage: contrib/tree.sh (it takes no arguments and prints the path of the tree)"
[ "$(id -u)" -eq 0 ] || die "making a Debian tree needs root"
recipe=$(sha256sum <"$0" | cut -c1-12)
tree=$cache/tree-$recipe

# base_package FOLDER: the package that stands for CentOS 7's libraries, built in FOLDER.
base_package() {
    local version
    {
        printf '%s\n' 'Name: centos7-base' 'Version: 7' 'Release: 1' 'License: MIT' 'BuildArch: noarch' \
            'Summary: What CentOS 7 provides to a program' 'Provides: /bin/sh' 'Provides: rtld(GNU_HASH)'
        for version in '' GLIBC_2.2.5 GLIBC_2.2.6 GLIBC_2.3 GLIBC_2.3.2 GLIBC_2.3.3 GLIBC_2.3.4 GLIBC_2.4 \
            GLIBC_2.5 GLIBC_2.6 GLIBC_2.7 GLIBC_2.8 GLIBC_2.9 GLIBC_2.10 GLIBC_2.11 GLIBC_2.12 \
            GLIBC_2.13 GLIBC_2.14 GLIBC_2.15 GLIBC_2.16 GLIBC_2.17; do
            printf 'Provides: libc.so.6(%s)(64bit)\n' "$version"
        done
        for version in '' GLIBC_2.2.5 GLIBC_2.2.6 GLIBC_2.3.2 GLIBC_2.3.3 GLIBC_2.3.4 GLIBC_2.4 GLIBC_2.11 \
            GLIBC_2.12; do
            printf 'Provides: libpthread.so.0(%s)(64bit)\n' "$version"
        done
        for version in '' GLIBC_2.2.5 GLIBC_2.3.3 GLIBC_2.3.4; do
            printf 'Provides: libdl.so.2(%s)(64bit)\n' "$version"
        done
        for version in '' GLIBC_2.2.5 GLIBC_2.3.3 GLIBC_2.3.4 GLIBC_2.4 GLIBC_2.7; do
            printf 'Provides: librt.so.1(%s)(64bit)\n' "$version"
        done
        for version in '' GLIBC_2.2.5 GLIBC_2.4 GLIBC_2.15; do
            printf 'Provides: libm.so.6(%s)(64bit)\n' "$version"
        done
        for version in '' GLIBC_2.2.5 GLIBC_2.3 GLIBC_2.4; do
            printf 'Provides: ld-linux-x86-64.so.2(%s)(64bit)\n' "$version"
        done
        for version in '' GCC_3.0 GCC_3.3 GCC_3.3.1 GCC_3.4 GCC_3.4.2 GCC_3.4.4 GCC_4.0.0 GCC_4.2.0 GCC_4.3.0 \
            GCC_4.7.0 GCC_4.8.0; do
            printf 'Provides: libgcc_s.so.1(%s)(64bit)\n' "$version"
        done
        printf '%s\n' '%description' 'Stands for the libraries of CentOS 7 in a test.' '%files'
    } >"$1/base.spec"
    rpmbuild --quiet --define "_topdir $1/rpmbuild" --define '_binary_payload w9.gzdio' -bb "$1/base.spec" >&2
}

make_tree() {
    local work=$1
    # The suite's signing key comes with the package debian-archive-keyring, also on Ubuntu.
    mmdebstrap --quiet --variant=apt --mode=root --include="$include" \
        --aptopt='Acquire::Retries "3"' "$suite" "$work/tree" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} </dev/null >&2
    rm -rf "$work/tree"/var/cache/apt/archives/*.deb "$work/tree"/var/lib/apt/lists/*
    printf 'lab\n' >"$work/tree/etc/hostname"
    : >"$work/tree/etc/fstab"
    # A clone of this tree is a new machine.
    : >"$work/tree/etc/machine-id"
    # A getty on the console hangs it up under whoever writes there.
    ln -sf /dev/null "$work/tree/etc/systemd/system/serial-getty@ttyS0.service"
    ln -sf /dev/null "$work/tree/etc/systemd/system/getty@tty1.service"
    base_package "$work"
    cp "$work"/rpmbuild/RPMS/noarch/centos7-base-7-1.noarch.rpm "$work/tree/root/"
    chroot "$work/tree" rpm -i --force-debian /root/centos7-base-7-1.noarch.rpm </dev/null >&2
    rm "$work/tree/root/centos7-base-7-1.noarch.rpm"
}

mkdir -p "$cache"
# Two test runs at once: the second one waits for the first one's tree.
exec 9>"$cache/tree.lock"
flock -w 1800 9 || die "another run holds $cache/tree.lock for half an hour"
if [ ! -d "$tree" ]; then
    need mmdebstrap=mmdebstrap rpmbuild=rpm rpm=rpm
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || install_packages debian-archive-keyring
    say "making the Debian tree (once, some minutes)"
    rm -rf "$tree.part"
    mkdir -p "$tree.part"
    make_tree "$tree.part"
    mv "$tree.part/tree" "$tree"
    rm -rf "$tree.part"
fi
touch "$tree"
# Trees of older recipes that nobody has asked for lately.
find "$cache" -maxdepth 1 -name 'tree-*' ! -path "$tree" -type d -mtime +14 -exec rm -rf {} +
printf '%s\n' "$tree"
