"""What schemathesis cannot know: what there is to ask about. Paths are given ids and names that exist, and some
bodies are made whole, so that every operation gets further than 404 and 422."""

import collections
import itertools
import os

import schemathesis

from bundle import bundle

AGENTSN = os.environ["AGENTSN"]
# Of each operation, so that the few good requests of one do not depend on those of others.
turns = collections.defaultdict(itertools.count)
# What there is one of, by the word of its paths.
THINGS = {"groups": "GROUP", "users": "USER", "api-tokens": "MADE_TOKEN", "enrolment-tokens": "MADE_ENROLMENT",
          "rollouts": "ROLLOUT", "assignments": "ASSIGNMENT"}
STOP = {"action": "stop", "name": "seed"}
ROLLOUT = {"order": STOP, "targets": {"hosts": [AGENTSN]}}
ASSIGNMENT = {"group": os.environ["GROUP"], "agent": "seed", "version": "1.0"}
MADE_WHOLE = {
    ("POST", "/api/v1/jobs"): {**STOP, "hosts": [AGENTSN]},
    ("POST", "/api/v1/jobs/preview"): {**STOP, "hosts": [AGENTSN]},
    ("POST", "/api/v1/rollouts"): ROLLOUT,
    ("POST", "/api/v1/rollouts/preview"): ROLLOUT,
    ("POST", "/api/v1/assignments"): ASSIGNMENT,
    ("POST", "/api/v1/assignments/preview"): ASSIGNMENT,
}
# Hosts that may go; the one above has to stay.
doomed = iter(os.environ["DOOMED"].split(","))


@schemathesis.hook
def before_call(context, case, kwargs):
    method, path, body = case.method.upper(), case.path, case.body
    given = case.path_parameters
    number = next(turns[method, path])
    if path == "/agent/status":
        # Most statuses say whose secret they come with.
        if isinstance(body, dict) and len(body) % 4:
            body["agentsn"] = AGENTSN
    elif "{agentsn}" in path:
        takes_away = method == "DELETE" or path.endswith("/revoke")
        given["agentsn"] = next(doomed, "none") if takes_away else AGENTSN
    elif path == "/packages/{name}/{file}":
        given["name"], given["file"] = os.environ["PACKAGE_FILE"].split("/")[-2:]
    elif path == "/api/v1/packages/{id}" and method != "DELETE":
        given["id"] = os.environ["PACKAGE"]
    elif "{id}" in path and method != "DELETE" and path.split("/")[3] in THINGS:
        given["id"] = os.environ[THINGS[path.split("/")[3]]]
    # What was seen is any, so that some changes are let through.
    if method != "DELETE" and not number % 2 and "if-match" in {name.lower() for name in case.headers or {}}:
        case.headers = {**{name: value for name, value in case.headers.items() if name.lower() != "if-match"},
                        "if-match": "*"}
    if number % 2:
        return
    if (method, path) == ("POST", "/api/v1/packages"):
        case.body = bundle("made", f"1.{number}")
        case.query = {}
    elif (method, path) in MADE_WHOLE and isinstance(body, dict):
        body.clear()
        body.update(MADE_WHOLE[method, path])
    elif (method, path) == ("PUT", "/api/v1/groups/{id}") and isinstance(body, dict):
        body.clear()
        body.update(name=f"changed-{number}", selector="svc=ecs")
    elif path.endswith("/hosts/bulk") and isinstance(body, dict):
        # Hosts change their names here, and never who they are.
        case.query = {"search": AGENTSN}
        body.clear()
        body.update(expected_hosts=1, **({"action": "add"} if "groups" in path else {"action": "tag", "set": "a=b"}))
    elif path.startswith("/api/v1/exports/"):
        case.query = {"format": "csv"}
    elif (method, path) == ("POST", "/agent/register") and isinstance(body, dict):
        body.clear()
        body.update(hostname=f"made-{number}", agentsn=f"00000000-0000-4000-8002-{number:012x}")
