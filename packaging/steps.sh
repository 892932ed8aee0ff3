# shellcheck shell=sh
# The steps that the scriptlets of our packages are made of, for rpm and for dpkg. package.sh puts this
# file in front of each scriptlet. The rule: POSIX sh, and no step fails: a package that cannot start a
# service is still installed, and says aloud what is left to do. $agent is the name of the package.

tell() { printf '%s: %s\n' "$agent" "$*"; }

have() { command -v "$1" >/dev/null 2>&1; }

systemd_runs() { [ -d /run/systemd/system ] && have systemctl; }

# BootAgent sets this for the package manager that it runs for a job: then it does itself, in its own
# order, what these steps would do, and waits for no answer from itself.
ordered_by_bootagent() { [ -n "${BOOTAGENT_JOB:-}" ]; }

# The user that agents run as when their manifest names no other one.
create_user() {
    if ! grep -q '^bootagent:' /etc/group; then
        groupadd -r bootagent >/dev/null 2>&1 || addgroup -S bootagent >/dev/null 2>&1 ||
            tell "could not create the group bootagent; create it and start BootAgent again"
    fi
    if ! grep -q '^bootagent:' /etc/passwd; then
        shell=/usr/sbin/nologin
        [ -e "$shell" ] || shell=/sbin/nologin
        useradd -r -g bootagent -d /var/lib/bootagent -M -s "$shell" bootagent >/dev/null 2>&1 ||
            adduser -S -D -H -h /var/lib/bootagent -s "$shell" -G bootagent bootagent >/dev/null 2>&1 ||
            tell "could not create the user bootagent; create it and start BootAgent again"
    fi
}

# The short name of bootagentctl. It belongs to systemd, whose packages have a program of that name (for boot
# loaders) on some systems and not on others: taken where nothing is, also at an upgrade, never from anybody.
link_bootctl() {
    is_our_link && return 0
    if [ -e /usr/bin/bootctl ] || [ -L /usr/bin/bootctl ]; then
        tell "/usr/bin/bootctl is another program here; ours is bootagentctl"
    else
        ln -s bootagentctl /usr/bin/bootctl ||
            tell "could not make the short name /usr/bin/bootctl; use bootagentctl"
    fi
}

unlink_bootctl() {
    ! is_our_link || rm -f /usr/bin/bootctl || tell "could not remove the link /usr/bin/bootctl"
}

is_our_link() { [ "$(readlink /usr/bin/bootctl 2>/dev/null)" = bootagentctl ]; }

# The first installation: the service comes with every boot, and now.
start_service() {
    link_bootctl
    # Asked before the daemon runs: it makes the file at once.
    enrolled=no
    [ ! -e /var/lib/bootagent/metafile.json ] || enrolled=yes
    if have systemctl; then
        # Works on the files alone too, so that an image made in a chroot starts it at its first boot.
        systemctl enable bootagent.service >/dev/null 2>&1 ||
            tell "could not enable the service: systemctl enable bootagent"
    fi
    if systemd_runs; then
        systemctl daemon-reload || true
        systemd-tmpfiles --create /usr/lib/tmpfiles.d/bootagent.conf >/dev/null 2>&1 || true
        # --no-block: inside an unattended installation nobody may wait for READY=1.
        systemctl --no-block start bootagent.service ||
            tell "could not start the service: systemctl status bootagent"
    else
        tell "systemd does not run here; start /usr/sbin/bootagent by the means of this system"
    fi
    if [ "$enrolled" = no ]; then
        tell "to enrol this host, name the file with the enrolment token in" \
            "/etc/bootagent/bootagent.toml (enrolment_token_file = \"FILE\"), and the servers, unless they are" \
            "compiled in, in /etc/bootagent/options (BOOTAGENT_OPTIONS=\"-S HOST:PORT,HOST2\")," \
            "then: systemctl restart bootagent"
    fi
}

# A new version over an old one. Nothing is stopped and nothing restarted: the running daemon is asked
# to execute its new file in place, which keeps the children.
take_over() {
    link_bootctl
    ! systemd_runs || systemctl daemon-reload || true
    ordered_by_bootagent && return 0
    # Not running: there is nothing to take over, and an operator's stop is kept.
    [ -S /run/bootagent/bootagent.sock ] || return 0
    if said=$(timeout 180 /usr/bin/bootagentctl reexec 2>&1 </dev/null); then
        tell "$said"
    else
        tell "$said; once that is put right, change to this version: bootagentctl reexec"
    fi
}

# The package goes: the children and the daemon end, what they know stays.
stop_service() {
    # It would put the package back.
    ! systemd_runs || systemctl stop bootagent-watcher.service >/dev/null 2>&1 || true
    rm -f /usr/lib/bootagent/bootagent.saved || true
    if [ -S /run/bootagent/bootagent.sock ] && [ -x /usr/bin/bootagentctl ]; then
        timeout 120 /usr/bin/bootagentctl stop --all </dev/null ||
            tell "could not stop every agent; those that still run: bootagentctl status"
    fi
    if have systemctl; then
        systemctl disable bootagent.service >/dev/null 2>&1 || true
    fi
    if systemd_runs; then
        systemctl stop bootagent.service ||
            tell "could not stop the service: systemctl status bootagent"
    fi
    end_rest
}

# What still runs then: children of a daemon that had been stopped before, a daemon that systemd did
# not start, the logger. On cgroup v2 with systemd they are in a scope, elsewhere each child has its group.
end_rest() {
    # A job of BootAgent's own that removes it: its installer runs in one of these groups.
    if grep -q -e /bootagent/ -e bootagent-agents.scope /proc/self/cgroup 2>/dev/null; then return 0; fi
    if systemd_runs; then
        systemctl stop bootagent-agents.scope >/dev/null 2>&1 || true
    fi
    for signal in TERM KILL; do
        round=0
        while [ "$round" -lt 10 ]; do
            rest=$(rest_of_processes)
            [ -n "$rest" ] || return 0
            # shellcheck disable=SC2086 # a list of numbers
            [ "$round" -gt 0 ] || kill -s "$signal" $rest 2>/dev/null || true
            sleep 1
            round=$((round + 1))
        done
    done
    tell "could not end these processes:" "$rest"
}

# Process ids, in one line: the children's groups, and whoever executes our file on this root (a
# container's processes show the same path, and are not ours).
rest_of_processes() {
    {
        cat /sys/fs/cgroup/bootagent/*/cgroup.procs /sys/fs/cgroup/*/bootagent/*/cgroup.procs 2>/dev/null || true
        own_root=$(stat -L -c %d:%i / 2>/dev/null || true)
        for process in /proc/[0-9]*; do
            case $(readlink "$process/exe" 2>/dev/null) in
            /usr/sbin/bootagent | "/usr/sbin/bootagent (deleted)") ;;
            *) continue ;;
            esac
            [ "$(stat -L -c %d:%i "$process/root" 2>/dev/null)" != "$own_root" ] || echo "${process#/proc/}"
        done
    } | sort -u | tr '\n' ' ' | sed 's/ *$//'
}

# After the files have gone.
forget_service() {
    unlink_bootctl
    if systemd_runs; then
        systemctl daemon-reload || true
        systemctl reset-failed bootagent.service >/dev/null 2>&1 || true
    fi
    rm -rf /run/bootagent || true
}

# Nothing is left but the user, whose number must not be given to somebody else.
remove_state() {
    rm -rf /var/lib/bootagent /var/log/bootagent /run/bootagent ||
        tell "could not remove /var/lib/bootagent and /var/log/bootagent"
    # The operator's own configuration; the folder only if it is empty.
    rm -f /etc/bootagent/bootagent.toml /etc/bootagent/options || true
    rmdir /etc/bootagent 2>/dev/null || true
}

# A sub-agent's package goes while BootAgent runs: its process ends before its files do.
stop_agent() {
    ordered_by_bootagent && return 0
    if [ -S /run/bootagent/bootagent.sock ] && [ -x /usr/bin/bootagentctl ]; then
        timeout 120 /usr/bin/bootagentctl stop "$agent" </dev/null >/dev/null 2>&1 || true
    fi
}

remove_agent_state() {
    rm -rf "/var/lib/bootagent/agents/$agent" "/var/log/bootagent/$agent" || true
}
