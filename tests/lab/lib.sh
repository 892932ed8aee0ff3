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
patience=240

say() { printf '%s\n' "== $*"; }

# Whatever somebody sets the clock to; bash's own SECONDS would follow it.
uptime_seconds() { cut -d. -f1 /proc/uptime; }

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
    local seconds=$1 end=$(($(uptime_seconds) + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ "$(uptime_seconds)" -ge $end ]; then
            printf 'FAILED: after %s s still not: %s\n' "$seconds" "$*"
            exit 1
        fi
        sleep 0.2
    done
    printf 'ok: %s\n' "$*"
}

# soon COMMAND...: the same with a bound that is no part of what is tested.
soon() { wait_for $patience "$@"; }

at_least() { [ "$1" -ge "$2" ]; }

# not COMMAND...: succeeds when the command fails.
not() { ! "$@"; }

# fresh [LINE...]: BootAgent as on a new host, with these lines as its configuration and no child. It is
# served by $servers, if that is set.
fresh() {
    clear_away
    printf '%s\n' "$@" >$configuration
    [ -z "${servers:-}" ] || printf 'BOOTAGENT_OPTIONS="-S %s"\n' "$servers" >/etc/bootagent/options
    systemctl start bootagent
}

# serve: a server of document 002 at 127.0.0.1:8080 that accepts everybody and orders nothing, until the
# scenario ends. What it is told is in $asked, a line each.
asked=/run/lab/asked
serve() {
    servers=127.0.0.1:8080
    # shellcheck disable=SC2016 # perl's variables
    setsid perl -MIO::Socket::INET -e '
        $| = 1;
        my $listener = IO::Socket::INET->new(LocalAddr => $ARGV[0], Listen => 64, ReuseAddr => 1) or die "$!";
        while (my $connection = $listener->accept) {
            my $length = 0;
            while (<$connection>) {
                last if /^\r?\n$/;
                $length = $1 if /^content-length: *(\d+)/i;
            }
            read $connection, my $body, $length;
            print "$body\n";
            print $connection "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"status\":0}";
            close $connection;
        }' $servers >$asked 2>/run/lab/serve.log &
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

# notices: what BootAgent says of itself.
notices() { bootctl --json status | jq -r '.status.notices[]'; }
notices_name() { notices | grep -qi "$1"; }

daemon() { systemctl show -p MainPID --value bootagent; }
another_daemon_runs() { systemctl is-active --quiet bootagent && [ "$(daemon)" != "$1" ]; }
# kill_daemon: kill -9, and systemd starts the next one.
kill_daemon() {
    local old
    old=$(daemon)
    kill -9 "$old"
    soon another_daemon_runs "$old"
}

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
