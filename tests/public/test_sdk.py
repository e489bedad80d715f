#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The vendors' SDKs read what our scripted model server says: it speaks as the services do, so what the product does with
it is what it does with them."""
import json
import os
import subprocess
import tempfile
import shutil
import unittest

from peers import HERE, NODE
from harness import DEADLINE, ModelServer, main

CHAT = ("openai-chat", "openai-responses", "anthropic", "gemini")


class Sdk(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="ithaca-sdk.")
        self.addCleanup(shutil.rmtree, self.dir, True)

    def ask(self, api, script, what="ask"):
        self.server = ModelServer(self.dir, script)
        try:
            p = subprocess.run([NODE, os.path.join(HERE, "sdk.mjs"), api, str(self.server.port), what], cwd=HERE,
                               capture_output=True, text=True, timeout=DEADLINE)
            self.assertEqual(p.stderr, "")
            return json.loads(p.stdout)
        finally:
            self.server.close()

    def each(self, script, what="ask"):
        for api in CHAT:
            yield api, self.ask(api, script, what)
            os.unlink(self.server.log)

    def test_text_reasoning_calls_and_usage(self):
        script = ("usage: { input: 100, output: 20, cached: 60, reasoning: 4 }\nsteps:\n  - answer:\n"
                  "      - { reasoning: \"I think …\", chunk: 3, signature: U0lH }\n"
                  "      - { ping: true }\n"
                  "      - { text: \"Grüße: {{user}}\", chunk: 2 }\n"
                  "      - { call: { tool: read, args: { path: a }, pieces: 4, id: c1 } }\n"
                  "      - { call: { tool: read, args: { path: b/ü }, pieces: 3, id: c2 } }\n")
        ends = {"openai-chat": "tool_calls", "openai-responses": "completed", "anthropic": "tool_use", "gemini": "STOP"}
        for write in ("", "    write: 1\n", "    write: 7\n    eol: crlf\n"):
            for api, r in self.each(script + write):
                self.assertEqual(r["text"], "Grüße: say hello")
                self.assertEqual(r["reasoning"], "I think …")
                self.assertEqual(r["calls"], [["c1", "read", {"path": "a"}], ["c2", "read", {"path": "b/ü"}]])
                self.assertEqual(r["finish"], ends[api])
                self.assertEqual(r["usage"], [100, 20, 60, 4][:len(r["usage"])])
                self.assertEqual(r.get("signatures", ["U0lH"]), ["U0lH"])
                self.assertTrue(r.get("numbered", True) and r.get("ids", True))
                self.assertEqual(r.get("together", 2), 2)

    def test_redacted_reasoning(self):
        for api, r in self.each("steps:\n  - answer: [ { redacted: UkVE }, { text: ok } ]\n"):
            self.assertEqual(r["text"], "ok")
            if api != "openai-chat":
                self.assertEqual(r["signatures"], ["UkVE"])

    def test_why_an_answer_ends(self):
        ends = {"end": ("stop", "completed", "end_turn", "STOP"),
                "length": ("length", "max_output_tokens", "max_tokens", "MAX_TOKENS"),
                "filter": ("content_filter", "content_filter", "refusal", "SAFETY")}
        for finish, want in ends.items():
            for api, r in self.each("steps:\n  - answer: [ { text: x }, { finish: %s } ]\n" % finish):
                # The helper of Chat Completions throws at these two, each by a class of its own.
                if api == "openai-chat" and finish != "end":
                    self.assertIn(r.get("finish", r.get("error")),
                                  (want[0], "LengthFinishReasonError", "ContentFilterFinishReasonError"))
                else:
                    self.assertEqual(r["finish"], want[CHAT.index(api)])

    def test_refusal_and_block(self):
        for api, r in self.each("steps:\n  - answer: [ { refusal: \"I will not\", chunk: 4 } ]\n"):
            self.assertEqual(r.get("refusal") or r["text"], "I will not")
        r = self.ask("gemini", "steps:\n  - answer: [ { block: PROHIBITED_CONTENT } ]\n")
        self.assertEqual(r["finish"], "PROHIBITED_CONTENT")

    def test_http_errors(self):
        names = {"openai-chat": "RateLimitError", "openai-responses": "RateLimitError", "anthropic": "RateLimitError",
                 "gemini": "ApiError"}
        for api, r in self.each("steps:\n  - answer: [ { error: { status: 429, type: rate_limit_error, message: \"slow down\", "
                                "retry_after: \"7\", headers: { x-ratelimit-remaining-requests: \"0\" } } } ]\n"):
            self.assertEqual((r["error"], r["status"]), (names[api], 429))
            self.assertIn("slow down", r["message"])
            if api == "gemini":  # says it in the body
                self.assertIn("\"retryDelay\":\"7s\"", r["message"])
                self.assertIn("RESOURCE_EXHAUSTED", r["message"])
            else:
                self.assertEqual((r["wait"], r["remaining"]), ("7", "0"))

    def test_errors_inside_a_stream(self):
        for api, r in self.each("steps:\n  - answer: [ { text: x }, { error: { type: overloaded_error, message: \"too busy\" } } ]\n"):
            self.assertIn("too busy", r["message"])

    def test_a_stream_that_is_cut_is_an_error(self):
        for api, r in self.each("steps:\n  - answer: [ { text: x }, { cut: reset } ]\n"):
            self.assertIn("error", r)

    def test_retry_after_is_obeyed(self):
        script = ("steps:\n  - answer: [ { error: { status: 429, type: rate_limit_error, message: slow, retry_after: \"1\" } } ]\n"
                  "  - answer: [ { text: ok } ]\n")
        for api in CHAT[:3]:
            with self.subTest(api=api):
                self.assertEqual(self.ask(api, script, "retry")["text"], "ok")
                a, b = self.server.requests()
                self.assertGreaterEqual(b["t_us"] - a["t_us"], 1000000)
            os.unlink(self.server.log)

    def test_embeddings(self):
        a = self.ask("embed-openai", "{}")
        self.assertEqual((a["dims"], a["order"], a["same"], a["usage"]), ([16] * 3, [0, 1, 2], True, True))
        b = self.ask("embed-gemini", "{}")
        self.assertEqual(b["dims"], [16] * 3)
        self.assertEqual(a["vectors"], b["vectors"])

    def test_an_error_for_embeddings(self):
        script = "rules:\n  - when: { api: embeddings }\n    answer: [ { error: { status: 401, message: \"no such key\" } } ]\n"
        for api in ("embed-openai", "embed-gemini"):
            r = self.ask(api, script)
            self.assertEqual(r["status"], 401)
            self.assertIn("no such key", r["message"])


if __name__ == "__main__":
    main()
