"""A fleet that has been there for days: rows of a stopped server's database, and the file of bootserver-sim that
says who its hosts are.

Enrolling a million hosts by the API, and hearing each for the first time, takes longer than all that is measured.
What is written here is what the server would have written; a state that is not, is written again by the server
with the host's next status, so that a mistake here costs time and is seen in the figures.
"""

import hashlib
import json
import random
import sqlite3
import struct
import subprocess
import uuid

# What the simulator reads: a mark, the seed, the count, then agentsn and secret of each.
MARK = b"bootserver-sim 1"
SEED = 1
STEP = 600
# Milliseconds, an interval and its grace.
LOOKED_WITHIN = STEP * 1000 + 30_000
VERSION, OS = "bootagent-{version}-x86_64", "debian 12"
# As the simulator's hosts have them.
AGENTS = ["flux-push", "network-init"]
AGENT_VERSION = "0.1.0-1"

COLUMNS = ["agentsn", "secret", "hostname", "version", "ip", "machine_id", "boot_id", "sightings", "digest", "body"]
STATEMENTS = [
    """INSERT INTO host (agentsn, secret, created, registered, hostname, version, os, arch, ip, machine_id, boot_id,
                         sightings, since, state)
       SELECT agentsn, secret, {now}, {now}, hostname, version, '{os}', 'x86_64', ip, machine_id, boot_id, sightings,
              {now}, 'online' FROM fleet ORDER BY agentsn""",
    """INSERT INTO host_seen (agentsn, rotate_due, state, due, every, seen, reported, uptime, readings, digest)
       SELECT agentsn, {later}, 'online', {due}, {step}, {now}, {now} / 1000, 86400, '[]', digest
       FROM fleet ORDER BY agentsn""",
    """INSERT INTO host_state (agentsn, digest, changed, body)
       SELECT agentsn, digest, {now}, body FROM fleet ORDER BY agentsn""",
    *(f"""INSERT INTO host_agent (agentsn, name, version, state)
          SELECT agentsn, '{name}', '{AGENT_VERSION}', 'running' FROM fleet ORDER BY agentsn""" for name in AGENTS),
    """INSERT INTO host_count (state, hosts) SELECT 'online', count(*) FROM fleet
       WHERE true ON CONFLICT (state) DO UPDATE SET hosts = host_count.hosts + excluded.hosts""",
    "DROP TABLE fleet",
]


def mix(number):
    """splitmix64, as the simulator has it."""
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ number >> 27) * 0x94D049BB133111EB % 2**64
    return number ^ number >> 31


def agent(number, name):
    return {"name": name, "version": AGENT_VERSION, "status": "running", "uptime": 0, "wanted": "running",
            "pid": 1000 + number, "limits": {"enforced_by": "cgroup2", "CPU": "10%", "memory": "20M", "pids": 50,
                                             "files": 256}}


def identities(hosts, path, version, now):
    """Makes them up, writes the simulator's file, and yields a row of `COLUMNS` for each."""
    numbers = random.Random(SEED)
    version = VERSION.format(version=version)
    agents = [agent(number, name) for number, name in enumerate(AGENTS)]
    compact = {"separators": (",", ":")}
    with open(path, "wb") as out:
        path.chmod(0o600)
        out.write(MARK + struct.pack("<QQ", SEED, hosts))
        for number in range(hosts):
            agentsn = uuid.UUID(int=numbers.getrandbits(128), version=4)
            secret = numbers.randbytes(32)
            out.write(agentsn.bytes + secret)
            hostname = f"sim-{number:07}"
            address = ".".join(str(byte) for byte in (10, number >> 16 & 255, number >> 8 & 255, number & 255))
            bits = mix(SEED ^ number)
            pusher = {"machine_id": f"{bits:016x}{mix(bits):016x}",
                      "boot_id": str(uuid.UUID(int=SEED << 64 | number << 32 | 1 << 16))}
            body = {"step": STEP, **pusher, "agents": agents, "notices": []}
            said = json.dumps([hostname, version, body], **compact)
            yield (str(agentsn), hashlib.sha256(f"host-{secret.hex()}".encode()).hexdigest(), hostname, version,
                   f'["{address}"]', *pusher.values(),
                   json.dumps({"recent": [[pusher, now]], "copy": None}, **compact),
                   hashlib.sha256(said.encode()).hexdigest(), json.dumps(body, **compact))


def statements(now, some):
    """`some` is the database's expression for a part of the time in which each host is looked at once: hosts of a fleet
    that is up for long are due at any time."""
    day = 86_400_000
    values = {"now": now, "later": now + 30 * day, "due": f"{now} + {some}", "step": STEP, "os": OS}
    return [statement.format(**values) for statement in STATEMENTS]


def into_sqlite(path, rows, now):
    database = sqlite3.connect(path)
    database.execute("PRAGMA cache_size = -1000000")
    with database:
        database.execute(f"CREATE TEMPORARY TABLE fleet ({', '.join(COLUMNS)})")
        database.executemany(f"INSERT INTO fleet VALUES ({', '.join('?' * len(COLUMNS))})", rows)
        for statement in statements(now, f"abs(random() % {LOOKED_WITHIN})"):
            database.execute(statement)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def into_postgres(psql, rows, now):
    """`psql` is the command line that reaches the database."""
    columns = ", ".join(f"{column} text" for column in COLUMNS)
    with subprocess.Popen([*psql, "-q", "-v", "ON_ERROR_STOP=1"], stdin=subprocess.PIPE, text=True) as client:
        client.stdin.write(f"BEGIN; CREATE TEMPORARY TABLE fleet ({columns});\nCOPY fleet FROM STDIN;\n")
        client.stdin.writelines("\t".join(row) + "\n" for row in rows)
        some = f"CAST(random() * {LOOKED_WITHIN} AS bigint)"
        client.stdin.write("\\.\n" + ";\n".join(statements(now, some)) + ";\nCOMMIT; VACUUM ANALYZE;\n")
    if client.returncode:
        raise SystemExit("the fleet did not get into PostgreSQL")
