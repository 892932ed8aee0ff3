"""Measures bootserver with simulated fleets; prints its section of BENCHMARKS.md.

Everything runs on this machine: server, database and the simulator share its cores. CPU is that of the
server's processes and the database's, so what the simulator uses does not count.
"""

import argparse
import concurrent.futures
import errno
import glob
import http.client
import json
import mmap
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time

import fleet

# (name, hosts, mode and options, what is wanted of which figure)
WARM_UP = 3
SATURATE = f"saturate --connections 128 --changed 10% --warm-up {WARM_UP}"
FLEET = f"fleet --warm-up {WARM_UP} --events 0.1%"
# Every host once.
PASS = "saturate --passes 1 --changed 0 --connections 256"
RUNS = [
    ("saturated, kept connections", 100_000, SATURATE, "rate", 12_000),
    ("saturated, a new TLS 1.3 handshake per post", 100_000, SATURATE + " --connection new", "tls rate", 3_500),
    ("100,000 hosts are back after 60 s, step 60 s", 100_000, "herd --step 60 --outage 60 --events 1%", "herd", None),
    ("saturated, kept connections", 1_000_000, SATURATE, "rate", 10_000),
    ("1,000,000 hosts, step 600 s (1,667 posts/s)", 1_000_000, FLEET + " --step 600", "open",
     {"cores": 0.35, "p99": 40, "pss": 512}),
    ("the same over TLS", 1_000_000, FLEET + " --step 600", "tls open",
     {"cores": 0.7, "p99": 40, "pss": 512}),
    ("1,000,000 hosts, step 200 s (5,000 posts/s)", 1_000_000, FLEET + " --step 200", "open", {"p99": 100}),
]
HERD_STEPS = 2


def wait_for(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise SystemExit(f"not within {seconds} s: {what}")


class InMemory:
    """Files that stay in memory, as on a machine that has enough of it. A virtual machine may give back what nobody
    has read for a minute, however much is free, and of a million hosts each is written every ten."""

    # From Linux's mman.h: read all of it now.
    POPULATE_READ = 22
    SMALL = 1_000_000

    def __init__(self):
        self.mappings = {}

    def keep(self, paths):
        """Maps those that are new or have grown: what is mapped stays."""
        sizes = {path: path.stat().st_size for path in paths}
        self.mappings = {path: mapping for path, mapping in self.mappings.items() if len(mapping) == sizes.get(path)}
        for path, size in sizes.items():
            if size < self.SMALL or path in self.mappings:
                continue
            with open(path, "rb") as file:
                mapping = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
            try:
                mapping.madvise(self.POPULATE_READ)
            except OSError as error:
                # A vacuum has made the file shorter meanwhile: what there still is has been read.
                if error.errno != errno.EFAULT:
                    raise
            self.mappings[path] = mapping


class Sqlite:
    """The database in the server's folder."""

    name = "SQLite"

    def __init__(self, folder):
        self.pids, self.arguments, self.data = [], [], folder
        self.in_memory = InMemory()

    def keep(self):
        """Keeps the tables in memory."""
        self.in_memory.keep([self.data / "data/bootserver.db"])

    def settle(self):
        """What the kernel does by itself within a minute: what a pass has written gets to the disk."""
        os.sync()

    def stop(self):
        pass


class Postgres:
    """A server of our own, in `folder`, as the user that Debian's package made."""

    name = "PostgreSQL"

    def __init__(self, folder):
        programs = max(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
        self.data = folder / "postgres"
        self.in_memory = InMemory()
        # A socket's path is short.
        self.sockets = pathlib.Path("/tmp") / f"bench-pg-{os.getpid()}"
        self.owner = ["runuser", "-u", "postgres", "--"]
        is_new = not self.data.exists()
        for path in (self.data, self.sockets):
            path.mkdir(mode=0o700, exist_ok=True)
            shutil.chown(path, "postgres", "postgres")
        if is_new:
            subprocess.run([*self.owner, f"{programs}/initdb", "-D", self.data, "--auth=trust", "--no-instructions",
                            "--encoding=UTF8", "--locale=C.UTF-8"], check=True, stdout=subprocess.DEVNULL, cwd="/")
        # fsync and synchronous_commit stay on: an acknowledgement is durable.
        settings = ["listen_addresses=", f"unix_socket_directories={self.sockets}", "shared_buffers=256MB",
                    "max_wal_size=2GB"]
        self.server = subprocess.Popen(
            [*self.owner, f"{programs}/postgres", "-D", self.data, *(w for s in settings for w in ("-c", s))],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        ready = [f"{programs}/pg_isready", "-q", "-h", self.sockets]
        wait_for("PostgreSQL is ready", lambda: subprocess.run(ready, check=False).returncode == 0)
        if is_new:
            subprocess.run([*self.owner, f"{programs}/createdb", "-h", self.sockets, "bench"], check=True, cwd="/")
        self.psql = [*self.owner, f"{programs}/psql", "-h", self.sockets, "bench"]
        self.pids = [int((self.data / "postmaster.pid").read_text().split()[0])]
        self.arguments = ["--database", f"postgres:///bench?host={self.sockets}&user=postgres"]

    def keep(self):
        """Keeps the tables in memory."""
        self.in_memory.keep(self.data.glob("base/*/[1-9]*"))

    def settle(self):
        """What it does by itself within minutes, beside what would be measured."""
        subprocess.run([*self.psql, "-q", "-c", "VACUUM ANALYZE", "-c", "CHECKPOINT"], check=True, cwd="/")

    def stop(self):
        os.kill(self.pids[0], signal.SIGINT)
        self.server.wait(60)
        shutil.rmtree(self.sockets, ignore_errors=True)


class Server:
    """bootserver on a folder: plain on its first address, with TLS on its second."""

    def __init__(self, options, database, folder, tls):
        self.folder = folder
        address = folder / "address"
        address.unlink(missing_ok=True)
        configuration = folder / "bench.toml"
        # What is measured is the server and not its bounds.
        configuration.write_text("[budget]\nstatus = { at_once = 4000, per_second = 100000 }\n")
        self.log = open(folder / "log", "ab")
        self.process = subprocess.Popen(
            [options.programs / "bootserver", "serve", "-c", configuration,
             "--listen", "http://127.0.0.1:0", "--listen", "https://127.0.0.1:0",
             "--tls-cert", tls[0], "--tls-key", tls[1], "--data", folder / "data",
             "--address-file", address, "-l", "warn", *database.arguments],
            stdout=subprocess.DEVNULL, stderr=self.log)
        try:
            text = wait_for("the server's addresses", lambda: address.exists() and address.read_text().strip(), 300)
        except SystemExit:
            self.process.kill()
            raise
        plain, secure = text.split()
        self.url, self.secure_url = f"http://{plain}", f"https://localhost:{secure.rsplit(':', 1)[1]}"
        self.tokens = folder / "data/first-start.txt"

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


def machine_speed():
    """P-256 signatures per second of openssl on all cores: how fast this machine is just now.

    Virtual machines share cores and caches with others unseen, and a CPU-second is worth accordingly.
    """
    command = ["openssl", "speed", "-mr", "-seconds", "1", "-multi", str(os.cpu_count()), "ecdsap256"]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    # +F4:number:bits:signatures per second:verifications per second
    return float(next(line for line in said.stdout.splitlines() if line.startswith("+F4:")).split(":")[3])


def simulate(options, server, database, hosts, line, tls):
    """One run; its report."""
    database.keep()
    seconds = HERD_STEPS * 60 if line.startswith("herd") else options.seconds
    pids = ",".join(str(pid) for pid in [server.process.pid, *database.pids])
    command = [options.programs / "bootserver-sim", *line.split(),
               "--server", server.secure_url if tls else server.url, "--hosts", str(hosts),
               "--seconds", str(seconds), "--identities", server.folder / "fleet",
               "--tokens", server.tokens, "--pids", pids, "--data", server.folder, "--json"]
    command += ["--ca-file", tls[0]] if tls else []
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if not done.stdout:
        raise SystemExit(f"the simulator failed: {line}")
    report = json.loads(done.stdout)
    with open(server.folder / "reports.jsonl", "a") as reports:
        reports.write(json.dumps({"line": line, "tls": bool(tls), **report}) + "\n")
    return report


# What an operator asks while the fleet pushes: (name, path, most milliseconds).
LISTS = [
    ("a page of hosts by name", "/api/v1/hosts?limit=100", 100),
    ("a page of the hosts online, the latest first", "/api/v1/hosts?limit=100&state=online&sort=-since", 100),
    ("hosts by three characters of their names", "/api/v1/hosts?limit=100&search={three}", 300),
    ("hosts by a part of an address", "/api/v1/hosts?limit=100&search=10.{byte}.", 300),
]


def ask(server, hosts, seconds):
    """Lists for so long, one after another; milliseconds of each kind."""
    token = next(line.split("=", 1)[1] for line in server.tokens.read_text().splitlines()
                 if line.startswith("api_token="))
    took = {name: [] for name, *_ in LISTS}
    end, number = time.monotonic() + seconds, 0
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    while time.monotonic() < end:
        for name, path, _ in LISTS:
            number += 7919
            path = path.format(three=f"{number % 1000:03}", byte=number // 256 % max(hosts >> 16, 1))
            begun = time.monotonic()
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"GET {path}: {answer.status}")
            took[name].append((time.monotonic() - begun) * 1000)
        time.sleep(0.1)
    connection.close()
    return took


def lists(options, server, database, hosts):
    """Lists while the fleet pushes at its pace: lines of their table."""
    line = FLEET + " --step 600"
    database.settle()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(simulate, options, server, database, hosts, line, None)
        time.sleep(4)
        took = ask(server, hosts, options.seconds - 2)
        report = pushing.result()
    p99 = report["latency_ms"]["p99"]
    return [f"| {name} | {database.name} | under {most} ms | {statistics.median(took[name]):.1f} ms | "
            f"{max(took[name]):.1f} ms | {len(took[name])} | {p99:.1f} ms |" for name, _, most in LISTS]


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
        answered = f"after {steps:.2f} steps" if steps else f"not in {HERD_STEPS} steps"
        herd = f"; peak/mean {peaks}; all answered {answered}"
    bad = sum(report["wrong"] for report in reports)
    for report in reports:
        for what in ("events", "results"):
            bad += sum((report[what] or {}).get(key, 0) for key in ("lost", "doubled", "invented"))
    return (f"| {name} | {database} | {wanted} | {per_cpu:,.0f} | {rate:,.0f} | {p99:.1f} ms | {cores:.2f} | "
            f"{pss:.0f} MB{herd} | {bad} | {middle(reports, 'machine_speed'):,.0f} |")


def enrol(options, server, database, hosts):
    """A fleet of a stopped server."""
    unfinished = server.folder / "fleet.part"
    said = subprocess.run([options.programs / "bootserver-sim", "-V"], capture_output=True, text=True, check=True)
    now = int(time.time() * 1000)
    rows = fleet.identities(hosts, unfinished, said.stdout.split()[1], now)
    if database.name == "SQLite":
        fleet.into_sqlite(server.folder / "data/bootserver.db", rows, now)
    else:
        fleet.into_postgres(database.psql, rows, now)
    unfinished.rename(server.folder / "fleet")


def measure(options, kind, hosts, tls):
    """All runs on one database with one fleet: lines of both tables, and sync times."""
    folder = options.work / f"{kind.name}-{hosts}"
    folder.mkdir(exist_ok=True)
    lines, listed, syncs = [], [], []
    database = kind(folder)
    try:
        server = Server(options, database, folder, tls)
        if not (folder / "fleet").exists():
            server.stop()
            enrol(options, server, database, hosts)
            server = Server(options, database, folder, tls)
        try:
            # Everybody was here once, as in a fleet that has been up for longer than one interval.
            simulate(options, server, database, hosts, PASS, None)
            if hosts == max(count for _, count, *_ in RUNS):
                listed = lists(options, server, database, hosts)
            for name, count, line, figure, goal in RUNS:
                if count != hosts:
                    continue
                secure = tls if "tls" in figure else None
                rounds = 1 if line.startswith("herd") else options.rounds
                if line.startswith("fleet"):
                    # Everybody again: who has been silent for an interval is late, and moved, and who pushes at another
                    # interval than before says so, which is changed content.
                    step = line.partition("--step ")[2]
                    simulate(options, server, database, hosts, f"{PASS} --step {step}", None)
                database.settle()
                reports = []
                for number in range(rounds):
                    # Each round goes on where the one before has ended, with other hosts.
                    later = f" --later {number * (options.seconds + WARM_UP)}" if line.startswith("fleet") else ""
                    reports.append({"machine_speed": machine_speed(),
                                    **simulate(options, server, database, hosts, line + later, secure)})
                syncs += [report["sync_ms"]["before"]["p50"] for report in reports]
                shown = f"{hosts:,} hosts: {name}" if "saturated" in name else name
                lines.append(row(shown, kind.name, figure, goal, reports))
                print(lines[-1], file=sys.stderr)
        finally:
            server.stop()
    finally:
        database.stop()
    return lines, listed, syncs


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
    tls = certificate(options.work)
    lines, listed, syncs = [], [], []
    for kind in (Sqlite, Postgres):
        if kind.name not in options.databases.split(","):
            continue
        for hosts in fleets:
            more, asked, times = measure(options, kind, hosts, tls)
            lines += more
            listed += asked
            syncs += times
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    print(f"""## The server

Written by `contrib/bench.sh server`: bootserver, its database and bootserver-sim on one machine ({cpu},
{os.cpu_count()} cores, Linux {platform.release()}, {time.strftime("%Y-%m-%d")}; load average {os.getloadavg()[2]:.1f} over the
last 15 minutes), medians of {options.rounds} rounds of {options.seconds} s. Every answer means that the status is on the disk; a
write of 4 KB took {statistics.median(syncs):.2f} ms to get there. 128 connections, 10 % of the posts with changed content, a host's
status has two sub-agents. The fleet is put into the tables and has pushed once before anything is measured. The tables'
files are held in the kernel's memory, as on a machine that has enough of it: a virtual one may give back what nobody
has read for a minute, and what a status then reads comes from the disk. CPU and memory are those of the server and
its database; memory is the most that was seen. The last column is the machine's own
speed before each run, in P-256 signatures per second of openssl on all cores: where it is lower, neighbours unseen had
part of the processors, and a CPU-second did less.

| what | database | wanted | posts per CPU-second | posts/s | p99 | cores | PSS | wrong or lost | machine |
|---|---|---|---|---|---|---|---|---|---|""")
    print("\n".join(lines))
    if listed:
        print("""
While 1,000,000 hosts push every 600 s, an operator's program asks:

| what | database | wanted | median | slowest | asked | p99 of the statuses |
|---|---|---|---|---|---|---|""")
        print("\n".join(listed))
    print("""
Published figures of others, per vCPU with their databases: Elastic Fleet Server 694 hosts, FleetDM 1,950, MeshCentral
7,000 (one machine). A status every 600 s makes posts per CPU-second times 600 hosts.
""")


if __name__ == "__main__":
    main()
