# shellcheck shell=bash
# What scenarios of the lab share. A scenario is a script that ends well or does not; it runs as root in
# a guest whose BootAgent is installed and runs. The rule: nothing sleeps and hopes. `wait_for` waits
# for a command to succeed, `check` wants it to succeed now; a function with a telling name is a command.
set -Eeuo pipefail
trap 'printf "FAILED: line %s: %s\n" "$LINENO" "$BASH_COMMAND"' ERR
export LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_PAGER=

agents=/usr/lib/bootagent/agents
state=/var/lib/bootagent
configuration=/etc/bootagent/bootagent.toml

# Seconds: enough for anything on a busy machine that emulates another one.
patience=120

say() { printf '%s\n' "== $*"; }

# check COMMAND...: it must succeed.
check() {
    if "$@"; then
        printf 'ok: %s\n' "$*"
    else
        printf 'FAILED: %s\n' "$*"
        exit 1
    fi
}

# wait_for SECONDS COMMAND...: it must succeed in time. What it prints is dropped.
wait_for() {
    local seconds=$1 end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $end ]; then
            printf 'FAILED: after %s s still not: %s\n' "$seconds" "$*"
            exit 1
        fi
        sleep 0.2
    done
    printf 'ok: %s\n' "$*"
}

# soon COMMAND...: the same with a bound that is no part of what is tested.
soon() { wait_for $patience "$@"; }

# not COMMAND...: succeeds when the command fails.
not() { ! "$@"; }

# fresh [LINE...]: BootAgent as on a new host, with these lines as its configuration and no child.
fresh() {
    clear_away
    printf '%s\n' "$@" >$configuration
    systemctl start bootagent
}

# clear_away: BootAgent is stopped, and nothing of it is left but its package.
clear_away() {
    timeout 120 bootctl stop --all >/dev/null 2>&1 || true
    systemctl stop bootagent
    systemctl kill --signal=KILL bootagent-agents.scope 2>/dev/null || true
    soon not systemctl is-active --quiet bootagent-agents.scope >/dev/null
    rm -rf ${agents:?}/* ${state:?}/* /var/log/bootagent/* /run/bootagent /etc/bootagent/options $configuration
}

# child NAME FIELDS ARGV...: puts a child in place and tells BootAgent. FIELDS is an object with more of
# its manifest; ARGV is what it runs.
child() {
    local name=$1 fields=$2
    shift 2
    mkdir -p "$agents/$name"
    jq -n --arg name "$name" --argjson fields "$fields" \
        '{name: $name, version: "1", autostart: true, exec: $ARGS.positional} + $fields' --args -- "$@" \
        >"$agents/$name/agent.json"
    systemctl reload bootagent
}

# field NAME KEY: what the status says of a child; nothing where it says nothing.
field() {
    bootctl --json agents | jq -er --arg name "$1" --arg key "$2" \
        '.status.agents[] | select(.name == $name) | .[$key] // ""'
}

pid_of() { field "$1" pid; }

is_in_state() { [ "$(field "$1" status)" = "$2" ]; }

# What a failed scenario leaves to read.
at_the_end() {
    local code=$?
    [ "$code" -ne 0 ] || return 0
    say "exit $code; the journal of bootagent, and its children"
    journalctl -u bootagent -n 60 --no-pager -o short-monotonic 2>&1 || true
    timeout 20 bootctl status 2>&1 || true
    exit "$code"
}
trap at_the_end EXIT
