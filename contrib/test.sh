#!/usr/bin/env bash
# Installs what the tests need and runs every check, in the order in which they are cheapest to fail.
#
#   contrib/test.sh            everything
#   contrib/test.sh STEP...    only these steps: format lint scripts test doc contract fuzz
#
# A test that cannot run on this machine prints "SKIPPED: reason"; they are listed at the end. The logs
# of the steps are in target/test-logs.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$repository"

logs=$repository/target/test-logs
steps=(format lint scripts test doc contract fuzz)
summary=()

# What tests start or read: compilers and packagers, the Debian tree, namespaces, cmake.
install_needs() {
    need_rust
    need git=git make=make cmake=cmake shellcheck=shellcheck dash=dash python3=python3 objdump=binutils ar=binutils \
        rpmbuild=rpm dpkg-deb=dpkg unshare=util-linux nsenter=util-linux ip=iproute2 strace=strace c++=g++ \
        minisign=minisign mandoc=mandoc
    # It brings promtool, which reads our metrics.
    need_service_program promtool=prometheus
    # Only root can make machines and the lab's guests, run an FTP server and install a database; without it
    # those tests skip themselves.
    if [ "$(id -u)" -eq 0 ]; then
        need mmdebstrap=mmdebstrap qemu-system-x86_64=qemu-system-x86 mke2fs=e2fsprogs debugfs=e2fsprogs \
            cpio=cpio
        need mtr=mtr-tiny nft=nftables fping=fping ping=iputils-ping curl=curl setpriv=util-linux
        need_service_program vsftpd=vsftpd haproxy=haproxy
        need_postgresql
    fi
}

step_format() { cargo fmt --all --check; }

# The fuzz targets are a workspace of their own, and not --locked: contrib/fuzz.sh says why. With our
# profile most of what they need is there already.
step_lint() {
    cargo clippy --locked --workspace --all-targets -- -D warnings &&
        cargo clippy --manifest-path fuzz/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}" \
            --config profile.dev.opt-level=0 --config 'profile.dev.package."*".debug=false' -- -D warnings
}

step_scripts() {
    # Scriptlets are checked as they are packaged, by tests/tests/packaging.rs; this is their source.
    git ls-files -z '*.sh' '*.bash' .ci/run | grep -zv '^packaging/steps.sh$' |
        xargs -0 shellcheck -x -P SCRIPTDIR
}

# --no-fail-fast: one run tells everything. --nocapture would mix the output of tests that run at once;
# --show-output gives that of passed ones too, which is where SKIPPED stands. The runner says how many tests
# of one program run at once; cargo takes it from a variable that names the platform.
#
# Those that boot machines compute all the time, most of the others wait: the two kinds run beside each other.
machines=(lab packaging)
step_test() {
    local platform failed=0 beside run=(cargo test --locked --workspace --no-fail-fast)
    platform=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${platform}_RUNNER=$repository/contrib/run-test.sh"
    "${run[@]}" --no-run || return
    # A group of its own, which Ctrl-C does not reach: it is ended as a whole with this step.
    set -m
    "${run[@]}" "${machines[@]/#/--test=}" -- --show-output >"$logs/test-machines.part" 2>&1 &
    beside=$!
    set +m
    trap 'kill -- -$beside 2>/dev/null || true' EXIT
    RUN_BESIDE="${machines[*]}" "${run[@]}" -- --show-output || failed=1
    wait $beside || failed=1
    cat "$logs/test-machines.part"
    return $failed
}

step_fuzz() {
    cargo fmt --manifest-path fuzz/Cargo.toml --check && contrib/fuzz.sh
}

# Our API as its document has it, on both databases.
step_contract() { contrib/contract.sh; }

step_doc() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps; }

# Called where its failure is looked at, a step does not end at its first failing command: several are joined
# by &&.
run_step() {
    local name=$1 start=$SECONDS result=ok
    printf '\n==== %s\n' "$name"
    "step_$name" </dev/null 2>&1 | tee "$logs/$name.log" || result=FAILED
    summary+=("$(printf '%-8s %-6s %4d s' "$name" "$result" $((SECONDS - start)))")
    [ "$result" = ok ]
}

[ $# -eq 0 ] || steps=("$@")
for step in "${steps[@]}"; do
    declare -F "step_$step" >/dev/null || die "there is no step '$step'; steps: format lint scripts test doc contract fuzz"
done
mkdir -p "$logs"
rm -f "$logs"/*.log "$logs"/*.part
start=$SECONDS
install_needs
summary+=("$(printf '%-8s %-6s %4d s' install ok $((SECONDS - start)))")
# Each step runs, so that one run tells everything that is wrong.
failed=0
for step in "${steps[@]}"; do run_step "$step" || failed=1; done

printf '\n==== summary\n'
printf '%s\n' "${summary[@]}"
skipped=$(cat "$logs"/*.log | grep -c '^SKIPPED: ' || true)
printf 'skipped: %s\n' "$skipped"
[ "$skipped" -eq 0 ] || cat "$logs"/*.log | grep '^SKIPPED: ' | sort | uniq -c
if [ -f "$logs/test.log" ]; then
    awk '/^test result: / { passed += $4; failed += $6 } END { print "tests passed: " passed + 0 ", failed: " failed + 0 }' \
        "$logs/test.log"
    # What failed once more, where a reader of the end finds it.
    awk '/^failures:$/ { shown = 1 } shown { print } /^test result: / { shown = 0 }' "$logs/test.log" |
        grep -vE '^ +([0-9]+: |at )' | tail -n 300 || true
fi
[ $failed -eq 0 ] || {
    printf 'RESULT: failed\n'
    exit 1
}
printf 'RESULT: ok\n'
