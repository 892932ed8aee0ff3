# Completion of bootserver for bash. tests/tests/manual.rs compares it with its `-h`.
# shellcheck shell=bash

_bootserver() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local commands='serve migrate backup restore close-jobs import reset-password openapi'
    local nouns='host tag group token package job rollout assignment event user api'
    local client='--server --token-file --ca-file --json'
    local verbs='-d --data -H --header --selector --group --expected-hosts --hostname --search --agent --agent-version --agent-state --ip --state --all --parallel --stages --soak --fail-count --fail-rate --second-user --priority --dry-run --revision --phase --sort --format --unset --limit --host --since --topics --role --scope --tags --uses --expires-in --display-name --notes --description --name --version --os --arch --package --url --checksum --watch --step --downgrade'
    local serve='-T -c --config --listen --tls-cert --tls-key --trusted-proxy --socket --metrics-listen --data
        --database --database-file --address-file -l --log-level --log-format'
    local first='' second='' index choices=''
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        case ${COMP_WORDS[index]} in
        --server | --token-file | --ca-file) index=$((index + 1)) ;;
        -*) ;;
        *) if [ -z "$first" ]; then first=${COMP_WORDS[index]}; else second=${second:-${COMP_WORDS[index]}}; fi ;;
        esac
    done
    case $previous in
    -c | --config | --tls-cert | --tls-key | --socket | --database-file | --address-file | --token-file | --ca-file | --data)
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    -l | --log-level) choices='error warn info debug trace' ;;
    --log-format) choices='text json' ;;
    --topics) choices='host event job package group rollout assignment' ;;
    --format) choices='ndjson csv' ;;
    --phase) choices='active ended' ;;
    --role) choices='viewer operator admin' ;;
    --agent-state) choices='running stoped fatal killed' ;;
    --sort) choices='hostname -hostname created -created since -since' ;;
    --state) choices='new online late offline revoked deleted open finished waiting ordered
        running succeeded failed timed_out rolled_back crash_looped lost expired cancelled skipped' ;;
    *)
        case "$first $second" in
        ' ') choices="$commands $nouns $client $verbs $serve -V --version -h --help" ;;
        'host ') choices='list show edit export tag delete' ;;
        'group ') choices='list show create edit add remove delete' ;;
        'tag ') choices='set unset' ;;
        'token ') choices='create list revoke' ;;
        'package ') choices='add list delete' ;;
        'job ') choices='create list show cancel' ;;
        'assignment ') choices='create list show hosts change confirm pause resume retry delete' ;;
        'rollout ') choices='create list show targets confirm pause resume abort retry revert' ;;
        'event ') choices='list follow' ;;
        'user ') choices='create list reset delete' ;;
        'token '*) choices="api enrolment $client $verbs" ;;
        'package add' | 'api '* | backup* | restore* | import*)
            mapfile -t COMPREPLY < <(compgen -f -W "$client" -- "$current")
            return
            ;;
        serve* | migrate* | close-jobs* | reset-password*) choices=$serve ;;
        *) choices="$client $verbs" ;;
        esac
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
}

complete -o filenames -F _bootserver bootserver
