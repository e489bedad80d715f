#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Money: what a turn costs equals the hand sum to the micro-dollar, each cap stops before it is passed, also with many turns at
once, and what was spent stays spent when a session is deleted or the runtime is started again."""
import json
import os
import signal
import subprocess

from harness import BIN, Case, DEADLINE, main

PRICES = ("catalog:\n  models:\n    test/m: { input_usd_per_mtok: 3, output_usd_per_mtok: 15, cached_usd_per_mtok: 0.3,"
          " cache_write_usd_per_mtok: 3.75, context: 100000, max_output: 1000 }\n"
          "    test/dear: { input_usd_per_mtok: 300, output_usd_per_mtok: 1500, context: 100000, max_output: 1000 }\n")


def up(tokens, usd_per_mtok):
    """Micro-dollars, rounded up: the price per million tokens is the price per token in micro-dollars."""
    return -(-tokens * round(usd_per_mtok * 1000) // 1000)


class Money(Case):
    def go(self, script, *args, check=0, limits="", api="openai-chat", more=""):
        if not self.server:
            self.serve(script + "repeat: true\n", api, extra=PRICES + more + ("limits: { %s }\n" % limits if limits else ""))
        return self.run_json(*(args or ("go",)), check=check)

    def budget(self, *args):
        return json.loads(self.ithaca("budget", "show", "--json", *args, check=0).stdout)

    def scope(self, r, scope):
        return [b for b in r["budgets"] if b["scope"] == scope]

    # ---- the sum ----

    STEPS = ("by: sequence\nsteps:\n  - answer: [ { usage: { input: 1001, output: 77, cached: 333, written: 128, reasoning: 40 } },"
             " { call: { tool: list } } ]\n"
             "  - answer: [ { usage: { input: 2003, output: 31, cached: 1001, reasoning: 7 } }, { text: done } ]\n")

    def test_the_hand_sum_with_cache_and_reasoning(self):
        r = self.go(self.STEPS, api="anthropic")
        first = up(1001 - 333 - 128, 3) + up(333, 0.3) + up(128, 3.75) + up(77, 15)
        second = up(2003 - 1001, 3) + up(1001, 0.3) + up(31, 15)
        self.assertEqual(r["cost_microusd"], first + second)
        b = self.budget("--session", r["session"])
        self.assertEqual([c["cost_microusd"] for c in b["calls"]], [first, second])
        self.assertEqual([c["cache_write_tokens"] for c in b["calls"]], [128, 0])
        for scope in ("day", "agent", "session", "turn"):
            self.assertEqual([(x["spent_microusd"], x["reserved_microusd"], x["input_tokens"], x["cache_write_tokens"])
                              for x in self.scope(b, scope)], [(first + second, 0, 3004, 128)], scope)
        self.assertEqual(self.scope(b, "turn")[0]["status"], "answered")
        self.assertEqual(self.scope(b, "turn")[0]["cap_microusd"], 5000000)
        self.assertIn("test/m", self.ithaca("budget", "show", "--session", r["session"], check=0).stdout)

    def test_the_hand_sum_of_the_other_api(self):
        r = self.go(self.STEPS.replace(", written: 128", ""))
        self.assertEqual(r["cost_microusd"], up(1001 - 333, 3) + up(333, 0.3) + up(77, 15) +
                         up(2003 - 1001, 3) + up(1001, 0.3) + up(31, 15))
        self.assertEqual(r["usage"]["reasoning_tokens"], 47)

    # ---- each cap ----

    LOOP = ("usage: { input: 900, output: 100 }\nby: sequence\nsteps:\n" + "".join(
        "  - answer: [ { call: { tool: list, args: { max: %d } } } ]\n" % (i + 1) for i in range(20)))

    def test_a_turn_stops_before_its_cap(self):
        r = self.go(self.LOOP, check=4, limits="turn_cost_usd: 0.03")
        self.assertEqual(r["error"]["code"], "limit")
        self.assertIn("turn_cost_usd", r["error"]["message"])
        self.assertLessEqual(r["cost_microusd"], 30000)
        self.assertGreater(r["steps"], 1)
        self.assertEqual(r["cost_microusd"], len(self.server.requests()) * (up(900, 3) + up(100, 15)))

    def test_one_call_has_a_cap(self):
        r = self.go("steps:\n  - answer: [ { text: hi } ]\n", check=4, limits="call_cost_usd: 0.001")
        self.assertIn("call_cost_usd", r["error"]["message"])
        self.assertEqual(self.server.requests(), [])

    def test_a_call_near_its_cap_asks_for_less(self):
        self.go("steps:\n  - answer: [ { text: hi } ]\n", limits="call_cost_usd: 0.02")
        body = self.server.requests()[0]["body"]
        asked = body.get("max_tokens") or body.get("max_completion_tokens")
        self.assertLess(asked, 1000)
        self.assertGreaterEqual(asked, 256)

    ONE = "usage: { input: 2000, output: 200 }\nsteps:\n  - answer: [ { text: hi } ]\n"  # costs 9000

    def test_a_session_has_a_cap(self):
        first = self.go(self.ONE, limits="session_cost_usd: 0.03")
        self.assertEqual(first["cost_microusd"], 9000)
        cost, status = 9000, "answered"
        while status == "answered" and cost < 60000:
            p = self.ithaca("run", "--json", "--session", first["session"], "more")
            r = json.loads(p.stdout)
            status = r["status"]
            cost += r["cost_microusd"]
        self.assertEqual(status, "limit")
        self.assertIn("session_cost_usd", r["error"]["message"])
        self.assertLessEqual(cost, 30000)
        self.assertEqual(self.run_json("another session")["status"], "answered")

    def test_an_agent_has_a_cap_for_the_day(self):
        self.go(self.ONE, limits="agent_cost_usd: 0.03")
        status = "answered"
        for _ in range(8):
            r = json.loads(self.ithaca("run", "--json", "more").stdout)
            status = r["status"]
            if status != "answered":
                break
        self.assertEqual(status, "limit")
        self.assertIn("agent_cost_usd", r["error"]["message"])
        self.assertLessEqual(self.scope(self.budget(), "agent")[0]["spent_microusd"], 30000)

    def test_a_workspace_may_lower_a_cap_and_not_raise_it(self):
        self.write(".ithaca.yaml", "limits: { call_cost_usd: 0.001, day_cost_usd: 1000 }\n")
        r = self.go(self.ONE, check=4)
        self.assertIn("call_cost_usd", r["error"]["message"])
        self.assertIn("day_cost_usd", " ".join(e["body"]["text"] for e in self.events(r["session"]) if e["kind"] == "notice"))

    # ---- many at once ----

    def test_eight_sessions_at_once_stay_below_the_day(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "60000"
        slow = "usage: { input: 2000, output: 200 }\nsteps:\n  - { first_delay: 300, answer: [ { text: hi } ] }\n"
        self.serve(slow + "repeat: true\n", extra=PRICES + "limits: { day_cost_usd: 0.06 }\n")
        self.ithaca("doctor")  # the runner is there
        procs = [subprocess.Popen([os.path.join(BIN, "ithaca"), "run", "--json", "go %d" % i], cwd=self.work, env=self.env,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                 for i in range(8)]
        results = [json.loads(p.communicate(timeout=DEADLINE)[0]) for p in procs]
        spent = sum(r["cost_microusd"] for r in results)
        self.assertLessEqual(spent, 60000)
        statuses = [r["status"] for r in results]
        self.assertIn("answered", statuses)
        self.assertIn("limit", statuses)
        for r in results:
            if r["status"] == "limit":
                self.assertIn("day_cost_usd", r["error"]["message"])
        day = self.scope(self.budget(), "day")[0]
        self.assertEqual((day["spent_microusd"], day["reserved_microusd"], day["cap_microusd"]), (spent, 0, 60000))

    def test_what_a_call_may_cost_is_reserved_while_it_runs(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "60000"
        self.serve("steps:\n  - { answer: [ { text: \"so far \" }, { delay: 60000 } ] }\n", extra=PRICES)
        s = self.stream("go")
        s.until("model.partial")
        b = self.rpc().call("budget.get", session=s.events[-1]["session"])
        for scope in ("day", "agent", "session", "turn"):
            self.assertGreaterEqual(self.scope(b, scope)[0]["reserved_microusd"], 15000, scope)
            self.assertEqual(self.scope(b, scope)[0]["spent_microusd"], 0)
        self.assertEqual(self.scope(b, "turn")[0]["status"], "running")
        self.rpc().call("turn.cancel", turn=s.events[-1]["turn"])
        s.end()
        self.assertEqual(self.scope(self.rpc().call("budget.get"), "day")[0]["reserved_microusd"], 0)

    # ---- what was spent stays spent ----

    def test_deleting_a_session_gives_no_money_back(self):
        r = self.go(self.ONE)
        self.ithaca("session", "delete", r["session"], check=0)
        self.assertEqual(self.scope(self.budget(), "day")[0]["spent_microusd"], 9000)
        self.stop()
        self.assertEqual(self.scope(self.budget(), "day")[0]["spent_microusd"], 9000)

    def test_a_restart_knows_the_session_and_the_day(self):
        first = self.go(self.ONE, limits="session_cost_usd: 0.03, day_cost_usd: 0.045")
        self.stop()
        b = self.budget("--session", first["session"])
        self.assertEqual([x["spent_microusd"] for x in self.scope(b, "session") + self.scope(b, "day")], [9000, 9000])
        self.assertEqual(self.run_json("--session", first["session"], "more")["cost_microusd"], 9000)
        self.stop()
        r = self.run_json("--session", first["session"], "more", check=4)
        self.assertIn("session_cost_usd", r["error"]["message"])

    # ---- what nobody counted ----

    CUT = "steps:\n  - { answer: [ { text: \"half of an answer that goes on\", chunk: 8 }, { cut: close } ] }\n"

    def test_cut_streams_are_paid_for_by_estimate(self):
        r = self.go(self.CUT, check=1, more="", limits="turn_cost_usd: 5")
        retries = [e["body"] for e in self.events(r["session"]) if e["kind"] == "model.retry"]
        asked = len(self.server.requests())
        self.assertEqual(len(retries), asked - 1)
        each = retries[0]["cost_microusd"]
        self.assertGreater(each, 1000)
        self.assertEqual([b["estimated_microusd"] for b in retries], [each] * len(retries))
        self.assertEqual(r["cost_microusd"], asked * each)
        for _ in range(2):
            b = self.budget("--session", r["session"])
            for scope in ("day", "agent", "session", "turn"):
                self.assertEqual([(x["spent_microusd"], x["estimated_microusd"], x["input_tokens"]) for x in self.scope(b, scope)],
                                 [(asked * each, asked * each, 0)], scope)
            self.assertEqual([c["estimated_microusd"] for c in b["calls"]], [each] * asked)
            self.stop()
        self.assertIn("ESTIMATED", self.ithaca("budget", "show", check=0).stdout)

    def test_cut_streams_do_not_pass_a_cap(self):
        r = self.go(self.CUT, check=4, limits="turn_cost_usd: 0.03")
        self.assertIn("turn_cost_usd", r["error"]["message"])
        self.assertGreater(r["cost_microusd"], 0)
        self.assertLessEqual(r["cost_microusd"], 30000)

    def test_a_refusal_inside_a_stream_costs_nothing(self):
        r = self.go("steps:\n  - { answer: [ { ping: true }, { error: { type: server_error, message: no } } ] }\n", check=1)
        self.assertEqual(r["cost_microusd"], 0)

    def test_a_server_that_counts_nothing(self):
        r = self.go("usage: { input: 0, output: 0 }\nsteps:\n  - answer: [ { text: hi } ]\n")
        self.assertGreater(r["cost_microusd"], 1000)
        self.assertEqual(self.scope(self.budget(), "day")[0]["estimated_microusd"], r["cost_microusd"])

    def test_what_was_cancelled_is_paid_for(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "60000"
        self.serve("steps:\n  - { answer: [ { text: \"so far \" }, { delay: 60000 } ] }\n", extra=PRICES)
        s = self.stream("go")
        s.until("model.partial")
        self.rpc().call("turn.cancel", turn=s.events[-1]["turn"])
        s.end()
        done = s.events[-1]["body"]
        self.assertEqual(s.events[-1]["kind"], "turn.finished")
        self.assertGreater(done["cost_microusd"], 1000)
        self.assertEqual(done["estimated_microusd"], done["cost_microusd"])
        day = self.scope(self.rpc().call("budget.get"), "day")[0]
        self.assertEqual((day["spent_microusd"], day["reserved_microusd"]), (done["cost_microusd"], 0))

    def test_what_was_deleted_while_it_ran_is_paid_for(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "60000"
        self.serve("steps:\n  - { answer: [ { text: \"so far \" }, { delay: 60000 } ] }\n", extra=PRICES)
        s = self.stream("go")
        s.until("model.partial")
        self.rpc().call("session.delete", session=s.events[-1]["session"])
        s.end()
        day = self.scope(self.rpc().call("budget.get"), "day")[0]
        self.assertGreater(day["spent_microusd"], 1000)
        self.assertEqual((day["spent_microusd"], day["reserved_microusd"]), (day["estimated_microusd"], 0))

    def test_what_a_crash_ended_is_paid_for_once(self):
        self.serve("repeat: true\nusage: { input: 2000, output: 200 }\n"
                   "rules: [ { times: 2, answer: [ { text: \"so far \" }, { delay: 60000 } ] } ]\n"
                   "steps: [ { answer: [ { text: done } ] } ]\n", extra=PRICES)
        s = self.stream("go")
        for attempt in (1, 2):
            s.until("model.partial", attempt=attempt)
            os.kill(self.pids()["runtime"], signal.SIGKILL)
        done = s.until("turn.finished")["body"]
        s.end()
        retries = [e["body"] for e in self.events(s.events[0]["session"]) if e["kind"] == "model.retry"]
        self.assertEqual([b["why"] for b in retries], ["crash", "crash"])
        self.assertEqual(done["cost_microusd"], 9000 + sum(b["cost_microusd"] for b in retries))
        self.assertEqual(done["estimated_microusd"], done["cost_microusd"] - 9000)

    # ---- text that is more tokens than bytes / 3 ----

    def test_the_reserve_learns_how_dense_the_text_is(self):
        """Each call is said to be many more tokens than is assumed before the first answer."""
        self.serve(self.LOOP.replace("input: 900", "input: 6000") + "repeat: true\n",
                   extra=PRICES + "    test/thin: { input_usd_per_mtok: 0.1, output_usd_per_mtok: 0.1, max_output: 256 }\n"
                   "limits: { turn_cost_usd: 0.0097 }\n")
        r = self.run_json("--model", "test/thin", "go", check=4)
        cost = up(6000, 0.1) + up(100, 0.1)
        self.assertEqual(r["cost_microusd"], len(self.server.requests()) * cost)
        self.assertLessEqual(r["cost_microusd"], 9700)
        self.assertGreater(r["cost_microusd"], 9700 - 2 * cost)
        done = [e["body"] for e in self.events(r["session"]) if e["kind"] == "model.done"]
        self.assertGreater(done[0]["usage"]["input_tokens"] * 3, done[0]["input_bytes"])
        self.stop()  # the log knows it
        r = self.run_json("--session", r["session"], "--model", "test/thin", "go", check=4)
        self.assertLessEqual(r["cost_microusd"], 9700)

    def test_the_first_call_may_pass_it_by_its_difference(self):
        self.serve("usage: { input: 9000, output: 100 }\nrepeat: true\nsteps:\n  - answer: [ { call: { tool: list } } ]\n",
                   extra=PRICES + "    test/thin: { input_usd_per_mtok: 1, output_usd_per_mtok: 1, max_output: 256 }\n"
                   "limits: { turn_cost_usd: 0.006 }\n")
        r = self.run_json("--model", "test/thin", "go", check=4)
        self.assertEqual(len(self.server.requests()), 1)
        self.assertEqual(r["cost_microusd"], 9100)

    # ---- a dearer model ----

    def test_a_dearer_fallback_is_reserved_anew(self):
        r = self.go("rules:\n  - { when: { model: m }, answer: [ { error: { status: 401, type: authentication_error, message: no } } ] }\n"
                    "  - { answer: [ { text: dear } ] }\n", check=4, limits="turn_cost_usd: 0.1",
                    more="models: { fallback: [test/dear] }\n")
        self.assertIn("turn_cost_usd", r["error"]["message"])
        self.assertEqual([q["body"]["model"] for q in self.server.requests()], ["m"])
        self.assertEqual(r["cost_microusd"], 0)


if __name__ == "__main__":
    main()
