#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Weak models: a short first request for a small window, calls that are written as text, results that are cut, and a history that
fits."""
import json

from harness import Case, main

SMALL = "catalog:\n  models:\n    test/m: { context: 8000 }\n"
HELLO_MAX = 6 * 1024


class Small(Case):
    def bodies(self):
        return [r["body"] for r in self.server.requests()]

    def size(self, body):
        return len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())

    def test_hello_is_small(self):
        for api, extra in (("openai-chat", ""), ("openai-chat", "    tools: text\n"), ("anthropic", "")):
            self.serve("steps:\n  - answer: [ { text: hi } ]\nrepeat: true\n", api, extra=extra + SMALL)
            self.assertEqual(self.run_json("hello")["text"], "hi")
            size = self.size(self.bodies()[-1])
            self.assertLess(size, HELLO_MAX)
            # The control: without the small window it is much more.
            self.serve_again(api, extra)
            self.run_json("hello")
            self.assertGreater(self.size(self.bodies()[-1]), max(2 * size, 0 if extra else HELLO_MAX))
            self.stop()
            self.server.close()

    def serve_again(self, api, extra):
        self.stop()
        self.server.close()
        self.serve("steps:\n  - answer: [ { text: hi } ]\nrepeat: true\n", api, extra=extra)

    def test_the_profile_can_be_chosen(self):
        self.serve("steps:\n  - answer: [ { text: hi } ]\nrepeat: true\n", extra="    profile: small\n")
        self.run_json("hello")
        names = [t["function"]["name"] for t in self.bodies()[-1]["tools"]]
        self.assertEqual(sorted(names), ["edit", "exec", "grep", "list", "read", "write"])
        self.stop()
        self.server.close()
        self.serve("steps:\n  - answer: [ { text: hi } ]\nrepeat: true\n", extra="    profile: full\n" + SMALL)
        self.run_json("hello")
        self.assertGreater(len(self.bodies()[-1]["tools"]), 6)

    def call(self, tool, **args):
        return json.dumps('<tool_call>\n%s\n</tool_call>' % json.dumps({"name": tool, "arguments": args}))

    def test_a_task_of_several_steps_with_calls_as_text(self):
        self.write("data/a.txt", "3\n")
        self.write("data/b.txt", "4\n")
        self.serve("by: sequence\nsteps:\n" +
                   "  - answer: [ { text: %s } ]\n" % self.call("list", path="data") +
                   "  - answer: [ { text: \"I read the first.\\n\" }, { text: %s } ]\n" % self.call("read", path="data/a.txt") +
                   "  - answer: [ { text: %s } ]\n" % self.call("read", path="data/b.txt") +
                   "  - answer: [ { text: %s } ]\n" % self.call("exec", command="echo $((3 + 4)) > sum.txt; cat sum.txt") +
                   "  - answer: [ { text: \"The sum is 7.\" } ]\n", extra="    tools: text\n" + SMALL)
        r = self.run_json("add the numbers in data and write the sum to sum.txt")
        self.assertEqual((r["status"], r["text"]), ("answered", "The sum is 7."))
        self.assertEqual([(e["tool"], e["status"]) for e in r["effects"]],
                         [("list", "done"), ("read", "done"), ("read", "done"), ("exec", "done")])
        self.assertEqual(self.read("sum.txt"), "7\n")
        for body in self.bodies():
            self.assertNotIn("tools", body)
            self.assertLess(self.size(body), 8000 * 3)
        self.assertIn("a.txt", json.dumps(self.bodies()[1]))
        done = [e["body"] for e in self.events(r["session"]) if e["kind"] == "model.done"]
        self.assertEqual([b["type"] for b in done[1]["blocks"]], ["text", "call"])

    def test_calls_as_text_from_a_server_that_takes_tools(self):
        self.serve("by: sequence\nsteps:\n  - answer: [ { text: %s } ]\n  - answer: [ { text: done } ]\n" %
                   self.call("exec", command="echo hi > f"), extra=SMALL)
        r = self.run_json("go")
        self.assertEqual((r["text"], self.read("f")), ("done", "hi\n"))

    def test_results_of_earlier_steps_are_short(self):
        text = "\n".join("line %d" % i for i in range(3000))
        self.write("big.txt", text)
        self.serve("by: sequence\nsteps:\n  - answer: [ { call: { tool: read, args: { path: big.txt } } } ]\n"
                   "  - answer: [ { call: { tool: list } } ]\n  - answer: [ { text: done } ]\n", extra=SMALL)
        r = self.run_json("go")
        self.assertEqual(r["status"], "answered")
        sizes = [[len(m["content"]) for m in b["messages"] if m["role"] == "tool"] for b in self.bodies()]
        self.assertLess(sizes[1][0], 4 * 1024 + 100)  # the newest
        self.assertLess(sizes[2][0], 1024 + 100)  # one step later
        self.assertIn("left out to fit the context window", json.dumps(self.bodies()[2]))
        outcome = [e["body"] for e in self.events(r["session"]) if e["kind"] == "effect.outcome"][0]
        self.assertGreater(len(outcome["text"]), 16000)  # the log has more

    def test_a_long_session_fits(self):
        self.serve("steps:\n  - answer: [ { text: %s } ]\nrepeat: true\n" % json.dumps("word " * 400), extra=SMALL)
        r = self.run_json("first")
        for i in range(14):
            r = self.run_json("--session", r["session"], "again " + "text " * 200)
        sizes = [self.size(b) for b in self.bodies()]
        self.assertLess(max(sizes), 8000 * 3)
        self.assertIn("earlier turns are left out", json.dumps(self.bodies()[-1]))


if __name__ == "__main__":
    main()
