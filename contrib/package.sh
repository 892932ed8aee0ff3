#!/usr/bin/env bash
# Makes packages for CentOS 7 and everything since: usage() below says how, target/packages has them.
# Prints the path of each package it made.
#
# 1. The programs are built in release mode against glibc 2.17 (zig is the linker), and refused when
#    they would need a newer one.
# 2. They are laid out once as they will lie on a host (target/packages/work/NAME/stage).
# 3. rpmbuild, dpkg-deb and tar put that same layout into their formats; packaging/ has the rest.
#
# Packages whose inputs (sources, packaging, version, server list) have not changed are not made again.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# Tried together; a newer pair needs a run of tests/tests/packaging.rs.
zig_version=0.17.0
cargo_zigbuild_version=0.24.1
target=x86_64-unknown-linux-gnu
glibc=2.17
packaging=$repository/packaging
output=$repository/target/packages

usage() {
    cat >&2 <<TEXT
usage: contrib/package.sh NAME VERSION-RELEASE [rpm|deb|bundle|all]

  contrib/package.sh BootAgent 1.2.1-1         the RPM of BootAgent
  contrib/package.sh BootAgent 1.2.1-1 all     its RPM and its .deb
  contrib/package.sh flux-push 0.1.0-1         RPM, .deb and bundle of a sub-agent
  contrib/package.sh bootserver 0.1.0-1        RPM and .deb of the server

BOOT_SERVER_ADDR="HOST:PORT,HOST2" in the environment is compiled into BootAgent.
BOOT_PROGRAMS=FOLDER has programs that were built elsewhere: nothing is built, and the package
needs the glibc that they need.
Names: BootAgent bootserver $(cd "$repository/subagents" && printf '%s ' */ | tr -d /)
TEXT
    exit 2
}

wrong() {
    say "$*"
    usage
}

# ---- what is asked for ----

[ $# -eq 2 ] || [ $# -eq 3 ] || wrong "expected a name, a version and at most a kind, got $# arguments"
name=$1 full_version=$2
case ${name,,} in
bootagent) name=bootagent ;;
esac
[[ $name =~ ^[A-Za-z0-9_-]{1,50}$ ]] || wrong "'$name' is no agent's name"
is_agent=yes
case $name in
bootagent | bootserver) is_agent=no ;;
*) [ -f "$repository/subagents/$name/Cargo.toml" ] || wrong "there is no agent '$name'" ;;
esac
# The characters that rpm and dpkg both take.
[[ $full_version =~ ^[0-9][A-Za-z0-9.+~]*-[0-9][A-Za-z0-9.+~]*$ ]] ||
    wrong "'$full_version' is no version; write VERSION-RELEASE, such as 1.2.1-1"
version=${full_version%-*} release=${full_version##*-}
usual=all
[ "$name" != bootagent ] || usual=rpm
kind=${3:-$usual}
case $kind in
rpm | deb) kinds=$kind ;;
bundle)
    [ "$name" != bootagent ] || wrong "BootAgent has no bundle: it is what unpacks bundles"
    [ "$name" != bootserver ] || wrong "bootserver has no bundle: it is no agent"
    kinds=$kind
    ;;
all)
    kinds="rpm deb"
    [ "$is_agent" = no ] || kinds+=" bundle"
    ;;
*) wrong "'$kind' is no kind of package; it is rpm, deb, bundle or all" ;;
esac
# dpkg knows neither capitals nor '_' in a name.
deb_name=$(printf '%s' "${name,,}" | tr _ -)
profile=release
case $name in
bootagent)
    sources=(protocol bootagent)
    programs=(bootagent bootctl)
    ;;
bootserver)
    sources=(protocol bootserver)
    programs=(bootserver)
    profile=server
    ;;
*)
    sources=(protocol bootagent/kit "subagents/$name")
    programs=("$name")
    ;;
esac

package_path() {
    case $1 in
    rpm) printf '%s\n' "$output/$name-$full_version.x86_64.rpm" ;;
    deb) printf '%s\n' "$output/${deb_name}_${full_version}_amd64.deb" ;;
    bundle) printf '%s\n' "$output/$name-$full_version.x86_64.bundle.tar.gz" ;;
    esac
}

# ---- what it is made from ----

# hash PATH...: one hash of files and folders, of what is asked for and of the compiled-in servers.
hash() {
    {
        printf '%s\n' "$name" "$full_version" "${BOOT_SERVER_ADDR:-}"
        [ -z "${BOOT_PROGRAMS:-}" ] || (cd "$BOOT_PROGRAMS" && sha256sum "${programs[@]}")
        cd "$repository"
        find "$@" -type f -print0 | sort -zu | xargs -0 sha256sum
    } | sha256sum | cut -d' ' -f1
}

install_tools() {
    need objdump=binutils gzip=gzip
    case " $kinds " in *" rpm "*) need rpmbuild=rpm ;; esac
    case " $kinds " in *" deb "*) need dpkg-deb=dpkg ;; esac
    [ -z "${BOOT_PROGRAMS:-}" ] || return 0
    need_rust
    # The cache belongs to all clones: the second one waits for the first one's tools.
    mkdir -p "$cache"
    exec 8>"$cache/tools.lock"
    flock -w 3600 8 || die "another run holds $cache/tools.lock for an hour"
    local zig=$cache/zig-$zig_version
    if [ ! -x "$zig/bin/zig" ]; then
        need python3=python3
        python3 -c 'import venv, ensurepip' 2>/dev/null || {
            [ "$(id -u)" -eq 0 ] || die "python3 has no venv; install it with: sudo apt-get install python3-venv"
            install_packages python3-venv
        }
        say "installing zig $zig_version (once, into $zig)"
        rm -rf "$zig.part" "$zig"
        python3 -m venv "$zig.part" >&2
        "$zig.part/bin/pip" install --quiet --disable-pip-version-check "ziglang==$zig_version" >&2
        local package
        package=$("$zig.part/bin/python" -c 'import ziglang, os; print(os.path.dirname(ziglang.__file__))')
        ln -s "..${package#"$zig.part"}/zig" "$zig.part/bin/zig"
        mv "$zig.part" "$zig"
    fi
    local zigbuild=$cache/cargo-zigbuild-$cargo_zigbuild_version
    if [ ! -x "$zigbuild/bin/cargo-zigbuild" ]; then
        say "installing cargo-zigbuild $cargo_zigbuild_version (once, into $zigbuild)"
        (cd / && cargo install --quiet --locked --root "$zigbuild" \
            "cargo-zigbuild@$cargo_zigbuild_version") </dev/null >&2
    fi
    exec 8>&-
    export CARGO_ZIGBUILD_ZIG_PATH=$zig/bin/zig
    PATH=$zigbuild/bin:$PATH
    (cd "$repository" && rustc --print target-libdir --target "$target" | xargs test -d) || {
        command -v rustup >/dev/null || die "the Rust target $target is missing, and rustup too"
        (cd "$repository" && rustup target add "$target") >&2
    }
}

# build FOLDER: the programs, in FOLDER. Kept apart for each version, because cargo keeps only the last one.
build() {
    local folder=$1 inputs
    inputs=$(hash Cargo.toml Cargo.lock .cargo rust-toolchain.toml contrib/package.sh "${sources[@]}")
    [ "$(cat "$folder/inputs" 2>/dev/null)" != "$inputs" ] || return 0
    if [ -n "${BOOT_PROGRAMS:-}" ]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        (cd "$BOOT_PROGRAMS" && install -m 0755 "${programs[@]}" "$folder/")
        printf '%s\n' "$inputs" >"$folder/inputs"
        return 0
    fi
    say "building $name $full_version"
    (cd "$repository" && BOOTAGENT_VERSION=$full_version cargo zigbuild --quiet --locked --profile "$profile" \
        --target "$target.$glibc" --target-dir target -p "$name" --bins) </dev/null >&2
    rm -rf "$folder"
    mkdir -p "$folder"
    (cd "$repository/target/$target/$profile" && install -m 0755 "${programs[@]}" "$folder/")
    printf '%s\n' "$inputs" >"$folder/inputs"
}

# needs_only_old_glibc FILE...: CentOS 7 could not start a program with a newer symbol version.
needs_only_old_glibc() {
    local file newest
    for file in "$@"; do
        newest=$(objdump -T "$file" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | { cat; echo "$glibc"; } |
            sort -V | tail -1)
        # What was built elsewhere is packaged as it is, and the package says what it needs.
        [ -z "${BOOT_PROGRAMS:-}" ] || glibc=$newest
        [ "$newest" = "$glibc" ] || die "$file needs glibc $newest; CentOS 7 has $glibc"
    done
}

# ---- how it lies on a host ----

stage_bootagent() {
    local built=$1 stage=$2
    install -D -m 0755 "$built/bootagent" "$stage/usr/sbin/bootagent"
    # systemd's packages own the name bootctl; steps.sh links it where it is free.
    install -D -m 0755 "$built/bootctl" "$stage/usr/bin/bootagentctl"
    install -D -m 0644 "$packaging/bootagent.service" "$stage/usr/lib/systemd/system/bootagent.service"
    install -D -m 0644 "$packaging/bootagent-watcher.service" \
        "$stage/usr/lib/systemd/system/bootagent-watcher.service"
    # Wanted by the boot itself: nothing has to be enabled, and nobody disables it.
    install -d -m 0755 "$stage/usr/lib/systemd/system/multi-user.target.wants"
    ln -s ../bootagent-watcher.service "$stage/usr/lib/systemd/system/multi-user.target.wants/"
    install -D -m 0644 "$packaging/bootagent.tmpfiles" "$stage/usr/lib/tmpfiles.d/bootagent.conf"
    install -D -m 0644 "$packaging/bootagent.toml" "$stage/usr/share/doc/bootagent/bootagent.toml"
    local page target
    for page in "$packaging"/man/*; do
        target=$stage/usr/share/man/man${page##*.}/$(basename "$page").gz
        install -D -m 0644 /dev/null "$target"
        gzip -9nc "$page" >"$target"
    done
    for page in "$packaging"/completion/*.bash; do
        install -D -m 0644 "$page" "$stage/usr/share/bash-completion/completions/$(basename "$page" .bash)"
    done
    install -d -m 0755 "$stage/usr/lib/bootagent/agents" "$stage/etc/bootagent" \
        "$stage/var/lib/bootagent" "$stage/var/log/bootagent"
}

stage_bootserver() {
    local built=$1 stage=$2 from=$packaging/bootserver
    install -D -m 0755 "$built/bootserver" "$stage/usr/bin/bootserver"
    install -D -m 0644 "$from/bootserver.service" "$stage/usr/lib/systemd/system/bootserver.service"
    install -D -m 0644 "$from/bootserver.sysusers" "$stage/usr/lib/sysusers.d/bootserver.conf"
    install -D -m 0640 "$from/config.toml" "$stage/etc/bootserver/config.toml"
    install -D -m 0644 "$from/bootserver.bash" "$stage/usr/share/bash-completion/completions/bootserver"
    install -D -m 0644 /dev/null "$stage/usr/share/man/man8/bootserver.8.gz"
    gzip -9nc "$from/bootserver.8" >"$stage/usr/share/man/man8/bootserver.8.gz"
}

# The manifest, and beside it the program and what lies in subagents/NAME/files.
stage_agent() {
    local built=$1 stage=$2
    local folder=$stage/usr/lib/bootagent/agents/$name manifest=$repository/subagents/$name/agent.json
    [ -f "$manifest" ] || die "$manifest is missing: BootAgent could not run the package"
    [ "$(grep -c '^  "version": "[^"]*",\{0,1\}$' "$manifest")" -eq 1 ] ||
        die "$manifest must have one top-level line '  \"version\": \"...\"', where the package's version goes"
    install -d -m 0755 "$folder"
    sed "s/^  \"version\": \"[^\"]*\"/  \"version\": \"$full_version\"/" "$manifest" >"$folder/agent.json"
    chmod 0644 "$folder/agent.json"
    install -m 0755 "$built/$name" "$folder/$name"
    if [ -d "$repository/subagents/$name/files" ]; then
        cp -R "$repository/subagents/$name/files/." "$folder/"
        chmod -R u=rwX,go=rX "$folder"
    fi
    # What it wants of the kernel. A bundle has no place for it.
    if [ -f "$repository/subagents/$name/sysctl.conf" ]; then
        install -D -m 0644 "$repository/subagents/$name/sysctl.conf" "$stage/usr/lib/sysctl.d/50-$name.conf"
    fi
}

# scriptlet OUT MOMENT: a complete script from the shared steps and the few lines of this moment.
scriptlet() {
    local steps=$packaging/steps.sh
    [ "$name" != bootserver ] || steps=$packaging/bootserver/steps.sh
    {
        printf '#!/bin/sh\nset -e\n'
        [ "$name" = bootserver ] || printf 'agent=%s\n' "$name"
        sed '/^# shellcheck /d' "$steps"
        printf '\n# ---- now ----\n'
        sed '/^# shellcheck /d' "$2"
        # An if that did not run its body is no failure, whatever the shell thinks of it.
        printf 'exit 0\n'
    } >"$1"
    chmod 0755 "$1"
}

# ---- the formats ----

make_rpm() {
    local out=$1 work=$2 moment spec=$packaging/bootagent.spec sysctl='%{nil}'
    mkdir "$work/rpm"
    [ ! -d "$work/stage/usr/lib/sysctl.d" ] || sysctl=/usr/lib/sysctl.d/50-$name.conf
    case $name in
    bootagent)
        for moment in pre post preun postun; do scriptlet "$work/rpm/$moment" "$packaging/rpm/$moment"; done
        ;;
    bootserver)
        spec=$packaging/bootserver/bootserver.spec
        for moment in post preun postun; do
            scriptlet "$work/rpm/$moment" "$packaging/bootserver/rpm-$moment"
        done
        ;;
    *)
        spec=$packaging/agent/agent.spec
        for moment in pre preun; do scriptlet "$work/rpm/$moment" "$packaging/agent/rpm-$moment"; done
        ;;
    esac
    # gzip and SHA-256 are what rpm 4.11 reads; nothing may be stripped, compiled or linked behind our
    # back, and no name of the build machine goes into the package.
    rpmbuild --quiet -bb --target x86_64-linux \
        --define "_topdir $work/rpmbuild" --define "_rpmdir $work/rpmbuild" \
        --define "_rpmfilename out.rpm" --define "_buildhost localhost" \
        --define "package_name $name" --define "package_version $version" --define "package_release $release" \
        --define "stage $work/stage" --define "scriptlets $work/rpm" --define "sysctl $sysctl" \
        --define "_binary_payload w9.gzdio" --define "_source_payload w9.gzdio" \
        --define "_binary_filedigest_algorithm 8" --define "_source_filedigest_algorithm 8" \
        --define "debug_package %{nil}" --define "__os_install_post %{nil}" \
        --define "_build_id_links none" --define "_missing_doc_files_terminate_build 1" \
        --define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1" \
        "$spec" </dev/null >&2
    mv "$work/rpmbuild/out.rpm" "$out"
}

make_deb() {
    local out=$1 work=$2 moment control depends size
    local root=$work/deb
    cp -a "$work/stage" "$root"
    mkdir "$root/DEBIAN"
    case $name in
    bootagent)
        control=$packaging/deb/control
        for moment in preinst postinst prerm postrm; do
            scriptlet "$root/DEBIAN/$moment" "$packaging/deb/$moment"
        done
        ;;
    bootserver)
        control=$packaging/bootserver/deb-control
        for moment in preinst postinst prerm postrm; do
            scriptlet "$root/DEBIAN/$moment" "$packaging/bootserver/deb-$moment"
        done
        # Kept over an upgrade as its operator left it.
        printf '/etc/bootserver/config.toml\n' >"$root/DEBIAN/conffiles"
        ;;
    *)
        control=$packaging/agent/deb-control
        for moment in preinst prerm postrm; do
            scriptlet "$root/DEBIAN/$moment" "$packaging/agent/deb-$moment"
        done
        ;;
    esac
    depends="libc6 (>= $glibc)"
    if find "$work/stage" -type f -perm -100 -exec objdump -p {} + 2>/dev/null |
        grep -q 'NEEDED *libgcc_s.so.1'; then
        # Its name until Debian 10 and Ubuntu 18.04 is the second one.
        depends+=", libgcc-s1 | libgcc1"
    fi
    size=$(du -sk --apparent-size "$work/stage" | cut -f1)
    sed -e "s/@VERSION@/$full_version/; s/@DEPENDS@/$depends/; s/@SIZE@/$size/" \
        -e "s/@PACKAGE@/$deb_name/; s/@NAME@/$name/g" "$control" >"$root/DEBIAN/control"
    (cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z |
        xargs -0 md5sum >DEBIAN/md5sums)
    # gzip: dpkg before Debian 12 reads no zstd, and not every one of 2014 reads a control.tar.xz.
    dpkg-deb --root-owner-group -Zgzip --uniform-compression --build "$root" "$work/out.deb" >&2
    mv "$work/out.deb" "$out"
}

# Plain files and folders, owned by nobody in particular: BootAgent takes nothing else from a bundle.
make_bundle() {
    local out=$1 work=$2
    tar --create --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        -C "$work/stage/usr/lib/bootagent/agents/$name" . | gzip -9n >"$work/out.tar.gz"
    mv "$work/out.tar.gz" "$out"
}

# ---- the run ----

umask 022
mkdir -p "$output/made"
# Two runs at once would build over each other.
exec 9>"$output/lock"
flock -w 3600 9 || die "another run holds $output/lock for an hour"

inputs=$(hash Cargo.toml Cargo.lock .cargo rust-toolchain.toml contrib/package.sh contrib/lib.sh packaging \
    "${sources[@]}")
wanted=
for kind in $kinds; do
    mark=$output/made/$(basename "$(package_path "$kind")")
    if [ -f "$(package_path "$kind")" ] && [ "$(cat "$mark" 2>/dev/null)" = "$inputs" ]; then
        say "$(basename "$mark") is up to date"
    else
        wanted+=" $kind"
    fi
done

if [ -n "$wanted" ]; then
    install_tools
    built=$output/programs/$name-$full_version
    build "$built"
    needs_only_old_glibc "${programs[@]/#/$built/}"
    # The time of the last commit, so that the same sources give the same package.
    SOURCE_DATE_EPOCH=$(git -C "$repository" log -1 --format=%ct 2>/dev/null || date +%s)
    export SOURCE_DATE_EPOCH
    work=$output/work/$name
    rm -rf "$work"
    mkdir -p "$work/stage"
    case $name in
    bootagent | bootserver) "stage_$name" "$built" "$work/stage" ;;
    *) stage_agent "$built" "$work/stage" ;;
    esac
    find "$work/stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    for kind in $wanted; do
        "make_$kind" "$(package_path "$kind")" "$work"
        printf '%s\n' "$inputs" >"$output/made/$(basename "$(package_path "$kind")")"
    done
fi
for kind in $kinds; do package_path "$kind"; done
