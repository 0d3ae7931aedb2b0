"""What does a tree of processes use: processor time and memory, as the kernel counts them, and how does one end?"""

import os
import pathlib
import signal
import subprocess

TICKS = os.sysconf("SC_CLK_TCK")
PROC = pathlib.Path("/proc")


def tree(root):
    """The process and all that it started, and those started."""
    children = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            fields = stat(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def stat(pid):
    """The fields of /proc/PID/stat from `state` on; the name before them may hold anything."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None


def cpu_seconds(root):
    """User and system time of the tree, of ended and reaped children too."""
    ticks = 0
    for pid in tree(root):
        fields = stat(pid)
        if fields:
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


def memory_mib(root):
    """Resident and proportional memory of the tree, and of that its own: what several processes share counts once in the second,
    and what lies in files, as programs do, not at all in the third."""
    total = {"Rss": 0, "Pss": 0, "Pss_Anon": 0}
    for pid in tree(root):
        try:
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, rest = line.partition(":")
            if name in total:
                total[name] += int(rest.split()[0])
    return {"rss_mib": total["Rss"] / 1024, "pss_mib": total["Pss"] / 1024, "own_mib": total["Pss_Anon"] / 1024}


def end(process, seconds=60):
    """Asks a process of ours to end, and ends it where it does not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
