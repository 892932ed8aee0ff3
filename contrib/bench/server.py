"""Measures bootserver with simulated fleets; prints its section of BENCHMARKS.md.

Everything runs on this machine: server, database and the simulator share its cores. CPU is that of the
server's processes and the database's, so what the simulator uses does not count.
"""

import argparse
import glob
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import time

# (name, hosts, mode and options, what is wanted of which figure)
SATURATE = "saturate --connections 128 --changed 10% --warm-up 5"
RUNS = [
    ("saturated, kept connections", 100_000, SATURATE, "rate", 12_000),
    ("saturated, a new connection per post", 100_000, SATURATE + " --connection new", "rate", None),
    ("saturated, a new TLS 1.3 handshake per post", 100_000, SATURATE + " --connection new", "tls rate", 3_500),
    ("100,000 hosts are back after 60 s, step 60 s", 100_000, "herd --step 60 --outage 60 --events 1%", "herd", None),
    ("saturated, kept connections", 1_000_000, SATURATE, "rate", 10_000),
    ("1,000,000 hosts, step 600 s (1,667 posts/s)", 1_000_000, "fleet --step 600 --warm-up 5 --events 0.1%", "open",
     {"cores": 0.35, "p99": 40, "pss": 512}),
    ("the same over TLS", 1_000_000, "fleet --step 600 --warm-up 5 --events 0.1%", "tls open",
     {"cores": 0.7, "p99": 40, "pss": 512}),
    ("1,000,000 hosts, step 200 s (5,000 posts/s)", 1_000_000, "fleet --step 200 --warm-up 5", "open", {"p99": 100}),
]
HERD_STEPS = 3


def wait_for(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise SystemExit(f"not within {seconds} s: {what}")


class Sqlite:
    """The database in the server's folder."""

    name = "SQLite"

    def __init__(self, folder):
        self.pids, self.arguments, self.data = [], [], folder

    def stop(self):
        pass


class Postgres:
    """A server of our own, in `folder`, as the user that Debian's package made."""

    name = "PostgreSQL"

    def __init__(self, folder):
        programs = max(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
        self.data = folder / "postgres"
        # A socket's path is short.
        self.sockets = pathlib.Path("/tmp") / f"bench-pg-{os.getpid()}"
        for path in (self.data, self.sockets):
            path.mkdir(mode=0o700)
            shutil.chown(path, "postgres", "postgres")
        self.owner = ["runuser", "-u", "postgres", "--"]
        subprocess.run([*self.owner, f"{programs}/initdb", "-D", self.data, "--auth=trust", "--no-instructions",
                        "--encoding=UTF8", "--locale=C.UTF-8"], check=True, stdout=subprocess.DEVNULL, cwd="/")
        # fsync and synchronous_commit stay on: an acknowledgement is durable.
        settings = ["listen_addresses=", f"unix_socket_directories={self.sockets}", "shared_buffers=128MB",
                    "max_wal_size=2GB"]
        self.server = subprocess.Popen(
            [*self.owner, f"{programs}/postgres", "-D", self.data, *(w for s in settings for w in ("-c", s))],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        ready = [f"{programs}/pg_isready", "-q", "-h", self.sockets]
        wait_for("PostgreSQL is ready", lambda: subprocess.run(ready, check=False).returncode == 0)
        subprocess.run([*self.owner, f"{programs}/createdb", "-h", self.sockets, "bench"], check=True, cwd="/")
        self.pids = [int((self.data / "postmaster.pid").read_text().split()[0])]
        self.arguments = ["--database", f"postgres:///bench?host={self.sockets}&user=postgres"]

    def stop(self):
        os.kill(self.pids[0], signal.SIGINT)
        self.server.wait(60)
        shutil.rmtree(self.sockets, ignore_errors=True)


class Server:
    """bootserver on a folder, with or without TLS."""

    def __init__(self, options, database, folder, tls):
        self.folder = folder
        address = folder / "address"
        address.unlink(missing_ok=True)
        self.log = open(folder / "log", "ab")
        self.process = subprocess.Popen(
            [options.programs / "bootserver", "serve", "--listen", "127.0.0.1:0", "--data", folder / "data",
             "--address-file", address, "-l", "warn", *database.arguments, *tls],
            stdout=subprocess.DEVNULL, stderr=self.log)
        try:
            address = wait_for("the server's address", lambda: address.exists() and address.read_text().strip())
        except SystemExit:
            self.process.kill()
            raise
        self.url = f"https://localhost:{address.rsplit(':', 1)[1]}" if tls else f"http://{address}"

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


def certificate(folder):
    """A P-256 certificate for localhost, signed by itself."""
    pem, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                    "-addext", "basicConstraints=critical,CA:FALSE",
                    "-keyout", key, "-out", pem], check=True, stderr=subprocess.DEVNULL)
    return pem, key


def simulate(options, server, database, hosts, line, tls):
    """One run; its report."""
    seconds = HERD_STEPS * 60 if line.startswith("herd") else options.seconds
    pids = ",".join(str(pid) for pid in [server.process.pid, *database.pids])
    command = [options.programs / "bootserver-sim", *line.split(), "--server", server.url, "--hosts", str(hosts),
               "--seconds", str(seconds), "--identities", server.folder / "fleet",
               "--tokens", server.folder / "data/first-start.txt", "--pids", pids, "--data", server.folder, "--json"]
    command += ["--ca-file", tls[0]] if tls else []
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if not done.stdout:
        raise SystemExit(f"the simulator failed: {line}")
    report = json.loads(done.stdout)
    (server.folder / "reports.jsonl").open("a").write(json.dumps({"line": line, "tls": bool(tls), **report}) + "\n")
    return report


def middle(reports, *path):
    def value(report):
        for key in path:
            report = report[key]
        return report
    return statistics.median(value(report) for report in reports)


def row(name, database, kind, goal, reports):
    """A line of the table, in words that need no legend."""
    p99, cores = middle(reports, "latency_ms", "p99"), middle(reports, "server", "cores")
    pss, rate = middle(reports, "server", "pss_mb"), middle(reports, "posts_per_second")
    per_cpu = middle(reports, "server", "posts_per_cpu_second")
    wanted = "-"
    if "rate" in kind and goal:
        wanted = f"at least {goal:,.0f} per CPU-second"
    elif "open" in kind:
        words = {"cores": "{} cores", "p99": "p99 {} ms", "pss": "{} MB"}
        wanted = "at most " + ", ".join(words[key].format(value) for key, value in goal.items())
    elif kind == "herd":
        wanted = "peak/mean at most 2, then 1.5; all answered in 1.5 steps"
    herd = ""
    if kind == "herd":
        last = reports[-1]["herd"]
        peaks = " ".join(f"{peak:.2f}" for peak in last["peak_to_mean"])
        steps = last["all_answered_steps"]
        herd = f"; peak/mean {peaks}; all answered " + (f"after {steps:.2f} steps" if steps else "not in three steps")
    bad = sum(report["wrong"] for report in reports)
    for report in reports:
        for what in ("events", "results"):
            bad += sum((report[what] or {}).get(key, 0) for key in ("lost", "doubled", "invented"))
    return (f"| {name} | {database} | {wanted} | {per_cpu:,.0f} | {rate:,.0f} | {p99:.1f} ms | {cores:.2f} | "
            f"{pss:.0f} MB{herd} | {bad} |")


def measure(options, kind, hosts, tls):
    """All runs on one database with one fleet: lines of the table, and sync times."""
    folder = options.work / f"{kind.name}-{hosts}"
    folder.mkdir()
    lines, syncs = [], []
    database = kind(folder)
    try:
        for name, count, line, figure, goal in RUNS:
            if count != hosts or ("tls" in figure and not tls):
                continue
            secure = tls if "tls" in figure else None
            flags = ["--tls-cert", secure[0], "--tls-key", secure[1]] if secure else []
            server = Server(options, database, folder, flags)
            try:
                rounds = 1 if line.startswith("herd") else options.rounds
                # The fleet is enrolled by the first run that needs it, before its warm-up.
                reports = [simulate(options, server, database, hosts, line, secure) for _ in range(rounds)]
            finally:
                server.stop()
            syncs += [report["sync_ms"]["before"]["p50"] for report in reports]
            shown = f"{hosts:,} hosts: {name}" if "saturated" in name else name
            lines.append(row(shown, kind.name, figure, goal, reports))
    finally:
        database.stop()
    return lines, syncs


def main():
    parser = argparse.ArgumentParser()
    for name in ("programs", "work"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--fleets", default="100000,1000000")
    parser.add_argument("--databases", default="SQLite,PostgreSQL")
    options = parser.parse_args()
    fleets = [int(hosts) for hosts in options.fleets.split(",")]
    known = {hosts for _, hosts, *_ in RUNS}
    if not set(fleets) <= known:
        raise SystemExit(f"--fleets: only {sorted(known)} are described")
    options.work.chmod(0o755)
    help_text = subprocess.run([options.programs / "bootserver", "-h"], capture_output=True, text=True, check=True)
    tls = certificate(options.work) if "--tls-cert" in help_text.stdout else None
    lines, syncs = [], []
    for kind in (Sqlite, Postgres):
        if kind.name not in options.databases.split(","):
            continue
        for hosts in fleets:
            more, times = measure(options, kind, hosts, tls)
            lines += more
            syncs += times
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    print(f"""## The server

Written by `contrib/bench.sh server`: bootserver, its database and bootserver-sim on one machine ({cpu},
{os.cpu_count()} cores, Linux {platform.release()}, {time.strftime("%Y-%m-%d")}; load average {os.getloadavg()[2]:.1f} over the
last 15 minutes), medians of {options.rounds} rounds of {options.seconds} s. Every answer means that the status is on the disk; a
write of 4 KB took {statistics.median(syncs):.2f} ms to get there. 128 connections, 10 % of the posts with changed content, a host's
status has two sub-agents. CPU and memory are those of the server and its database.

| what | database | wanted | posts per CPU-second | posts/s | p99 | cores | PSS | wrong or lost |
|---|---|---|---|---|---|---|---|---|""")
    print("\n".join(lines))
    print("""
Published figures of others, per vCPU with their databases: Elastic Fleet Server 694 hosts, FleetDM 1,950, MeshCentral
7,000 (one machine). A status every 600 s makes posts per CPU-second times 600 hosts.
""")


if __name__ == "__main__":
    main()
