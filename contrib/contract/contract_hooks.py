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
    elif number % 2:
        return
    elif (method, path) == ("POST", "/api/v1/packages"):
        case.body = bundle("made", f"1.{number}")
        case.query = {}
    elif (method, path) == ("POST", "/api/v1/jobs") and isinstance(body, dict):
        body.clear()
        body.update(action="stop", name="seed", hosts=[AGENTSN])
    elif (method, path) == ("POST", "/agent/register") and isinstance(body, dict):
        body.clear()
        body.update(hostname=f"made-{number}", agentsn=f"00000000-0000-4000-8002-{number:012x}")
