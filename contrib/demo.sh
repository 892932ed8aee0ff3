#!/usr/bin/env bash
# The whole system on this machine: bootserver and bootagent under target/demo, and a real sub-agent,
# installed by a job through the API. Stays until Ctrl-C, then everything it started is gone.
#
#   contrib/demo.sh            runs as root and as an ordinary user
#
# As root the sub-agent's limits are enforced by cgroups; otherwise the table says that they are not.
# shellcheck disable=SC2317 # functions that are called by name
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$repository"

demo=$repository/target/demo
root=$demo/host
programs=${CARGO_TARGET_DIR:-$repository/target}/release
server='' agent=''

bootctl() { "$programs/bootctl" -r "$root" "$@"; }

# Stops what was started, children first: the daemon alone would leave them running.
clean_up() {
    trap '' INT TERM HUP
    trap - EXIT
    if [ -n "$agent" ] && kill -0 "$agent" 2>/dev/null; then
        bootctl stop --all >/dev/null 2>&1 || true
        end "$agent"
    fi
    [ -z "$server" ] || end "$server"
}

# end PID: asks a process to stop, and kills it when it has not after ten seconds.
end() {
    kill "$1" 2>/dev/null || return 0
    for _ in $(seq 100); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -9 "$1" 2>/dev/null || true
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds; says what failed and where to look.
wait_for() {
    local seconds=$1 what=$2
    shift 2
    for _ in $(seq $((seconds * 10))); do
        if "$@"; then return 0; fi
        sleep 0.1
    done
    die "$what: not within $seconds s; see $demo/bootserver.log and $demo/bootagent.log"
}

api() {
    local path=$1
    shift
    # The token goes through a file: an argv can be read by everybody.
    curl --silent --show-error --fail --max-time 60 --header "@$demo/authorization" "$@" \
        "http://$address/api/v1/$path"
}

is_up() { [ -s "$demo/address" ] && kill -0 "$server"; }
is_registered() { [ "$(api hosts | jq '.items | length')" -eq 1 ]; }
is_running() {
    api "hosts/$agentsn" | jq --exit-status '.agents[]? | select(.name == "flux-push" and .status == "running")' >/dev/null
}
is_ended() { [ "$(api "jobs/$job" | jq --raw-output .errcode)" != null ]; }

need_rust
need curl=curl jq=jq flock=util-linux setsid=util-linux tar=tar
mkdir -p "$repository/target"
exec 9>"$repository/target/demo.lock"
flock --nonblock 9 || die "another demo runs in this folder; stop it with Ctrl-C first"

say "building (a few minutes the first time)"
cargo build --locked --release --quiet -p bootagent -p bootserver -p flux-push

rm -rf "$demo" || die "$demo cannot be removed; was it made by another user? Remove it: sudo rm -r $demo"
mkdir -p "$root"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# In sessions of their own, so that Ctrl-C reaches this script alone, which stops them in order.
setsid "$programs/bootserver" serve --listen 127.0.0.1:0 --data "$demo/server" --address-file "$demo/address" \
    >"$demo/bootserver.log" 2>&1 </dev/null 9>&- &
server=$!
wait_for 30 "bootserver starts" is_up
address=$(cat "$demo/address")
tokens=$demo/server/first-start.txt
(umask 077 && sed -n 's/^api_token=/Authorization: Bearer /p' "$tokens" >"$demo/authorization" &&
    sed -n 's/^enrolment_token=//p' "$tokens" >"$demo/enrolment-token")

cat >"$demo/bootagent.toml" <<TOML
root = "$root"
# There is no system user for the demo: children run as whoever started it.
agent_user = "$(id -un)"
enrolment_token_file = "$demo/enrolment-token"

[push]
step = 5
min_step = 1
TOML
setsid "$programs/bootagent" -c "$demo/bootagent.toml" -S "$address" >"$demo/bootagent.log" 2>&1 </dev/null 9>&- &
agent=$!
wait_for 30 "bootagent registers" is_registered
agentsn=$(api hosts | jq --raw-output '.items[0].agentsn')

mkdir "$demo/bundle"
cp subagents/flux-push/agent.json "$programs/flux-push" "$demo/bundle/"
tar -czf "$demo/flux-push.tar.gz" -C "$demo/bundle" .
package=$(api packages --header 'Content-Type: application/octet-stream' --data-binary "@$demo/flux-push.tar.gz" |
    jq --raw-output .id)
job=$(api jobs --header 'Content-Type: application/json' \
    --data "{\"action\": \"install\", \"package\": \"$package\", \"hosts\": [\"$agentsn\"]}" |
    jq --raw-output '.jobs[0].id')
wait_for 60 "the install job ends" is_ended
[ "$(api "jobs/$job" | jq .errcode)" -eq 0 ] || die "the install failed: $(api "jobs/$job" | jq --raw-output .message)"
wait_for 60 "a status says that flux-push is running" is_running

cat <<TEXT

bootserver   http://$address/
API token    $(sed -n 's/^api_token=//p' "$tokens")
enrolment    $(sed -n 's/^enrolment_token=//p' "$tokens")

$(bootctl status)

Try:   $programs/bootctl -r $root restart flux-push
       curl -H @$demo/authorization http://$address/api/v1/hosts/$agentsn
Logs:  $demo/bootserver.log  $demo/bootagent.log  $root/var/log/bootagent/agents/flux-push.log

Ctrl-C stops everything.
TEXT
wait -n "$agent" "$server" || true
die "a program ended by itself; see $demo/bootserver.log and $demo/bootagent.log"
