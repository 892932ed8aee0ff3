"""seed.py URL FILE: makes a host, a package and jobs on a new bootserver, whose first-start.txt FILE is, and
prints their ids and tokens as lines a shell reads."""

import gzip
import io
import json
import sys
import tarfile
import urllib.request

url, first_start = sys.argv[1:]


def call(token, path, body, kind="application/json"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
    request = urllib.request.Request(url + path, data, headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def bundle(name, version):
    manifest = json.dumps({"name": name, "version": version, "exec": ["./run"]}).encode()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for path, content in (("agent.json", manifest), ("run", b"#!/bin/sh\n")):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(tar.getvalue())


with open(first_start, encoding="utf-8") as lines:
    tokens = dict(line.strip().split("=", 1) for line in lines if "=" in line)
api, enrolment = tokens["api_token"], tokens["enrolment_token"]
agentsn = "00000000-0000-4000-8000-000000000001"
host = call(enrolment, "/agent/register", {"hostname": "seed", "agentsn": agentsn, "arch": "x86_64"})
package = call(api, "/api/v1/packages", bundle("seed", "1.0"), "application/octet-stream")
# A package with an open job stays, whoever deletes it.
order = {"action": "install", "package": package["id"], "hosts": [agentsn]}
call(api, "/api/v1/jobs", order)
job = call(api, "/api/v1/jobs", {"action": "stop", "name": "seed", "hosts": [agentsn]})["jobs"][0]
status = {"hostname": "seed", "agentsn": agentsn, "version": "bootagent-0.1.0-x86_64", "uptime": 1,
          "timestamp": 1, "step": 600, "agents": [], "jobs": [],
          "events": [{"seq": 1, "timestamp": 1, "category": "seed", "message": "m"}]}
call(host["token"], "/agent/status", status)
for key, value in {"API_TOKEN": api, "ENROLMENT_TOKEN": enrolment, "HOST_TOKEN": host["token"],
                   "AGENTSN": agentsn, "PACKAGE": package["id"], "JOB": job["id"]}.items():
    print(f"{key}={value}")
