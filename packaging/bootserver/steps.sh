# shellcheck shell=sh
# The steps that the scriptlets of bootserver's packages are made of; package.sh puts this file in front of
# each. The rule: POSIX sh, and no step fails: a package whose service does not start is installed all the
# same, and says aloud what is left to do. Only a purge, which dpkg is asked for by name, removes data.

tell() { printf 'bootserver: %s\n' "$*"; }

have() { command -v "$1" >/dev/null 2>&1; }

systemd_runs() { [ -d /run/systemd/system ] && have systemctl; }

# After the files are there: who runs it, and that only they and root read the configuration, which may hold
# a password of the database.
create_user() {
    if ! grep -q '^bootserver:' /etc/passwd && have systemd-sysusers; then
        systemd-sysusers bootserver.conf >/dev/null 2>&1 || true
    fi
    if ! grep -q '^bootserver:' /etc/passwd; then
        shell=/usr/sbin/nologin
        [ -e "$shell" ] || shell=/sbin/nologin
        grep -q '^bootserver:' /etc/group || groupadd -r bootserver >/dev/null 2>&1 || true
        useradd -r -g bootserver -d /var/lib/bootserver -M -s "$shell" bootserver >/dev/null 2>&1 ||
            tell "could not create the user bootserver; create it and start the service again"
    fi
    if [ -f /etc/bootserver/config.toml ]; then
        { chown root:bootserver /etc/bootserver/config.toml && chmod 0640 /etc/bootserver/config.toml; } ||
            tell "could not give /etc/bootserver/config.toml to root and the group bootserver"
    fi
}

start_service() {
    if have systemctl; then
        systemctl enable bootserver.service >/dev/null 2>&1 ||
            tell "could not enable the service: systemctl enable bootserver"
    fi
    if systemd_runs; then
        systemctl daemon-reload || true
        # --no-block: inside an unattended installation nobody may wait for a database.
        systemctl --no-block start bootserver.service ||
            tell "could not start the service: systemctl status bootserver"
        tell "the first password and tokens are in /var/lib/bootserver/first-start.txt, which root reads"
    else
        tell "systemd does not run here; bootserver serve -c /etc/bootserver/config.toml is the server"
    fi
}

# A new version over an old one: a server that runs lets its requests end (SIGTERM) and comes back as the new
# one; one that was stopped stays so.
restart_service() {
    systemd_runs || return 0
    systemctl daemon-reload || true
    systemctl --no-block try-restart bootserver.service ||
        tell "could not restart the service: systemctl status bootserver"
}

stop_service() {
    if have systemctl; then
        systemctl disable bootserver.service >/dev/null 2>&1 || true
    fi
    if systemd_runs; then
        systemctl stop bootserver.service ||
            tell "could not stop the service: systemctl status bootserver"
    fi
}

forget_service() {
    if systemd_runs; then
        systemctl daemon-reload || true
        systemctl reset-failed bootserver.service >/dev/null 2>&1 || true
    fi
    [ ! -e /var/lib/bootserver ] ||
        tell "hosts, jobs and packages are kept in /var/lib/bootserver; remove it by hand if nobody needs them"
}

remove_data() {
    [ -e /var/lib/bootserver ] || return 0
    if rm -rf /var/lib/bootserver; then
        tell "hosts, jobs and packages are removed with /var/lib/bootserver; a database elsewhere is as it was"
    else
        tell "could not remove /var/lib/bootserver, which has hosts, jobs and packages"
    fi
}
