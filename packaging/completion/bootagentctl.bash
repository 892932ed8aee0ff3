# Completion of bootagentctl for bash. tests/tests/manual.rs compares it with its `-h`.
# Not for the name bootctl: that file belongs to systemd's program.
# shellcheck shell=bash

_bootagentctl() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local commands='status agents jobs events start stop restart reexec doctor sha256 help'
    local options='-r --json -V --version -h --help'
    local word command='' root=() index choices=''
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        case $word in
        -r)
            index=$((index + 1))
            root=(-r "${COMP_WORDS[index]-}")
            ;;
        -c) index=$((index + 1)) ;;
        -*) ;;
        *) [ -n "$command" ] || command=$word ;;
        esac
    done
    case $previous in
    -r)
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
        return
        ;;
    -c)
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    esac
    case $command in
    '') choices="$commands $options" ;;
    start | stop | restart)
        # The first column of the table, without its head; nothing where there is no daemon.
        choices="$("${COMP_WORDS[0]}" "${root[@]}" agents 2>/dev/null | awk 'NR > 1 { print $1 }') -h"
        [ "$command" != stop ] || choices+=' --all'
        ;;
    doctor) choices='-c -h --json' ;;
    sha256)
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    help) choices=$commands ;;
    *) choices='-h --json' ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
}

complete -o filenames -F _bootagentctl bootagentctl
