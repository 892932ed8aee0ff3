"""Measures BootAgent on one host beside supervisord and runit; prints BENCHMARKS.md.

A small server of document 002 in this file hands out the jobs, so that nothing but the agent is
measured. A child writes down when it began; that moment, not polling, ends a measurement.
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
import tarfile
import threading
import time


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


def pss_kib(pids):
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def switches(pids):
    total = 0
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    total += int(line.split()[1])
    return total


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
        server.shutdown()


def peer_round(argv, work):
    """PSS of a peer with one idle child, the child itself not counted."""
    peer = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=work)
    try:
        def tree():
            found = {peer.pid}
            for _ in range(4):
                for entry in pathlib.Path("/proc").iterdir():
                    if entry.name.isdigit():
                        try:
                            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                        except (OSError, IndexError):
                            continue
                        if parent in found:
                            found.add(int(entry.name))
            return found

        def command(pid):
            try:
                return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                return ""

        wait_for("the peer's child", lambda: any(command(pid) == "sleep" for pid in tree()))
        time.sleep(3)
        return pss_kib(pid for pid in tree() if command(pid) != "sleep")
    finally:
        for pid in sorted(tree(), reverse=True):
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        peer.wait(30)


def supervisord(work):
    work.mkdir()
    (work / "supervisord.conf").write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={work}/log\npidfile={work}/pid\n"
        "[program:idle]\ncommand=sleep 100000\n")
    return ["supervisord", "-c", str(work / "supervisord.conf")]


def runit(work):
    service = work / "services/idle"
    (service / "log").mkdir(parents=True)
    (work / "logs").mkdir()
    (service / "run").write_text("#!/bin/sh\nexec sleep 100000\n")
    (service / "log/run").write_text(f"#!/bin/sh\nexec svlogd {work}/logs\n")
    for script in (service / "run", service / "log/run"):
        script.chmod(0o755)
    return ["runsvdir", str(work / "services")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=int, default=60)
    options = parser.parse_args()

    ours, peers = [], {"supervisord": [], "runit": []}
    for number in range(options.rounds):
        ours.append(agent_round(options, number))
        for name, make in (("supervisord", supervisord), ("runit", runit)):
            folder = options.work / f"{name}-{number}"
            peers[name].append(peer_round(make(folder), options.work))

    def median(key):
        return statistics.median(entry[key] for entry in ours)

    size = (options.programs / "bootagent").stat().st_size
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    pss = median("pss")
    print(f"""# Benchmarks

Written by `contrib/bench.sh`: ours and the peers in one run on one machine, medians of {options.rounds} rounds.

Machine: {cpu}, {os.cpu_count()} cores, Linux {platform.release()}, {time.strftime('%Y-%m-%d')}.

## One host, one idle child

| what | goal | measured |
|---|---|---|
| `bootagent`, stripped | at most 4.5 MB | {size / 1e6:.2f} MB |
| PSS of daemon and logger, with journal and limits | at most 2.5 MB | {pss / 1024:.2f} MB |
| wake-ups per minute of daemon and logger, idle for {options.idle} s | 0 between deadlines | {median('wakeups'):.1f} |
| reply with a bundle job sent, to the child's first line run (`file://`, 1 KB) | under 200 ms | {median('latency'):.0f} ms |

## Peers: PSS of the supervisor with one idle child

| supervisor | PSS | ratio to ours |
|---|---|---|
| bootagent, daemon and logger | {pss / 1024:.2f} MB | 1.0 |""")
    for name, values in peers.items():
        value = statistics.median(values)
        print(f"| {name} | {value / 1024:.2f} MB | {value / pss:.1f} |")
    print("""
supervisord and runit keep processes running; they have no server, journal, limits or packages. runit is
counted with its logger (runsvdir, runsv, svlogd).""")


main()
