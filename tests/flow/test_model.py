#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The network APIs through every role: what streams can do, what servers say, what it costs, and where limits stop. What
streams and servers do is asserted for each of the four APIs; what follows from the usage alone, for two."""
import concurrent.futures
import json
import os
import socket
import subprocess
import sys
import time
import unittest

from harness import BIN, Case, main

PRICES = ("catalog:\n  models:\n    test/m: { input_usd_per_mtok: 3, output_usd_per_mtok: 15, cached_usd_per_mtok: 0.3,"
          " cache_write_usd_per_mtok: 3.75, context: 100000, max_output: 1000 }\n")


class Each:
    """Mixed into a Case by a class for each API, at the end."""

    api = None

    def go(self, script, check=0, extra="", more="", args=("go",), env=None):
        self.serve(script + "repeat: true\n", self.api, extra="    retries: 2\n" + extra + more)
        return self.run_json(*args, check=check, env=env)

    def kinds(self, r):
        return [e["kind"] for e in self.events(r["session"])]

    def results(self, r):
        return [e["body"] for e in self.events(r["session"]) if e["kind"] == "effect.outcome"]


class Streams(Each):
    def test_reasoning_is_kept_apart_from_the_answer(self):
        r = self.go("by: sequence\nusage: { input: 10, output: 7, reasoning: 4 }\nsteps:\n"
                    "  - answer: [ { reasoning: \"I think, therefore\" }, { call: { tool: list } } ]\n"
                    "  - answer: [ { reasoning: \"now I know\" }, { text: \"It is so.\" } ]\n")
        self.assertEqual(r["text"], "It is so.")
        done = [e["body"] for e in self.events(r["session"]) if e["kind"] == "model.done"]
        self.assertIn("I think, therefore", [b["text"] for b in done[0]["blocks"] if b["type"] == "reasoning"])
        if self.api != "anthropic":
            self.assertEqual(r["usage"]["reasoning_tokens"], 8)

    def test_several_calls_at_once_in_order(self):
        r = self.go("by: sequence\nsteps:\n  - answer:\n" + "".join(
            "      - { call: { tool: stat, args: { path: f%d }, pieces: 2 } }\n" % i for i in range(5)) +
            "  - answer: [ { text: done } ]\n")
        body = json.dumps(self.server.requests()[1]["body"])
        places = [body.index("f%d: " % i) for i in range(5) if "f%d: " % i in body]
        self.assertEqual(len(r["effects"]), 5)
        results = self.results_sent()
        self.assertEqual(len(results), 5)
        for i, text in enumerate(results):
            self.assertIn("f%d" % i, text)
        self.assertEqual(places, sorted(places))

    def results_sent(self):
        """Texts of the tool results in the last request, in order."""
        body = self.server.requests()[-1]["body"]
        if self.api == "openai-chat":
            return [m["content"] for m in body["messages"] if m["role"] == "tool"]
        if self.api == "openai-responses":
            return [i["output"] for i in body["input"] if i["type"] == "function_call_output"]
        if self.api == "gemini":
            return [json.dumps(p["functionResponse"]["response"]) for c in body["contents"] for p in c["parts"] if "functionResponse" in p]
        return [c["content"] if isinstance(c["content"], str) else c["content"][0]["text"] for m in body["messages"]
                if isinstance(m["content"], list) for c in m["content"] if c["type"] == "tool_result"]

    def test_arguments_in_five_pieces_run_once(self):
        r = self.go("by: sequence\nsteps:\n  - { write: 3, answer: [ { call: { tool: exec, args: { command: \"echo ü >> log\" },"
                    " pieces: 5 } } ] }\n  - answer: [ { text: done } ]\n")
        self.assertEqual(self.read("log"), "ü\n")
        self.assertEqual([e["status"] for e in r["effects"]], ["done"])

    def test_characters_split_over_writes_and_crlf(self):
        text = "Grüße, 世界 🎉 — ✓"
        r = self.go("steps:\n  - { write: 1, eol: crlf, answer: [ { text: \"%s\", chunk: 1 } ] }\n" % text)
        self.assertEqual(r["text"], text)

    def test_cr_alone_ends_lines_too(self):
        self.assertEqual(self.go("steps:\n  - { eol: cr, answer: [ { text: \"a b\" } ] }\n")["text"], "a b")

    def test_comments_and_pings(self):
        r = self.go("steps:\n  - answer: [ { ping: true }, { text: a }, { ping: true }, { raw: \": hello\\n\\n\" }, { text: b },"
                    " { ping: true } ]\n")
        self.assertEqual(r["text"], "ab")

    def test_huge_event(self):
        r = self.go("steps:\n  - answer: [ { huge: 1000000 }, { text: end } ]\n")
        self.assertEqual(len(r["text"]), 1000003)

    def test_answer_above_the_limit(self):
        r = self.go("steps:\n  - answer: [ { huge: 3000000 } ]\n", check=1)
        self.assertEqual(r["error"]["code"], "limit")
        self.assertEqual(len(self.server.requests()), 1)

    def bad_then_good(self, *bad):
        r = self.go("by: sequence\nsteps:\n  - answer: [ { text: \"half of\" }, %s ]\n  - answer: [ { text: whole } ]\n" %
                    ", ".join(bad))
        self.assertEqual(r["text"], "whole")
        self.assertEqual(len(self.server.requests()), 2)
        kinds = self.kinds(r)
        self.assertEqual(kinds.count("model.retry"), 1)
        self.assertEqual(kinds.count("model.done"), 1)
        return r

    def test_malformed_json(self):
        self.bad_then_good("{ raw: \"data: {\\\"a\\\": \\n\\n\" }")

    def test_invalid_utf8(self):
        self.bad_then_good("{ bad_utf8: true }")

    def test_error_event_in_the_stream(self):
        self.bad_then_good("{ error: { type: overloaded_error, message: busy } }")

    def test_cut_after_an_event(self):
        self.bad_then_good("{ cut: close }")

    def test_cut_inside_an_event(self):
        self.bad_then_good("{ cut: mid }")

    def test_reset(self):
        self.bad_then_good("{ cut: reset }")

    def test_end_without_the_end_mark(self):
        self.bad_then_good("{ cut: end }")

    def test_cut_inside_a_call_runs_nothing(self):
        r = self.go("by: sequence\nsteps:\n"
                    "  - answer: [ { call: { tool: exec, args: { command: \"echo x >> log\" }, pieces: 4 } }, { cut: mid } ]\n"
                    "  - answer: [ { call: { tool: exec, args: { command: \"echo x >> log\" }, pieces: 4 } } ]\n"
                    "  - answer: [ { text: done } ]\n")
        self.assertEqual(self.read("log"), "x\n")
        self.assertEqual(len(r["effects"]), 1)

    def test_no_text_twice_in_a_stream(self):
        self.serve("by: sequence\nsteps:\n  - answer: [ { text: \"half of an answer\", chunk: 3 }, { cut: close } ]\n"
                   "  - answer: [ { text: \"the whole answer\", chunk: 3 } ]\n", self.api)
        s = self.stream("go")
        self.assertEqual(s.end(), 0)
        self.assertEqual(s.live_text(), "the whole answer")
        self.assertEqual(s.events[-1]["body"]["text"], "the whole answer")

    def test_not_an_event_stream(self):
        r = self.go("steps:\n  - answer: [ { respond: { status: 200, type: text/html, body: \"<html>login</html>\" } } ]\n",
                    check=1)
        self.assertIn("test", r["error"]["message"])

    def test_redirect_is_not_followed(self):
        r = self.go("steps:\n  - answer: [ { respond: { status: 302, headers: { location: \"http://127.0.0.1:9/\" }, body: \"\" } } ]\n",
                    check=1)
        self.assertIn("302", r["error"]["message"])
        self.assertEqual(len(self.server.requests()), 1)

    def test_a_truncated_answer_is_said(self):
        r = self.go("steps:\n  - answer: [ { text: cut }, { finish: length } ]\n")
        notes = [e["body"]["code"] for e in self.events(r["session"]) if e["kind"] == "notice"]
        self.assertEqual(notes, ["answer_cut"])

    def test_empty_answer_fails(self):
        r = self.go("steps:\n  - answer: [ { finish: end } ]\n", check=1)
        self.assertIn("empty", r["error"]["message"])

    def test_live_text_comes_while_it_streams(self):
        self.serve("steps:\n  - answer: [ { text: early }, { delay: 2500 }, { text: late } ]\n", self.api)
        s = self.stream("go")
        self.shown(s, "early")
        at = time.monotonic()
        self.assertEqual(s.end(), 0)
        self.assertGreater(time.monotonic() - at, 0.5, "the text came only at the end")

    def shown(self, s, text):
        """Waits until a reader of the stream has this text: live, or as a partial when it subscribed a little late."""
        while True:
            e = s.next()
            if e["kind"] in ("model.delta", "model.partial") and e["body"]["text"] == text:
                return
            self.assertNotEqual(e["kind"], "model.done")

    def test_cancel_closes_the_stream(self):
        self.serve("steps:\n  - answer: [ { text: \"a\" }, { delay: 30000 }, { text: b } ]\n", self.api)
        s = self.stream("go")
        self.shown(s, "a")
        s.proc.send_signal(2)
        self.assertEqual(s.end(), 5)
        self.assertIn("a", json.dumps([e["body"] for e in s.events if e["kind"] == "model.partial"]))
        gone = []
        end = time.monotonic() + 10
        while not gone and time.monotonic() < end:
            with open(self.server.log) as f:
                gone = [x for x in f if "gone" in json.loads(x)]
            time.sleep(0.02)
        self.assertEqual(len(gone), 1, "the server was not hung up on")


class Errors(Each):
    def fails(self, error, code, requests, says=(), check=1):
        r = self.go("steps:\n  - answer: [ { error: { %s } } ]\n" % error, check=check)
        self.assertEqual(r["status"], "failed")
        self.assertEqual(r["error"]["code"], code)
        self.assertIn("test", r["error"]["message"])
        for s in says:
            self.assertIn(s, r["error"]["message"])
        self.assertEqual(len(self.server.requests()), requests)

    def test_400(self):
        self.fails("status: 400, type: invalid_request_error, message: \"bad thing\"", "provider", 1, ("400", "bad thing"))

    def test_401(self):
        self.fails("status: 401, type: authentication_error, message: \"no such key\"", "auth", 1,
                   ("401", "no such key", "docs/secrets.md"), check=2)

    def test_403(self):
        self.fails("status: 403, type: permission_error, message: forbidden", "auth", 1, ("403",), check=2)

    def test_404(self):
        self.fails("status: 404, type: not_found_error, message: \"no model m\"", "provider", 1, ("404", "no model m"))

    def test_500_until_retries_are_exhausted(self):
        self.fails("status: 500, type: api_error, message: oops, retry_after_ms: \"10\"", "provider", 3, ("500", "oops"))

    def test_529_passes(self):
        r = self.go("by: sequence\nsteps:\n  - answer: [ { error: { status: 529, type: overloaded_error, message: full } } ]\n"
                    "  - answer: [ { text: ok } ]\n")
        self.assertEqual(r["text"], "ok")
        self.assertEqual(len(self.server.requests()), 2)

    def waits(self, header, least_us):
        self.go("by: sequence\nsteps:\n  - answer: [ { error: { status: 429, type: rate_limit_error, message: slow, %s } } ]\n"
                "  - answer: [ { text: ok } ]\n" % header)
        a, b = self.server.requests()
        self.assertGreaterEqual(b["t_us"] - a["t_us"], least_us)

    def test_429_waits_for_retry_after(self):
        self.waits("retry_after: \"1\"", 1000000)

    def test_429_waits_for_retry_after_ms(self):
        self.waits("retry_after_ms: \"1100\"", 1100000)

    def test_spent_quota_is_not_tried_again(self):
        self.fails("status: 429, type: insufficient_quota, code: insufficient_quota, message: \"You exceeded your current quota: RequestsPerDay\"",
                   "provider", 1, ("429",))

    def test_server_may_forbid_a_retry(self):
        self.fails("status: 500, type: api_error, message: oops, should_retry: false", "provider", 1)

    def test_words_of_a_server_cannot_write_to_the_terminal(self):
        self.serve("steps:\n  - answer: [ { error: { status: 400, type: x, message: \"\\e[31mred\\e]0;title\\a\" } } ]\n", self.api)
        p = self.ithaca("run", "go", check=1)
        self.assertNotIn("\x1b", p.stderr + p.stdout)

    def test_silence_ends_the_attempt(self):
        r = self.go("steps:\n  - answer: [ { text: a }, { delay: 20000 }, { text: b } ]\n", check=1,
                    extra="    idle_ms: 300\n")
        self.assertEqual(len(self.server.requests()), 3)
        self.assertIn("300 ms", r["error"]["message"])

    def test_slow_trickle_is_no_silence(self):
        r = self.go("steps:\n  - answer: [ { text: \"abcdefghij\", chunk: 1, delay: 100 } ]\n", extra="    idle_ms: 400\n")
        self.assertEqual(r["text"], "abcdefghij")
        self.assertEqual(len(self.server.requests()), 1)


class Unreachable(Case):
    def go(self, url, extra="", code="network"):
        self.config("model: test/m\nproviders:\n  test: { api: openai-chat, base_url: \"%s\", retries: 1%s }\n" % (url, extra))
        r = self.run_json("go", check=1)
        self.assertEqual(r["error"]["code"], code)
        self.assertEqual([e["kind"] for e in self.events(r["session"])].count("model.retry"), 1)
        return r["error"]["message"]

    def test_refused(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.assertIn("127.0.0.1:%d" % port, self.go("http://127.0.0.1:%d/v1" % port))

    def test_no_such_name(self):
        self.assertIn("nowhere.invalid", self.go("http://nowhere.invalid/v1"))

    def test_nobody_accepts(self):
        """A listening socket with a full queue: the connection is never made."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen(0)
            fill = [socket.socket() for _ in range(4)]
            for x in fill:
                x.setblocking(False)
                try:
                    x.connect(s.getsockname())
                except BlockingIOError:
                    pass
            said = self.go("http://127.0.0.1:%d/v1" % s.getsockname()[1], ", connect_ms: 300, idle_ms: 300", "timeout")
            for x in fill:
                x.close()
            self.assertIn("connect_ms", said)

    def test_not_http(self):
        import threading
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen(8)

            def talk():
                for _ in range(2):
                    c, _ = s.accept()
                    with c:
                        c.recv(1000)
                        c.sendall(b"SSH-2.0-OpenSSH\r\n")
            t = threading.Thread(target=talk)
            t.start()
            self.config("model: test/m\nproviders:\n  test: { api: openai-chat, base_url: \"http://127.0.0.1:%d/v1\", retries: 1 }\n"
                        % s.getsockname()[1])
            r = self.run_json("go", check=1)
            t.join(10)
            self.assertIn(r["error"]["code"], ("protocol", "network"))


class Money(Each):
    USAGE = "usage: { input: 1000, output: 200, cached: 600, written: 100, reasoning: 50 }\n"

    def steps(self, n):
        return self.USAGE + "by: sequence\nsteps:\n" + "".join(
            "  - answer: [ { call: { tool: stat, args: { path: p%d } } } ]\n" % i for i in range(n - 1)) + \
            "  - answer: [ { text: done } ]\n"

    def one(self):
        """Micro-dollars of one call, by hand: the tokens that are neither cached nor written, and so on."""
        return 300 * 3 + 180 + 375 + 200 * 15

    def test_cost_is_the_sum_of_the_calls(self):
        r = self.go(self.steps(20), more=PRICES)
        self.assertEqual(r["cost_microusd"], 20 * self.one())
        self.assertEqual((r["usage"]["input_tokens"], r["usage"]["output_tokens"], r["usage"]["cached_tokens"]),
                         (20000, 4000, 12000))
        self.assertEqual(r["steps"], 20)
        turns = json.loads(self.ithaca("session", "show", r["session"], "--json", check=0).stdout)["turns"]
        self.assertEqual(turns[0]["cost_microusd"], 20 * self.one())

    def test_without_a_row_the_price_is_0(self):
        self.assertEqual(self.go(self.steps(2))["cost_microusd"], 0)

    def test_turn_cost_stops_before_it_is_spent(self):
        r = self.go(self.steps(50), check=4, more=PRICES + "limits: { turn_cost_usd: 0.06 }\n")
        self.assertIn("turn_cost_usd", r["error"]["message"])
        self.assertLessEqual(r["cost_microusd"], 60000)
        self.assertGreater(r["cost_microusd"], 0)
        self.assertEqual(len(self.server.requests()) * self.one(), r["cost_microusd"])

    def test_turn_cost_of_nothing_sends_nothing(self):
        r = self.go(self.steps(2), check=4, more=PRICES + "limits: { turn_cost_usd: 0 }\n")
        self.assertEqual(self.server.requests(), [])
        self.assertEqual(r["cost_microusd"], 0)

    def test_day_cost_counts_earlier_turns(self):
        r = self.go(self.steps(1), more=PRICES + "limits: { day_cost_usd: 0.05 }\n")
        total = r["cost_microusd"]
        for _ in range(20):
            r = json.loads(self.ithaca("run", "--json", "again").stdout)
            total += r["cost_microusd"]
            if r["status"] == "limit":
                break
        self.assertEqual(r["status"], "limit")
        self.assertIn("day_cost_usd", r["error"]["message"])
        self.assertLessEqual(total, 50000)
        self.assertEqual(len(self.server.requests()) * self.one(), total)

    def test_answer_is_made_smaller_when_money_is_short(self):
        self.go(self.steps(1), more=PRICES + "limits: { turn_cost_usd: 0.02 }\n")
        body = self.server.requests()[0]["body"]
        self.assertLess(body["max_tokens"], 1000)
        self.assertGreaterEqual(body["max_tokens"], 256)

    def test_model_of_unknown_output_size_fits_a_small_limit(self):
        prices = "catalog: { models: { test/m: { input_usd_per_mtok: 3, output_usd_per_mtok: 15, context: 200000 } } }\n"
        r = self.go(self.steps(1), more=prices + "limits: { turn_cost_usd: 0.5 }\n")
        self.assertEqual(r["text"], "done")
        self.assertLess(self.server.requests()[0]["body"]["max_tokens"] * 15, 500000)

    def test_tokens(self):
        r = self.go(self.steps(50), check=4, more="limits: { turn_tokens: 5000 }\n")
        self.assertIn("turn_tokens", r["error"]["message"])
        self.assertEqual(len(self.server.requests()), 5)  # 1,200 each: 4,800 is below, 6,000 is not

    def test_time(self):
        at = time.monotonic()
        r = self.go("steps:\n  - answer: [ { text: a }, { delay: 20000 }, { text: b } ]\n", check=4,
                    more="limits: { turn_ms: 700 }\n")
        self.assertLess(time.monotonic() - at, 10)
        self.assertIn("turn_ms", r["error"]["message"])

    def test_time_ends_a_command(self):
        r = self.go("by: sequence\nsteps:\n  - answer: [ { call: { tool: exec, args: { command: \"sleep 300; touch late\" } } } ]\n"
                    "  - answer: [ { text: x } ]\n", check=4, more="limits: { turn_ms: 1200 }\n")
        self.assertEqual(r["status"], "limit")
        self.assertLess(r["duration_ms"], 10000)

    def test_steps(self):
        r = self.go(self.steps(50), check=4, more="limits: { turn_steps: 3 }\n")
        self.assertEqual(len(self.server.requests()), 3)
        self.assertEqual(r["steps"], 3)

    def test_loop_guard(self):
        r = self.go("steps:\n  - answer: [ { call: { tool: stat, args: { path: same } } } ]\n", check=4)
        self.assertEqual(r["error"]["code"], "loop_guard")
        self.assertLess(len(self.server.requests()), 8)

    def test_loop_guard_on_a_command(self):
        r = self.go("steps:\n  - answer: [ { call: { tool: exec, args: { command: \"sleep 0.0$((RANDOM % 9)); echo x; false\" } } } ]\n",
                    check=4, more="limits: { turn_steps: 20 }\n")
        self.assertEqual(r["error"]["code"], "loop_guard")
        self.assertEqual(r["steps"], 5)


APIS = ("openai-chat", "anthropic", "openai-responses", "gemini")
WORKERS = 2


def everything():
    """All tests, each API in a process of its own, WORKERS at a time: most of the time is waiting. The second run, as
    another user, leaves it at two APIs: what differs between the users is not the form of a stream."""
    names = {api: [n for n, c in globals().items() if getattr(c, "api", None) == api and issubclass(c, Case)]
             for api in (APIS[:2] if "ITHACA_TEST_BIN" in os.environ else APIS)}
    names["openai-chat"].append("Unreachable")
    waiting = [[sys.executable, __file__, BIN, *classes] for classes in names.values()]
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        done = list(pool.map(lambda argv: subprocess.run(argv, capture_output=True, text=True), waiting))
    for p in done:
        print(p.stdout + p.stderr)
    sys.exit(max(p.returncode for p in done))


def add(group, *apis):
    for api in apis:
        name = group.__name__ + "".join(w.capitalize() for w in api.split("-"))
        globals()[name] = type(name, (group, Case), {"api": api, "__module__": __name__})


for group in (Streams, Errors):
    add(group, *APIS)
add(Money, *APIS[:2])

if __name__ == "__main__":
    main() if len(sys.argv) > 2 else everything()
