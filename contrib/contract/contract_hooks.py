"""What schemathesis cannot know: a status is refused unless it is the caller's own."""

import os

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    """Most statuses say whose secret they come with."""
    body = case.body
    if case.path == "/agent/status" and isinstance(body, dict) and len(body) % 4:
        body["agentsn"] = os.environ["AGENTSN"]
