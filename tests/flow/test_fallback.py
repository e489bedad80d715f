#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What happens when a model fails for good: the next one of models.fallback goes on with the session, nothing is shown twice, a
kill goes on with the same one, and a server that keeps failing is left alone for a while."""
import os
import signal

from harness import Case, ModelServer, main, wait_ends

UNAVAILABLE = '{ error: { status: 503, type: overloaded_error, message: down, retry_after_ms: "1" } }'


class Fallback(Case):
    def chain(self, script, retries=2, apis=("openai-chat", "openai-chat"), extra=""):
        """Two providers on one scripted server: first/m, then second/n."""
        self.server = ModelServer(self.dir, script)
        rows = ""
        for name, api in zip(("first", "second"), apis):
            base = "http://127.0.0.1:%d" % self.server.port + ("/v1" if api == "openai-chat" else "")
            rows += "  %s: { api: %s, base_url: \"%s\", retries: %d }\n" % (name, api, base, retries)
        self.config("model: first/m\nmodels: { fallback: [second/n] }\nproviders:\n" + rows + extra)

    def models_asked(self):
        return [r["body"]["model"] for r in self.server.requests()]

    def kinds(self, r, kind):
        return [e["body"] for e in self.events(r["session"]) if e["kind"] == kind]

    def test_no_key_for_the_first(self):
        self.chain("rules:\n  - { when: { model: m }, answer: [ { error: { status: 401, type: authentication_error, message: no } } ] }\n"
                   "  - { answer: [ { text: from the second } ] }\n")
        r = self.run_json("go")
        self.assertEqual((r["text"], r["model"], r["status"]), ("from the second", "second/n", "answered"))
        self.assertEqual(self.models_asked(), ["m", "n"])
        retry = self.kinds(r, "model.retry")
        self.assertEqual([(b["model"], b["why"], b["next"]) for b in retry], [("first/m", "auth", "second/n")])
        self.assertEqual([b["model"] for b in self.kinds(r, "model.started")], ["first/m", "second/n"])
        done = self.kinds(r, "model.done")
        self.assertEqual([(b["provider"], b["model"]) for b in done], [("second", "second/n")])

    def test_retries_first_then_the_next(self):
        self.chain("rules:\n  - { when: { model: m }, answer: [ %s ] }\n  - { answer: [ { text: fine } ] }\n" % UNAVAILABLE)
        r = self.run_json("go")
        self.assertEqual(self.models_asked(), ["m", "m", "m", "n"])
        self.assertEqual([b.get("next") for b in self.kinds(r, "model.retry")], [None, None, "second/n"])

    def test_half_an_answer_is_taken_back(self):
        self.chain("rules:\n  - { when: { model: m }, answer: [ { text: \"half of an answer\", chunk: 4 }, { cut: close } ] }\n"
                   "  - { answer: [ { text: \"the whole answer\", chunk: 4 } ] }\n", retries=0)
        s = self.stream("go")
        self.assertEqual(s.end(), 0)
        self.assertEqual(s.live_text(), "the whole answer")
        self.assertIn("model.reset", s.kinds())

    def test_the_session_goes_along(self):
        self.write("a.txt", "the content of a\n")
        self.chain("rules:\n"
                   "  - { when: { model: m, results: 0 }, answer: [ { call: { tool: read, args: { path: a.txt } } } ] }\n"
                   "  - { when: { model: m }, answer: [ { error: { status: 429, type: insufficient_quota, message: gone } } ] }\n"
                   "  - { when: { model: n, turn_results: 1 }, answer: [ { call: { tool: list } } ] }\n"
                   "  - { answer: [ { text: \"it says {{result}}\" } ] }\n")
        r = self.run_json("go")
        self.assertEqual(self.models_asked(), ["m", "m", "n", "n"])  # it stays with the one that works
        self.assertEqual([e["tool"] for e in r["effects"]], ["read", "list"])
        sent = self.server.requests()[2]["body"]["messages"]
        self.assertIn("the content of a", [m for m in sent if m["role"] == "tool"][0]["content"])
        self.assertEqual([b["model"] for b in self.kinds(r, "model.started")],
                         ["first/m", "first/m", "second/n", "second/n"])

    def test_reasoning_of_another_provider_stays_behind(self):
        self.write("a.txt", "x\n")
        self.chain("rules:\n"
                   "  - when: { model: m, results: 0 }\n"
                   "    answer: [ { reasoning: \"secret thoughts\" }, { call: { tool: read, args: { path: a.txt } } } ]\n"
                   "  - { when: { model: m }, answer: [ { error: { status: 401, type: authentication_error, message: no } } ] }\n"
                   "  - { answer: [ { text: done } ] }\n", apis=("anthropic", "openai-chat"))
        r = self.run_json("go")
        self.assertEqual(r["model"], "second/n")
        self.assertNotIn("secret thoughts", str(self.server.requests()[-1]["body"]))
        first = self.kinds(r, "model.done")[0]
        self.assertEqual(first["provider"], "first")

    def test_when_all_fail_the_last_one_says_why(self):
        self.chain("rules:\n  - { when: { model: m }, answer: [ { error: { status: 401, type: authentication_error, message: one } } ] }\n"
                   "  - { answer: [ { error: { status: 403, type: permission_error, message: two } } ] }\n")
        r = self.run_json("go", check=2)
        self.assertEqual((r["status"], r["model"]), ("failed", "second/n"))
        self.assertIn("second", r["error"]["message"])
        self.assertEqual(len(self.kinds(r, "model.done")), 1)

    def test_a_fallback_that_is_no_model_is_passed_over(self):
        self.chain("rules:\n  - { when: { model: m }, answer: [ { error: { status: 401, type: authentication_error, message: one } } ] }\n"
                   "  - { answer: [ { text: fine } ] }\n")
        with open(os.path.join(self.home, "config.yaml")) as f:
            text = f.read()
        self.config(text.replace("[second/n]", "[nowhere/x, second/n]"))
        r = self.run_json("go")
        self.assertEqual(r["model"], "second/n")
        self.assertEqual([b["why"] for b in self.kinds(r, "model.retry")], ["auth", "config"])
        self.assertIn("nowhere", self.ithaca("doctor").stdout)

    def test_a_kill_goes_on_with_the_same_one(self):
        self.chain("rules:\n  - { when: { model: m }, answer: [ { error: { status: 401, type: authentication_error, message: no } } ] }\n"
                   "  - { when: { model: n }, times: 1, answer: [ { text: \"so far \" }, { delay: 60000 }, { text: never } ] }\n"
                   "  - { answer: [ { text: the end } ] }\n")
        s = self.stream("go")
        s.until("model.partial")
        session = s.events[-1]["session"]
        pid = self.pids()["runtime"]
        os.kill(pid, signal.SIGKILL)
        wait_ends([pid], 20)
        self.assertEqual(s.end(), 0)
        finished = [e["body"] for e in self.events(session) if e["kind"] == "turn.finished"]
        self.assertEqual([(b["text"], b["model"]) for b in finished], [("the end", "second/n")])
        self.assertEqual(self.models_asked(), ["m", "n", "n"])

    # ---- the breaker ----

    def test_a_server_that_keeps_failing_is_left_alone(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "60000"
        self.chain("rules:\n  - { when: { model: m }, answer: [ %s ] }\n  - { answer: [ { text: fine } ] }\n" % UNAVAILABLE, retries=4)
        self.assertEqual(self.run_json("go")["model"], "second/n")
        self.assertEqual(self.models_asked().count("m"), 5)
        r = self.run_json("again")
        self.assertEqual((r["text"], r["model"]), ("fine", "second/n"))
        self.assertEqual(self.models_asked().count("m"), 5)  # not asked any more
        self.assertEqual([b["why"] for b in self.kinds(r, "model.retry")], ["breaker"])
        degraded = self.rpc().call("status.get")["degraded"]
        self.assertIn("first", " ".join(d["text"] for d in degraded if d["code"] == "provider_down"))
        doctor = self.rpc().call("doctor.run")["checks"]
        self.assertEqual([c["ok"] for c in doctor if c["name"] == "providers"], ["warn"])
        with open(os.path.join(self.home, "logs", "runtime.log")) as f:
            self.assertIn("breaker", f.read())

    def test_without_a_fallback_the_turn_waits_and_probes(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "60000"
        self.chain("rules:\n  - { when: { model: m }, times: 5, answer: [ %s ] }\n  - { answer: [ { text: back } ] }\n" % UNAVAILABLE,
                   retries=4)
        with open(os.path.join(self.home, "config.yaml")) as f:
            text = f.read()
        self.config(text.replace("models: { fallback: [second/n] }\n", ""))
        self.run_json("go", check=1)
        r = self.run_json("again")
        self.assertEqual(r["text"], "back")
        self.assertEqual([b["why"] for b in self.kinds(r, "model.retry")], ["breaker"])
        self.assertEqual(self.rpc().call("status.get")["degraded"] and
                         [d for d in self.rpc().call("status.get")["degraded"] if d["code"] == "provider_down"], [])

    def test_nobody_fails_while_another_one_probes(self):
        """The probe takes longer to answer than the other turn would have retries for."""
        self.env["ITHACA__RUNNER__IDLE_MS"] = "60000"
        self.chain("rules:\n  - { when: { model: m }, times: 5, answer: [ %s ] }\n"
                   "  - { when: { model: m }, times: 1, first_delay: 6000, answer: [ { text: probed } ] }\n"
                   "  - { answer: [ { text: after it } ] }\n" % UNAVAILABLE, retries=4)
        with open(os.path.join(self.home, "config.yaml")) as f:
            text = f.read()
        self.config(text.replace("models: { fallback: [second/n] }\n", ""))
        self.run_json("go", check=1)
        one, two = self.stream("one"), self.stream("two")
        self.assertEqual((one.end(), two.end()), (0, 0))
        texts = [[e["body"]["text"] for e in s.events if e["kind"] == "turn.finished"][0] for s in (one, two)]
        self.assertEqual(sorted(texts), ["after it", "probed"])
        self.assertEqual(self.models_asked(), ["m"] * 7)

    # ---- a conversation that is too long ----

    TOO_LONG = "{ error: { status: 400, code: context_length_exceeded, type: invalid_request_error, message: too long } }"

    def test_too_long_is_tried_once_more_with_less(self):
        self.chain("rules:\n  - { when: { body_has: \"old old words\", user_has: second }, answer: [ %s ] }\n"
                   "  - { answer: [ { text: fine } ] }\n" % self.TOO_LONG)
        first = self.run_json("old old words " + "x" * 4000)
        r = self.run_json("--session", first["session"], "second")
        self.assertEqual((r["text"], r["model"]), ("fine", "first/m"))
        built = [b for b in self.kinds(r, "context.built")]
        self.assertEqual([(b["why"], b["dropped_turns"]) for b in built], [("too_long", 1)])
        self.assertNotIn("old old words", str(self.server.requests()[-1]["body"]))
        self.assertIn("earlier turns are left out", str(self.server.requests()[-1]["body"]))

    def test_too_long_for_one_is_not_for_the_other(self):
        self.chain("rules:\n  - { when: { model: m }, answer: [ %s ] }\n  - { answer: [ { text: fine } ] }\n" % self.TOO_LONG)
        r = self.run_json("one message that cannot be shorter")
        self.assertEqual(r["model"], "second/n")
        self.assertEqual(self.models_asked(), ["m", "n"])
        self.assertEqual([b["why"] for b in self.kinds(r, "model.retry")], ["context"])


if __name__ == "__main__":
    main()
