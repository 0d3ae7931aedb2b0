"""Starts the stand-ins and the door, and runs the Node libraries against them: `tests/matrix/run node [UPSTREAM,…]`."""

import os
import pathlib
import subprocess
import sys
import tempfile

from servers import Baseload, service_account
from standins import Standins
from upstreams import UPSTREAMS, configuration


def main():
    here = pathlib.Path(__file__).parent
    if not (here / "node_modules" / "openai").is_dir():
        raise SystemExit("not installed: npm ci --prefix tests/matrix")
    wanted = sys.argv[1].split(",") if len(sys.argv) > 1 else [up.name for up in UPSTREAMS if up.standin]
    upstreams = [up for up in UPSTREAMS if up.name in wanted]
    with tempfile.TemporaryDirectory() as folder:
        public, write_account = service_account(folder)
        standins = Standins("--all", "--service-account-key", public)
        try:
            door = Baseload(folder, "door", configuration(upstreams, standins, "", write_account(standins.url("vertex"))))
            try:
                environment = {**os.environ, "BASELOAD_URL": door.url, "MATRIX_UPSTREAMS": ",".join(up.name for up in upstreams)}
                return subprocess.run(["node", "--test", here / "matrix.test.mjs"], env=environment).returncode
            finally:
                door.stop()
        finally:
            standins.stop()


if __name__ == "__main__":
    sys.exit(main())
