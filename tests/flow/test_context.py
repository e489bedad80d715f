# SPDX-License-Identifier: MIT
"""What `ithaca context` says of the next request is what is sent then, over every API; and each request begins with the one
before it, up to where a server's cache ends."""
import json
import os
import re
import shutil
import subprocess

import harness
from test_attach import png
from test_refusals import WITHOUT

USAGE = "usage: { input: 100, output: 20, cached: 60, written: 10 }\n"
SCRIPT = ("by: turn_results\nrepeat: true\n" + USAGE +
          "rules:\n"
          "  - when: { user_has: look, turn_results_below: 1 }\n"
          "    answer: [ { text: \"I look.\" }, { call: { tool: list, args: { path: /shared } } } ]\n"
          "steps: [ { answer: [ { text: \"It is \\\"fine\\\"\\n\" } ] } ]\n")
LISTS = {"openai-chat": "messages", "openai-responses": "input", "anthropic": "messages", "gemini": "contents"}


def without_marks(value):
    """Marks for the cache are not part of what is cached."""
    if isinstance(value, dict):
        return {k: without_marks(v) for k, v in value.items() if k != "cache_control"}
    return [without_marks(v) for v in value] if isinstance(value, list) else value


class Context(harness.Case):
    def context(self, session, *args):
        return json.loads(self.ithaca("context", session, "--json", *args, check=0).stdout)

    def rows(self, ctx, kind):
        return [p for p in ctx["parts"] if p["kind"] == kind]

    def check_sums(self, ctx):
        for key in ("bytes", "tokens"):
            self.assertEqual(sum(p[key] for p in ctx["parts"]), ctx[key], key)
            self.assertEqual(sum(p[key] for p in ctx["parts"] if p["stable"]), ctx["stable_" + key], key)
        for p in ctx["parts"]:
            self.assertTrue(p["why"], p)
            self.assertAlmostEqual(p["share"], 100 * p["tokens"] / ctx["window_tokens"], delta=0.02)

    # ---- the numbers are those of the request ----

    def adds_up(self, api):
        self.serve(SCRIPT, api)
        with open(os.path.join(self.work, "photo.png"), "wb") as f:
            f.write(png(300, 200))
        self.write("notes.md", "# a \"plan\"\n")
        session = self.run_json("--attach", "photo.png", "--attach", "notes.md", "look at \"this\"")["session"]
        self.assertEqual(len(self.server.requests()), 2)
        for ask in ("and now?", "look again"):
            sent = len(self.server.requests())
            ctx = self.context(session, *ask.split())
            self.assertEqual(len(self.server.requests()), sent)  # nothing is sent
            self.check_sums(ctx)
            self.run_json("--session", session, ask)
            self.assertEqual(ctx["bytes"], int(self.server.requests()[sent]["headers"]["content-length"]))
        self.assertEqual(ctx["api"], api)
        self.assertEqual(len(self.rows(ctx, "attachment")), 3)
        self.assertIn("/run/work/inbox: photo.png, notes.md", self.rows(ctx, "attachment")[2]["what"])
        self.assertEqual([p["what"] for p in self.rows(ctx, "call")], ["list"])
        self.assertEqual(len(self.rows(ctx, "result")), 1)
        self.assertGreater(len(self.rows(ctx, "tool")), 5)
        self.assertEqual([p["turn"] for p in self.rows(ctx, "user")], [1, 2, 3])
        # The part that is JSON alone is small, and nothing of the rest is counted twice.
        self.assertLess(self.rows(ctx, "syntax")[0]["bytes"], 6000)
        newest = self.rows(ctx, "user")[-1]
        self.assertEqual((newest["what"], newest["stable"], "drops" in newest), ("look again", False, False))
        self.assertEqual([p["drops"] for p in self.rows(ctx, "user")[:-1]], [1, 2])
        self.assertTrue(all(p["stable"] for p in ctx["parts"] if p["kind"] in ("system", "tool", "attachment")))
        self.assertEqual({k: ctx["last_call"][k] for k in ("input_tokens", "cached_tokens", "output_tokens")},
                         {"input_tokens": 100, "cached_tokens": 60, "output_tokens": 20})
        self.assertEqual(ctx["cache_marks"] > 0, api == "anthropic")

    def test_openai_chat(self):
        self.adds_up("openai-chat")

    def test_openai_responses(self):
        self.adds_up("openai-responses")

    def test_anthropic(self):
        self.adds_up("anthropic")

    def test_gemini(self):
        self.adds_up("gemini")

    # ---- the stable prefix ----

    def prefix(self, api):
        self.serve(SCRIPT, api)
        self.write("notes.md", "# plan\n")
        session = self.run_json("--attach", "notes.md", "look")["session"]
        self.run_json("--session", session, "and?")
        self.stop()  # also from a runtime that has to read the session again
        self.run_json("--session", session, "look once more")
        bodies = [r["body"] for r in self.server.requests()]
        self.assertEqual(len(bodies), 5)
        for before, after in zip(bodies, bodies[1:]):
            self.assertEqual(list(before)[-1] if api != "gemini" else LISTS[api], LISTS[api])
            first, second = (json.dumps(without_marks(b)) for b in (before, after))
            end = first.rindex(json.dumps(without_marks(before[LISTS[api]]))[:-1]) + len(json.dumps(without_marks(before[LISTS[api]]))) - 1
            # The last message may grow by further parts: its own closing bracket is not yet part of the beginning.
            stable = first[:end].rstrip("]}\" ")
            self.assertGreater(len(stable), 3000)
            self.assertTrue(second.startswith(stable), "%s\n%s" % (first[-300:], second[len(stable) - 200:len(stable) + 100]))

    def test_prefix_of_openai_chat(self):
        self.prefix("openai-chat")

    def test_prefix_of_openai_responses(self):
        self.prefix("openai-responses")

    def test_prefix_of_anthropic(self):
        self.prefix("anthropic")

    def test_prefix_of_gemini(self):
        self.prefix("gemini")

    def test_prefix_when_shelld_is_slow(self):
        """What the prompt says of the machine is known to shelld alone; the first request has it already."""
        programs = os.path.join(self.dir, "programs")
        os.mkdir(programs)
        for name in ("ithaca", "ithacad"):
            shutil.copy(os.path.join(harness.BIN, name), programs)
        with open(os.path.join(programs, "ithaca-guest"), "w") as f:
            f.write("#!/bin/sh\nsleep 0.5\nexec %s cgroup %s \"$@\"\n" % (WITHOUT, os.path.join(harness.BIN, "ithaca-guest")))
        os.chmod(os.path.join(programs, "ithaca-guest"), 0o755)
        self.serve(SCRIPT)
        if subprocess.run([WITHOUT, "cgroup", "true"], capture_output=True).returncode == 77:
            self.skipTest("SKIP: cgroups cannot be taken away here")
        p = subprocess.run([os.path.join(programs, "ithaca"), "run", "--json", "look"], cwd=self.work, env=self.env,
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.DEADLINE)
        self.assertEqual(p.returncode, 0, p.stderr)
        first, second = [r["body"]["messages"][0] for r in self.server.requests()]
        self.assertIn("limits_soft", json.dumps(second))
        self.assertEqual(first, second)

    # ---- the window, other models, people ----

    def test_what_does_not_fit(self):
        self.serve(SCRIPT, extra="catalog: { models: { test/m: { context: 9000, max_output: 1000, input_usd_per_mtok: 3, "
                                 "output_usd_per_mtok: 15, cached_usd_per_mtok: 0.3 } } }\n")
        session = self.run_json("a" * 6000)["session"]
        for _ in range(3):
            self.run_json("--session", session, "b" * 6000)
        ctx = self.context(session, "next")
        self.check_sums(ctx)
        self.assertGreater(ctx["dropped_turns"], 0)
        note, = self.rows(ctx, "note")
        self.assertIn("%d earlier turn" % ctx["dropped_turns"], note["what"])
        self.assertEqual([p["drops"] for p in self.rows(ctx, "user")[:-1]], list(range(1, len(self.rows(ctx, "user")))))
        self.assertEqual(self.rows(ctx, "user")[0]["turn"], ctx["dropped_turns"] + 1)
        for p in ctx["parts"]:
            self.assertEqual(p["fresh_microusd"], -(-p["tokens"] * 3))
            self.assertEqual(p["cached_microusd"], -(-p["tokens"] * 3 // 10))
        self.assertEqual(ctx["fresh_microusd"], ctx["tokens"] * 3)
        self.assertLess(ctx["cached_microusd"], ctx["fresh_microusd"])

    def test_with_another_model(self):
        self.serve(SCRIPT, extra="catalog: { models: { test/m: { input: [image] }, test/blind: { input: [] } } }\n")
        with open(os.path.join(self.work, "photo.png"), "wb") as f:
            f.write(png(300, 200))
        session = self.run_json("--attach", "photo.png", "look")["session"]
        ctx = self.context(session, "-m", "test/blind", "and?")
        self.assertEqual(ctx["model"], "test/blind")
        self.assertIn("is not shown", self.rows(ctx, "attachment")[0]["what"])
        p = self.ithaca("context", session, "-m", "nowhere/x")
        self.assertEqual(p.returncode, 2)
        self.assertIn("nowhere", p.stderr)

    def test_as_it_stands_and_for_people(self):
        self.serve(SCRIPT)
        session = self.run_json("look")["session"]
        ctx = self.context(session)
        self.check_sums(ctx)
        self.assertEqual(self.rows(ctx, "user")[-1]["what"], "look")
        out = self.ithaca("context", session, "and?", check=0).stdout
        for pattern in (r"model +test/m", r"PART +WHAT +TURN +BYTES", r"system +You are an agent", r"tool +exec ", r"user +and\?",
                        r"sum +\d+ bytes, about \d+ tokens", r"stable prefix \d+ bytes", r"last call +100 tokens in, 60 of them cached"):
            self.assertRegex(out, pattern)
        self.assertIn("there is no session", self.ithaca("context", "nosuch", check=1).stderr)

    def test_offline(self):
        self.script("steps: []\n")
        session = self.run_json("list the files", check=None)["session"]
        ctx = self.context(session, "and", "now")
        self.check_sums(ctx)
        self.assertEqual(self.rows(ctx, "syntax"), [])
        self.assertEqual(ctx["api"], "offline")


if __name__ == "__main__":
    harness.main()
