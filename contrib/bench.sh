#!/usr/bin/env bash
# Measures what BENCHMARKS.md claims, ours and the peers in one run, and writes that file.
#
#   contrib/bench.sh           as root: cgroups and the peers' packages need it
#   contrib/bench.sh server    only the server, with simulated fleets (about an hour): its section of that file
#   contrib/bench.sh rollout   only rollouts over 1,000,000 hosts, a package to 10,000 (BENCH_DOWNLOADS) and revocation
#                              (about half an hour), and prints it; to be written into BENCHMARKS.md "By hand"
#   contrib/bench.sh probe     only mtr-prober, beside Debian's mtr and trippy-core (about 4 minutes), and prints it; likewise.
#                              BENCH_PART: only contestants, limited, orders, steady or mesh
#   contrib/bench.sh growth    restarts children 10,000 times (about 5 minutes) and prints what daemon and
#                              logger hold before and after; to be written into BENCHMARKS.md "By hand"
#
# Figures are medians of BENCH_ROUNDS rounds (5). BENCH_FLEETS (100000,1000000), BENCH_DATABASES
# (SQLite,PostgreSQL) and BENCH_SECONDS (20) make the server's part shorter, and so does BENCH_FOLDER: a folder, anybody's to
# enter, in which databases and fleets stay for the next run. Nothing here passes or fails: a figure that is too large is read
# by a person.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$repository"

rounds=${BENCH_ROUNDS:-5}
work=$repository/target/bench
# What is in /run on a host is in memory here too.
memory=/dev/shm/bootagent-bench
programs=${CARGO_TARGET_DIR:-$repository/target}/release
horust=$cache/horust
# The measuring scripts leave nothing beside themselves.
export PYTHONDONTWRITEBYTECODE=1

[ "$(id -u)" -eq 0 ] || die "run it as root: limits and the peers' packages need it"
need_rust
need python3=python3 unshare=util-linux
rm -rf "$work" "$memory"
mkdir -p "$work" "$memory"
trap 'rm -rf "$memory"' EXIT

if [ "${1:-}" = probe ]; then
    need mtr=mtr-tiny nft=nftables ip=iproute2 nsenter=util-linux
    cargo build --locked --release --quiet -p mtr-prober --bins --examples
    CARGO_TARGET_DIR=$cache/trippy-target cargo build --locked --release --quiet --manifest-path contrib/bench/trippy/Cargo.toml
    "$programs/examples/load" --with-mtr --with-trippy "$cache/trippy-target/release/trippy-bench" \
        ${BENCH_PART:+--only "$BENCH_PART"}
    [ -z "${BENCH_PART:-}" ] || exit 0
    say "the mesh's decisions, simulated"
    cargo test --locked --quiet -p mtr-prober --lib mesh::detect -- --nocapture --test-threads 1 |
        grep ' is caught \|events in '
    exit
fi

if [ "${1:-}" = server ] || [ "${1:-}" = rollout ]; then
    need openssl=openssl runuser=util-linux
    need_postgresql
    say "building"
    cargo build --locked --profile server --quiet -p bootserver -p bootserver-sim
    # The user of PostgreSQL must get to its files, wherever the repository is.
    server=${BENCH_FOLDER:-}
    if [ -n "$server" ]; then
        mkdir -p "$server"
    else
        server=$(mktemp -d /var/tmp/bench-server.XXXXXX)
        trap 'rm -rf "$memory" "$server"' EXIT
    fi
    if [ "$1" = rollout ]; then
        python3 contrib/bench/rollout.py --programs "${programs%/release}/server" --work "$server" --rounds "$rounds" \
            --seconds "${BENCH_SECONDS:-20}" --downloads "${BENCH_DOWNLOADS:-10000}" \
            --databases "${BENCH_DATABASES:-SQLite,PostgreSQL}"
        exit
    fi
    say "measuring the server, ${BENCH_SECONDS:-20} s a run, $rounds rounds"
    python3 contrib/bench/server.py --programs "${programs%/release}/server" --work "$server" --rounds "$rounds" \
        --seconds "${BENCH_SECONDS:-20}" --fleets "${BENCH_FLEETS:-100000,1000000}" \
        --databases "${BENCH_DATABASES:-SQLite,PostgreSQL}" >"$work/server.md"
    # In the place of the former section, before what was measured by hand.
    awk -v section="$work/server.md" '
        /^## / { skipped = $0 == "## The server" }
        $0 == "## By hand" { while ((getline line <section) > 0) print line }
        !skipped' BENCHMARKS.md >"$work/BENCHMARKS.md"
    cp "$work/BENCHMARKS.md" BENCHMARKS.md
    cat "$work/server.md"
    exit
fi

say "building"
cargo build --locked --release --quiet -p bootagent
cc -O2 -static -o "$work/idle" contrib/bench/idle.c

if [ "${1:-}" = growth ]; then
    python3 contrib/bench/growth.py --programs "$programs" --memory "$memory" --idle-program "$work/idle"
    exit
fi

need_service_program supervisord=supervisor runsvdir=runit s6-svscan=s6
[ -x "$horust/bin/horust" ] || {
    say "building horust, once"
    CARGO_TARGET_DIR=$cache/horust-target cargo install --quiet --locked --root "$horust" horust
    rm -rf "$cache/horust-target"
}
say "measuring, $rounds rounds"
python3 contrib/bench/host.py --programs "$programs" --work "$work" --memory "$memory" --rounds "$rounds" \
    --idle-program "$work/idle" --horust "$horust/bin/horust" --former BENCHMARKS.md \
    --idle "${BENCH_IDLE_SECONDS:-60}" >"$work/BENCHMARKS.md"
cp "$work/BENCHMARKS.md" BENCHMARKS.md
cat BENCHMARKS.md
