"""Restarts children 10,000 times and says what that leaves behind in daemon and logger.

Half of the children end well, half crash, each a second after the other; every start is told by the child
itself, by a byte in a FIFO. Crashes make events, which nobody takes: the journal is at its bound all the time.
"""

import argparse
import json
import os
import pathlib
import select
import subprocess
import time

from many import PATIENCE_SECONDS, remove_groups, stop, tree

CHILDREN = 100
PARTS = 5


def own(options, daemon):
    """The pids of daemon and logger."""
    programs = {}
    for pid in tree(daemon.pid):
        try:
            programs[pid] = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            continue
    return [pid for pid, program in programs.items() if program == str(options.programs / "bootagent")]


def anonymous_kib(pids):
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                total += int(line.split()[1])
    return total


def held(pids):
    """Memory in KiB, open descriptors and threads. Pages of the program file come and go, and are no growth."""
    count = lambda folder: sum(len(os.listdir(f"/proc/{pid}/{folder}")) for pid in pids)  # noqa: E731
    return {"memory": anonymous_kib(pids), "descriptors": count("fd"), "threads": count("task")}


def until(fifo, wanted):
    """Waits until `wanted` more children have begun."""
    seen = 0
    while seen < wanted:
        ready, _, _ = select.select([fifo], [], [], PATIENCE_SECONDS)
        if not ready:
            raise SystemExit(f"only {seen} of {wanted} starts in {PATIENCE_SECONDS} s")
        seen += len(os.read(fifo, 65536))


def main():
    parser = argparse.ArgumentParser()
    for name in ("programs", "memory", "idle-program"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--restarts", type=int, default=10_000)
    options = parser.parse_args()
    fifo_path = options.memory / "growth-fifo"
    os.mkfifo(fifo_path)
    fifo = os.open(fifo_path, os.O_RDWR | os.O_NONBLOCK)
    work = options.memory / "growth"
    for number in range(CHILDREN):
        folder = work / f"root/usr/lib/bootagent/agents/idle-{number}"
        folder.mkdir(parents=True)
        manifest = {"name": f"idle-{number}", "version": "1-1", "user": "root",
                    "exec": [str(options.idle_program), str(fifo_path), "100", str(number % 2)],
                    "limits": {"CPU": "50%", "memory": "20M", "pids": 16}}
        (folder / "agent.json").write_text(json.dumps(manifest))
    config = work / "bootagent.toml"
    config.write_text(f'root = "{work}/root"\n[restart]\ncheck = 1\nholdoff = 1\nstable = 1\nmax_anomalies = 1000\n')
    # A server that refuses: what happens is kept, as on a host that is cut off.
    daemon = subprocess.Popen([options.programs / "bootagent", "-c", config, "-S", "127.0.0.1:1"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for part in range(1, PARTS + 1):
            figures = held_after(options, daemon, fifo, options.restarts // PARTS)
            print(f"after {part * options.restarts // PARTS} restarts: {figures['memory'] / 1024:.2f} MB anonymous, "
                  f"{figures['descriptors']} descriptors, {figures['threads']} threads", flush=True)
    finally:
        stop(daemon)
        os.close(fifo)
        remove_groups(work)


def held_after(options, daemon, fifo, starts):
    """What is held once so many children more have begun. They are stopped for that: only a quiet daemon can be
    compared with itself."""
    until(fifo, starts)
    subprocess.run([options.programs / "bootctl", "-r", options.memory / "growth/root", "stop", "--all"],
                   check=True, stdout=subprocess.DEVNULL)
    time.sleep(5)
    figures = held(own(options, daemon))
    control = [options.programs / "bootctl", "-r", options.memory / "growth/root", "start"]
    starting = [subprocess.Popen([*control, f"idle-{number}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                for number in range(CHILDREN)]
    for each in starting:
        each.wait()
    return figures


if __name__ == "__main__":
    main()
