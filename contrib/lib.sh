# shellcheck shell=bash
# What the scripts of this folder share: where things are, how to speak, and how to get what is missing.
# It ends where the work of a single script begins. The rule: nothing here asks a question, so that
# every script runs without a terminal.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Slow things that outlive a clone (tools, the Debian tree of the tests) are kept here.
# shellcheck disable=SC2034 # used by the scripts that read this file
cache=${XDG_CACHE_HOME:-$HOME/.cache}/bootagent

# A shell that `su` gave has no sbin in its PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# Progress goes to stderr: stdout is for what a caller wants to read.
say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# need COMMAND=PACKAGE...: makes sure that every command is there. As root on Debian or Ubuntu what
# is missing is installed, elsewhere the message says exactly what to install.
need() {
    local pair commands=() packages=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || {
            commands+=("${pair%%=*}")
            packages+=("${pair#*=}")
        }
    done
    [ ${#commands[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null ||
        die "these programs are missing: ${commands[*]} (Debian packages: ${packages[*]})"
    [ "$(id -u)" -eq 0 ] ||
        die "these programs are missing: ${commands[*]}; install them with: sudo apt-get install ${packages[*]}"
    install_packages "${packages[@]}"
    for pair in "${commands[@]}"; do
        command -v "$pair" >/dev/null || die "$pair is still missing after installing: ${packages[*]}"
    done
}

# install_packages NAME...: apt without questions. The package lists are only fetched when they are
# stale, that is when the first try does not find what it wants.
install_packages() {
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y
        -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
    say "installing $*"
    "${apt[@]}" install --no-install-recommends "$@" </dev/null >&2 || {
        "${apt[@]}" update </dev/null >&2
        "${apt[@]}" install --no-install-recommends "$@" </dev/null >&2 ||
            die "apt-get could not install: $*"
    }
}

# need_service_program COMMAND=PACKAGE...: as need, for programs whose packages bring a service along.
# Only the program is wanted: the service is neither started now nor at the next boot.
need_service_program() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("$pair")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    without_services need "${missing[@]}"
    for pair in "${missing[@]}"; do
        systemctl disable "${pair#*=}" >/dev/null 2>&1 || true
    done
}

# need_postgresql: the server's programs, which Debian keeps out of the PATH. Tests start their own.
need_postgresql() {
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null && return
    without_services install_packages postgresql
    systemctl disable postgresql >/dev/null 2>&1 || true
}

# without_services COMMAND...: while it runs, packages start no service.
without_services() (
    policy=/usr/sbin/policy-rc.d
    # A policy of this machine stays; ours goes again, whatever happens.
    if [ "$(id -u)" -eq 0 ] && [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 0755 "$policy"
    fi
    "$@"
)

# need_rust: the compiler that rust-toolchain.toml names, through rustup.
need_rust() {
    # A fresh shell (cron, CI) often has no ~/.cargo/bin in its PATH.
    command -v cargo >/dev/null || PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    command -v cargo >/dev/null || die "cargo is missing; install Rust from https://rustup.rs"
    # gcc alone would come without the C library's headers.
    need cc=build-essential
    (cd "$repository" && cargo --version >/dev/null) ||
        die "cargo does not run in $repository; rust-toolchain.toml names the toolchain it wants"
}
