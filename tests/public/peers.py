# SPDX-License-Identifier: MIT
"""What the tests with public peers share: where Node.js and the packages are, or why a test cannot run (status 77)."""
import glob
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = os.path.join(HERE, "node_modules")
OLDEST = (20, 15)  # what the packages ask for
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "flow"))
sys.dont_write_bytecode = True


def skip(why):
    print("SKIP: " + why)
    sys.exit(77)


def node_version(program):
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30).stdout
    except OSError:
        return (0, 0)
    found = re.match(r"v(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def find_node():
    """The host's, else the one among the packages: Debian 12 has Node.js 18."""
    for program in ["node", *glob.glob(os.path.join(MODULES, "node-linux-*", "bin", "node"))]:
        if node_version(program) >= OLDEST:
            return program
    return None


if not os.path.exists(os.path.join(MODULES, ".installed")):
    skip("the packages of tests/public are not installed (`scripts/bootstrap check` does it, from npm)")
NODE = find_node()
if not NODE:
    skip("there is no Node.js of at least %d.%d (`scripts/bootstrap check` installs one below tests/public)" % OLDEST)


def package(*parts):
    return os.path.join(MODULES, *parts)
