#!/usr/bin/env bash
# Holds a real bootserver against bootserver/openapi.json: schemathesis makes up requests, good and bad, and
# whatever comes back must be in the document and no failure of the server.
#
#   contrib/contract.sh            both databases, below five minutes
#   contrib/contract.sh sqlite     single requests, and sequences of them
#   contrib/contract.sh postgres   single requests, each kind of value once
#
# CONTRACT_SEED repeats other requests than usual (1), CONTRACT_SECONDS looks longer at SQLite (180).
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$repository"

here=contrib/contract
# The folder's name is that of what it holds: another list of versions gets another folder.
tools=$cache/contract-$(sha256sum $here/requirements.txt | cut -c 1-16)

need_rust
need python3=python3 setpriv=util-linux
python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
[ -e "$tools/complete" ] || {
    say "installing schemathesis"
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --no-deps -r $here/requirements.txt >&2
    touch "$tools/complete"
}

cargo build --locked -q -p bootserver
programs=${CARGO_TARGET_DIR:-$repository/target}/debug

work=$(mktemp -d)
postgres_home=
server=
database=
# What is started ends with this script, also when that is killed.
# shellcheck disable=SC2317 # called by the trap
finish() {
    end_server
    if [ -n "$database" ]; then
        kill -QUIT "$database" 2>/dev/null || true
        wait "$database" 2>/dev/null || true
    fi
    rm -rf "$work" "$postgres_home"
}
trap finish EXIT
trap 'exit 1' INT TERM

end_server() {
    [ -n "$server" ] || return 0
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}

# wait_for WHAT LOG COMMAND...: up to 60 s.
wait_for() {
    local what=$1 log=$2
    shift 2
    for _ in $(seq 600); do
        ! "$@" >/dev/null 2>&1 || return 0
        sleep 0.1
    done
    die "$what did not start within 60 s: $(tail -20 "$log")"
}

# start_postgres: a server of our own on a socket; it does not run as root.
start_postgres() {
    local programs as=(setpriv --pdeathsig QUIT)
    programs=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1)
    # A socket's path is short, so it is not below a long TMPDIR.
    postgres_home=$(mktemp -d /tmp/pg-XXXXXX)
    if [ "$(id -u)" -eq 0 ]; then
        chown postgres: "$postgres_home"
        as+=(--reuid postgres --regid postgres --clear-groups)
    fi
    (cd / && "${as[@]}" "$programs/initdb" -D "$postgres_home/data" --auth=trust --username=postgres --no-sync \
        --encoding=UTF8 --locale=C.UTF-8) >"$work/postgres.log" 2>&1 || die "initdb: $(cat "$work/postgres.log")"
    (cd / && exec "${as[@]}" "$programs/postgres" -D "$postgres_home/data" -c listen_addresses= -c fsync=off \
        -c "unix_socket_directories=$postgres_home") >"$work/postgres.log" 2>&1 &
    database=$!
    wait_for PostgreSQL "$work/postgres.log" "$programs/pg_isready" -h "$postgres_home"
}

# hold NAME ARGUMENT...: asks a new server what schemathesis makes up.
hold() {
    local name=$1 address result=0
    local data=$work/$name log=$work/$name.log options=()
    shift
    say "bootserver on $name"
    [ "$name" != postgres ] || options=(--database "postgres:///postgres?host=$postgres_home&user=postgres")
    setpriv --pdeathsig KILL "$programs/bootserver" serve --listen 127.0.0.1:0 --data "$data" \
        --address-file "$work/address" -c $here/bootserver.toml "${options[@]}" >"$log" 2>&1 &
    server=$!
    wait_for bootserver "$log" test -s "$work/address"
    address=$(cat "$work/address")
    rm "$work/address"
    # Ids that exist, so that requests get further than 404.
    python3 $here/seed.py "http://$address" "$data/first-start.txt" >"$work/seeds" || return 1
    set -a
    # shellcheck source=/dev/null # written just now
    . "$work/seeds"
    set +a
    # From there, because it keeps notes where it stands and would go by those of an earlier run.
    (cd "$work" && PYTHONPATH=$repository/$here SCHEMATHESIS_HOOKS=contract_hooks "$tools/bin/st" --no-color \
        --config-file "$repository/$here/schemathesis.toml" run "$repository/bootserver/openapi.json" \
        --url "http://$address" --seed "${CONTRACT_SEED:-1}" --report ndjson \
        --report-ndjson-path "$work/$name.ndjson" "$@") || result=$?
    # A bounded look at the other database may end before it has come to everything.
    [ "$name" != sqlite ] || python3 $here/answered.py "$work/$name.ndjson" || result=1
    kill -0 "$server" 2>/dev/null || {
        say "bootserver ended meanwhile"
        result=1
    }
    [ "$result" -eq 0 ] || tail -50 "$log" >&2
    end_server
    return "$result"
}

result=0
[ $# -gt 0 ] || set -- sqlite postgres
for name; do
    case $name in
    sqlite) hold sqlite --max-time "${CONTRACT_SECONDS:-180}" || result=1 ;;
    postgres)
        if compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; then
            start_postgres
            hold postgres --phases coverage --max-time 90 || result=1
        else
            echo "SKIPPED: PostgreSQL's programs are not in /usr/lib/postgresql/*/bin"
        fi
        ;;
    *) die "'$name' is no database: sqlite or postgres" ;;
    esac
done
exit "$result"
