"""How each supervisor is told to keep COUNT idle children running: files in a folder of its own, and the
words that start it. Nothing is measured here.

runit and s6 are set up without a logger per child, which favours them: their children's output goes where
their own goes. BootAgent, supervisord and horust take it in.
"""

import json
import re
import subprocess


LIMITS = {"CPU": "50%", "memory": "20M", "pids": 16}


def bootagent(options, work, count, server, limits):
    """Ours: COUNT packaged agents, each with these limits. What has to survive is on the disk, unlike all else."""
    root = work / "root"
    disk = options.work / f"var-{work.name}"
    disk.mkdir()
    root.mkdir()
    (root / "var").symlink_to(disk)
    for number in range(count):
        folder = root / f"usr/lib/bootagent/agents/idle-{number}"
        folder.mkdir(parents=True)
        manifest = {"name": f"idle-{number}", "version": "1-1", "exec": [str(options.idle_program), str(options.fifo)],
                    "type": "simple", "user": "root", "stop_timeout": 2, "limits": limits}
        (folder / "agent.json").write_text(json.dumps(manifest))
    config = work / "bootagent.toml"
    config.write_text(f'root = "{root}"\n[push]\nstep = 3600\n')
    return [str(options.programs / "bootagent"), "-c", str(config), "-S", f"127.0.0.1:{server.server_port}"]


def without_cgroups(argv):
    """The same where no cgroup hierarchy is mounted."""
    return ["unshare", "--mount", "sh", "-c", 'umount -R -l /sys/fs/cgroup && exec "$@"', "sh", *argv]


def supervisord(options, work, count):
    programs = "".join(f"[program:idle-{number}]\ncommand={options.idle_program} {options.fifo}\n"
                       for number in range(count))
    (work / "supervisord.conf").write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={work}/log\npidfile={work}/pid\nchildlogdir={work}\n{programs}")
    return ["supervisord", "-c", str(work / "supervisord.conf")]


def run_folders(options, work, count):
    """What runit and s6 share: a folder per service with a program named `run`."""
    services = work / "services"
    for number in range(count):
        service = services / f"idle-{number}"
        service.mkdir(parents=True)
        # The kernel reads this line itself: no shell is in between.
        (service / "run").write_text(f"#!{options.idle_program} {options.fifo}\n")
        (service / "run").chmod(0o755)
    return services


def runit(options, work, count):
    return ["runsvdir", str(run_folders(options, work, count))]


def s6(options, work, count):
    return ["s6-svscan", str(run_folders(options, work, count))]


def horust(options, work, count):
    services = work / "services"
    services.mkdir()
    for number in range(count):
        (services / f"idle-{number}.toml").write_text(
            f'command = "{options.idle_program} {options.fifo}"\nstdout = "STDOUT"\n')
    return [str(options.horust), "--services-path", str(services), "--uds-folder-path", str(work)]


PEERS = {"supervisord": supervisord, "runit": runit, "s6": s6, "horust": horust}


def version(name, options):
    """The version of a peer, for the table."""
    if name == "horust":
        # It cannot say it itself; cargo wrote it down.
        text = (options.horust.parent.parent / ".crates.toml").read_text()
        return re.search(r'"horust (\S+) ', text)[1]
    argv = ["dpkg-query", "-W", "-f", "${Version}", {"supervisord": "supervisor"}.get(name, name)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
