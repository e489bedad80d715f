#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a turn asks of its model. Structured output: the final answer is JSON that matches the schema of the turn, or the turn says why it is not. The model gets
one chance to repair it. Effort: how much it may think."""
import json
import os
import signal

from harness import Case, main

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "people": {"type": "integer", "minimum": 1}},
          "required": ["city", "people"], "additionalProperties": False}
GOOD = {"city": "Bern", "people": 134000}


class Schema(Case):
    def ask(self, *answers, check=0, args=(), schema=SCHEMA, api="openai-chat"):
        self.serve("by: sequence\nsteps:\n" + "".join("  - answer: [ { text: %s } ]\n" % json.dumps(a) for a in answers), api)
        path = os.path.join(self.dir, "schema.json")
        with open(path, "w") as f:
            json.dump(schema, f)
        return self.run_json("--schema", path, *args, "name a city", check=check)

    def test_an_answer_that_matches(self):
        r = self.ask(json.dumps(GOOD))
        self.assertEqual((r["output"], r["status"], r["steps"]), (GOOD, "answered", 1))
        self.assertEqual(len(self.server.requests()), 1)

    def test_the_model_is_told_the_schema(self):
        self.ask(json.dumps(GOOD))
        self.assertIn("additionalProperties", json.dumps(self.server.requests()[0]["body"]["messages"][0]))

    def test_a_fence_around_it(self):
        for api in ("openai-chat", "anthropic"):
            r = self.ask("Here it is:\n```json\n%s\n```\n" % json.dumps(GOOD, indent=2), api=api)
            self.assertEqual((r["output"], r["steps"]), (GOOD, 1))
            self.stop()
            self.server.close()

    def test_one_repair(self):
        r = self.ask(json.dumps({"city": "Bern", "people": "many"}), json.dumps(GOOD))
        self.assertEqual((r["output"], r["steps"]), (GOOD, 2))
        told = self.server.requests()[1]["body"]["messages"][-1]
        self.assertEqual(told["role"], "user")
        self.assertIn("/people", told["content"] if isinstance(told["content"], str) else json.dumps(told["content"]))
        notices = [e["body"] for e in self.events(r["session"]) if e["kind"] == "notice"]
        self.assertEqual([n["code"] for n in notices], ["output_invalid"])

    def test_a_kill_in_the_middle_of_the_repair(self):
        """It is repaired once, not once more because of the kill, and the model is told once what was wrong."""
        self.serve("by: sequence\nrepeat: true\nsteps:\n  - answer: [ { text: bad } ]\n"
                   "  - answer: [ { text: \"{ \" }, { delay: 60000 } ]\n  - answer: [ { text: still bad } ]\n")
        path = os.path.join(self.dir, "schema.json")
        with open(path, "w") as f:
            json.dump(SCHEMA, f)
        s = self.stream("--schema", path, "name a city")
        s.until("model.partial", step=2)
        os.kill(self.pids()["runtime"], signal.SIGKILL)
        done = s.until("turn.finished")["body"]
        s.end()
        self.assertEqual((done["status"], done["error"]["code"], done["steps"]), ("failed", "output", 2))
        self.assertEqual(len(self.server.requests()), 3)
        self.assertEqual(json.dumps(self.server.requests()[2]["body"]).count("Answer again with"), 1)

    def test_two_wrong_answers_are_a_failure(self):
        r = self.ask("no JSON at all", json.dumps({"city": "Bern"}), check=1)
        self.assertEqual((r["status"], r["error"]["code"], r["steps"]), ("failed", "output", 2))
        self.assertIn("people", r["error"]["message"])
        self.assertNotIn("output", r)
        self.assertEqual(len(self.server.requests()), 2)

    def test_after_a_tool(self):
        self.write("a.txt", "Bern\n")
        self.serve("by: sequence\nsteps:\n  - answer: [ { call: { tool: read, args: { path: a.txt } } } ]\n"
                   "  - answer: [ { text: %s } ]\n" % json.dumps(json.dumps(GOOD)))
        with open(os.path.join(self.dir, "s"), "w") as f:
            json.dump(SCHEMA, f)
        r = self.run_json("--schema", os.path.join(self.dir, "s"), "go")
        self.assertEqual((r["output"], [e["tool"] for e in r["effects"]]), (GOOD, ["read"]))

    def test_plain_output_is_the_value_alone(self):
        self.ask(json.dumps(GOOD))
        self.stop()
        self.server.close()
        self.serve("steps:\n  - answer: [ { text: %s } ]\n" % json.dumps("```\n%s\n```" % json.dumps(GOOD)))
        p = self.ithaca("run", "--schema", os.path.join(self.dir, "schema.json"), "go", check=0)
        self.assertEqual(json.loads(p.stdout), GOOD)

    def test_a_schema_that_cannot_be_checked_is_refused(self):
        r = self.ask("never asked", check=2, schema={"type": "strin"})
        self.assertIn("schema", r["error"]["message"])
        self.assertEqual(self.server.requests(), [])
        self.assertEqual(json.loads(self.ithaca("session", "list", "--json").stdout)["sessions"], [])

    def test_a_schema_that_is_no_object(self):
        r = self.ask("never asked", check=2, schema=["type"])
        self.assertIn("object", r["error"]["message"])

    def test_a_message_that_waits_keeps_its_schema(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "60000"
        self.serve("by: sequence\nsteps:\n  - answer: [ { text: \"so far \" }, { delay: 1500 }, { text: free } ]\n"
                   "  - answer: [ { text: %s } ]\n" % json.dumps(json.dumps(GOOD)))
        s = self.stream("go")
        s.until("model.partial")
        session = s.events[-1]["session"]
        turn = self.rpc().call("session.turn", session=session, text="and", schema=SCHEMA, effort="high")["turn"]
        s.end()
        t = self.stream("--session", session, "--continue")
        t.end()
        ended = [e for e in self.events(session) if e["kind"] == "turn.finished" and e["turn"] == turn]
        self.assertEqual(ended[0]["body"]["output"], GOOD)
        started = [e["body"] for e in self.events(session) if e["kind"] == "turn.started" and e["turn"] == turn]
        self.assertEqual((started[0]["effort"], started[0]["schema"]), ("high", SCHEMA))


class Effort(Case):
    def asked(self, *args, config=""):
        if not self.server:
            self.serve("steps:\n  - answer: [ { text: hi } ]\nrepeat: true\n", extra=config)
        r = self.run_json(*args, "go")
        return r, self.server.requests()[-1]["body"].get("reasoning_effort")

    def test_nothing_is_said_by_default(self):
        self.assertIsNone(self.asked()[1])

    def test_a_turn_wins_over_the_configuration(self):
        self.assertEqual(self.asked(config="reasoning: low\n")[1], "low")
        self.assertEqual(self.asked("--effort", "high")[1], "high")
        self.assertIsNone(self.asked("--effort", "auto")[1])

    def test_a_workspace_may_not_widen_it(self):
        self.write(".ithaca.yaml", "reasoning: high\n")
        r, effort = self.asked(config="reasoning: low\n")
        self.assertEqual(effort, "low")
        self.assertIn("reasoning", " ".join(e["body"]["text"] for e in self.events(r["session"]) if e["kind"] == "notice"))

    def test_a_word_that_is_none(self):
        p = self.ithaca("run", "--effort", "hgih", "go", check=2)
        self.assertIn("high", p.stderr)


if __name__ == "__main__":
    main()
