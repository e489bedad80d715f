#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One status object: every reason code is made to appear, and is on every surface that there is while it holds: the command line,
the API, the log, and what a model is told. Where nothing is wrong, none of them has a word of it."""
import json
import os
import sqlite3
import subprocess

from harness import DEADLINE, main
from test_daemon import DaemonCase
from test_refusals import WITHOUT, abi

UNAVAILABLE = "{ error: { status: 503, type: overloaded, message: try later } }"
CODES = ("runtime_down", "broker_down", "shelld_down", "cell_none", "cell_basic", "tier_process", "limits_soft", "provider_down",
         "catalog_broken", "store_trouble", "secrets_closed", "log_trouble")
DONE = "rules:\n  - { answer: [ { text: fine } ] }\n"


class Degraded(DaemonCase):
    def setUp(self):
        super().setUp()
        self.env["ITHACA__RUNNER__IDLE_MS"] = "60000"

    def settings(self, script=DONE, extra=""):
        # The workspaces are elsewhere: cell-basic cannot hide a home that has them.
        self.serve(script, extra="  second: { api: openai-chat, base_url: \"http://127.0.0.1:%%d/v1\", api_key_env: TEST_KEY }\n"
                   "models: { fallback: [second/n] }\nworkspace_root: %s/workspaces\n"
                   "container: { socket: %s/no.sock }\n%s" % (self.dir, self.dir, extra))
        path = os.path.join(self.home, "config.yaml")
        with open(path) as f:
            text = f.read()
        self.config(text.replace("%d", str(self.server.port)))

    def start_without(self, what=None):
        if what is None:
            self.start()
            return
        p = subprocess.run([WITHOUT, what, os.path.join(self.bin, "ithaca"), "start"], cwd=self.work, env=self.env,
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE)
        if p.returncode == 77:
            self.skipTest("SKIP: %s" % p.stderr.strip())
        self.assertEqual(p.returncode, 0, p.stderr)

    def logged(self):
        """What is degraded by the log: what came and did not go."""
        found = set()
        for r in self.log("--role", "runtime"):
            if r["msg"] == "degraded":
                found.add(r["code"])
            elif r["msg"] == "no longer degraded":
                found.discard(r["code"])
        return found

    def told(self):
        """What the model of the last request was told."""
        body = self.server.requests()[-1]["body"]
        system = (json.loads(body) if isinstance(body, str) else body)["messages"][0]
        self.assertIn(system["role"], ("system", "developer"))
        return system["content"]

    def surfaces(self):
        status = self.rpc().call("status.get")
        text = self.ithaca("status", check=0).stdout
        for d in status["degraded"]:
            self.assertTrue(d["text"] and d["fix"], d)
            self.assertIn(d["code"], text)
            self.assertIn(d["fix"], text)
        api, cli = self.codes(status), self.codes()
        self.assertEqual(api, cli)
        self.assertEqual(api, self.logged())
        return api

    def same_everywhere(self, *codes):
        """These, and where this machine has no cgroups limits_soft."""
        self.assertEqual(self.run_json("go")["status"], "answered")
        system, found = self.told(), self.surfaces()
        self.assertEqual(found - {"limits_soft"}, set(codes) - {"limits_soft"})
        self.assertLessEqual(set(codes), found)
        self.assertEqual({code for code in CODES if code in system}, found, system)


class Surfaces(Degraded):
    def test_nothing(self):
        self.settings()
        self.start()
        self.same_everywhere()

    def test_many_at_once(self):
        """No cgroups, a damaged catalog and secrets file, a log that cannot be written, a provider that fails."""
        self.settings("rules:\n  - { when: { model: m }, answer: [ %s ] }\n  - { answer: [ { text: fine } ] }\n" % UNAVAILABLE)
        os.makedirs(os.path.join(self.home, "state"), mode=0o700)
        os.makedirs(os.path.join(self.home, "logs", "broker.log"), mode=0o700)
        for name in ("state/catalog.json", "secrets"):
            with open(os.path.join(self.home, name), "w") as f:
                f.write("neither JSON nor sealed")
            os.chmod(os.path.join(self.home, name), 0o600)
        self.start_without("cgroup")
        self.run_json("go")  # until the breaker opens
        self.same_everywhere("limits_soft", "catalog_broken", "secrets_closed", "log_trouble", "provider_down")
        self.assertEqual(self.told().count("provider_down"), 1)

    def test_no_cells(self):
        self.settings()
        self.start_without("namespaces")
        self.same_everywhere("cell_none")

    def test_lesser_cells(self):
        if abi() < 2:
            self.skipTest("SKIP: no Landlock, so no cell-basic")
        self.settings(extra="cell: { allow_basic: true }\n")
        self.start_without("namespaces")
        self.same_everywhere("cell_basic")

    def test_tier_process(self):
        self.settings(extra="tier: process\n")
        self.start()
        self.same_everywhere("tier_process")

    def test_roles(self):
        """Their programs are taken away, so that they stay down. No model behind a network is asked without a broker."""
        self.own_bin()
        self.settings()
        self.start()
        self.run_json("go")
        os.rename(os.path.join(self.bin, "ithaca-guest"), os.path.join(self.bin, "away"))
        self.kill(self.role("shelld")["pid"])
        self.until(lambda: "shelld_down" in self.codes(), "not told")
        self.same_everywhere("shelld_down")
        os.rename(os.path.join(self.bin, "ithacad"), os.path.join(self.bin, "away"))
        self.kill(self.role("broker")["pid"])
        self.until(lambda: "broker_down" in self.codes(), "not told")
        self.assertEqual(self.surfaces() - {"limits_soft"}, {"shelld_down", "broker_down"})
        self.kill(self.role("runtime")["pid"])
        self.until(lambda: "runtime_down" in self.codes(), "not told")  # by the runner, which is all that is left
        self.assertEqual(self.codes(), {"runtime_down", "shelld_down", "broker_down"})

    def test_store(self):
        """While nothing can be written no turn begins, so no model is there to be told."""
        self.settings()
        self.start()
        session = self.run_json("go")["session"]
        c = sqlite3.connect(os.path.join(self.home, "state", "ithaca.db"), isolation_level=None)
        self.addCleanup(c.close)
        c.execute("BEGIN IMMEDIATE")
        self.assertNotEqual(self.ithaca("session", "rename", session, "x").returncode, 0)
        self.assertEqual(self.surfaces() - {"limits_soft"}, {"store_trouble"})
        c.execute("ROLLBACK")
        self.ithaca("session", "rename", session, "x", check=0)
        self.same_everywhere()


if __name__ == "__main__":
    main()
