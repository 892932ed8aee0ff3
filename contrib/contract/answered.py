"""answered.py REPORT: fails when too few operations were answered with what they are for. Replies that are all
refusals hold to the document too, and show little."""

import json
import re
import sys

# Sessions want a password, a few others get there by luck or not at all: 53 of 58 did. Fewer than this means that
# something does not work: a token, a seed.
LEAST = 50

good, seen = set(), set()


def walk(part, label):
    if isinstance(part, dict):
        response = part.get("response")
        if label and isinstance(response, dict) and "status_code" in response:
            seen.add(label)
            if response["status_code"] < 400:
                good.add(label)
        for value in part.values():
            walk(value, label)
    elif isinstance(part, list):
        for value in part:
            walk(value, label)


with open(sys.argv[1], encoding="utf-8") as lines:
    for line in lines:
        for event in json.loads(line).values():
            recorder = event.get("recorder") if isinstance(event, dict) else None
            # Sequences of requests are called otherwise.
            if recorder and re.match("[A-Z]+ /", recorder["label"]):
                walk(recorder, recorder["label"])

print(f"{len(good)} of {len(seen)} operations were answered with what they are for")
print("only refused were: " + ", ".join(sorted(seen - good)))
if len(good) < LEAST:
    sys.exit(f"at least {LEAST} are expected")
