#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The product against a model server that others wrote (@copilotkit/aimock): a long turn of tool calls over each API, and
its chaos modes, in which nothing may run twice."""
import json
import os
import re
import subprocess
import unittest
import urllib.request

from peers import NODE, package
from harness import DEADLINE, Case, main

APIS = ("openai-chat", "openai-responses", "anthropic", "gemini")
MANY, FEW = 20, 10


class Peer:
    """aimock with fixtures: call number k is answered when the result of call k - 1 is the last thing said, so that a
    request that is sent again is answered again."""

    def __init__(self, dir, calls, *options):
        path = os.path.join(dir, "fixtures.json")
        with open(path, "w") as f:
            json.dump({"fixtures": self.fixtures(calls)}, f)
        self.proc = subprocess.Popen([NODE, package("@copilotkit", "aimock", "dist", "cli.js"), "-p", "0", "-f", path, "--strict",
                                      "-c", "7", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.port = None
        for line in self.proc.stdout:
            found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found[1])
                break
        self.url = "http://127.0.0.1:%d" % self.port

    def fixtures(self, calls):
        def call(i):
            return {"toolCalls": [{"name": "exec", "arguments": json.dumps({"command": "echo %d >> log; echo step-%d-done" % (i, i)})}]}
        found = [{"match": {"toolResultContains": "step-%d-done" % (calls - 1)}, "response": {"content": "All %d done ✓" % calls}}]
        found += [{"match": {"toolResultContains": "step-%d-done" % (i - 1)}, "response": call(i)} for i in range(calls - 1, 0, -1)]
        return found + [{"match": {"userMessage": "count", "hasToolResult": False}, "response": call(0)}]

    def journal(self):
        with urllib.request.urlopen(self.url + "/__aimock/journal", timeout=DEADLINE) as r:
            return [e for e in json.load(r) if e["method"] == "POST"]

    def close(self):
        self.proc.terminate()
        self.proc.wait(DEADLINE)
        self.proc.stdout.close()


class Chaos(Case):
    def peer(self, api, calls, *options, retries=12):
        peer = self.server = Peer(self.dir, calls, *options)
        self.config("model: test/m\nproviders:\n  test: { api: %s, base_url: \"%s\", api_key_env: TEST_KEY, retries: %d }\n" %
                    (api, peer.url + ("/v1" if api.startswith("openai") else ""), retries))
        self.env["TEST_KEY"] = "sk-test-0123456789abcdefghij"
        return peer

    def done(self):
        return self.read("log").split() if self.exists("log") else []


class Turns(Chaos):
    def turn(self, api):
        peer = self.peer(api, MANY)
        r = self.run_json("count")
        self.assertEqual((r["status"], r["text"], r["steps"]), ("answered", "All 20 done ✓", MANY + 1))
        self.assertEqual([(e["tool"], e["status"]) for e in r["effects"]], [("exec", "done")] * MANY)
        self.assertEqual(self.done(), [str(i) for i in range(MANY)])
        self.assertEqual(len(peer.journal()), MANY + 1)


class Faults(Chaos):
    """Where a share of all requests fails in each way, the turn is as without; where all do, it says why."""

    def passes(self, api):
        peer = self.peer(api, FEW, *(x for fault, _, _ in FAULTS for x in ("--chaos-" + fault, "0.1")))
        r = self.run_json("count")
        self.assertEqual((r["status"], r["text"]), ("answered", "All 10 done ✓"))
        self.assertEqual(self.done(), [str(i) for i in range(FEW)])
        self.assertEqual(len(r["effects"]), FEW)
        self.assertGreaterEqual(len(peer.journal()), FEW + 1)

    def fails(self, api, fault, code, says):
        peer = self.peer(api, FEW, "--chaos-" + fault, "1", retries=1)
        r = self.run_json("count", check=1)
        self.assertEqual((r["status"], r["error"]["code"]), ("failed", code))
        self.assertIn("test", r["error"]["message"])
        self.assertIn(says, r["error"]["message"])
        self.assertEqual((self.done(), r["effects"]), ([], []))
        return peer


FAULTS = (("drop", "provider", "500"), ("disconnect", "network", ""), ("ratelimit", "provider", "429"),
          ("malformed", "protocol", ""))


def add():
    for api in APIS:
        name = api.replace("-", "_")
        setattr(Turns, "test_%d_calls_%s" % (MANY, name), lambda self, api=api: self.turn(api))
        setattr(Faults, "test_some_of_each_%s" % name, lambda self, api=api: self.passes(api))
        for fault, code, says in FAULTS:
            setattr(Faults, "test_all_%s_%s" % (fault, name),
                    lambda self, api=api, fault=fault, code=code, says=says: self.fails(api, fault, code, says))


add()

if __name__ == "__main__":
    main()
