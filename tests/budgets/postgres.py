"""Which Postgres do the processes share? A private one in a folder of its own, with fsync on, gone at the end."""

import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import time


class Postgres:
    def __init__(self, folder, port=None, settings=()):
        self.folder, self.port = pathlib.Path(folder) / "postgres", port or free_port()
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"
        self.settings = ["listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self.folder}", *settings]

    def start(self):
        if not self.folder.exists():
            self.folder.mkdir()
            if os.geteuid() == 0:
                shutil.chown(self.folder, "postgres")
                pathlib.Path(self.folder.parent).chmod(0o755)
            self.run("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "-D", self.folder / "data")
        options = " ".join(f"-c {setting}" for setting in self.settings)
        self.run("pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log", "-o", options, "-w", "start")
        return self

    def stop(self, mode="fast"):
        self.run("pg_ctl", "-D", self.folder / "data", "-m", mode, "-w", "stop")

    def run(self, program, *arguments):
        # Postgres refuses to run as root; then it runs as the user that its package made.
        user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        done = subprocess.run([find(program), *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/", **identity)
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr}")


def find(program):
    found = shutil.which(program) or next(map(str, pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{program}")), None)
    if not found:
        raise SystemExit(f"there is no {program} on the PATH: install PostgreSQL 13 or newer")
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
