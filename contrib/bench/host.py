"""Measures BootAgent on one host, beside other supervisors; prints BENCHMARKS.md.

A small server of document 002 in this file hands out the jobs, so that nothing but the agent is
measured. A child tells when it began; that moment, not polling, ends a measurement.
"""

import argparse
import http.server
import io
import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import tarfile
import threading
import time

from many import one_round, pss_kib, remove_groups, switches
from supervisors import PEERS, version


class Server(http.server.ThreadingHTTPServer):
    """Answers register and status; `jobs` goes out with the next status, `sent_at` says when."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.jobs, self.results, self.statuses = [], {}, 0
        self.sent_at = None
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = {"status": 0}
        if self.path == "/agent/status":
            for result in body["jobs"]:
                self.server.results[result["id"]] = result
            reply["jobs"], self.server.jobs = self.server.jobs, []
        data = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if reply.get("jobs"):
            self.server.sent_at = time.time_ns()
        self.wfile.write(data)
        if self.path == "/agent/status":
            self.server.statuses += 1

    def log_message(self, *_):
        pass


def wait_for(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise SystemExit(f"not within {seconds} s: {what}")


def bundle(path, version, script):
    manifest = {"name": "idle", "version": version, "exec": ["./idle"], "type": "simple", "user": "root",
                "limits": {"CPU": "50%", "memory": "20M", "pids": 16}, "stop_timeout": 2}
    with tarfile.open(path, "w:gz") as archive:
        for name, mode, data in (("agent.json", 0o644, json.dumps(manifest)), ("idle", 0o755, script)):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data.encode()), mode
            archive.addfile(info, io.BytesIO(data.encode()))


def agent_round(options, number):
    """One fresh host: install latency, PSS and wake-ups with one idle child."""
    root = options.work / f"host-{number}"
    root.mkdir()
    server = Server()
    config = root / "bootagent.toml"
    config.write_text(f'root = "{root}/root"\n[push]\nstep = 3600\n')
    began = root / "began"
    agent = subprocess.Popen(
        [options.programs / "bootagent", "-c", config, "-S", f"127.0.0.1:{server.server_port}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    control = [options.programs / "bootctl", "-r", root / "root"]
    try:
        package = root / "idle.tar.gz"
        bundle(package, "1-1", f"#!/bin/sh\ndate +%s%N > {began}\nexec sleep 100000\n")
        server.jobs = [{"id": "1", "action": "install", "name": "idle", "url": f"file://{package}"}]
        wait_for("the child begins", lambda: began.exists() and began.read_text().strip())
        latency = (int(began.read_text()) - server.sent_at) / 1e6
        result = wait_for("the job ends", lambda: server.results.get("1"))
        if result["errcode"] != 0:
            raise SystemExit(f"the install failed: {result}")
        statuses = server.statuses
        wait_for("its acknowledgement", lambda: server.statuses >= statuses)
        time.sleep(3)
        record = json.loads((root / "root/run/bootagent/children/logger.process.json").read_text())
        pids = [agent.pid, record["identity"]["pid"]]
        before = switches(pids)
        time.sleep(options.idle)
        wakeups = switches(pids) - before
        return {"latency": latency, "pss": pss_kib(pids), "wakeups": wakeups * 60 / options.idle}
    finally:
        subprocess.run([*control, "stop", "--all"], stdout=subprocess.DEVNULL, check=False)
        agent.send_signal(signal.SIGTERM)
        agent.wait(30)
        remove_groups(root)
        server.shutdown()


OURS, BARE = "bootagent", "bootagent, no cgroups"


def side_by_side(options, counts):
    """{(supervisor, count): [figures of each round]}, the supervisors taking turns."""
    server = Server()
    figures = {}
    for number in range(options.rounds):
        for count in counts:
            for name in (OURS, BARE, *PEERS):
                print(f"round {number + 1}: {name}, {count} children", file=sys.stderr)
                found = one_round(options, name, count, number, server)
                figures.setdefault((name, count), []).append(found)
    server.shutdown()
    return figures


def median(rounds, key):
    values = [entry[key] for entry in rounds if entry[key] is not None]
    return statistics.median(values)


def table(options, figures, count):
    """One row per supervisor, with the ratio to ours."""
    our_pss, our_time = (median(figures[OURS, count], key) for key in ("pss", "time"))
    rows = []
    for name in (OURS, BARE, *PEERS):
        rounds = figures[name, count]
        pss, until, wakeups = (median(rounds, key) for key in ("pss", "time", "wakeups"))
        shown = name if name not in PEERS else f"{name} {version(name, options)}"
        rows.append(f"| {shown} | {rounds[0]['processes']} | {pss / 1024:.2f} MB | {pss / our_pss:.1f} "
                    f"| {until:.0f} ms | {until / our_time:.1f} | {wakeups:.0f} |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser()
    for name in ("programs", "work", "memory", "idle-program", "horust", "former"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=int, default=60)
    options = parser.parse_args()
    options.fifo = options.memory / "began"
    os.mkfifo(options.fifo)

    ours = [agent_round(options, number) for number in range(options.rounds)]
    figures = side_by_side(options, (4, 100))
    size = (options.programs / "bootagent").stat().st_size
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    goal = {(name, count, key): median(figures[name, count], key) for name in (OURS, BARE) for count in (4, 100)
            for key in ("pss", "time", "wakeups")}
    heading = """| supervisor | processes | PSS | ratio | until all run | ratio | wake-ups a minute |
|---|---|---|---|---|---|---|"""
    print(f"""# Benchmarks

Written by `contrib/bench.sh`: ours and the peers in one run on one machine, taking turns, medians of
{options.rounds} rounds (wake-ups: of the first).

Machine: {cpu}, {os.cpu_count()} cores, Linux {platform.release()}, {time.strftime('%Y-%m-%d')}; load average
{os.getloadavg()[2]:.1f} over the last 15 minutes.

## One host

| what | goal | measured |
|---|---|---|
| `bootagent`, stripped | at most 4.5 MB | {size / 1e6:.2f} MB |
| PSS of daemon and logger, 4 children, with TLS, journal and limits | at most 2.5 MB | {goal[OURS, 4, 'pss'] / 1024:.2f} MB |
| the same with 100 children | at most 3 MB | {goal[OURS, 100, 'pss'] / 1024:.2f} MB |
| start of the daemon to 100 children running, a cgroup each | under 200 ms | {goal[OURS, 100, 'time']:.0f} ms |
| the same without cgroups | under 120 ms | {goal[BARE, 100, 'time']:.0f} ms |
| wake-ups a minute of daemon and logger, 100 idle children | at most 1 | {goal[OURS, 100, 'wakeups']:.0f} |
| reply with a bundle job sent, to the child's first line run (`file://`, 1 KB) | under 200 ms | {median(ours, 'latency'):.0f} ms |

## Beside others, 4 idle children

{heading}
{table(options, figures, 4)}

## Beside others, 100 idle children

{heading}
{table(options, figures, 100)}

PSS is that of all processes of the supervisor, loggers included, children not. The time runs from the start of
the supervisor until the last child has said by a byte in a FIFO that it runs. Everybody's files are in memory,
as /run is; our journal and metafile are on the disk. Ours makes a cgroup with three limits per child; "no
cgroups" has no limits either. The peers keep processes running; they have no server, journal, limits or packages. runit and s6
run without a logger per child, which would double their processes.

{by_hand(options)}""", end="")


def by_hand(options):
    """What people measured and wrote down, and the server's section before it: they stay as they are."""
    former = options.former.read_text()
    heading = "## The server\n" if "\n## The server\n" in former else "## By hand\n"
    _, found, text = former.partition(heading)
    return f"{heading}{text}" if found else f"{heading}\nNothing yet.\n"


if __name__ == "__main__":
    main()
