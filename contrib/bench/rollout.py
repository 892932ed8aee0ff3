"""Measures rollouts over a large fleet; prints their section of BENCHMARKS.md.

A rollout over every host while the fleet pushes at its pace, a package that thousands fetch at once, and how soon
what is revoked at one server is refused by another. What a run does to a fleet is taken back at its end, so that
a folder of `BENCH_FOLDER` measures the same the next time.
"""

import argparse
import concurrent.futures
import http.client
import io
import json
import os
import pathlib
import signal
import sqlite3
import statistics
import struct
import subprocess
import sys
import tarfile
import time
import uuid

import fleet
import server as bench

HOSTS = 1_000_000
PACE = bench.FLEET + " --step 600"
PACKAGE_BYTES = 20_000_000
# Posts a second of the hosts that fetch it, as of a million.
POSTS = 1667
NAME = "bench"
ALL_AT_ONCE = {"parallel": "all", "fail_count": -1}
# Seconds in which a rollout over all hosts shall be made.
MADE_WITHIN = 10
CLEAN = [
    "DELETE FROM job_result WHERE job IN (SELECT id FROM job WHERE rollout IN ({ours}))",
    "DELETE FROM job WHERE rollout IN ({ours})",
    *(f"DELETE FROM {table} WHERE rollout IN ({{ours}})"
      for table in ("rollout_news", "rollout_pack", "rollout_target", "rollout_count", "rollout_package")),
    f"DELETE FROM rollout WHERE name = '{NAME}'",
]


class Operator:
    """Asks one server; a connection of its own for each request, as a script's."""

    def __init__(self, server, token=None):
        self.address = server.url.removeprefix("http://")
        words = dict(line.split("=", 1) for line in server.tokens.read_text().splitlines() if "=" in line)
        self.token, self.enrolment = token or words["api_token"], words["enrolment_token"]

    def ask(self, method, path, body=None, token=None):
        """Its status and its answer."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        headers = {"Authorization": f"Bearer {token or self.token}"}
        if isinstance(body, (dict, list)):
            body, headers["Content-Type"] = json.dumps(body), "application/json"
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text.decode(errors="replace")

    def get(self, method, path, body=None):
        status, answer = self.ask(method, path, body)
        if status >= 300:
            raise SystemExit(f"{method} {path}: {status} {answer}")
        return answer

    def turns(self):
        """How many turns took at most so many seconds, and all their seconds."""
        name = "bootserver_rollout_turn_seconds"
        lines = self.get("GET", "/metrics").splitlines()
        buckets = {line.split('le="')[1].split('"')[0]: float(line.split()[-1])
                   for line in lines if line.startswith(f"{name}_bucket")}
        total = next(float(line.split()[-1]) for line in lines if line.startswith(f"{name}_sum"))
        return buckets, total

    def order(self, order, targets, plan):
        body = {"name": NAME, "order": order, "targets": targets, "plan": plan}
        return self.get("POST", "/api/v1/rollouts", body)["id"]

    def until(self, rollout, what, holds, seconds):
        """How long a rollout takes to be so."""
        begun = time.monotonic()
        bench.wait_for(what, lambda: holds(self.get("GET", f"/api/v1/rollouts/{rollout}")), seconds)
        return time.monotonic() - begun


def between(before, after):
    """In words, how long the turns between two readings took."""
    counts = {bound: after[0][bound] - before[0][bound] for bound in after[0]}
    turns = counts.pop("+Inf")
    if not turns:
        return "no turn"
    long = turns - counts["0.1"]
    bound = next((float(bound) for bound, count in sorted(counts.items(), key=lambda it: float(it[0]))
                  if count >= 0.99 * turns), float("inf"))
    mean = (after[1] - before[1]) / turns
    return f"{turns:,.0f} turns, mean {mean * 1000:.0f} ms, 99 of 100 under {bound * 1000:.0f} ms, {long:.0f} over 100 ms"


def latency(report):
    return f"{report['latency_ms']['p50']:.1f} / {report['latency_ms']['p99']:.1f} ms"


def everything(options, server, database):
    """One rollout over all hosts, in parts, each with the fleet at its pace."""
    operator = Operator(server)
    lines = []

    def part(what, wanted, work, seconds=options.seconds):
        before = operator.turns()
        watched = argparse.Namespace(**{**vars(options), "seconds": seconds})
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pushing = pool.submit(bench.simulate, watched, server, database, HOSTS, PACE, None)
            # The simulator reads who its hosts are, and warms up.
            time.sleep(6)
            found = work()
            report = pushing.result()
        lines.append(f"| {what} | {database.name} | {wanted} | {found} | {between(before, operator.turns())} | "
                     f"{latency(report)} |")
        print(lines[-1], file=sys.stderr)

    bench.simulate(options, server, database, HOSTS, bench.PASS, None)
    part("before", "p99 40 ms", lambda: "-")
    rollout = []

    def create():
        order, begun = {"action": "restart", "name": "flux-push"}, time.monotonic()
        rollout.append(operator.order(order, {"all": True}, {**ALL_AT_ONCE, "confirmation": "second_user"}))
        operator.until(rollout[0], "all targets", lambda it: it["phase"] != "freezing", 600)
        return f"{time.monotonic() - begun:.1f} s"

    # It is not confirmed until then, so that nobody is ordered anything while it is made; and no longer is watched
    # than that may take.
    part(f"a rollout over {HOSTS:,} hosts is made", "10 s, turns 100 ms, p99 40 ms", create, MADE_WITHIN)

    def counts():
        told = operator.get("GET", f"/api/v1/rollouts/{rollout[0]}")["counts"]
        return ", ".join(f"{count:,} {state}" for state, count in told.items())

    def begin():
        second = operator.get("POST", "/api/v1/api-tokens", {"name": NAME, "role": "operator"})
        Operator(server, second["token"]).get("POST", f"/api/v1/rollouts/{rollout[0]}/confirm")
        operator.get("DELETE", f"/api/v1/api-tokens/{second['id']}")
        time.sleep(max(options.seconds - 2, 1))
        return counts()

    part("it is confirmed, and goes on", "turns 100 ms", begin)

    def abort():
        operator.get("POST", f"/api/v1/rollouts/{rollout[0]}/abort")
        took = operator.until(rollout[0], "its end", lambda it: not it["counts"].keys() & {"waiting", "ordered"}, 900)
        return f"{took:.1f} s"

    part("it is aborted: nobody waits or is ordered any more", "turns 100 ms", abort)
    part("after", "p99 40 ms", lambda: "-")
    return lines


def bundle(size):
    """A package of an agent, of random bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=0) as archive:
        manifest = json.dumps({"name": NAME, "version": "1.0", "exec": ["./run"]}).encode()
        for path, data in (("agent.json", manifest), ("run", os.urandom(size))):
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def fetching(options, server, database):
    """A package to so many hosts, which push as often as the whole fleet."""
    operator, hosts = Operator(server), options.downloads
    whole, some = server.folder / "fleet", server.folder / "fleet.some"
    head = len(fleet.MARK) + 16
    data = whole.read_bytes()[:head + 48 * hosts]
    some.write_bytes(fleet.MARK + struct.pack("<QQ", fleet.SEED, hosts) + data[head:])
    some.chmod(0o600)
    names = [str(uuid.UUID(bytes=data[at:at + 16])) for at in range(head, len(data), 48)]
    step = max(hosts // POSTS, 1)

    def simulate(seconds):
        return subprocess.Popen(
            [options.programs / "bootserver-sim", *f"fleet --warm-up 3 --step {step} --seconds {seconds}".split(),
             "--server", server.url, "--identities", some, "--tokens", server.tokens, "--json"],
            stdout=subprocess.PIPE)

    def ended(simulator, how):
        if how:
            simulator.send_signal(how)
        return json.loads(simulator.communicate()[0])

    bench.simulate(options, server, database, HOSTS, bench.PASS, None)
    before = ended(simulate(options.seconds), None)
    package = operator.get("POST", "/api/v1/packages", bundle(PACKAGE_BYTES))
    try:
        simulator = simulate(3600)
        time.sleep(6)
        turns = operator.turns()
        order = {"action": "install", "name": NAME, "version": "1.0"}
        rollout = operator.order(order, {"hosts": names}, ALL_AT_ONCE)
        took = operator.until(rollout, "all have it", lambda it: it["phase"] == "ended", 3600)
        while_ = ended(simulator, signal.SIGINT)
        counts = operator.get("GET", f"/api/v1/rollouts/{rollout}")["counts"]
        after = ended(simulate(options.seconds), None)
    finally:
        some.unlink()
    found = f"{took:.0f} s, {hosts * PACKAGE_BYTES / took / 1e6:,.0f} MB/s; " + ", ".join(
        f"{count:,} {state}" for state, count in counts.items())
    rows = [("before", "-", "-", "-", before),
            (f"{PACKAGE_BYTES // 1_000_000} MB to {hosts:,} hosts", "p99 40 ms", found,
             between(turns, operator.turns()), while_),
            ("after", "-", "-", "-", after)]
    operator.get("DELETE", f"/api/v1/packages/{package['id']}")
    lines = [f"| {what} | {database.name} | {wanted} | {value} | {turned} | {latency(report)} |"
             for what, wanted, value, turned, report in rows]
    print("\n".join(lines), file=sys.stderr)
    return lines


def revocation(options, server, database, tls):
    """Seconds until the other server refuses what this one revoked."""
    folder = server.folder / "second"
    folder.mkdir(exist_ok=True)
    other = bench.Server(options, database, folder, tls)
    other.tokens = server.tokens
    took = {"an API token": [], "a host's secret": []}
    try:
        here, there = Operator(server), Operator(other)

        def refused(what, token, path, revoke):
            use = lambda: there.ask("GET", path, token=token)[0]
            bench.wait_for(f"{what} is known", lambda: use() != 401)
            begun = time.monotonic()
            revoke()
            bench.wait_for(f"{what} is refused", lambda: use() == 401)
            took[what].append(time.monotonic() - begun)

        for _ in range(options.rounds):
            made = here.get("POST", "/api/v1/api-tokens", {"name": NAME, "role": "viewer"})
            refused("an API token", made["token"], "/api/v1/rollouts?limit=1",
                    lambda: here.get("DELETE", f"/api/v1/api-tokens/{made['id']}"))
            agentsn = str(uuid.uuid4())
            status, made = here.ask("POST", "/agent/register", {"hostname": NAME, "agentsn": agentsn}, here.enrolment)
            if status != 200:
                raise SystemExit(f"a host was not enrolled: {status} {made}")
            refused("a host's secret", made["token"], "/packages/none/none",
                    lambda: here.get("POST", f"/api/v1/hosts/{agentsn}/revoke"))
            here.get("DELETE", f"/api/v1/hosts/{agentsn}")
    finally:
        other.stop()
    lines = [f"| {what} revoked at one server is refused by the other | {database.name} | 5 s | "
             f"{max(times):.2f} s at most, {statistics.median(times):.2f} s median | - | - |"
             for what, times in took.items()]
    print("\n".join(lines), file=sys.stderr)
    return lines


def clean(server, database):
    """Takes rollouts and their jobs back from the tables of a stopped server."""
    ours = f"SELECT number FROM rollout WHERE name = '{NAME}'"
    statements = [statement.format(ours=ours) for statement in CLEAN]
    if database.name == "SQLite":
        connection = sqlite3.connect(server.folder / "data/bootserver.db")
        with connection:
            for statement in statements:
                connection.execute(statement)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
    else:
        text = "BEGIN; " + "; ".join(statements) + "; COMMIT; VACUUM ANALYZE;"
        subprocess.run([*database.psql, "-q", "-v", "ON_ERROR_STOP=1"], input=text, text=True, check=True)


def measure(options, kind, tls):
    """All parts on one database: lines of the table."""
    folder = options.work / f"{kind.name}-{HOSTS}"
    folder.mkdir(exist_ok=True)
    database = kind(folder)
    lines = []
    try:
        server = bench.Server(options, database, folder, tls)
        if not (folder / "fleet").exists():
            server.stop()
            bench.enrol(options, server, database, HOSTS)
            server = bench.Server(options, database, folder, tls)
        try:
            lines += everything(options, server, database) if "everything" in options.parts else []
            lines += fetching(options, server, database) if "fetching" in options.parts else []
            if "revocation" in options.parts and kind is bench.Postgres:
                lines += revocation(options, server, database, tls)
        finally:
            server.stop()
            clean(server, database)
    finally:
        database.stop()
    return lines


def main():
    parser = argparse.ArgumentParser()
    for name in ("programs", "work"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--downloads", type=int, default=10_000)
    parser.add_argument("--databases", default="SQLite,PostgreSQL")
    parser.add_argument("--parts", default="everything,fetching,revocation")
    options = parser.parse_args()
    options.work.chmod(0o755)
    tls = bench.certificate(options.work)
    lines = []
    for kind in (bench.Sqlite, bench.Postgres):
        if kind.name in options.databases.split(","):
            lines += measure(options, kind, tls)
    print("""
Rollouts, with 1,000,000 hosts that push every 600 s (1,667 posts/s); a package to hosts that push as often
together. A turn is timed with its wait for the database:

| what | database | wanted, at most | took | turns | p50 / p99 of the statuses |
|---|---|---|---|---|---|""")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
