"""Imports the template into a real Zabbix, and lets it ask a real mtr-prober and order by the action's command.

Called by try.sh in namespaces of its own; the first argument is mtr-prober, the second the unpacked proxy. Two hosts: one
asked and ordered from by the server, one by a proxy. Says what it saw; whatever is not as it should be ends it with 1.
"""

import glob
import gzip
import json
import os
import pathlib
import pwd
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.request

HERE = pathlib.Path(__file__).parent
# Covered by a file system in memory, in our own mount namespace.
WORK = pathlib.Path("/mnt")
API = "http://127.0.0.1:8080/api_jsonrpc.php"
PROBER = "http://127.0.0.1:8081"
PATIENCE_SECONDS = 60
# As Zabbix numbers them.
SERVER, PROXY = 10051, 10061
EXECUTE_ON = {"server": 1, "proxy": 2}
HTTP_AGENT, CHECK_NOW, TRAPPER = 19, 6, 2
IMPORTED = ("groups", "templates", "items", "triggers")


def run(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, **more).stdout


def start(name, command, **more):
    with open(WORK / f"{name}.log", "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **more)


def until(what, condition):
    """Waits for something true, and gives it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            for log in sorted(WORK.glob("*.log")):
                print(f"--- {log.name}", log.read_text(errors="replace")[-1000:], sep="\n")
            raise SystemExit(f"FAILED: after {PATIENCE_SECONDS} s still not: {what}")
        time.sleep(0.3)


def check(what, holds, shown=""):
    if not holds:
        raise SystemExit(f"FAILED: {what}: {shown}")
    print(f"ok: {what}", flush=True)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def as_user(name, *command):
    return ["setpriv", "--reuid", name, "--regid", str(pwd.getpwnam(name).pw_gid), "--clear-groups", *command]


def start_database():
    programs = max(glob.glob("/usr/lib/postgresql/*/bin"))
    folder = WORK / "postgres"
    folder.mkdir()
    shutil.chown(folder, "postgres", "postgres")
    initdb = [f"{programs}/initdb", "-D", f"{folder}/data", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]
    run(*as_user("postgres", *initdb), cwd="/")
    settings = ["-c", "fsync=off", "-c", "max_wal_size=64MB", "-c", f"unix_socket_directories={folder}", "-c", "listen_addresses=127.0.0.1"]
    start("postgres", as_user("postgres", f"{programs}/postgres", "-D", f"{folder}/data", *settings), cwd="/")
    psql = ["psql", "-q", "-h", "127.0.0.1", "-U", "postgres", "-v", "ON_ERROR_STOP=1"]
    until("PostgreSQL answers", lambda: subprocess.run([*psql, "-c", ""], capture_output=True).returncode == 0)
    run(*psql, "-c", "CREATE DATABASE zabbix")
    for part in ("schema", "images", "data"):
        text = gzip.decompress(pathlib.Path(f"/usr/share/zabbix-server-pgsql/{part}.sql.gz").read_bytes())
        run(*psql, "-1", "-d", "zabbix", input=text)


def start_zabbix(proxy):
    user = ["zabbix", "zabbix"]
    for name, port, more in (
        ("server", SERVER, "DBHost=127.0.0.1\nDBName=zabbix\nDBUser=postgres\nCacheUpdateFrequency=2\nProxyConfigFrequency=2\nProxyDataFrequency=1\nStartDBSyncers=1"),
        ("proxy", PROXY, f"DBName={WORK}/proxy/db\nServer=127.0.0.1\nHostname=proxy\nProxyMode=1\nEnableRemoteCommands=1"),
    ):
        folder = WORK / name
        folder.mkdir()
        shutil.chown(folder, *user)
        lines = f"LogType=console\nListenPort={port}\nPidFile={folder}/pid\nSocketDir={folder}\nStartPollers=2\n"
        (WORK / f"{name}.conf").write_text(lines + more + "\n")
        program = "/usr/sbin/zabbix_server" if name == "server" else f"{proxy}/usr/sbin/zabbix_proxy"
        start(name, as_user("zabbix", program, "-f", "-c", f"{WORK}/{name}.conf"), cwd="/")
    # Debian's frontend has its configuration there.
    run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/etc/zabbix")
    pathlib.Path("/etc/zabbix/zabbix.conf.php").write_text(
        "<?php $DB['TYPE'] = 'POSTGRESQL'; $DB['SERVER'] = '127.0.0.1'; $DB['PORT'] = '0'; $DB['DATABASE'] = 'zabbix';"
        "$DB['USER'] = 'postgres'; $DB['PASSWORD'] = ''; $DB['SCHEMA'] = ''; $DB['ENCRYPTION'] = false;"
        f"$DB['DOUBLE_IEEE754'] = true; $ZBX_SERVER = '127.0.0.1'; $ZBX_SERVER_PORT = '{SERVER}';"
    )
    start("frontend", ["php", "-S", "127.0.0.1:8080", "-t", "/usr/share/zabbix"])
    until("the frontend answers", lambda: listens(8080))
    until("the server listens", lambda: listens(SERVER))
    until("the proxy listens", lambda: listens(PROXY))


class Frontend:
    """The API, as Admin."""

    def __init__(self):
        self.session = None
        self.session = self.call("user.login", username="Admin", password="zabbix")

    def call(self, method, *arguments, **named):
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(arguments) or named}
        if self.session:
            body["auth"] = self.session
        request = urllib.request.Request(API, json.dumps(body).encode(), {"Content-Type": "application/json-rpc"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = json.load(answer)
        if "error" in said:
            raise SystemExit(f"FAILED: Zabbix refuses {method}: {said['error']}")
        return said["result"]


def start_prober(user):
    folder = WORK / f"prober-of-{user}"
    folder.mkdir(exist_ok=True)
    shutil.chown(folder, user)
    environment = {"PATH": os.environ["PATH"], "STATE_DIRECTORY": str(folder)}
    prober = start("mtr-prober", as_user(user, WORK / "mtr-prober"), env=environment)
    until("mtr-prober listens", lambda: listens(8081))
    return prober


def stop(prober):
    prober.terminate()
    prober.wait(PATIENCE_SECONDS)


def ask(path):
    with urllib.request.urlopen(PROBER + path, timeout=60) as answer:
        return json.load(answer)


def send(port, host, key, value):
    """What zabbix_sender says."""
    body = json.dumps({"request": "sender data", "data": [{"host": host, "key": key, "value": value}]}).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"ZBXD\x01" + struct.pack("<Q", len(body)) + body)
        answer = b""
        while part := connection.recv(4096):
            answer += part
    return b"processed: 1" in answer


def items_of(frontend, host):
    return {item["key_"]: item for item in frontend.call("item.get", hostids=host, output="extend")}


def ask_now(frontend, host):
    """Has the polled items asked at once, as the button in the frontend does."""
    polled = [item for item in items_of(frontend, host).values() if int(item["type"]) == HTTP_AGENT]
    frontend.call("task.create", *({"type": CHECK_NOW, "request": {"itemid": item["itemid"]}} for item in polled))


def problems(frontend, host):
    return [problem["name"] for problem in frontend.call("problem.get", hostids=host)]


def try_host(frontend, template, who, proxy):
    """One host: its items get values, its trigger's action orders a measurement. Host and event."""
    port = SERVER if who == "server" else PROXY
    interface = {"type": 1, "main": 1, "useip": 1, "ip": "127.0.0.1", "dns": "", "port": "10050"}
    about = {"host": f"by-{who}", "interfaces": [interface], "groups": [{"groupid": "2"}], "templates": [{"templateid": template}]}
    if proxy:
        about["proxy_hostid"] = proxy
    host = frontend.call("host.create", **about)["hostids"][0]
    frontend.call("item.create", name="a line", key_="line", hostid=host, type=TRAPPER, value_type=3)
    frontend.call("trigger.create", description="the line is bad", expression=f"last(/by-{who}/line)=1", priority=4)
    command = f"{WORK}/mtr-on-event.sh {{HOST.IP}} {{EVENT.ID}}"
    script = frontend.call("script.create", name=f"mtr by {who}", type=0, scope=1, execute_on=EXECUTE_ON[who], command=command)
    operation = {"operationtype": 1, "opcommand": {"scriptid": script["scriptids"][0]}, "opcommand_hst": [{"hostid": 0}]}
    frontend.call(
        "action.create",
        name=f"measure by {who}",
        eventsource=0,
        filter={"evaltype": 0, "conditions": [{"conditiontype": 1, "operator": 0, "value": host}]},
        operations=[operation],
    )

    def answered():
        values = items_of(frontend, host)
        if not int(values["mtr_prober.health"]["lastclock"]):
            ask_now(frontend, host)
            time.sleep(1)
        return int(values["mtr_prober.health"]["lastclock"]) and values

    until(f"{who}: the health is known", answered)

    def unknown():
        # A rate needs two looks.
        ask_now(frontend, host)
        time.sleep(2)
        values = items_of(frontend, host)
        return [key for key, item in values.items() if key not in ("line", "mtr_prober.metrics") and not int(item["lastclock"])]

    until(f"{who}: all items have values", lambda: not unknown())
    values = items_of(frontend, host)
    refused = {key: item["error"] for key, item in values.items() if item["state"] != "0"}
    check(f"{who}: {len(values) - 1} items have values, none is refused", not refused, refused)
    check(f"{who}: the health is ok", values["mtr_prober.health"]["lastvalue"] == "ok", values["mtr_prober.health"])
    check(f"{who}: packets were counted", float(values["mtr_prober.wakeups"]["lastvalue"]) > 0, values["mtr_prober.wakeups"])
    triggers = frontend.call("trigger.get", hostids=host, output="extend")
    bad = {trigger["description"]: trigger["error"] for trigger in triggers if trigger["state"] != "0"}
    check(f"{who}: {len(triggers)} triggers can be computed", not bad, bad)
    check(f"{who}: nothing is wrong yet", not problems(frontend, host), problems(frontend, host))

    until(f"{who}: a value is taken", lambda: send(port, f"by-{who}", "line", 1))
    event = until(f"{who}: the trigger fires", lambda: frontend.call("problem.get", hostids=host))[0]["eventid"]

    def alerted():
        alerts = frontend.call("alert.get", eventids=event, output="extend")
        return [alert for alert in alerts if int(alert["status"]) != 0]

    alert = until(f"{who}: the command ran", alerted)[0]
    check(f"{who}: Zabbix is content with the command", alert["status"] == "1" and not alert["error"], alert)
    print("   ", alert)
    return host, event


def main():
    prober, proxy = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    began = time.monotonic()
    run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", WORK)
    run("ip", "link", "set", "lo", "up")
    # It is in a folder that only root may enter.
    shutil.copytree(proxy, WORK / "proxy-package")
    shutil.copy(HERE / "mtr-on-event.sh", WORK)
    start_database()
    start_zabbix(WORK / "proxy-package")
    shutil.copy(prober, WORK / "mtr-prober")
    running = start_prober("root")
    frontend = Frontend()
    print(f"Zabbix is up after {time.monotonic() - began:.0f} s", flush=True)

    rules = {kind: {"createMissing": True, "updateExisting": True} for kind in IMPORTED}
    source = (HERE / "template.json").read_text()
    for what in ("the template is imported", "it is imported once more"):
        check(what, frontend.call("configuration.import", format="json", rules=rules, source=source) is True)
    wanted = json.loads(source)["zabbix_export"]["templates"][0]
    template = frontend.call("template.get", filter={"host": wanted["template"]})[0]["templateid"]
    there = {item["key_"] for item in frontend.call("item.get", templateids=template)}
    check(f"all {len(there)} items are there", there == {item["key"] for item in wanted["items"]}, there)

    proxy_id = frontend.call("proxy.create", host="proxy", status=6, interface={"useip": 1, "ip": "127.0.0.1", "dns": "", "port": str(PROXY)})
    tried = {"server": try_host(frontend, template, "server", None)}
    tried["proxy"] = try_host(frontend, template, "proxy", proxy_id["proxyids"][0])

    # The measurements take 100 s; told to end it ends them.
    stop(running)
    running = start_prober("root")
    reports = {report["ref"]: report for report in ask("/api/reports?cause=trigger")["items"]}
    for who, (_, event) in tried.items():
        check(f"{who}: mtr-prober lists the report of event {event}", event in reports, reports)
        print("   ", reports[event])
    stop(running)
    start_prober("nobody")
    for who, (host, _) in tried.items():
        def told():
            ask_now(frontend, host)
            time.sleep(1)
            return any("mtr-prober fails" in name for name in problems(frontend, host))

        until(f"{who}: a mtr-prober without its privilege is a problem", told)
        check(f"{who}: a mtr-prober that may not measure is a problem", True)
        print("   ", problems(frontend, host))
    print(f"all is well after {time.monotonic() - began:.0f} s")


main()
