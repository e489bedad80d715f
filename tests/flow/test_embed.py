#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Vectors of texts through every role: in order, in as many requests as it takes, retried, paid for and within the caps."""
import json

from harness import Case, main

PRICES = "catalog:\n  models:\n    test/vec: { input_usd_per_mtok: 100, context: 8192 }\n"


class Embed(Case):
    def begin(self, script="steps:\n  - answer: [ { text: hi } ]\n", extra=""):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "60000"
        self.serve(script, extra="    retries: 2\nmodels: { embedding: test/vec }\n" + PRICES + extra)
        self.ithaca("tool", "list", check=0)  # a runner is there
        return self.rpc()

    def asked(self):
        return [r for r in self.server.requests() if r["path"].endswith("/embeddings")]

    def near(self, a, b):
        return sum(x * y for x, y in zip(a, b))

    def test_in_the_order_of_the_texts(self):
        rpc = self.begin()
        texts = ["red apples", "green apples", "a train to Bern"]
        r = rpc.call("model.embed", texts=texts)
        self.assertEqual((r["model"], r["dimensions"], len(r["vectors"])), ("test/vec", 8, 3))
        a, b, c = r["vectors"]
        self.assertGreater(self.near(a, b), self.near(a, c))
        for text, v in zip(texts, r["vectors"]):
            self.assertEqual(rpc.call("model.embed", texts=[text])["vectors"], [v])
        self.assertEqual(self.asked()[0]["body"]["model"], "vec")

    def test_it_is_paid_for(self):
        rpc = self.begin()
        r = rpc.call("model.embed", texts=["one two three", "four"])
        self.assertGreater(r["usage"]["input_tokens"], 0)
        self.assertEqual(r["cost_microusd"], 100 * r["usage"]["input_tokens"])
        day = [b for b in rpc.call("budget.get")["budgets"] if b["scope"] == "day"][0]
        self.assertEqual((day["spent_microusd"], day["input_tokens"], day["reserved_microusd"]),
                         (r["cost_microusd"], r["usage"]["input_tokens"], 0))
        self.stop()
        day = json.loads(self.ithaca("budget", "show", "--json", check=0).stdout)["budgets"][0]
        self.assertEqual(day["spent_microusd"], r["cost_microusd"])

    def test_a_cap_holds(self):
        rpc = self.begin(extra="limits: { day_cost_usd: 0.0001 }\n")
        r = rpc.call("model.embed", texts=["words " * 200])
        self.assertEqual(r["code"], "limit")
        self.assertIn("day_cost_usd", r["message"])
        self.assertEqual(self.asked(), [])

    def test_failures_that_may_pass_are_tried_again(self):
        rpc = self.begin("rules:\n  - when: { api: embeddings }\n    times: 2\n"
                         "    answer: [ { error: { status: 503, type: overloaded_error, message: busy, retry_after_ms: \"1\" } } ]\n"
                         "steps:\n  - answer: [ { text: hi } ]\n")
        self.assertEqual(len(rpc.call("model.embed", texts=["a"])["vectors"]), 1)
        self.assertEqual(len(self.asked()), 3)

    def test_failures_that_stay_are_told(self):
        rpc = self.begin("rules:\n  - when: { api: embeddings }\n"
                         "    answer: [ { error: { status: 401, type: authentication_error, message: no } } ]\n"
                         "steps:\n  - answer: [ { text: hi } ]\n")
        r = rpc.call("model.embed", texts=["a"])
        self.assertEqual(r["code"], "auth")
        self.assertEqual(len(self.asked()), 1)
        self.assertEqual([b["spent_microusd"] for b in rpc.call("budget.get")["budgets"]][0], 0)

    def test_bad_requests(self):
        rpc = self.begin()
        for params, word in (({"texts": []}, "texts"), ({"texts": ["a", "  "]}, "texts[1]"), ({"texts": ["a"], "model": "nowhere/x"},
                             "nowhere"), ({"texts": ["a"], "model": "offline/rules"}, "vectors"), ({}, "texts")):
            r = rpc.call("model.embed", **params)
            self.assertEqual(r.get("kind"), "error", r)
            self.assertIn(word, r["message"])
        self.assertEqual(self.asked(), [])

    def test_no_model_is_set(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "60000"
        self.serve("steps:\n  - answer: [ { text: hi } ]\n")
        self.ithaca("tool", "list", check=0)
        r = self.rpc().call("model.embed", texts=["a"])
        self.assertIn("models.embedding", r["message"])

    def test_another_model_by_name(self):
        rpc = self.begin()
        r = rpc.call("model.embed", texts=["a"], model="test/other", dimensions=4)
        self.assertEqual((r["model"], r["cost_microusd"]), ("test/other", 0))
        self.assertEqual(r["dimensions"], 4)


if __name__ == "__main__":
    main()
