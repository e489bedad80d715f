#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`ithaca run` from outside: answers, JSON, exit codes, tools in a cell, both model APIs."""
import datetime
import json
import os
import signal
import subprocess
import unittest

from harness import BIN, Case, main


class Answers(Case):
    def test_offline_task_with_tools(self):
        self.write("a.txt", "one two three")
        r = self.run_json("list the files then count the words in a.txt")
        self.assertEqual(r["status"], "answered")
        self.assertIn("[offline model]", r["text"])
        self.assertIn("3", r["text"])
        self.assertEqual(r["cost_microusd"], 0)
        self.assertGreaterEqual(r["steps"], 2)
        self.assertTrue(r["effects"])
        for key in ("session", "turn", "model", "usage", "duration_ms"):
            self.assertIn(key, r)

    def test_write_reaches_the_workspace(self):
        self.run_json("write b.txt with hello there")
        self.assertEqual(self.read("b.txt").strip(), "hello there")

    def test_stdin_is_context(self):
        r = self.run_json("what is this?", stdin="alpha beta\n")
        user = [e for e in self.events(r["session"]) if e["kind"] == "user.message"]
        self.assertIn("alpha beta", user[0]["body"]["text"])

    def test_a_failed_read_is_an_error_and_not_unknown(self):
        r = self.run_json("read nothere.txt")
        self.assertEqual([e["status"] for e in r["effects"]], ["not_done"])

    def test_session_goes_on(self):
        first = self.run_json("write c.txt with x")
        second = self.run_json("--session", first["session"], "read c.txt")
        self.assertEqual(second["session"], first["session"])
        kinds = [e["kind"] for e in self.events(first["session"])]
        self.assertEqual(kinds.count("user.message"), 2)
        self.assertEqual([e["seq"] for e in self.events(first["session"])], list(range(1, len(kinds) + 1)))


class Exits(Case):
    def test_usage(self):
        self.assertEqual(self.ithaca("run", "--no-such-option", "x").returncode, 2)

    def test_unknown_model_names_the_nearest(self):
        p = self.ithaca("run", "--model", "anthropic/claude-sonet-4-5", "hello", check=2)
        self.assertIn("claude-sonnet-4-5", p.stderr)

    def test_unknown_provider(self):
        p = self.ithaca("run", "--model", "anthropc/x", "hello", check=2)
        self.assertIn("anthropic", p.stderr)

    def test_configuration_error_names_file_and_line(self):
        self.config("mode: workspace_write\nlimits:\n  turn_stepz: 4\n")
        p = self.ithaca("run", "hello", check=2)
        self.assertIn("config.yaml", p.stderr)
        self.assertIn("line 3", p.stderr)
        self.assertIn("turn_steps", p.stderr)

    def test_step_limit_is_4(self):
        self.script("steps:\n" + "".join(
            "  - answer: [ { call: { tool: list, args: { path: d%d } } } ]\n" % i for i in range(9)))
        r = self.run_json("go", check=4, env={"ITHACA__LIMITS__TURN_STEPS": "3"})
        self.assertEqual(r["status"], "limit")
        self.assertIn("turn_steps", r["error"]["message"])

    def test_ask_without_a_terminal_is_3(self):
        self.config("permissions: { ask: [\"Exec(rm *)\"] }\n")
        self.write("x", "")
        r = self.run_json("run rm x", check=3)
        self.assertTrue(self.exists("x"))
        self.assertEqual(r["status"], "waiting")

    def test_yes_allows_what_would_be_asked(self):
        self.config("permissions: { ask: [\"Exec(rm *)\"] }\n")
        self.write("x", "")
        self.run_json("--yes", "run rm x")
        self.assertFalse(self.exists("x"))

    def test_yes_never_passes_a_deny_rule(self):
        self.config("permissions: { deny: [\"Exec(rm *)\"] }\n")
        self.write("x", "")
        self.run_json("--yes", "run true && rm x")
        self.assertTrue(self.exists("x"))

    def test_interrupt_is_5(self):
        self.script("steps:\n  - answer: [ { call: { tool: exec, args: { command: \"sleep 600\" } } } ]\n")
        s = self.stream("go")
        s.until("effect.intent")
        s.proc.send_signal(signal.SIGINT)
        self.assertEqual(s.end(), 5)
        self.assertEqual(s.events[-1]["body"]["status"], "cancelled")

    def test_a_spinning_answer_ends_its_turn(self):
        calls = ", ".join("{ call: { tool: nosuch, args: { x: 1 } } }" for _ in range(7))
        self.script("steps:\n" + 2 * ("  - answer: [ %s ]\n" % calls))
        r = self.run_json("go", check=4)
        self.assertEqual(r["error"]["code"], "loop_guard")
        self.run_json("--session", r["session"], "go", check=4)

    def test_the_time_limit_stops_once(self):
        self.script("steps:\n  - answer: [ { call: { tool: exec, args: { command: \"trap '' TERM; sleep 600\" } } } ]\n")
        r = self.run_json("go", check=4, env={"ITHACA__LIMITS__TURN_MS": "700"})
        kinds = [e["kind"] for e in self.events(r["session"])]
        self.assertEqual(kinds.count("turn.stopping"), 1)

    def test_nothing_comes_behind_the_end_of_a_cancelled_answer(self):
        self.script("steps:\n  - answer: [ { text: \"%s\", chunk: 5, delay: 20 } ]\n" % ("word " * 1500))
        s = self.stream("go")
        s.until("model.partial")
        s.proc.send_signal(signal.SIGINT)
        self.assertEqual(s.end(), 5)
        kinds = [e["kind"] for e in self.events(s.events[0]["session"])]
        self.assertEqual(kinds[-1], "turn.finished")


class Names(Case):
    def test_a_name_never_hides_an_id(self):
        first = self.run_json("write a.txt with x")["session"]
        second = self.run_json("--new", "write b.txt with y")["session"]
        self.ithaca("session", "rename", second, first, check=0)
        self.stop()
        shown = json.loads(self.ithaca("session", "show", first, "--json", check=0).stdout)
        self.assertEqual(shown["session"], first)


class Apis(Case):
    def tool_script(self):
        return ("by: sequence\nsteps:\n"
                "  - { answer: [ { text: \"Ich prüfe …\", chunk: 1 }, { call: { tool: exec, args: { command: "
                "\"echo ran >> count\" }, pieces: 5 } } ], write: 1, eol: crlf }\n"
                "  - { answer: [ { text: \"done ✓\" } ] }\n")

    def check_tools(self, api):
        self.serve(self.tool_script(), api)
        r = self.run_json("go")
        self.assertEqual(r["text"], "done ✓")
        self.assertEqual(self.read("count"), "ran\n")
        self.assertEqual(len(self.server.requests()), 2)
        return r

    def test_the_cell_is_made_while_the_call_is_written(self):
        self.serve("by: sequence\nsteps:\n"
                   "  - { write: 100, write_delay: 20, answer: [ { call: { tool: exec, args: { command: \"echo %s\" }, "
                   "pieces: 5 } } ] }\n  - { answer: [ { text: done } ] }\n" % ("x" * 400))
        r = self.run_json("go")
        done = next(e for e in self.events(r["session"]) if e["kind"] == "model.done")
        made = os.stat(os.path.join(self.home, "state", "cells")).st_mtime  # when its one cell came
        said = datetime.datetime.fromisoformat(done["time"].replace("Z", "+00:00")).timestamp()
        self.assertLess(made, said)

    def test_openai_chat(self):
        self.check_tools("openai-chat")
        q = self.server.requests()
        self.assertEqual(q[0]["headers"]["authorization"], "Bearer sk-test-0123456789abcdefghij")
        self.assertEqual(q[1]["body"]["messages"][-1]["role"], "tool")

    def test_anthropic(self):
        self.check_tools("anthropic")
        q = self.server.requests()
        self.assertEqual(q[0]["headers"]["x-api-key"], "sk-test-0123456789abcdefghij")
        self.assertEqual(q[1]["body"]["messages"][-1]["content"][0]["type"], "tool_result")

    def test_cut_stream_is_retried_without_doubled_text(self):
        self.serve("by: sequence\nsteps:\n"
                   "  - answer: [ { text: \"half of an ans\" }, { cut: mid } ]\n"
                   "  - answer: [ { text: \"a whole answer\" } ]\n")
        r = self.run_json("go")
        self.assertEqual(r["text"], "a whole answer")
        kinds = [e["kind"] for e in self.events(r["session"])]
        self.assertIn("model.retry", kinds)
        self.assertIn("model.reset", kinds)

    def test_429_waits_as_asked(self):
        self.serve("by: sequence\nsteps:\n"
                   "  - answer: [ { error: { status: 429, type: rate_limit_error, message: slow, retry_after: \"1\" } } ]\n"
                   "  - answer: [ { text: ok } ]\n")
        self.run_json("go")
        a, b = self.server.requests()
        self.assertGreaterEqual(b["t_us"] - a["t_us"], 1000000)

    def test_400_is_not_retried(self):
        self.serve("steps:\n  - answer: [ { error: { status: 400, type: invalid_request_error, message: \"bad thing\" } } ]\n")
        r = self.run_json("go", check=1)
        self.assertIn("bad thing", r["error"]["message"])
        self.assertEqual(len(self.server.requests()), 1)

    def test_unreachable_server(self):
        self.config("model: test/m\nproviders:\n  test: { api: openai-chat, base_url: \"http://127.0.0.1:1/v1\", retries: 0 }\n")
        r = self.run_json("go", check=1)
        self.assertEqual(r["status"], "failed")
        self.assertIn("127.0.0.1", r["error"]["message"])

    def test_missing_key_says_which(self):
        self.serve("steps:\n  - answer: [ { text: x } ]\n")
        del self.env["TEST_KEY"]
        p = self.ithaca("run", "go")
        self.assertNotEqual(p.returncode, 0)
        self.assertIn("TEST_KEY", p.stderr)

    def test_key_is_in_no_file_of_the_home(self):
        self.serve("steps:\n  - answer: [ { text: x } ]\n")
        self.run_json("go")
        out = subprocess.run(["grep", "-rl", "sk-test-0123456789", self.home], capture_output=True, text=True)
        self.assertEqual(out.stdout, "")


class Whole(Case):
    """The one object of `run --json`, every member of it, over each API."""

    CALLS = 20
    KEYS = {"session", "turn", "status", "text", "model", "usage", "cost_microusd", "steps", "effects", "duration_ms"}
    PRICES = ("catalog: { models: { test/m: { input_usd_per_mtok: 3, output_usd_per_mtok: 15, cached_usd_per_mtok: 0.3,"
              " context: 200000, max_output: 1000 } } }\n")

    def script(self):
        def answer(i, what):
            return "  - answer: [ %s, { usage: { input: %d, output: %d, cached: 55, reasoning: 3 } } ]\n" % (what, 1000 + i, 10 + i)
        calls = [answer(i, "{ call: { tool: %s, args: %s } }" % (
            ("read", "{ path: nothere-%d }" % i) if i == 7 else ("exec", "{ command: \"echo %d >> log\" }" % i))) for i in range(self.CALLS)]
        return "steps:\n" + "".join(calls) + answer(self.CALLS, "{ text: \"Grüße ✓\" }")

    def check_ids(self, r):
        for key in ("session", "turn"):
            self.assertRegex(r[key], r"\A[0-9a-z]{26}\Z")
        self.assertNotEqual(r["session"], r["turn"])

    def check(self, api):
        self.serve(self.script(), api, extra=self.PRICES)
        r = self.run_json("go")
        self.assertEqual(set(r), self.KEYS)
        self.check_ids(r)
        self.assertEqual((r["status"], r["text"], r["model"], r["steps"]), ("answered", "Grüße ✓", "test/m", 21))
        # 21 calls: inputs 1000..1020, outputs 10..30, of each input 55 cached.
        self.assertEqual(r["usage"], {"input_tokens": 21 * 1010, "output_tokens": 21 * 20, "cached_tokens": 21 * 55,
                                      "reasoning_tokens": 0 if api == "anthropic" else 21 * 3})
        # Micro-dollars: 945..965 fresh tokens at 3; 55 at 0.3 are 16.5, rounded up to 17 in each call; 10..30 at 15.
        self.assertEqual(r["cost_microusd"], 21 * 955 * 3 + 21 * 17 + 21 * 20 * 15)
        self.assertEqual([set(e) for e in r["effects"]], [{"tool", "status", "ms"}] * self.CALLS)
        self.assertEqual([(e["tool"], e["status"]) for e in r["effects"]],
                         [("read", "not_done") if i == 7 else ("exec", "done") for i in range(self.CALLS)])
        self.assertTrue(all(isinstance(e["ms"], int) and 0 <= e["ms"] <= r["duration_ms"] for e in r["effects"]))
        self.assertLess(r["duration_ms"], 60000)
        self.assertEqual(self.read("log").split(), [str(i) for i in range(self.CALLS) if i != 7])
        self.assertEqual(len(self.server.requests()), 21)

    def test_openai_chat(self):
        self.check("openai-chat")

    def test_openai_responses(self):
        self.check("openai-responses")

    def test_anthropic(self):
        self.check("anthropic")

    def test_gemini(self):
        self.check("gemini")

    def test_failure_has_the_same_members_and_the_error(self):
        self.serve("steps:\n  - answer: [ { call: { tool: list } }, { usage: { input: 7, output: 2 } } ]\n"
                   "  - answer: [ { error: { status: 400, type: invalid_request_error, message: \"bad thing\" } } ]\n", extra=self.PRICES)
        r = self.run_json("go", check=1)
        self.assertEqual(set(r), self.KEYS | {"error"})
        self.check_ids(r)
        self.assertEqual((r["status"], r["text"], r["steps"], len(r["effects"])), ("failed", "", 2, 1))
        self.assertEqual(set(r["error"]), {"code", "message"})
        self.assertEqual((r["usage"]["input_tokens"], r["cost_microusd"]), (7, 7 * 3 + 2 * 15))


if __name__ == "__main__":
    main()
