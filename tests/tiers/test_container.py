# SPDX-License-Identifier: MIT
"""The container tier on a real podman: the life of a sidecar, and the whole escape suite inside it with its controls."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import engine

BIN = os.path.abspath(sys.argv[1])


def main():
    podman = engine.Podman()
    failed = []
    try:
        env = dict(os.environ, RIG_TIER="container", RIG_ENGINE=podman.socket)
        for program in (["tests/tiers/tier"], ["tests/escape/escape"]):
            print("== " + " ".join(program), flush=True)
            if subprocess.call([os.path.join(BIN, program[0])] + program[1:], env=env) not in (0, 77):
                failed.append(" ".join(program))
        left = json.loads(podman.call("GET", "/v1.40/containers/json?all=1")[1])
        for c in left:
            failed.append("left behind: %s %s" % (c["Names"], c["State"]))
            podman.call("DELETE", "/v1.40/containers/%s?force=1" % c["Id"])
    finally:
        podman.stop()
    for what in failed:
        print("FAILED: " + what)
    sys.exit(1 if failed else 0)


main()
