#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""doctor says what is in force now: the walls of a cell are tried when it is asked, whatever was found out earlier."""
import json
import os
import subprocess

from harness import BIN, DEADLINE, Case, main

# A user namespace in which no other one may be made, as on machines where they are switched off.
REFUSED = ("unshare", "-Ur", "sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"", "sh")
WALLS = ("user", "capabilities", "seccomp", "setuid", "nodes", "namespaces", "processes", "system", "secrets", "kernel", "devices",
         "network", "files", "mounts", "memory", "terminal", "inherited", "limits", "work")


class Doctor(Case):
    def doctor(self, *prefix):
        p = subprocess.run([*prefix, os.path.join(BIN, "ithaca"), "doctor", "--json"], cwd=self.work, env=self.env, text=True,
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE)
        return {c["name"]: c for c in json.loads(p.stdout)["checks"]}, p.returncode

    def level(self):
        return self.doctor()[0]["cell"]

    def need_refusal(self):
        p = subprocess.run([*REFUSED, "unshare", "-U", "true"], capture_output=True)
        if p.returncode == 0 or b"max_user_namespaces" in p.stderr:
            self.skipTest("SKIP: user namespaces cannot be refused here")

    def test_walls_are_tried(self):
        checks, code = self.doctor()
        cell = checks["cell"]
        self.assertEqual((cell["ok"], code), ("pass", 0), cell)
        self.assertIn("%d of %d walls hold" % (len(WALLS), len(WALLS)), cell["text"])
        for wall in WALLS:
            self.assertIn(wall, cell["text"])
        self.assertRegex(checks["landlock"]["text"], r"ABI \d+; missing rights: ")
        self.assertRegex(checks["cell limits"]["text"], r"cgroup v[12]|limits: soft")
        # Nothing of the cell that was made for it is left.
        self.assertEqual([n for n in os.listdir(os.path.join(self.home, "state", "cells")) if n.startswith("doctor")], [])

    def test_tiers(self):
        """doctor --tier all: of each tier what holds here, or why it does not; the same for people and for programs."""
        # Nothing that may run on this machine is asked.
        self.config("container: { socket: /nonexistent/engine.sock }\nmicrovm: { kernel: /nonexistent/vmlinuz-1 }\n")
        tiers = {t["tier"]: t for t in json.loads(self.ithaca("doctor", "--tier", "all", "--json", check=0).stdout)["tiers"]}
        self.assertEqual(list(tiers), ["microvm", "container", "cell", "process"])
        said = {name: {c["name"]: c for c in t["checks"]} for name, t in tiers.items()}
        for name, code in (("container", "engine_missing: "), ("microvm", "_missing: ")):
            self.assertEqual((tiers[name]["ok"], list(said[name])), ("fail", ["tier"]))
            self.assertIn(code, said[name]["tier"]["text"])
        for name in ("cell", "process"):
            self.assertEqual(list(said[name]), ["tier", "cell", "landlock", "cell limits"])
            self.assertRegex(said[name]["landlock"]["text"], r"ABI \d+; missing rights: ")
        for wall in WALLS:  # system calls, namespaces, network and the others
            self.assertIn(wall, said["cell"]["cell"]["text"])
        self.assertRegex(said["cell"]["cell limits"]["text"], r"cgroup v[12]|limits: soft")
        self.assertEqual((said["cell"]["tier"]["ok"], said["process"]["cell"]["ok"]), ("skip", "warn"))
        self.assertIn("no cells", said["process"]["cell"]["text"])
        shown = self.ithaca("doctor", "--tier", "all", check=0).stdout
        for name in said:
            for check in said[name].values():
                self.assertIn(check["text"], shown)
        self.assertNotEqual(self.ithaca("doctor", "--tier", "container").returncode, 0)

    def test_two_at_once(self):
        ask = [os.path.join(BIN, "ithaca"), "doctor", "--json"]
        procs = [subprocess.Popen(ask, cwd=self.work, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
                 for _ in range(4)]
        for p in procs:
            out = p.communicate(timeout=DEADLINE)[0]
            cell = [c for c in json.loads(out)["checks"] if c["name"] == "cell"][0]
            self.assertEqual(cell["ok"], "pass", cell)

    def test_what_was_found_earlier_is_no_answer(self):
        self.need_refusal()
        self.assertEqual(self.level()["ok"], "pass")  # kept in run/selftest
        self.stop()
        checks, code = self.doctor(*REFUSED)
        self.assertEqual((checks["cell"]["ok"], code), ("fail", 1), checks["cell"])
        self.assertIn("user namespaces are switched off", checks["cell"]["text"])

    def test_basic_says_what_it_lacks(self):
        self.need_refusal()
        # The workspaces are elsewhere: cell-basic cannot hide a home that has them.
        self.config("cell: { allow_basic: true }\nworkspace_root: %s\n" % os.path.join(self.dir, "workspaces"))
        cell = self.doctor(*REFUSED)[0]["cell"]
        if "Landlock" not in cell["text"] + cell.get("fix", ""):
            self.skipTest("SKIP: no Landlock")
        self.assertEqual(cell["ok"], "warn", cell)
        for promise in ("commands run as user 1000", "no process of the host"):
            self.assertIn(promise, cell["text"])
        for held in ("no capability", "system calls are filtered", "no file can be made setuid", "the system cannot be changed",
                     "the host's accounts", "kernel settings", "no network"):
            self.assertNotIn(held, cell["text"])
        self.assertIn("max_user_namespaces", cell["fix"])


if __name__ == "__main__":
    main()
