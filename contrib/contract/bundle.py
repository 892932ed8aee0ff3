"""A package of an agent, as small as one can be."""

import gzip
import io
import json
import tarfile


def bundle(name, version):
    manifest = json.dumps({"name": name, "version": version, "exec": ["./run"]}).encode()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for path, content in (("agent.json", manifest), ("run", b"#!/bin/sh\n")):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(tar.getvalue())
