#!/usr/bin/env bash
# Measures what BENCHMARKS.md claims, ours and the peers in one run, and writes that file.
#
#   contrib/bench.sh           as root: cgroups and the peers' packages need it
#
# Figures are medians of $rounds rounds. Nothing here passes or fails: a figure that is too large is read
# by a person.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$repository"

rounds=${BENCH_ROUNDS:-5}
work=$repository/target/bench
programs=${CARGO_TARGET_DIR:-$repository/target}/release

[ "$(id -u)" -eq 0 ] || die "run it as root: limits and the peers' packages need it"
need_rust
need python3=python3
need_service_program supervisord=supervisor runsvdir=runit
say "building"
cargo build --locked --release --quiet -p bootagent
rm -rf "$work"
mkdir -p "$work"
say "measuring, $rounds rounds"
python3 "$repository/contrib/bench/host.py" --programs "$programs" --work "$work" --rounds "$rounds" \
    --idle "${BENCH_IDLE_SECONDS:-60}" >"$work/BENCHMARKS.md"
cp "$work/BENCHMARKS.md" "$repository/BENCHMARKS.md"
cat "$repository/BENCHMARKS.md"
