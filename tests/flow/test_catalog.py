#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The model catalog from outside: show, fetch from a server on this machine, verify; what is refused and what stays as it was
when a fetch fails; a start that needs no network; models that nobody knows."""
import http.server
import json
import os
import socket
import stat
import threading
import unittest

from harness import Case, main

MODELS = {
    "acme": {"id": "acme", "name": "Acme", "models": {
        "m": {"id": "m", "tool_call": True, "reasoning": False, "modalities": {"input": ["text", "image"]},
              "cost": {"input": 1000, "output": 2000}, "limit": {"context": 50000, "output": 700}}}},
    "anthropic": {"models": {
        "claude-opus-5": {"tool_call": True, "cost": {"input": 7, "output": 25, "cache_read": 0.7},
                          "limit": {"context": 1000000, "output": 128000}},
        "claude-new-9": {"limit": {"context": 123000}},
        "broken": {"limit": {"context": "large"}}}},
    "elsewhere": {"models": {"x": {"limit": {"context": 9}}}},
}


class Server:
    """Answers every GET with what `answer` does with the handler."""

    def __init__(self, answer):
        outer = self
        self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append((self.path, dict(self.headers)))
                answer(self)

            def log_message(self, *args):
                pass

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d/api.json" % self.httpd.server_port
        self.thread = threading.Thread(target=self.httpd.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self):
        self.httpd.shutdown()
        self.thread.join()
        self.httpd.server_close()


def sends(body, status=200, headers=()):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()

    def answer(h):
        h.send_response(status)
        for name, value in headers:
            h.send_header(name, value)
        h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        try:
            h.wfile.write(body)
        except OSError:  # the client has had enough
            pass
    return answer


class Catalog(Case):
    extra = ""

    def setUp(self):
        super().setUp()
        self.env["ITHACA__RUNNER__IDLE_MS"] = "50"
        self.kept = os.path.join(self.home, "state", "catalog.json")

    def answers(self, answer):
        server = Server(answer)
        self.addCleanup(server.close)
        self.config("catalog: { url: \"%s\" }\n%s" % (server.url, self.extra))
        return server

    def show(self, name):
        found = json.loads(self.ithaca("catalog", "show", name, "--json", check=0).stdout)["models"]
        return found[0] if len(found) == 1 else found

    def fetch(self, *args, check=0):
        p = self.ithaca("catalog", "fetch", "--json", *args, check=check)
        return json.loads(p.stdout)


class Show(Catalog):
    def test_snapshot_without_network(self):
        self.config("catalog: { url: \"http://127.0.0.1:1/api.json\" }\n")
        p = self.ithaca("catalog", "show", check=0)
        for word in ("MODEL", "CONTEXT", "SOURCE", "anthropic/claude-sonnet-4-5", "google/gemini-2.5-pro", "openai/gpt-5", "200k",
                     "image pdf", "Verify them with the vendor", "Snapshot of "):
            self.assertIn(word, p.stdout)
        m = self.show("anthropic/claude-sonnet-4-5")
        self.assertEqual((m["context"], m["max_output"], m["source"]), (200000, 64000, "snapshot"))
        self.assertEqual((m["input_microusd_per_mtok"], m["cached_microusd_per_mtok"]), (3000000, 300000))
        self.assertEqual(m["input"], ["text", "image", "pdf"])
        self.run_json("hello")  # a task starts as well

    def test_by_provider_and_by_id_alone(self):
        self.assertTrue(all(m["model"].startswith("google/") for m in self.show("google")))
        self.assertEqual(self.show("gpt-5.1")["model"], "openai/gpt-5.1")
        p = self.ithaca("catalog", "show", "gemini-2.5-pro", check=0)
        self.assertIn("with more than 200k of input, 200 % of the input", p.stdout)
        self.assertIn("knows the world until 2025-01", p.stdout)
        self.assertIn("any name as it is", self.ithaca("catalog", "show", "openrouter", check=0).stdout)

    def test_unknown_names_say_what_is_near(self):
        self.assertIn("nearest: openai/gpt-5", self.ithaca("catalog", "show", "openai/gtp-5", check=1).stderr)
        self.assertIn("did you mean 'anthropic'", self.ithaca("catalog", "show", "antropic", check=1).stderr)

    def test_configuration_wins(self):
        self.config("catalog:\n  models:\n    anthropic/claude-opus-5: { input_usd_per_mtok: 9, input: [image, audio], tools: false }\n"
                    "    openai/gpt-99: { context: 77000 }\n")
        m = self.show("anthropic/claude-opus-5")
        self.assertEqual((m["input_microusd_per_mtok"], m["input"], m["tools"]), (9000000, ["text", "image"], False), "its API carries no audio")
        self.assertEqual(m["output_microusd_per_mtok"], 25000000)
        self.assertEqual(m["source"], "config")
        self.assertEqual(self.show("gpt-99")["context"], 77000)
        self.config("catalog: { models: { a/b: { input: [smell] } } }\n")
        self.assertIn("smell", self.ithaca("catalog", "show", check=2).stderr)

    def test_names_for_completion(self):
        lines = self.ithaca("catalog", "names", check=0).stdout.splitlines()
        self.assertIn("anthropic/claude-sonnet-4-5", lines)
        self.assertFalse([line for line in lines if " " in line])
        self.assertIn("catalog names", self.ithaca("completion", "bash", check=0).stdout)


class Fetch(Catalog):
    extra = ("model: test/m\nproviders: { test: { api: openai-chat, base_url: \"http://127.0.0.1:1/v1\", catalog: acme } }\n")

    def test_kept_shown_and_used(self):
        server = self.answers(sends(MODELS))
        r = self.fetch()
        self.assertEqual(server.asked[0][0], "/api.json")
        self.assertNotIn("Authorization", server.asked[0][1])
        self.assertEqual((r["catalog"]["models"], r["written"], r["file"]), (3, True, self.kept))
        self.assertEqual([(s["model"], s["why"]) for s in r["skipped"]], [("broken", "limit: not a number of tokens")])
        changes = {(c["model"], c["what"]): c for c in r["changes"]}
        self.assertEqual(changes["anthropic/claude-opus-5", "input price"]["from"], 5)
        self.assertEqual(changes["anthropic/claude-opus-5", "input price"]["to"], 7)
        self.assertIn(("acme/m", "new"), changes)
        self.assertEqual(stat.S_IMODE(os.stat(self.kept).st_mode), 0o600)
        with open(self.kept) as f:
            kept = json.load(f)
        self.assertEqual(sorted(kept["catalog"]), ["acme", "anthropic"])
        self.assertNotIn("name", kept["catalog"]["acme"])
        m = self.show("anthropic/claude-opus-5")
        self.assertEqual((m["input_microusd_per_mtok"], m["cached_microusd_per_mtok"], m["source"]), (7000000, 700000, "fetched"))
        self.assertEqual(m["knowledge"] if "knowledge" in m else None, None)
        self.assertEqual(self.show("anthropic/claude-new-9")["context"], 123000)
        self.assertEqual(self.show("test/m")["max_output"], 700)
        again = self.fetch()
        self.assertEqual(again["changes"], [])
        self.assertEqual(again["catalog"]["sha256"], r["catalog"]["sha256"])

    def test_for_people(self):
        self.answers(sends(MODELS))
        p = self.ithaca("catalog", "fetch", check=0)
        for word in ("2 new models, 0 gone", "claude-opus-5", "input price", "left out: anthropic/broken", "kept in"):
            self.assertIn(word, p.stdout)

    def test_dry_run_keeps_nothing(self):
        self.answers(sends(MODELS))
        self.assertFalse(self.fetch("--dry-run")["written"])
        self.assertFalse(os.path.exists(self.kept))
        self.assertEqual(self.show("anthropic/claude-opus-5")["source"], "snapshot")

    def test_url_of_the_command_line(self):
        server = self.answers(sends(MODELS))
        self.config("catalog: { url: \"http://127.0.0.1:1/api.json\" }\n")
        self.assertEqual(self.fetch("--url", server.url)["url"], server.url)
        self.assertEqual(len(server.asked), 1)

    def test_prices_count_in_a_turn(self):
        self.serve("usage: { input: 1000, output: 100 }\nrepeat: true\nsteps:\n  - answer: [ { text: hi } ]\n",
                   extra="    catalog: acme\n")
        catalog = Server(sends(MODELS))
        self.addCleanup(catalog.close)
        self.fetch("--url", catalog.url)
        r = self.run_json("go")
        self.assertEqual(r["cost_microusd"], 1000 * 1000 + 100 * 2000)

    def test_takes_effect_in_a_runtime_that_runs(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "60000"
        self.answers(sends(MODELS))
        self.ithaca("session", "list", check=0)
        rpc = self.rpc()
        name = {"name": "anthropic/claude-new-9"}
        self.assertEqual(rpc.call("catalog.show", **name)["code"], "not_found")
        self.assertTrue(rpc.call("catalog.fetch")["written"])
        self.assertEqual(rpc.call("catalog.show", **name)["models"][0]["source"], "fetched")


class Refused(Catalog):
    def good_first(self):
        server = self.answers(sends(MODELS))
        self.fetch()
        with open(self.kept) as f:
            self.before = f.read()
        return server

    def refused(self, url, *words):
        p = self.ithaca("catalog", "fetch", "--url", url)
        self.assertNotEqual(p.returncode, 0)
        for word in words:
            self.assertIn(word, p.stderr)
        with open(self.kept) as f:
            self.assertEqual(f.read(), self.before)
        self.assertEqual([name for name in os.listdir(os.path.dirname(self.kept)) if "catalog" in name], ["catalog.json"])
        self.assertEqual(self.show("anthropic/claude-opus-5")["source"], "fetched")

    def answered(self, answer, *words):
        server = Server(answer)
        self.addCleanup(server.close)
        self.good_first()
        self.refused(server.url, *words)

    def test_nobody_listens(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.good_first()
        self.refused("http://127.0.0.1:%d/api.json" % port, "cannot connect", "catalog fetch from")

    def test_no_json(self):
        self.answered(sends(b"<html>hello</html>"), "this is no model catalog")

    def test_other_json(self):
        self.answered(sends({"pets": ["cat"]}), "none of the vendors in use")

    def test_nothing_usable(self):
        self.answered(sends({"anthropic": {"models": {"x": {"cost": 1}}}}), "no model that is usable")

    def test_status(self):
        self.answered(sends(b"gone", status=404), "status 404")

    def test_redirect_is_not_followed(self):
        target = Server(sends(MODELS))
        self.addCleanup(target.close)
        self.answered(sends(b"", status=302, headers=[("Location", target.url)]), "moved to " + target.url, "set catalog.url")
        self.assertEqual(target.asked, [])

    def test_too_large(self):
        self.answered(sends(b"{\"anthropic\":" + b" " * (17 << 20)), "larger than 16 MiB")

    def test_cut_short(self):
        def answer(h):
            h.send_response(200)
            h.send_header("Content-Length", "1000")
            h.end_headers()
            h.wfile.write(b"{\"anthropic\":")
        self.answered(answer, "cut the answer short")

    def test_link_local_is_refused_by_the_broker(self):
        self.good_first()
        self.refused("http://169.254.169.254/api.json", "is refused", "link-local")

    def test_url_without_a_path(self):
        self.good_first()
        self.refused("http://127.0.0.1", "not a URL with a path")


class Verify(Catalog):
    def verify(self, check):
        return json.loads(self.ithaca("catalog", "verify", "--json", check=check).stdout)

    def test_nothing_fetched(self):
        r = self.verify(0)
        self.assertNotIn("fetched", r)
        self.assertEqual(len(r["snapshot"]["sha256"]), 64)
        self.assertIn("offline/rules", self.ithaca("catalog", "verify", check=0).stdout)

    def test_changed_file_is_told_and_not_used(self):
        self.answers(sends(MODELS))
        self.fetch()
        self.assertEqual(self.verify(0)["fetched"]["models"], 2)
        with open(self.kept) as f:
            text = f.read()
        with open(self.kept, "w") as f:
            f.write(text.replace("\"input\":7", "\"input\":0"))
        self.stop()
        r = self.verify(1)
        self.assertIn("does not have the digest", r["broken"])
        self.assertEqual(self.show("anthropic/claude-opus-5")["source"], "snapshot")
        checks = {c["name"]: c for c in json.loads(self.ithaca("doctor", "--json", check=None).stdout)["checks"]}
        self.assertEqual(checks["model catalog"]["ok"], "warn")
        self.assertIn("catalog.json", checks["model catalog"]["text"])
        self.run_json("hello")

    def test_any_rubbish_is_no_reason_not_to_start(self):
        os.makedirs(os.path.dirname(self.kept), mode=0o700)
        for text in (b"", b"\x00\xff", b"[]", b"{\"v\":1}", b"{\"v\":1,\"sha256\":5,\"catalog\":{\"a\":7}}"):
            with open(self.kept, "wb") as f:
                f.write(text)
            self.assertIn("broken", self.verify(1))
        self.run_json("hello")

    def test_configured_models_must_resolve(self):
        self.config("models: { fast: openai/gtp-5, fallback: [anthropic/claude-opus-5, no/x] }\n")
        r = self.verify(1)
        rows = {m["model"]: m for m in r["models"]}
        self.assertFalse(rows["openai/gtp-5"]["ok"] or rows["no/x"]["ok"])
        self.assertTrue(rows["anthropic/claude-opus-5"]["ok"] and rows["offline/rules"]["ok"])
        self.assertIn("nearest: openai/gpt-5", rows["openai/gtp-5"]["text"])


class Unknown(Catalog):
    def test_refused_unless_allowed(self):
        p = self.ithaca("run", "--model", "anthropic/claude-opus-77", "x", check=2)
        self.assertIn("nearest: anthropic/claude-opus", p.stderr)
        # Without a key nothing is sent: what matters here is said before.
        p = self.ithaca("run", "--allow-unknown-model", "--model", "anthropic/claude-opus-77", "x", check=None)
        self.assertIn("a context of 128000 tokens is assumed", p.stderr)
        self.assertIn("limits in USD do not hold", p.stderr)
        self.config("catalog: { allow_unknown: true }\n")
        p = self.ithaca("run", "--model", "anthropic/claude-opus-77", "x", check=None)
        self.assertIn("is assumed", p.stderr)

    def test_price_that_is_not_known_is_said(self):
        self.config("model: far/m\nproviders: { far: { api: openai-chat, base_url: \"http://192.0.2.1:9/v1\","
                    " api_key_env: NO_SUCH_KEY } }\n")
        p = self.ithaca("run", "x", check=None)
        self.assertEqual(p.stderr.count("its price is not known"), 1)
        session = json.loads(self.ithaca("session", "list", "--json", check=0).stdout)["sessions"][0]["session"]
        notices = [e["body"] for e in self.events(session) if e["kind"] == "notice"]
        self.assertEqual([(n["code"], n["level"], "its price is not known" in n["text"]) for n in notices], [("model", "warn", True)])
        checks = {c["name"]: c for c in json.loads(self.ithaca("doctor", "--json", check=None).stdout)["checks"]}
        self.assertEqual(checks["model"]["ok"], "warn")
        self.config("model: far/m\nproviders: { far: { api: openai-chat, base_url: \"http://192.0.2.1:9/v1\","
                    " api_key_env: NO_SUCH_KEY } }\ncatalog: { models: { far/m: { input_usd_per_mtok: 0,"
                    " output_usd_per_mtok: 0 } } }\n")
        self.assertNotIn("price", self.ithaca("run", "x", check=None).stderr)

    def test_config_set_looks_the_model_up(self):
        p = self.ithaca("config", "set", "model", "anthropic/claude-sonet-4-5", check=2)
        self.assertIn("nearest: anthropic/claude-sonnet-4-5", p.stderr)
        self.ithaca("config", "set", "model", "anthropic/claude-sonnet-4-5", check=0)
        self.ithaca("config", "set", "models.fast", "nobody/x", check=2)

    def test_built_in_providers_are_there_beside_others(self):
        self.config("providers: { test: { api: openai-chat, base_url: \"http://127.0.0.1:1/v1\" } }\n")
        for name in ("openai/gpt-5", "anthropic/claude-opus-5", "google/gemini-2.5-pro", "openrouter/a/b"):
            p = self.ithaca("run", "--model", name, "x", check=None)
            self.assertIn("has no key", p.stderr, name)


if __name__ == "__main__":
    main()
