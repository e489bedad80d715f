#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Machines that lack what cells are made of: user namespaces, mounts, seccomp, Landlock, cgroups. Each is taken away from the
real programs by `without`, in namespaces and filters of this test alone; what cannot be had is refused on every surface, with the
reason and the fix, and the same commands work with nothing taken away."""
import ctypes
import json
import os
import subprocess
import sys
import time

from harness import BIN, DEADLINE, Case, main

WITHOUT = os.path.join(BIN, "without")
if not os.path.exists(WITHOUT):
    WITHOUT = os.path.join(BIN, "tests", "flow", "without")

EXEC = {"call": {"tool": "exec", "args": {"command": "id -u"}}}
WRITE = {"call": {"tool": "write", "args": {"path": "a.txt", "content": "hello"}}}
CREATE_RULESET = 444  # of Landlock, on every machine


def abi():
    n = ctypes.CDLL(None).syscall(CREATE_RULESET, None, 0, 1)
    return max(n, 0)


# A call is withdrawn, or refused by a shelld that had not said hello when the turn began.
REFUSED = (["invalid"], ["not_done"])


class Lack(Case):
    def setUp(self):
        super().setUp()
        self.prefix = []
        self.settings()

    def settings(self, extra="", calls=(EXEC,)):
        """An agent that makes these calls; no container engine is to be found."""
        with open(os.path.join(self.home, "script.yaml"), "w") as f:
            json.dump({"steps": [{"answer": list(calls)}, {"answer": [{"text": "{{result}}"}]}]}, f)
        self.config("model: offline/script\nproviders:\n  offline: { api: offline, script: script.yaml }\n"
                    "container: { socket: %s/no.sock }\nworkspace_root: %s/workspaces\n%s" % (self.dir, self.dir, extra))

    def without(self, what):
        """From here on. What runs already ends."""
        self.stop()
        p = subprocess.run([WITHOUT, what, "true"], capture_output=True, text=True)
        if p.returncode == 77:
            self.skipTest("SKIP: %s" % p.stderr.strip())
        self.prefix = [WITHOUT, what]

    def ithaca(self, *args, stdin=None, env=None, check=None):
        p = subprocess.run([*self.prefix, os.path.join(BIN, "ithaca"), *args], cwd=self.work, env={**self.env, **(env or {})},
                           input=stdin, stdin=subprocess.DEVNULL if stdin is None else None, text=True, capture_output=True,
                           timeout=DEADLINE)
        if check is not None:
            self.assertEqual(p.returncode, check, "stdout: %s\nstderr: %s" % (p.stdout, p.stderr))
        return p

    def did(self, *args):
        """What the calls came to, and what the agent was told."""
        result = self.run_json(*args, "go")
        return [e["status"] for e in result["effects"]], result["text"]

    def degraded(self):
        return {d["code"]: d["text"] for d in json.loads(self.ithaca("status", "--json", check=0).stdout)["degraded"]}

    def doctor(self, check=None):
        p = self.ithaca("doctor", "--json", check=check)
        return {c["name"]: c for c in json.loads(p.stdout)["checks"]}

    def tools(self):
        return {t["name"]: t for t in json.loads(self.ithaca("tool", "list", "--json", check=0).stdout)["tools"]}

    def why(self):
        return json.loads(self.ithaca("why", "exec", "ls", "--json", check=0).stdout)

    def works(self, *args):
        """The control: nothing is taken away, so all is there. What it found out is kept, and must not be believed later."""
        self.assertEqual(self.did(*args)[0], ["done"])
        self.assertEqual(set(self.degraded()) - {"limits_soft"}, set())
        self.assertEqual(self.doctor(check=0)["cell"]["ok"], "pass")
        self.assertTrue(self.tools()["exec"]["offered"])
        self.assertNotIn("withdrawn", self.why())

    def refused_everywhere(self, *words):
        """Every surface has the code, and the reason with its fix."""
        self.ithaca("start", check=0)  # every role has answered
        status, text = self.did()
        self.assertEqual(status, ["invalid"], text)
        self.assertIn("cell_none", self.degraded())
        checks = self.doctor(check=1)
        tool = self.tools()["exec"]
        self.assertEqual((tool["offered"], tool["code"], checks["cell"]["ok"]), (False, "cell_none", "fail"))
        why = self.why()
        self.assertEqual(why["decision"], "allow")
        self.assertTrue(why["withdrawn"].startswith("cell_none: "), why)
        for said in (text, self.degraded()["cell_none"], checks["cell"]["text"], tool["reason"], why["withdrawn"]):
            for word in words:
                self.assertIn(word, said)

    def refused_when_named(self, word):
        self.stop()
        self.settings("tier: cell\n")
        for command in (["run", "go"], ["start"], ["doctor"]):
            p = self.ithaca(*command, check=2)
            self.assertRegex(p.stderr, r"cell_none: .*" + word)
            self.assertIn("fix:", p.stderr)
        self.prefix = []
        self.works()  # with nothing taken away

    def host_mode_works(self):
        """In danger_full_access nothing is isolated, so nothing is missing."""
        self.assertEqual(self.did("--yes", "--mode", "danger_full_access")[0], ["done"])


class UserNamespaces(Lack):
    WORDS = ("user namespaces are switched off", "sysctl -w user.max_user_namespaces")

    def test_refused_with_the_reason_and_the_fix(self):
        self.works()
        self.without("namespaces")
        self.refused_everywhere(*self.WORDS, "tier auto tried the container", "engine_missing")
        self.host_mode_works()
        self.refused_when_named("user namespaces are switched off")

    def test_the_model_is_told(self):
        script = "by: turn_results\nsteps:\n  - answer: [ { text: nothing to do } ]\n"
        for what in (None, "namespaces"):
            self.serve(script, extra="container: { socket: %s/no.sock }\n" % self.dir)
            if what:
                self.without(what)
            self.ithaca("start", check=0)
            self.run_json("go")
            body = self.server.requests()[-1]["body"]
            body = json.loads(body) if isinstance(body, str) else body
            names = {t["function"]["name"] for t in body.get("tools", [])}
            self.assertEqual("exec" in names, what is None)
            told = json.dumps(body["messages"][0])
            for word in ("Not available now: ", "cell_none", *self.WORDS):
                self.assertEqual(word in told, what is not None, word)
            self.stop()
            self.server.close()
            self.server = None

    def test_basic_only_when_allowed(self):
        self.settings("cell: { allow_basic: true }\ntier: cell\n")
        self.works()
        self.without("namespaces")
        if abi() < 2:
            self.skipTest("SKIP: no Landlock, so no cell-basic")
        status, text = self.did()
        self.assertEqual(status, ["done"], text)
        self.assertIn("user namespaces are switched off", self.degraded()["cell_basic"])
        self.assertEqual(self.doctor()["cell"]["ok"], "warn")
        self.without("namespaces,landlock=1")
        self.assertRegex(self.ithaca("run", "go", check=2).stderr, "cell_none: user namespaces are switched off")

    def test_what_was_found_out_is_true_no_more(self):
        """Nothing tells beforehand that mounts are refused now: the spare or the first call finds it out, for all surfaces."""
        self.works()
        self.without("mount")
        status, text = self.did()
        self.assertIn(status, REFUSED)
        self.assertIn("Operation not permitted", text)
        end = time.monotonic() + DEADLINE
        while "cell_none" not in self.degraded():
            self.assertLess(time.monotonic(), end)
        self.refused_everywhere("Operation not permitted", "fix: ")
        self.stop()
        self.refused_everywhere("Operation not permitted", "fix: ", "tier auto tried the container")


class Seccomp(Lack):
    def test_refused_with_the_reason_and_the_fix(self):
        self.works()
        self.without("seccomp")
        self.refused_everywhere("seccomp filters are refused", "CONFIG_SECCOMP_FILTER", "tier auto tried the container")
        self.host_mode_works()
        self.refused_when_named("seccomp filters are refused")

    def test_nor_with_less(self):
        """Neither cell-basic nor the file tools of tier process can do without."""
        self.settings("cell: { allow_basic: true }\n")
        self.without("seccomp,namespaces")
        self.refused_everywhere("seccomp filters are refused")
        self.stop()
        self.settings("tier: process\n", calls=(WRITE,))
        self.assertIn(self.did()[0], REFUSED)
        self.assertFalse(self.exists("a.txt"))
        self.assertEqual(self.doctor(check=1)["cell"]["ok"], "fail")
        self.assertIn("seccomp filters are refused", self.doctor()["cell"]["text"])


class Landlock(Lack):
    # What doctor says is missing, by ABI.
    WORDS = ("all of it (kernel older", "all of it (not used", "truncate, network, devices, scopes", "network, devices, scopes",
             "devices, scopes", "scopes", "nothing")

    def test_each_abi_has_its_words_and_its_cells(self):
        real = abi()
        self.works()
        self.assertIn("ABI %d; missing rights: %s" % (real, self.WORDS[min(real, 6)]), self.doctor()["landlock"]["text"])
        for n, missing in enumerate(self.WORDS[:min(real, 6) + 1]):
            self.without("landlock=%d" % n)
            self.assertEqual(self.did()[0], ["done"], n)
            checks = self.doctor(check=0)
            self.assertTrue(checks["landlock"]["text"].startswith("ABI %d; missing rights: %s" % (n, missing)), checks["landlock"])
            self.assertEqual(checks["landlock"]["ok"], "warn" if n < 2 else "pass")
            self.assertEqual(checks["cell"]["ok"], "pass")  # the other walls hold without it

    def test_what_needs_it_is_refused(self):
        self.settings("tier: process\n", calls=(WRITE,))
        if abi() >= 2:
            self.assertEqual(self.did()[0], ["done"])
            self.assertTrue(self.exists("a.txt"))
            os.unlink(os.path.join(self.work, "a.txt"))
        for n in (0, 1):
            self.without("landlock=%d" % n)
            status, text = self.did()
            self.assertIn(status, REFUSED)
            self.assertIn("needs Landlock ABI 2", text)
            self.assertFalse(self.exists("a.txt"))
            self.assertIn("tier_process", self.degraded())
            self.assertIn("needs Landlock ABI 2", self.degraded()["cell_none"])
            cell = self.doctor(check=1)["cell"]
            self.assertEqual(cell["ok"], "fail")
            self.assertIn("needs Landlock ABI 2", cell["text"])

    def test_the_stand_in_refuses_what_its_abi_does_not_know(self):
        if abi() < 3:
            self.skipTest("SKIP: this kernel's Landlock is too old to stand in for an older one")
        self.without("landlock=2")
        ask = ("import ctypes; c = ctypes.CDLL(None, use_errno=True); "
               "make = lambda fs, n: c.syscall(%d, ctypes.byref((ctypes.c_uint64 * 3)(fs, 0, 0)), n, 0); "
               "print(c.syscall(%d, None, 0, 1), make(0x3fff, 8) >= 0, make(0x7fff, 8), ctypes.get_errno(), make(0x3fff, 16), "
               "ctypes.get_errno())" % (CREATE_RULESET, CREATE_RULESET))
        out = subprocess.run([*self.prefix, sys.executable, "-c", ask], capture_output=True, text=True, timeout=DEADLINE)
        version, may, more, einval, longer, e2big = out.stdout.split()
        self.assertEqual((version, may, longer, e2big), ("2", "True", "-1", "7"), out)
        if more != "-1" and os.geteuid() != 0:
            self.skipTest("SKIP: this machine lets nobody read the memory of its other processes")
        self.assertEqual((more, einval), ("-1", "22"))


class Cgroups(Lack):
    def test_soft_limits_are_said(self):
        self.works()
        has_cgroup = "limits_soft" not in self.degraded()
        self.assertIn("cgroup v" if has_cgroup else "limits: soft", self.doctor()["cell limits"]["text"])
        self.without("cgroup")
        self.assertEqual(self.did()[0], ["done"])
        self.assertIn("rlimits and a watchdog", self.degraded()["limits_soft"])
        limits = self.doctor()["cell limits"]
        self.assertEqual(limits["ok"], "warn")
        self.assertIn("limits: soft", limits["text"])
        self.assertIn("Delegate=yes", limits["fix"])
        self.assertIn("limits_soft", self.ithaca("logs", "--role", "runtime", "--tail", "0", check=0).stdout)

    def test_require_limits_refuses(self):
        self.settings("cell: { require_limits: true }\n")
        if "limits_soft" in self.degraded_at_start():
            print("SKIP the control: no cgroup can be used here")
        else:
            self.works()
        self.without("cgroup")
        status, text = self.did()
        self.assertEqual(status, ["not_done"], text)
        for word in ("cannot be limited by a cgroup", "Delegate=yes", "cell.require_limits: false"):
            self.assertIn(word, text)
        self.assertEqual(self.doctor(check=1)["cell"]["ok"], "fail")

    def degraded_at_start(self):
        self.ithaca("start", check=0)
        return self.degraded()


if __name__ == "__main__":
    main()
