#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a command of an agent can reach of the daemon that started it, in the worst place: a workspace with the daemon's home inside.
A script looks for keys, envelopes, sockets, the store and other sessions, and names what it found; the control is the same
script outside."""
import json
import os
import subprocess
import sys

from harness import DEADLINE, Case, main

KEY = "sk-test-0123456789abcdefghij"
OTHERS = "the words of another session"
NAMES = ("master.key", "ithaca.db", "rpc.sock", "control.sock", "shelld.sock", "config.yaml", "runtime.log", "cells", "spool")

# Prints names of files that it may open, sockets that it may connect to, and where it read words that it was not given.
LOOK = r'''
import os, socket, sys
names, words, top = sys.argv[1].split(","), [bytes.fromhex(w) for w in sys.argv[2].split(",")], sys.argv[3:]
found = set()
def read(path, what):
    try:
        with open(path, "rb") as f:
            data = f.read(1 << 24)
    except OSError:
        return
    for i, w in enumerate(words):
        if w in data:
            found.add("word %d in %s" % (i, what))
def look(path):
    name = os.path.basename(path)
    if name in names:
        try:
            if name.endswith(".sock"):
                s = socket.socket(socket.AF_UNIX)
                s.connect(path)
            elif os.path.isdir(path):
                os.listdir(path)[0]
            else:
                open(path, "rb").close()
            found.add(name)
        except (OSError, IndexError):
            pass
    if os.path.isfile(path) and not os.path.islink(path):
        read(path, "a file")
for root in top:
    for at, dirs, files in os.walk(root):
        dirs[:] = [d for d in dirs if os.path.join(at, d) not in ("/usr", "/proc", "/sys", "/dev")]
        for name in dirs + files:
            look(os.path.join(at, name))
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline"):
        if int(pid) != os.getpid() or name == "environ":
            read("/proc/%s/%s" % (pid, name), "/proc/*/" + name)
for fd in os.listdir("/proc/self/fd"):
    if int(fd) > 2 and os.path.exists("/proc/self/fd/" + fd):
        found.add("descriptor " + os.readlink("/proc/self/fd/" + fd))
print("FOUND " + ";".join(sorted(found)))
'''


class Inside(Case):
    def setUp(self):
        super().setUp()
        self.home = os.path.join(self.work, "home")
        os.makedirs(self.home, mode=0o700)
        self.env["ITHACA_HOME"] = self.home
        self.write("look.py", LOOK)

    def arguments(self, *top):
        hidden = ",".join(w.encode().hex() for w in (KEY, OTHERS))  # else they would be found in the question
        return [",".join(NAMES), hidden, *top]

    def test_nothing_of_the_daemon_is_reached(self):
        look = "python3 look.py %s" % " ".join(self.arguments("/"))
        self.serve("by: turn_results\nsteps:\n  - answer: [ { call: { tool: exec, args: { command: %s } } } ]\n"
                   "  - answer: [ { text: done } ]\n" % json.dumps(look), extra="exec: { timeout_ms: 60000 }\n")
        with open(os.path.join(self.home, "config.yaml"), "a") as f:
            f.write("# %s\n" % KEY)
        self.ithaca("start", check=0)
        self.ithaca("run", "--json", OTHERS, check=0)  # a session whose words are in the store, and whose cell and spool are kept
        mine = self.run_json("look around")["session"]
        told = [e["body"] for e in self.events(mine) if e["kind"] == "effect.outcome"]
        self.assertEqual(len(told), 1)
        self.assertIn("FOUND ", json.dumps(told), told)
        self.assertIn("FOUND \\n", json.dumps(told))  # and nothing behind it
        outside = subprocess.run([sys.executable, "look.py", *self.arguments(self.home)], cwd=self.work, env=self.env, text=True,
                                 capture_output=True, timeout=DEADLINE)
        found = outside.stdout.strip().removeprefix("FOUND ").split(";")
        for name in NAMES:
            self.assertIn(name, found)
        self.assertIn("word 0 in a file", found)
        self.assertIn("word 1 in a file", found)


if __name__ == "__main__":
    main()
