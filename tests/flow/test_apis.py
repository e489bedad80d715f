#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every model API from the command line to the bytes on the wire: a turn with reasoning and a tool, what goes back with the
second request, and a session that changes its provider half-way."""
import json
import unittest

from harness import Case, ModelServer, main

APIS = {  # api: base URL as users write it
    "openai-chat": "/v1/",
    "openai-responses": "/v1/responses",
    "anthropic": "",
    "gemini": "/v1beta",
    "ollama": "/v1",
}
SCRIPT = """
by: turn_results
repeat: true
usage: { input: 100, output: 20, cached: 60, reasoning: 4 }
steps:
  - answer:
      - { reasoning: "let me see", signature: "c2VjcmV0" }
      - text: "I look. "
      - { call: { tool: read, args: { path: a.txt }, pieces: 3 }, signature: "Y2FsbA==" }
  - answer: [ { text: "It says {{result}}" } ]
"""


class Apis(Case):
    def serve_all(self, script):
        self.server = ModelServer(self.dir, script)
        base = "http://127.0.0.1:%d" % self.server.port
        rows = "".join("  my-%s: { api: %s, base_url: \"%s%s\" }\n" % (a, a, base, path) for a, path in APIS.items())
        self.config("model: my-openai-chat/m\nproviders:\n" + rows)

    def bodies(self):
        return [r["body"] for r in self.server.requests()]

    def test_a_turn_with_a_tool(self):
        self.serve_all(SCRIPT)
        self.write("a.txt", "one two three")
        for api in APIS:
            with self.subTest(api=api):
                before = len(self.bodies())
                r = self.run_json("--new", "--model", "my-%s/m" % api, "what does a.txt say?")
                self.assertEqual(r["status"], "answered")
                self.assertIn("one two three", r["text"])
                self.assertEqual(r["steps"], 2)
                self.assertEqual(r["usage"]["input_tokens"], 200)
                self.assertEqual(r["usage"]["output_tokens"], 40)
                self.assertEqual(r["usage"]["cached_tokens"], 120)
                first, second = self.bodies()[before:]
                self.back[api](self, second)

    # What the second request must bring back of the first answer.

    def chat(self, body):
        m = next(m for m in body["messages"] if m["role"] == "assistant")
        self.assertEqual(m["reasoning_content"], "let me see")
        self.assertEqual(m["tool_calls"][0]["function"]["name"], "read")

    def responses(self, body):
        items = {i["type"]: i for i in body["input"]}
        self.assertEqual(items["reasoning"]["encrypted_content"], "c2VjcmV0")
        self.assertTrue(items["reasoning"]["id"])
        self.assertEqual(items["function_call"]["call_id"], items["function_call_output"]["call_id"])
        self.assertIs(body["store"], False)
        self.assertNotIn("previous_response_id", body)

    def anthropic(self, body):
        blocks = next(m for m in body["messages"] if m["role"] == "assistant")["content"]
        self.assertEqual(blocks[0], {"type": "thinking", "thinking": "let me see", "signature": "c2VjcmV0"})

    def gemini(self, body):
        parts = next(c for c in body["contents"] if c["role"] == "model")["parts"]
        call = next(p for p in parts if "functionCall" in p)
        self.assertEqual(call["thoughtSignature"], "Y2FsbA==")
        self.assertIn("thoughtSignature", json.dumps([p for p in parts if "functionCall" not in p]))

    back = {"openai-chat": chat, "ollama": chat, "openai-responses": responses, "anthropic": anthropic, "gemini": gemini}

    def test_a_session_changes_its_provider(self):
        self.serve_all(SCRIPT)
        self.write("a.txt", "one two three")
        session = self.run_json("--new", "--model", "my-openai-chat/m", "what does a.txt say?")["session"]
        for api in list(APIS)[1:]:
            with self.subTest(api=api):
                before = len(self.bodies())
                r = self.run_json("--session", session, "--model", "my-%s/m" % api, "again")
                self.assertEqual(r["status"], "answered")
                first = json.dumps(self.bodies()[before])
                # the conversation came along, what only another provider can read did not
                self.assertIn("one two three", first)
                self.assertNotIn("c2VjcmV0", first)
                self.assertNotIn("Y2FsbA==", first)
                self.assertNotIn("let me see", first)


if __name__ == "__main__":
    main()
