#!/usr/bin/env bash
# Builds the fuzz targets, tries every input that is kept, then makes up new ones for a while.
#
#   contrib/fuzz.sh [TARGET...]
#
#   FUZZ_SECONDS   how long for each target, 40 unless told; 0 tries only what is kept
#   FUZZ_AT_ONCE   how many at once, 2 unless told
#
# The inputs that are kept lie in fuzz/corpus; what a run finds beyond them stays below target/fuzz and is
# used again by the next. An input that crashes is printed: it goes into fuzz/corpus with its fix.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$repository"

seconds=${FUZZ_SECONDS:-40}
at_once=${FUZZ_AT_ONCE:-2}
built=${CARGO_TARGET_DIR:-$repository/target}/fuzz
work=$built/work
need_rust
need c++=g++

if [ $# -eq 0 ]; then
    for path in fuzz/targets/*.rs; do set -- "$@" "$(basename "$path" .rs)"; done
fi
for target in "$@"; do
    [ -f "fuzz/targets/$target.rs" ] || die "there is no target '$target' in fuzz/targets"
    [ -n "$(ls "fuzz/corpus/$target" 2>/dev/null)" ] || die "fuzz/corpus/$target holds no input to begin with"
done

# Coverage as cargo-fuzz has it, without the sanitizers, which the stable compiler does not offer. The
# host is named so that these flags are not for build scripts, which would not link. Not --locked: what our
# crates took in since is added to the lock file of this workspace, with the rest as it was.
host=$(rustc -vV | sed -n 's/^host: //p')
sancov='-Cllvm-args=-sanitizer-coverage'
say "building"
RUSTFLAGS="-Cpasses=sancov-module $sancov-level=4 $sancov-inline-8bit-counters $sancov-pc-table $sancov-trace-compares" \
    cargo build -q --manifest-path fuzz/Cargo.toml --target "$host" --target-dir "$built"

# one TARGET: what is kept, then new inputs. Bounds of memory and time are those of a single input.
one() {
    local target=$1 program=$built/$host/debug/$1 status=0
    local common=(-rss_limit_mb=512 -malloc_limit_mb=256 -timeout=60 -max_len=65536 "-artifact_prefix=$work/$target.")
    mkdir -p "$work/corpus/$target"
    TMPDIR=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)")
    export TMPDIR
    {
        RUST_BACKTRACE=1 "$program" "${common[@]}" -runs=0 "fuzz/corpus/$target" &&
            { [ "$seconds" -eq 0 ] ||
                RUST_BACKTRACE=1 "$program" "${common[@]}" "-max_total_time=$seconds" \
                    "$work/corpus/$target" "fuzz/corpus/$target"; }
    } >"$work/$target.log" 2>&1 </dev/null || status=$?
    rm -rf "$TMPDIR"
    return $status
}

rm -f "$work"/*.log "$work"/*.crash-* "$work"/*.oom-* "$work"/*.timeout-*
mkdir -p "$work"
failed=0
running=()
names=()
reap() {
    local target=${names[0]} log=$work/${names[0]}.log
    if wait "${running[0]}"; then
        say "$target: $(grep -E 'DONE|^Done' "$log" | tail -1 | tr -s '\t ' ' ')"
    else
        failed=1
        say "$target: FAILED; the end of its log, with the input as Base64:"
        tail -n 60 "$log"
    fi
    running=("${running[@]:1}")
    names=("${names[@]:1}")
}
for target in "$@"; do
    one "$target" &
    running+=($!)
    names+=("$target")
    [ ${#running[@]} -lt "$at_once" ] || reap
done
while [ ${#running[@]} -gt 0 ]; do reap; done
[ $failed -eq 0 ] || die "an input is handled wrongly; it lies in $work"
