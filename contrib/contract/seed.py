"""seed.py URL FILE: makes a host, a package and jobs on a new bootserver, whose first-start.txt FILE is, and
prints their ids and tokens as lines a shell reads."""

import json
import sys
import urllib.request

from bundle import bundle

url, first_start = sys.argv[1:]


def call(token, path, body, kind="application/json"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
    request = urllib.request.Request(url + path, data, headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


with open(first_start, encoding="utf-8") as lines:
    tokens = dict(line.strip().split("=", 1) for line in lines if "=" in line)
api, enrolment = tokens["api_token"], tokens["enrolment_token"]
agentsn = "00000000-0000-4000-8000-000000000001"
host = call(enrolment, "/agent/register", {"hostname": "seed", "agentsn": agentsn, "arch": "x86_64"})
# Hosts nobody misses when they are deleted or revoked.
doomed = [f"00000000-0000-4000-8001-{number:012x}" for number in range(40)]
for number, each in enumerate(doomed):
    call(enrolment, "/agent/register", {"hostname": f"doomed-{number}", "agentsn": each, "machine_id": each})
package = call(api, "/api/v1/packages", bundle("seed", "1.0"), "application/octet-stream")
# A package with an open job stays, whoever deletes it.
order = {"action": "install", "package": package["id"], "hosts": [agentsn]}
call(api, "/api/v1/jobs", order)
job = call(api, "/api/v1/jobs", {"action": "stop", "name": "seed", "hosts": [agentsn]})["jobs"][0]
status = {"hostname": "seed", "agentsn": agentsn, "version": "bootagent-0.1.0-x86_64", "uptime": 1,
          "timestamp": 1, "step": 600, "agents": [], "jobs": [],
          "events": [{"seq": 1, "timestamp": 1, "category": "seed", "message": "m"}]}
call(host["token"], "/agent/status", status)
group = call(api, "/api/v1/groups", {"name": "seed"})
user = call(api, "/api/v1/users", {"name": "seed", "role": "viewer"})
made_token = call(api, "/api/v1/api-tokens", {"name": "seed", "role": "viewer"})
made_enrolment = call(api, "/api/v1/enrolment-tokens", {"name": "seed"})
rollout = call(api, "/api/v1/rollouts", {"order": {"action": "stop", "name": "seed"}, "targets": {"hosts": [agentsn]}})
assignment = call(api, "/api/v1/assignments", {"group": group["id"], "agent": "seed", "version": "1.0"})
for key, value in {"GROUP": group["id"], "USER": user["id"], "MADE_TOKEN": made_token["id"],
                   "MADE_ENROLMENT": made_enrolment["id"], "API_TOKEN": api, "ENROLMENT_TOKEN": enrolment, "HOST_TOKEN": host["token"],
                   "AGENTSN": agentsn, "PACKAGE": package["id"], "PACKAGE_FILE": package["url"], "JOB": job["id"],
                   "ROLLOUT": rollout["id"], "ASSIGNMENT": assignment["id"],
                   "DOOMED": ",".join(doomed)}.items():
    print(f"{key}={value}")
