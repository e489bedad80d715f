#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Rules and approvals from outside: what is allowed, asked and denied, why, and who answers how."""
import json
import os
import unittest

from harness import Case, main


class Rules(Case):
    def rules(self, allow=(), ask=(), deny=(), mode="workspace_write"):
        self.config("mode: %s\npermissions:\n  allow: %s\n  ask: %s\n  deny: %s\n" %
                    (mode, json.dumps(list(allow)), json.dumps(list(ask)), json.dumps(list(deny))))

    def decision(self, tool, *text, mode=None):
        args = ["why", tool, "--json"] + (["--mode", mode] if mode else []) + ["--", *text]
        return json.loads(self.ithaca(*args, check=0).stdout)

    def test_deny_beats_ask_beats_allow(self):
        self.rules(allow=["Exec(git *)"], ask=["Exec(git push *)"], deny=["Exec(git push --force *)"])
        self.assertEqual(self.decision("exec", "git", "status")["decision"], "allow")
        self.assertEqual(self.decision("exec", "git push origin")["decision"], "ask")
        d = self.decision("exec", "git push --force origin")
        self.assertEqual(d["decision"], "deny")
        self.assertEqual(d["rule"], "Exec(git push --force *)")
        self.assertIn("config.yaml", d["origin"])
        self.assertIn("line 5", d["origin"])

    def test_each_command_of_a_script_counts(self):
        self.rules(deny=["Exec(id)"], mode="danger_full_access", allow=["Exec(ls *)"])
        self.assertEqual(self.decision("exec", "ls")["decision"], "allow")
        self.assertEqual(self.decision("exec", "ls && id")["decision"], "deny")
        self.assertEqual(self.decision("exec", "ls | xargs id")["decision"], "deny")
        self.assertEqual(self.decision("exec", "ls $(id)")["decision"], "deny")
        self.assertEqual(self.decision("exec", "ls && whoami")["decision"], "ask")

    def test_opaque_scripts_satisfy_no_exact_rule(self):
        self.rules(allow=["Exec(ls *)", "Exec(eval *)", "Exec(sh *)"], mode="danger_full_access")
        for script in ("eval ls", "sh -c ls", "ls $(cat x)", "PATH=. ls", "`ls`", "$x"):
            self.assertEqual(self.decision("exec", script)["decision"], "ask", script)
        self.rules(allow=["Exec(*)"], mode="danger_full_access")
        self.assertEqual(self.decision("exec", "eval ls")["decision"], "allow")

    def test_what_a_rule_may_be_about_asks(self):
        self.rules(deny=["Exec(touch made *)"])
        for script in ("x=made; touch $x", "touch -d now made", "echo made | xargs touch", "echo touch made | sh"):
            self.assertEqual(self.decision("exec", script)["decision"], "ask", script)
        self.assertEqual(self.decision("exec", "touch other $x")["decision"], "allow")
        self.assertIn("may match 'touch'", self.ithaca("why", "exec", "touch $x", check=0).stdout)
        self.run_json("run x=made; touch $x", check=3)
        r = self.run_json("--yes", "run x=made; touch $x")
        self.assertEqual(r["effects"][0]["status"], "denied")
        self.assertFalse(self.exists("made"))

    def test_modes(self):
        self.assertEqual(self.decision("exec", "ls", mode="danger_full_access")["decision"], "ask")
        self.assertEqual(self.decision("exec", "ls", mode="workspace_write")["decision"], "allow")
        self.assertEqual(self.decision("write", "a", mode="read_only")["decision"], "deny")
        self.rules(allow=["Write(**)"])
        self.assertEqual(self.decision("write", "a", mode="read_only")["decision"], "deny", "no rule lifts what the mode denies")

    def test_paths(self):
        self.rules(deny=["Read(secret/**)", "Write(*.lock)"])
        self.assertEqual(self.decision("read", "secret/a/b")["decision"], "deny")
        self.assertEqual(self.decision("read", "x/../secret/a")["decision"], "deny")
        self.assertEqual(self.decision("read", "secrets")["decision"], "allow")
        self.assertEqual(self.decision("write", "a.lock")["decision"], "deny")
        self.assertEqual(self.decision("write", "d/a.lock")["decision"], "allow")

    def test_why_in_words_and_mistakes(self):
        self.rules(deny=["Exec(rm *)"])
        p = self.ithaca("why", "exec", "rm x", check=0)
        self.assertIn("deny", p.stdout)
        self.assertIn("Exec(rm *)", p.stdout)
        p = self.ithaca("why", "exex", "rm x", check=1)
        self.assertEqual(p.stderr, "ithaca: there is no tool exex (did you mean exec? `ithaca tool list` lists them)\n")
        p = self.ithaca("why", "zzzzzz", "rm x", check=1)
        self.assertEqual(p.stderr, "ithaca: there is no tool zzzzzz (`ithaca tool list` lists them)\n")

    def test_why_names_the_walls(self):
        def walls(*args, **kw):
            return {w["name"]: w["text"] for w in self.decision(*args, **kw)["walls"]}
        self.assertIn("none: what is at /shared/a", walls("path", "a")["write"])
        self.assertRegex(walls("path", "a", mode="read_only")["write"], "^mode: .*a cell can write: /scratch")
        w = walls("path", "/etc/passwd")
        self.assertRegex(w["read"], "^none: ")
        self.assertRegex(w["write"], "^system: /etc is ")
        self.assertEqual(list(walls("read", "/vault/x")), ["read"])
        self.assertRegex(walls("read", "/vault/x")["read"], "^outside: .*vault")
        self.assertEqual(list(walls("write", "/x")), ["write"])
        w = walls("exec", "ls")
        self.assertIn("/shared /scratch", w["writable"])
        self.assertEqual(w["network"], "no network but lo")
        self.assertIn("setuid", w)
        self.assertEqual(list(walls("exec", "ls", mode="danger_full_access")), ["none"])
        self.config("egress: { allow: [ \"a.test:443\" ] }\n")
        self.assertIn("proxy", walls("exec", "ls")["network"])
        self.assertIn("walls of the cell", self.ithaca("why", "path", "/etc/x", check=0).stdout)
        self.config("tier: process\n")
        self.assertEqual(list(walls("path", "/etc/x")), ["basic"])

    def test_why_of_a_host(self):
        self.config("egress: { allow: [ \"a.test:443\" ], deny: [ \"b.a.test\" ] }\n")
        def said(*args, **kw):
            d = self.decision("host", *args, **kw)
            return d["decision"], d["rule"], d["origin"]
        self.assertEqual(said("a.test"), ("allow", "a.test:443", "egress.allow"))
        self.assertEqual(said("https://b.a.test/x"), ("deny", "b.a.test", "egress.deny"))
        self.assertEqual(said("c.test:22"), ("deny", "default", "built in"))
        self.assertIn("rule to allow: Fetch(c.test:22)", self.decision("host", "c.test:22")["reason"])
        self.assertIn("a loopback address", self.decision("host", "127.0.0.1:80")["reason"])
        self.assertEqual(said("c.test", mode="danger_full_access")[0], "allow")
        self.assertIn("a host has letters", self.ithaca("why", "host", "two words", check=2).stderr)

    def test_why_and_what_happens_agree(self):
        self.rules(deny=["Exec(touch *)", "Read(secret/**)"])
        self.write("secret/a", "hidden")
        r = self.run_json("run touch made")
        self.assertFalse(self.exists("made"))
        self.assertEqual(r["effects"][0]["status"], "denied")
        asked = [e["body"] for e in self.events(r["session"]) if e["kind"] == "tool.requested"][0]
        why = self.decision("exec", "touch made")
        self.assertEqual((asked["decision"], asked["rule"], asked["reason"]), (why["decision"], why["rule"], why["reason"]))
        r = self.run_json("read secret/a")
        self.assertNotIn("hidden", json.dumps(self.events(r["session"])))
        r = self.run_json("run cat secret/a")
        self.assertNotIn("hidden", json.dumps(self.events(r["session"])))

    def test_the_model_is_told_and_goes_on(self):
        self.rules(deny=["Exec(rm *)"])
        self.write("x", "")
        self.serve("by: sequence\nsteps:\n  - answer: [ { call: { tool: exec, args: { command: \"rm x\" } } } ]\n"
                   "  - answer: [ { text: \"I may not.\" } ]\n", extra="permissions: { deny: [ \"Exec(rm *)\" ] }\n")
        r = self.run_json("go")
        self.assertEqual(r["text"], "I may not.")
        told = self.server.requests()[1]["body"]["messages"][-1]
        self.assertEqual(told["role"], "tool")
        self.assertIn("Exec(rm *)", told["content"])
        self.assertTrue(self.exists("x"))


class Approvals(Case):
    def setUp(self):
        super().setUp()
        self.config("permissions: { ask: [\"Exec(rm *)\"] }\n")
        for name in ("x", "y"):
            self.write(name, "")

    def waiting(self):
        return json.loads(self.ithaca("approval", "list", "--json", check=0).stdout)["approvals"]

    def test_exit_3_says_how_to_go_on(self):
        p = self.ithaca("run", "run rm x", check=3)
        a = self.waiting()[0]
        self.assertIn("approval allow %s," % a["id"], p.stderr)
        self.assertIn(a["session"], p.stderr)
        self.assertTrue(self.exists("x"))
        self.assertEqual((a["tool"], a["summary"]), ("exec", "Exec(rm x)"))
        self.assertGreater(a["expires_at_ms"], a["created_at_ms"])

    def test_allow_from_a_second_client(self):
        r = self.run_json("run rm x", check=3)
        self.assertEqual((r["status"], r["error"]["code"]), ("waiting", "approval_needed"))
        a = self.waiting()[0]
        self.ithaca("approval", "allow", a["id"], check=0)
        r = self.run_json("--session", r["session"], "--continue", check=None)
        self.assertFalse(self.exists("x"))
        self.assertEqual(self.waiting(), [])
        self.assertEqual([e["body"]["status"] for e in self.events(a["session"]) if e["kind"] == "turn.finished"], ["answered"])

    def test_deny_from_a_second_client(self):
        r = self.run_json("run rm x", check=3)
        self.ithaca("approval", "deny", self.waiting()[0]["id"], check=0)
        self.assertTrue(self.exists("x"))
        log = self.events(r["session"])
        self.assertEqual([e["body"]["decision"] for e in log if e["kind"] == "approval.resolved"], ["deny"])
        self.assertEqual([e["body"]["status"] for e in log if e["kind"] == "turn.finished"], ["denied"])
        self.assertEqual([e for e in log if e["kind"] == "effect.intent"], [])

    def test_waiting_survives_the_end_of_the_runtime(self):
        r = self.run_json("run rm x", check=3)
        self.stop()
        self.ithaca("approval", "allow", self.waiting()[0]["id"], check=0)
        self.ithaca("run", "--session", r["session"], "--continue")
        self.assertFalse(self.exists("x"))

    def test_answered_twice_and_unknown(self):
        self.run_json("run rm x", check=3)
        a = self.waiting()[0]["id"]
        self.ithaca("approval", "deny", a, check=0)
        p = self.ithaca("approval", "allow", a)
        self.assertNotEqual(p.returncode, 0)
        self.assertTrue(self.exists("x"))
        self.assertIn("approval list", self.ithaca("approval", "allow", "nosuch", check=1).stderr)

    def test_always_reaches_the_same_command_in_the_session_only(self):
        r = self.run_json("run rm x", check=3)
        self.ithaca("approval", "allow", self.waiting()[0]["id"], "--always", check=0)
        self.ithaca("run", "--session", r["session"], "--continue")
        self.write("x", "again")
        self.run_json("--session", r["session"], "run rm x", check=0)
        self.assertFalse(self.exists("x"))
        self.run_json("--session", r["session"], "run rm y", check=3)
        self.write("x", "again")
        self.run_json("run rm x", check=3)
        self.assertTrue(self.exists("x"))

    def on_terminal(self, key, *after):
        p = self.pty("run", "run rm x")
        p.until(b"allow it?")
        self.assertTrue(self.exists("x"))
        p.send(key)
        return p.end(), p.out

    def test_terminal_once(self):
        rc, _ = self.on_terminal(b"y")
        self.assertEqual(rc, 0)
        self.assertFalse(self.exists("x"))
        self.assertEqual(self.run_json("run rm y", check=3)["status"], "waiting")

    def test_terminal_always(self):
        rc, _ = self.on_terminal(b"a")
        self.assertEqual(rc, 0)
        self.assertFalse(self.exists("x"))

    def test_terminal_no(self):
        rc, out = self.on_terminal(b"n")
        self.assertEqual(rc, 3)
        self.assertTrue(self.exists("x"))
        self.assertIn(b"denied", out)

    def test_terminal_escape_is_no(self):
        self.assertEqual(self.on_terminal(b"\x1b")[0], 3)
        self.assertTrue(self.exists("x"))

    def test_terminal_sees_an_answer_from_elsewhere(self):
        p = self.pty("run", "run rm x")
        p.until(b"allow it?")
        self.ithaca("approval", "allow", self.waiting()[0]["id"], check=0)
        self.assertEqual(p.end(), 0)
        self.assertFalse(self.exists("x"))

    def test_keys_typed_before_the_question_do_not_answer_it(self):
        self.script(json.dumps({"steps": [{"answer": [{"delay": 1500}, {"call": {"tool": "exec", "args": {"command": "rm x"}}}]},
                                          {"answer": [{"text": "done"}]}]}))
        with open(os.path.join(self.home, "config.yaml"), "a") as f:
            f.write("permissions: { ask: [\"Exec(rm *)\"] }\n")
        p = self.pty("run", "go")
        p.until(b"offline/script")
        p.send(b"yyyy")
        p.until(b"allow it?")
        self.assertTrue(self.exists("x"))
        p.send(b"n")
        self.assertEqual(p.end(), 3)
        self.assertTrue(self.exists("x"))

    def test_hostile_summary_is_shown_escaped(self):
        self.script(json.dumps({"steps": [{"answer": [{"call": {"tool": "exec", "args": {
            "command": "rm x # \x1b[2J\x1b[31m\u202egnp.exe\r hidden"}}}]}, {"answer": [{"text": "done"}]}]}))
        with open(os.path.join(self.home, "config.yaml"), "a") as f:
            f.write("permissions: { ask: [\"Exec(rm *)\"] }\n")
        p = self.pty("run", "go")
        p.until(b"allow it?")
        self.assertNotIn(b"\x1b[2J", p.out)
        self.assertNotIn("\u202e".encode(), p.out)
        p.send(b"n")
        p.end()


if __name__ == "__main__":
    main()
