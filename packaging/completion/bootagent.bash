# Completion of bootagent for bash. tests/tests/manual.rs compares it with `bootagent -h`.
# shellcheck shell=bash

_bootagent() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    case $previous in
    -c | -E | -L | -P) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    -l) mapfile -t COMPREPLY < <(compgen -W 'error warn info debug trace' -- "$current") ;;
    -S) COMPREPLY=() ;;
    *) mapfile -t COMPREPLY < <(compgen -W '-T -c -S -E -L -l -P -V -h' -- "$current") ;;
    esac
}

complete -o filenames -F _bootagent bootagent
