#!/usr/bin/env bash
# Keeps something only as long as the test that started this lives: the end of stdin is the sign.
#
#   keep.sh folder FOLDER        removes the folder then
#   keep.sh run LOG PROGRAM...   runs the program, prints its pid, kills it then
set -eu
case $1 in
folder)
    cat >/dev/null
    # What ran in it may need a moment to end.
    for _ in $(seq 20); do
        ! rm -rf "$2" 2>/dev/null || exit 0
        sleep 0.2
    done
    ;;
run)
    log=$2
    shift 2
    "$@" </dev/null >"$log" 2>&1 &
    trap 'kill -KILL $! 2>/dev/null || true' EXIT
    printf '%s\n' "$!"
    cat >/dev/null
    ;;
esac
