"""Supervisors side by side with the same idle children: memory, time until all run, wake-ups.

That a child runs is told by the child: it writes one byte into a FIFO this program reads. Nothing is
polled, so nothing but the kernel's own scheduling is between the moment and the figure.
"""

import os
import pathlib
import select
import shutil
import signal
import subprocess
import time
import zlib

import supervisors

# A child of BootAgent counts as up after 5 s; whatever follows from a start is over then.
SETTLE_SECONDS = 12
PATIENCE_SECONDS = 60


def pss_kib(pids):
    """Proportional set size of all `pids`; one that has just ended counts nothing."""
    total = 0
    for pid in pids:
        try:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def switches(pids):
    """How often the threads of `pids` went to sleep by themselves: once per wake-up."""
    total = 0
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    total += int(line.split()[1])
    return total


def tree(root):
    """The pids of `root` and of everything below it."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
    found, grown = {root}, True
    while grown:
        below = found | {pid for pid, parent in parents.items() if parent in found}
        grown, found = below != found, below
    return found


def is_idle_child(options, pid):
    """Told by its program: what the kernel calls it may be the name of a script."""
    try:
        return os.readlink(f"/proc/{pid}/exe") == str(options.idle_program)
    except OSError:
        return True


def start(options, argv, work, count):
    """Starts a supervisor; returns it and the milliseconds until all children ran."""
    fifo = os.open(options.fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        begun = time.monotonic()
        supervisor = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL, cwd=work)
        seen = 0
        while seen < count:
            ready, _, _ = select.select([fifo], [], [], begun + PATIENCE_SECONDS - time.monotonic())
            if not ready:
                stop(supervisor)
                raise SystemExit(f"{argv[0]}: only {seen} of {count} children ran")
            seen += len(os.read(fifo, 4096))
        return supervisor, (time.monotonic() - begun) * 1000
    finally:
        os.close(fifo)


def stop(supervisor):
    """Ends a supervisor and all that it started."""
    pids = tree(supervisor.pid)
    # Children of ours outlive their supervisor on purpose; here nothing shall. All are stopped first, so that
    # none starts again what was killed just before it.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
    supervisor.wait(30)


def rest(options, supervisor, idle):
    """What a supervisor with idle children holds and how often it wakes; idle 0 leaves that out."""
    time.sleep(SETTLE_SECONDS)
    own = [pid for pid in tree(supervisor.pid) if not is_idle_child(options, pid)]
    before = switches(own)
    time.sleep(idle)
    woken = switches(own) - before
    return {"pss": pss_kib(own), "processes": len(own), "wakeups": woken * 60 / idle if idle else None}


def one_round(options, name, count, number, server):
    """All figures of one supervisor in one round."""
    work = options.memory / f"{name.replace(', ', '-').replace(' ', '-')}-{count}-{number}"
    work.mkdir()
    if name.startswith("bootagent"):
        bare = name == "bootagent, no cgroups"
        # A limit without a cgroup is a watch that wakes; what is compared is starting and resting.
        argv = supervisors.bootagent(options, work, count, server, {} if bare else supervisors.LIMITS)
        if bare:
            argv = supervisors.without_cgroups(argv)
    else:
        argv = supervisors.PEERS[name](options, work, count)
    supervisor, milliseconds = start(options, argv, work, count)
    try:
        # A minute each would take long: wake-ups are counted in the first round only.
        figures = rest(options, supervisor, options.idle if number == 0 else 0)
        return {"time": milliseconds, **figures}
    finally:
        stop(supervisor)
        if name.startswith("bootagent"):
            remove_groups(work)
        shutil.rmtree(work)


def remove_groups(work):
    """The cgroups a killed BootAgent of ours left."""
    name = f"bootagent-{zlib.crc32(str(work / 'root').encode()):08x}"
    for parent in pathlib.Path("/sys/fs/cgroup").glob(f"*/{name}"):
        deadline = time.monotonic() + 10
        while parent.exists() and time.monotonic() < deadline:
            for folder in [*parent.iterdir(), parent]:
                if folder.is_dir():
                    try:
                        folder.rmdir()
                    except OSError:
                        time.sleep(0.01)
