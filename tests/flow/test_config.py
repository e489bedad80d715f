#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Configuration from outside: the layers, `ithaca config`, mistakes with their place, a workspace that may only narrow."""
import json
import os
import unittest

from harness import Case, main


class Layers(Case):
    """limits.turn_steps set in one layer more each time. /etc is not ours to write: its place is checked by unit tests."""

    def effective(self, *args, env=None):
        r = json.loads(self.ithaca(*args, "config", "get", "limits.turn_steps", "--json", env=env, check=0).stdout)
        return r["value"], r["layer"]

    def user(self, text):
        os.makedirs(os.path.join(self.home, "users"), exist_ok=True)
        with open(os.path.join(self.home, "users", "default.yaml"), "w") as f:
            f.write(text)

    def test_each_layer_wins_over_those_before(self):
        self.assertEqual(self.effective(), (100, "default"))
        self.config("limits: { turn_steps: 11 }\n")
        self.assertEqual(self.effective(), (11, "home"))
        self.user("limits: { turn_steps: 12 }\n")
        self.assertEqual(self.effective(), (12, "user"))
        self.env["ITHACA__LIMITS__TURN_STEPS"] = "13"
        self.assertEqual(self.effective(), (13, "environment"))
        self.assertEqual(self.effective("-e", "ITHACA__LIMITS__TURN_STEPS=14"), (14, "environment"))
        with open(os.path.join(self.dir, "vars"), "w") as f:
            f.write("# a comment\nITHACA__LIMITS__TURN_STEPS=15\n")
        self.assertEqual(self.effective("--env-file", os.path.join(self.dir, "vars")), (15, "environment"))

    def test_named_file_takes_the_place_of_the_homes(self):
        self.config("limits: { turn_steps: 11 }\n")
        path = self.write("other.yaml", "limits: { turn_steps: 21 }\n")
        self.assertEqual(self.effective("--config", path), (21, "home"))
        self.assertEqual(self.effective(), (11, "home"))

    def test_maps_merge_and_lists_are_replaced(self):
        self.config("limits: { turn_steps: 11, turn_ms: 5000 }\npermissions: { deny: [ \"Exec(a *)\", \"Exec(b *)\" ] }\n")
        self.user("limits: { turn_steps: 12 }\npermissions: { deny: [ \"Exec(c *)\" ] }\n")
        get = lambda key: json.loads(self.ithaca("config", "get", key, "--json", check=0).stdout)["value"]
        self.assertEqual(get("limits.turn_ms"), 5000)
        self.assertEqual(get("limits.turn_steps"), 12)
        self.assertEqual(get("permissions.deny"), ["Exec(c *)"])

    def test_user_file_may_not_set_everything(self):
        self.user("limits: { turn_steps: 12 }\nstore: { url: \"sqlite:x.db\" }\n")
        p = self.ithaca("config", "get", "limits.turn_steps", check=2)
        self.assertIn("default.yaml", p.stderr)
        self.assertIn("line 2", p.stderr)

    def test_flags_win_over_all(self):
        self.env["ITHACA__MODE"] = "workspace_write"
        self.run_json("--mode", "read_only", "run touch x", check=None)
        self.assertFalse(self.exists("x"))
        self.run_json("run touch x")
        self.assertTrue(self.exists("x"))


class Changes(Case):
    """A private runtime that still serves never answers from settings that are no longer so."""

    def get(self):
        return self.ithaca("config", "get", "limits.turn_steps", check=0).stdout.strip()

    def test_file_and_variable_count_at_once(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "60000"
        self.run_json("hello")
        before = self.pids()["runner"]
        self.assertEqual(self.get(), "100")
        self.assertEqual(self.pids()["runner"], before, "the same settings must not start another runner")
        self.ithaca("config", "set", "limits.turn_steps", "9", check=0)
        self.assertEqual(self.get(), "9")
        self.env["ITHACA__LIMITS__TURN_STEPS"] = "8"
        self.assertEqual(self.get(), "8")

    def test_key_that_is_exported_after_it_was_missed(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "60000"
        self.serve("steps:\n  - answer: [ { text: fine } ]\n")
        key = self.env.pop("TEST_KEY")
        self.ithaca("run", "go", check=2)
        self.env["TEST_KEY"] = key
        self.assertEqual(self.run_json("go")["text"], "fine")

    def test_a_busy_one_is_not_asked_and_not_ended(self):
        self.script("steps:\n  - answer: [ { delay: 4000 }, { text: done } ]\n")
        s = self.stream("go")
        s.until("model.started")
        p = self.ithaca("run", "other", env={"ITHACA__MODE": "read_only"}, check=1)
        self.assertIn("environment", p.stderr)
        self.assertIn("wait", p.stderr)
        self.assertEqual(s.end(), 0)
        self.assertEqual(s.events[-1]["body"]["status"], "answered")


class Commands(Case):
    def test_list_has_every_key_with_its_origin(self):
        self.config("limits:\n  turn_steps: 11\nproviders:\n  mine: { api: anthropic, api_key: sk-very-secret-value }\n")
        p = self.ithaca("config", "list", "--json", check=0)
        rows = {r["key"]: r for r in json.loads(p.stdout)["keys"]}
        self.assertEqual(rows["limits.turn_steps"]["layer"], "home")
        self.assertEqual(rows["limits.turn_steps"]["line"], 2)
        self.assertTrue(rows["limits.turn_steps"]["file"].endswith("config.yaml"))
        self.assertEqual(rows["mode"]["layer"], "default")
        self.assertNotIn("very-secret", p.stdout + self.ithaca("config", "list", check=0).stdout)

    def test_get_unknown_key_names_the_nearest(self):
        p = self.ithaca("config", "get", "limits.turn_stepz", check=2)
        self.assertIn("turn_steps", p.stderr)

    def test_set_keeps_comments_and_layout(self):
        text = "# my settings\nmodel: offline/rules   # the free one\n\nlimits:\n  # not too many\n  turn_steps: 50   # fifty\n"
        self.config(text)
        self.ithaca("config", "set", "limits.turn_steps", "60", check=0)
        self.ithaca("config", "set", "mode", "read_only", check=0)
        with open(os.path.join(self.home, "config.yaml")) as f:
            now = f.read()
        self.assertIn(text.replace("turn_steps: 50 ", "turn_steps: 60 "), now)
        self.assertEqual(self.ithaca("config", "get", "mode", check=0).stdout, "read_only\n")

    def test_set_makes_the_file(self):
        self.ithaca("config", "set", "catalog.models.\"a/b-1.5\".context", "5000", check=0)
        p = self.ithaca("config", "get", "catalog.models.\"a/b-1.5\".context", check=0)
        self.assertEqual(p.stdout, "5000\n")
        self.assertEqual(os.stat(os.path.join(self.home, "config.yaml")).st_mode & 0o777, 0o600)

    def test_set_refuses_what_the_table_refuses_and_writes_nothing(self):
        self.config("mode: workspace_write\n")
        for key, value, says in (("limits.turn_steps", "0", "1..10000"), ("limits.turn_steps", "many", "whole number"),
                                 ("mode", "readonly", "read_only"), ("limits.turn_stepz", "5", "turn_steps"),
                                 ("permissions.deny", "[\"Exek(rm *)\"]", "Exec")):
            p = self.ithaca("config", "set", key, value, check=2)
            self.assertIn(says, p.stderr)
            self.assertNotIn(".new", p.stderr)
        with open(os.path.join(self.home, "config.yaml")) as f:
            self.assertEqual(f.read(), "mode: workspace_write\n")

    def test_validate(self):
        good = self.write("good.yaml", "mode: read_only\n")
        bad = self.write("bad.yaml", "mode: read_only\npermissions:\n  deny: [ \"Exex(rm *)\" ]\n")
        self.assertIn("is valid", self.ithaca("config", "validate", good, check=0).stdout)
        p = self.ithaca("config", "validate", bad, check=2)
        self.assertIn("bad.yaml", p.stderr)
        self.assertIn("line 3", p.stderr)
        self.assertIn("Exec", p.stderr)
        self.assertIn("nofile.yaml", self.ithaca("config", "validate", "nofile.yaml", check=2).stderr)

    def test_validate_takes_a_relative_path(self):
        self.write("good.yaml", "mode: read_only\n")
        self.assertIn("is valid", self.ithaca("config", "validate", "good.yaml", check=0).stdout)

    def test_schema_and_default_come_from_the_table(self):
        schema = json.loads(self.ithaca("config", "schema", check=0).stdout)
        steps = schema["properties"]["limits"]["properties"]["turn_steps"]
        self.assertEqual((steps["minimum"], steps["maximum"], steps["default"]), (1, 10000, 100))
        self.assertFalse(schema["additionalProperties"])
        self.assertEqual(json.loads(self.ithaca("config", "schema", "--json", check=0).stdout)["schema"], schema)
        text = self.ithaca("config", "default", check=0).stdout
        self.ithaca("config", "validate", self.write("default.yaml", text), check=0)
        self.assertIn("turn_steps: 100", text)


class Mistakes(Case):
    """Each with file, line, what was expected and the nearest name."""

    def refused(self, text, line, *says):
        self.config(text)
        p = self.ithaca("run", "--json", "hello", check=2)
        self.assertIn("config.yaml", p.stderr)
        if line:
            self.assertIn("line %d" % line, p.stderr)
        for s in says:
            self.assertIn(s, p.stderr)
        error = json.loads(p.stdout)
        self.assertEqual((error["status"], error["error"]["code"]), ("failed", "config"))

    def test_unknown_key(self):
        self.refused("model: offline/rules\nlimts:\n  turn_steps: 4\n", 2, "limts", "limits")

    def test_unknown_key_below(self):
        self.refused("providers:\n  x:\n    api: anthropic\n    base_ulr: \"http://127.0.0.1/\"\n", 4, "base_ulr", "base_url")

    def test_type(self):
        self.refused("limits:\n  turn_steps: many\n", 2, "limits.turn_steps", "whole number")

    def test_range(self):
        self.refused("limits:\n  turn_steps: 100000\n", 2, "100000", "1..10000")

    def test_choice(self):
        self.refused("mode: workspace_wirte\n", 1, "workspace_write")

    def test_syntax(self):
        self.refused("model: offline/rules\nlimits: { turn_steps: 4\nmode: read_only\n", 3)

    def test_tab(self):
        self.refused("limits:\n\tturn_steps: 4\n", 2)

    def test_duplicate_key(self):
        self.refused("mode: read_only\nmode: workspace_write\n", 2, "mode")

    def test_not_a_map(self):
        self.refused("- mode\n", 1)

    def test_invalid_utf8(self):
        with open(os.path.join(self.home, "config.yaml"), "wb") as f:
            f.write(b"mode: read_only\nmodel: \"a/\xff\xfe\"\n")
        p = self.ithaca("run", "hello", check=2)
        self.assertIn("config.yaml", p.stderr)
        self.assertIn("UTF-8", p.stderr)

    def test_variable(self):
        p = self.ithaca("run", "hello", env={"ITHACA__LIMITS__TURN_STEPZ": "3"}, check=2)
        self.assertIn("ITHACA__LIMITS__TURN_STEPZ", p.stderr)
        self.assertIn("turn_steps", p.stderr)
        p = self.ithaca("run", "hello", env={"ITHACA__LIMITS__TURN_STEPS": "0"}, check=2)
        self.assertIn("1..10000", p.stderr)

    def test_no_words_twice(self):
        p = self.ithaca("config", "set", "limits.turn_steps", "0", check=2)
        self.assertEqual(p.stderr.count("turn_steps"), 1, p.stderr)

    def test_unreadable_file_is_no_missing_file(self):
        os.mkdir(os.path.join(self.home, "config.yaml"))
        p = self.ithaca("run", "hello")
        self.assertNotEqual(p.returncode, 0)
        self.assertIn("config.yaml", p.stderr)

    def test_named_file_must_exist(self):
        p = self.ithaca("--config", "nowhere.yaml", "run", "hello", check=2)
        self.assertIn("nowhere.yaml", p.stderr)

    def test_secrets_are_not_quoted(self):
        self.config("providers:\n  x: { api: anthropic, api_key: [ sk-secret-value-123 ] }\n")
        p = self.ithaca("run", "hello", check=2)
        self.assertNotIn("sk-secret-value-123", p.stderr)


class Workspace(Case):
    """.ithaca.yaml is input from strangers."""

    def notices(self, session):
        return " ".join(e["body"]["text"] for e in self.events(session) if e["kind"] == "notice")

    def test_narrows(self):
        self.write(".ithaca.yaml", "mode: read_only\n")
        r = self.run_json("run touch made", check=None)
        self.assertFalse(self.exists("made"))
        self.assertEqual([t["tool"] for t in r["effects"]], ["exec"])
        self.assertEqual(self.notices(r["session"]), "")

    def test_adds_rules_and_lowers_limits(self):
        self.write(".ithaca.yaml", "permissions: { deny: [ \"Exec(touch *)\" ] }\nlimits: { turn_steps: 1 }\n")
        r = self.run_json("run touch made", check=4)
        self.assertFalse(self.exists("made"))
        self.assertEqual(r["effects"][0]["status"], "denied")

    def test_widening_is_left_out_and_said(self):
        self.config("mode: read_only\nlimits: { turn_steps: 5 }\npermissions: { deny: [ \"Exec(rm *)\" ] }\n")
        self.write(".ithaca.yaml", "mode: danger_full_access\nlimits:\n  turn_steps: 500\nproviders:\n  anthropic:\n"
                   "    base_url: \"http://127.0.0.1:9/\"\npermissions:\n  allow: [ \"Exec(*)\" ]\n")
        r = self.run_json("run touch made", check=None)
        self.assertFalse(self.exists("made"))
        said = self.notices(r["session"])
        for key in ("mode", "limits.turn_steps", "providers", "permissions.allow"):
            self.assertIn(key, said)
        self.assertIn(".ithaca.yaml", said)

    def test_the_notice_is_seen_by_the_user(self):
        self.write(".ithaca.yaml", "mode: danger_full_access\n")
        p = self.ithaca("run", "hello", check=0)
        self.assertIn(".ithaca.yaml", p.stderr)
        self.assertIn("mode", p.stderr)

    def test_mistake_in_it_has_file_and_line(self):
        self.write(".ithaca.yaml", "mode: read_only\nlimits:\n  turn_stepz: 1\n")
        p = self.ithaca("run", "hello", check=2)
        self.assertIn(".ithaca.yaml", p.stderr)
        self.assertIn("line 3", p.stderr)
        self.assertIn("turn_steps", p.stderr)

    def test_a_link_or_a_pipe_in_its_place_is_harmless(self):
        os.mkfifo(os.path.join(self.work, ".ithaca.yaml"))
        p = self.ithaca("run", "hello")
        self.assertIn(p.returncode, (0, 2))


class Keys(Case):
    ANSWER = "steps:\n  - answer: [ { text: fine } ]\n"

    def sent(self):
        self.run_json("go")
        return self.server.requests()[-1]["headers"]["authorization"]

    def test_command_gives_the_first_line(self):
        self.serve(self.ANSWER, extra="    api_key_cmd: \"echo from-cmd; echo second line\"\n")
        self.assertEqual(self.sent(), "Bearer from-cmd")

    def test_inline_wins(self):
        self.serve(self.ANSWER, extra="    api_key_cmd: \"echo from-cmd\"\n    api_key: from-file\n")
        self.assertEqual(self.sent(), "Bearer from-file")

    def test_failing_command_is_named(self):
        self.serve(self.ANSWER, extra="    api_key_cmd: \"exit 3\"\n")
        p = self.ithaca("run", "go", check=2)
        self.assertIn("api_key_cmd", p.stderr)
        self.assertEqual(self.server.requests(), [])

    def test_headers_of_the_provider_are_sent(self):
        self.serve(self.ANSWER, extra="    headers: { x-team: blue }\n")
        self.run_json("go")
        self.assertEqual(self.server.requests()[-1]["headers"]["x-team"], "blue")


if __name__ == "__main__":
    main()
