#!/usr/bin/env bash
# Runs one test program for cargo, with as many tests at once as suits it: contrib/test.sh names this script
# as cargo's runner.
#
# The scenarios of tests/ start real programs and then mostly wait for them: one per core leaves the cores
# idle. Those of the lab that share a guest wait for each other, and the power cuts have guests of their own, so
# that two run at once. All others compute, or measure, and stay at cargo's own choice.
#
#   RUN_BESIDE   names of test programs somebody else runs at this time: they are passed over
set -euo pipefail
name=$(basename "$1")
case " ${RUN_BESIDE:-} " in
*" ${name%-*} "*)
    printf 'runs beside the others: %s\n' "${name%-*}"
    exit
    ;;
esac
case $name in
scenarios-*) export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((3 * $(nproc)))} ;;
lab-*) export RUST_TEST_THREADS=${RUST_TEST_THREADS:-16} ;;
esac
exec "$@"
