"""Does every client library reach every provider? Each ingress × each upstream × what they can do, with the ledger as a witness.

    tests/matrix/run                               the whole matrix
    tests/matrix/run --only chat/gemini/stream     an ingress, an upstream, a cell; any of them may be missing
    tests/matrix/run --only //tools -v             all that is called `tools`, with what failed
"""

import argparse
import json
import pathlib
import sys
import tempfile
import traceback

from cells import CELLS, NotOffered, NotPlayed, World, judge
from ingresses import INGRESSES
from servers import Baseload, service_account
from standins import Standins
from upstreams import UPSTREAMS, configuration

MARKS = {"pass": "pass", "fail": "FAIL", "none": "n/a", "skip": "-"}


def main():
    arguments = read_arguments()
    ingresses, upstreams, cells = arguments.chosen
    results, said = {}, []
    with tempfile.TemporaryDirectory() as folder:
        public, write_account = service_account(folder)
        standins = Standins("--all", "--service-account-key", public)
        servers = []
        try:
            other = ""
            if any(up.name == "baseload" for up in upstreams):
                servers.append(Baseload(folder, "other", '[[model]]\nname = "small"\npath = "bundled:small"\n'))
                other = servers[0].url
            account = write_account(standins.url("vertex"))
            config = configuration(upstreams, standins, other, account)
            door = Baseload(folder, "door", config)
            servers.append(door)
            for kind in ingresses:
                for up in upstreams:
                    for name in cells:
                        world = World(kind(door.url), up, standins, door)
                        result, why = one(name, world)
                        results[kind.name, up.name, name] = result
                        if result == "fail":
                            said.append((f"{kind.name}/{up.name}/{name}", why))
                            if arguments.verbose:
                                print(f"\n{said[-1][0]}: {why}", flush=True)
                print_table(kind.name, upstreams, cells, results)
            whole = door.integrity()
            print(f"ledger: {json.dumps(whole)[:200]}")
        finally:
            for server in servers:
                if arguments.keep_log:
                    pathlib.Path(f"{arguments.keep_log}-{server.folder.name}.log").write_bytes(server.log.read_bytes())
                server.stop()
            standins.stop()
    for cell, why in said:
        print(f"FAIL {cell}: {why.splitlines()[0] if why else ''}")
    counts = {mark: sum(result == mark for result in results.values()) for mark in MARKS}
    print(f"{counts['pass']} pass, {counts['fail']} fail, {counts['none']} not offered by the upstream and refused by name")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps({"/".join(cell): result for cell, result in results.items()}, indent=1))
    return 1 if counts["fail"] else 0


def one(name, world):
    try:
        judge(name, world)
        return "pass", ""
    except NotOffered:
        return "none", ""
    except NotPlayed:
        return "skip", ""
    except AssertionError as failure:
        return "fail", str(failure)
    except Exception as failure:  # noqa: BLE001: a library's own error is a failure of the cell, whatever it is
        trace = traceback.extract_tb(failure.__traceback__)
        here = [frame for frame in trace if "/matrix/" in frame.filename]
        return "fail", f"{type(failure).__name__}: {failure} (line {here[-1].lineno} of {pathlib.Path(here[-1].filename).name})"


def print_table(ingress, upstreams, cells, results):
    width = max(len(up.name) for up in upstreams) + 2
    print(f"\n{ingress}")
    print(" " * width + "".join(f"{name:>12}" for name in cells))
    for up in upstreams:
        row = "".join(f"{MARKS[results[ingress, up.name, name]]:>12}" for name in cells)
        print(f"{up.name:<{width}}{row}", flush=True)


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="INGRESS/UPSTREAM/CELL, each may be empty or a comma-separated list")
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--keep-log", help="copy the servers' logs to files that begin so")
    parser.add_argument("-v", "--verbose", action="store_true")
    arguments = parser.parse_args()
    parts = (arguments.only.split("/") + ["", "", ""])[:3]
    known = [[kind.name for kind in INGRESSES], [up.name for up in UPSTREAMS], list(CELLS)]
    for part, names in zip(parts, known):
        for word in filter(None, part.split(",")):
            if word not in names:
                parser.error(f"`{word}` is none of {', '.join(names)}")

    def chosen(part, name):
        return not part or name in part.split(",")

    arguments.chosen = (
        [kind for kind in INGRESSES if chosen(parts[0], kind.name)],
        [up for up in UPSTREAMS if chosen(parts[1], up.name)],
        [name for name in CELLS if chosen(parts[2], name)],
    )
    return arguments


if __name__ == "__main__":
    sys.exit(main())
