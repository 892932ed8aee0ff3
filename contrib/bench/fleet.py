"""A fleet that is enrolled already: rows of a stopped server's database, and the file of bootserver-sim that
says who its hosts are.

Enrolling a million hosts by the API, a commit each, takes longer than all that is measured. Their first status
comes by the API: only that makes their states, counters and agents.
"""

import hashlib
import random
import sqlite3
import struct
import subprocess
import time
import uuid

# What the simulator reads: a mark, the seed, the count, then agentsn and secret of each.
MARK = b"bootserver-sim 1"
SEED = 1

COLUMNS = "agentsn, secret, hostname, ip"
STATEMENTS = [
    """INSERT INTO host (agentsn, secret, created, registered, hostname, version, os, arch, ip, since)
       SELECT agentsn, secret, {now}, {now}, hostname, 'bootagent', 'debian 12', 'x86_64', ip, {now} FROM fleet""",
    "INSERT INTO host_seen (agentsn, rotate_due) SELECT agentsn, {due} FROM fleet",
    """INSERT INTO host_count (state, hosts) SELECT 'new', count(*) FROM fleet
       WHERE true ON CONFLICT (state) DO UPDATE SET hosts = host_count.hosts + excluded.hosts""",
    "DROP TABLE fleet",
]


def identities(hosts, path):
    """Makes them up, writes the simulator's file, and yields a row of `COLUMNS` for each."""
    numbers = random.Random(SEED)
    with open(path, "wb") as out:
        path.chmod(0o600)
        out.write(MARK + struct.pack("<QQ", SEED, hosts))
        for number in range(hosts):
            agentsn = uuid.UUID(int=numbers.getrandbits(128), version=4)
            secret = numbers.randbytes(32)
            out.write(agentsn.bytes + secret)
            digest = hashlib.sha256(f"host-{secret.hex()}".encode()).hexdigest()
            address = ".".join(str(byte) for byte in (10, number >> 16 & 255, number >> 8 & 255, number & 255))
            yield str(agentsn), digest, f"sim-{number:07}", f'["{address}"]'


def statements():
    now = int(time.time() * 1000)
    due = now + 30 * 86_400_000
    return [statement.format(now=now, due=due) for statement in STATEMENTS]


def into_sqlite(path, rows):
    database = sqlite3.connect(path)
    with database:
        database.execute(f"CREATE TABLE fleet ({COLUMNS})")
        database.executemany("INSERT INTO fleet VALUES (?, ?, ?, ?)", rows)
        for statement in statements():
            database.execute(statement)
    database.close()


def into_postgres(psql, rows):
    """`psql` is the command line that reaches the database."""
    with subprocess.Popen([*psql, "-q", "-v", "ON_ERROR_STOP=1"], stdin=subprocess.PIPE, text=True) as client:
        client.stdin.write("BEGIN; CREATE TABLE fleet (agentsn text, secret text, hostname text, ip text);\n"
                           "COPY fleet FROM STDIN;\n")
        client.stdin.writelines("\t".join(row) + "\n" for row in rows)
        client.stdin.write("\\.\n" + ";\n".join(statements()) + ";\nCOMMIT; VACUUM ANALYZE;\n")
    if client.returncode:
        raise SystemExit("the fleet did not get into PostgreSQL")
