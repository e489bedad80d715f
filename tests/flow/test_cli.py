#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The command line from outside: what is typed wrongly, help and JSON of every command, completion and man page, what
can be wrong with a model, text that is none, and the exit statuses that scripts rely on."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import unittest

from harness import BIN, DEADLINE, Case, main

# Operands that a command with --json needs to answer; SESSION and APPROVAL are made by the test. Every command that
# offers --json has a row, and a command that takes something away comes last.
JSON_OPERANDS = {
    "session list": [], "session show": ["SESSION"], "session events": ["SESSION"], "session rename": ["SESSION", "new-name"],
    "approval list": [], "approval allow": ["APPROVAL"], "approval deny": ["APPROVAL"],
    "config list": [], "config get": ["limits.turn_steps"], "config set": ["limits.turn_steps", "7"], "config validate": [], "config schema": [], "config default": [],
    "doctor": [], "why": ["exec", "ls -l"], "tool list": [], "status": [], "version": [], "run": ["hello"],
    "budget show": [], "secret set": ["a.key", "--host", "localhost"], "secret list": [], "secret remove": ["a.key"],
    "catalog show": [], "catalog verify": [],
    "context": ["SESSION", "and now?"],
    "logs": [], "restart": ["shelld"], "start": [], "stop": [],
    "session delete": ["SESSION"],
}
STDIN = {"secret set": "value-of-a-secret"}
ELSEWHERE = {"catalog fetch", "image build", "image list"}  # need a server: flow/catalog, tests/tiers


class Words(Case):
    def fails(self, args, *says, check=2, **kw):
        p = self.ithaca(*args, check=check, **kw)
        self.assertRegex(p.stderr, r"\Aithaca: [^\n]+\n\Z", args)
        for s in says:
            self.assertIn(s, p.stderr)
        return p

    def test_unknown_commands_name_the_nearest(self):
        for args, nearest in ((["runn", "x"], "ithaca run"), (["sessoin", "list"], "ithaca session list"), (["stauts"], "ithaca status"),
                              (["session", "lst"], "list"), (["confg", "get", "x"], "ithaca config"), (["qqqqqq"], "--help"),
                              (["session"], "list, show"), (["config", "nope"], "get")):
            self.assertEqual(self.fails(args, nearest).stdout, "")

    def test_usage_errors(self):
        for args, says in (
                (["run", "--jsn", "x"], "did you mean --json?"),
                (["run", "-Z", "x"], "-Z"),
                (["run"], "no task was given"),
                (["run", "--mode", "workspacewrite", "x"], "did you mean workspace_write?"),
                (["run", "--mode"], "needs a value"),
                (["run", "--tier", "moon", "x"], "microvm"),
                (["run", "--yes=maybe", "x"], "true or false"),
                (["run", "--json", "--stream-json", "x"], "exclude"),
                (["run", "--new", "--continue"], "excludes"),
                (["run", "--insecure", "--tier", "cell", "x"], "--insecure"),
                (["run", "--workspace", "/nope", "x"], "/nope"),
                (["run", "--workspace", "/etc/passwd", "x"], "not a directory"),
                (["session", "list", "--limit", "0"], "1..1000"),
                (["session", "list", "--limit", "many"], "limit"),
                (["session", "show"], "session is missing"),
                (["session", "events", "a", "b"], "unexpected operand"),
                (["config", "get"], "key is missing"),
                (["completion", "tcsh"], "bash, zsh, fish"),
                (["completion"], "bash"),
                (["help", "nope"], "nope"),
                (["--home"], "needs a value"),
                (["-x"], "unknown option -x"),
                (["--home", "x"], "no command"),
                (["-e", "BAD", "run", "x"], "NAME=VALUE"),
                (["--user", "bob", "run", "x"], "bob")):
            self.fails(args, says)
        self.assertFalse(os.path.exists(os.path.join(self.home, "run")), "a wrong command line started a runner")
        self.fails(["config", "get", "limits.turn_stepz"], "turn_steps")

    def test_wrong_words_still_give_the_object(self):
        for args in (["run", "--json", "--mode", "bad", "x"], ["run", "--jsn", "--json", "x"], ["run", "--json"],
                     ["run", "--json", "--model", "offline", "x"]):
            r = json.loads(self.fails(args).stdout)
            self.assertEqual((r["status"], r["error"]["code"] in ("usage", "config")), ("failed", True))
        self.assertEqual(self.fails(["run", "--mode", "bad", "--", "--json"]).stdout, "")

    def test_no_command_shows_what_there_is(self):
        p = self.ithaca(check=2)
        self.assertIn("usage: ithaca COMMAND", p.stdout)
        self.assertEqual(self.ithaca("--help", check=0).stdout, p.stdout)
        self.assertEqual(self.ithaca("help", check=0).stdout, p.stdout)

    def test_too_many_words(self):
        self.fails(["run"] + ["x"] * 5000, "more than")

    def test_options_before_and_after_the_command(self):
        for args in (["--home", self.home, "session", "list", "--json"], ["session", "list", "--json", "--home", self.home],
                     ["session", "--home=" + self.home, "list", "--json"]):
            env = {"ITHACA_HOME": os.path.join(self.dir, "other")}
            if args[0] == "session" and args[1] != "list":  # words of a command stand together
                self.fails(args, "session", env=env)
            else:
                self.assertEqual(json.loads(self.ithaca(*args, env=env, check=0).stdout), {"sessions": []})
        self.assertFalse(os.path.exists(os.path.join(self.dir, "other")))

    def test_an_operand_may_begin_with_a_dash(self):
        session = self.run_json("--", "--json is an option")["session"]
        self.assertEqual(self.events(session)[1]["body"]["text"], "--json is an option")


class Commands(Case):
    def commands(self):
        return re.findall(r"^\| `ithaca ([^`]+)` \|", self.ithaca("docs", "cli", check=0).stdout, re.M)

    def test_help_of_each(self):
        names = self.commands()
        self.assertGreater(len(names), 20)
        for name in names:
            p = self.ithaca(*name.split(), "--help", check=0)
            self.assertEqual(p.stderr, "")
            self.assertTrue(p.stdout.startswith("usage: ithaca " + name), p.stdout)
            self.assertEqual([line for line in p.stdout.splitlines() if len(line) > 100], [])
            self.assertEqual(self.ithaca("help", *name.split(), check=0).stdout, p.stdout)
            self.assertEqual(self.ithaca(*name.split(), "-h", "--nonsense", check=0).stdout, p.stdout)
        self.assertFalse(os.path.exists(os.path.join(self.home, "run")), "help started a runner")

    def waiting(self):
        self.config("permissions: { ask: [\"Exec(*)\"] }\n")
        self.ithaca("run", "run true", check=3)
        return json.loads(self.ithaca("approval", "list", "--json", check=0).stdout)["approvals"][0]

    def test_json_of_each(self):
        offering = {n for n in self.commands() if "--json " in self.ithaca(*n.split(), "--help", check=0).stdout}
        self.assertEqual(offering - set(JSON_OPERANDS) - ELSEWHERE, set(), "a command with --json that this test does not know")
        for name, operands in JSON_OPERANDS.items():
            self.assertIn(name, offering)
            if name.startswith("approval"):
                wanted = self.waiting() if "APPROVAL" in operands else {}
            else:
                wanted = {}
            session = json.loads(self.ithaca("session", "list", "--json", check=0).stdout)["sessions"]
            known = {"SESSION": session[0]["session"] if session else self.run_json("hello")["session"],
                     "APPROVAL": wanted.get("approval") or wanted.get("id")}
            p = self.ithaca(*name.split(), "--json", *[known.get(o, o) for o in operands], stdin=STDIN.get(name), check=0)
            self.assertTrue(p.stdout, name)
            for line in p.stdout.splitlines() if name in ("session events", "logs") else [p.stdout]:
                self.assertIsInstance(json.loads(line), dict)

    def test_json_of_what_fails(self):
        for code, status, args in (("not_found", 1, ["session", "show", "nope"]), ("usage", 2, ["session", "list", "--limit", "0"]),
                                   ("not_found", 1, ["session", "events", "nope"]), ("usage", 2, ["tool", "list", "extra"]),
                                   ("not_found", 1, ["approval", "allow", "nope"]), ("usage", 2, ["session", "--bogus"]),
                                   ("not_found", 1, ["why", "nope", "x"]), ("usage", 2, ["nope"])):
            p = self.ithaca(*args, "--json", check=status)
            error = json.loads(p.stdout)["error"]
            self.assertEqual(error["code"], code, args)
            self.assertEqual(p.stderr, "ithaca: %s\n" % error["message"])
            self.assertEqual(self.ithaca(*args, check=status).stdout, "")

    def test_version(self):
        said = self.ithaca("--version", check=0).stdout
        self.assertRegex(said, r"\Aithaca \d+\.\d+\.\d+\n\Z")
        self.assertEqual(json.loads(self.ithaca("version", "--json", check=0).stdout)["version"], said.split()[1])

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            for args in (["--help"], ["run", "--json", "hello"], ["session", "list"], ["config", "default"]):
                p = subprocess.run([os.path.join(BIN, "ithaca"), *args], cwd=self.work, env=self.env, stdin=subprocess.DEVNULL,
                                   stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE)
                self.assertEqual(p.returncode, 1, args)
                self.assertIn("No space left", p.stderr)

    def test_standard_descriptors_that_are_closed(self):
        def sh(how, *args):
            return subprocess.run(["/bin/sh", "-c", 'exec "$0" "$@" ' + how, os.path.join(BIN, "ithaca"), *args], cwd=self.work,
                                  env=self.env, capture_output=True, text=True, timeout=DEADLINE)

        self.assertEqual(sh("<&-", "run", "hello").returncode, 0)
        self.assertEqual(sh("2>&-", "run", "hello").returncode, 0)
        self.assertEqual(sh("<&- 2>&-", "session", "list").returncode, 0)
        for args in (["run", "hello"], ["session", "list"], ["version"], ["--version"]):
            p = sh("<&- >&-", *args)
            self.assertEqual(p.returncode, 1, args)
            if args != ["--version"]:
                self.assertIn("cannot write the output: Bad file descriptor", p.stderr)

    def test_a_reader_that_goes_away(self):
        read, write = os.pipe()
        os.close(read)
        p = subprocess.run([os.path.join(BIN, "ithaca"), "config", "default"], cwd=self.work, env=self.env, stdin=subprocess.DEVNULL,
                           stdout=write, stderr=subprocess.PIPE, text=True, timeout=DEADLINE)
        os.close(write)
        self.assertEqual(p.returncode, 1)


class Scripts(Case):
    def bash(self, *words):
        """What bash offers for the last word."""
        script = ("eval \"$(%s completion bash)\"; COMP_WORDS=(ithaca \"$@\"); COMP_CWORD=$#; COMPREPLY=(); COMP_LINE=\"ithaca $*\"; "
                  "COMP_POINT=${#COMP_LINE}; _ithaca ithaca \"${@: -1}\" x; printf '%%s\\n' \"${COMPREPLY[@]}\"" % os.path.join(BIN, "ithaca"))
        p = subprocess.run(["bash", "--norc", "--noprofile", "-c", script, "-", *words], cwd=self.work, env=self.env,
                           capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual((p.returncode, p.stderr), (0, ""))
        return {w.strip() for w in p.stdout.splitlines()}

    def test_completion_in_bash(self):
        self.assertTrue({"run", "session", "config"} <= self.bash(""))
        self.assertEqual(self.bash("sess"), {"session"})
        self.assertTrue({"list", "show", "events"} <= self.bash("session", ""))
        self.assertTrue({"--json", "--model", "--home"} <= self.bash("run", "--"))
        self.assertEqual(self.bash("run", "--mode", "w"), {"workspace_write"})
        self.assertEqual(self.bash("completion", "z"), {"zsh"})

    def test_completion_in_other_shells(self):
        for shell, check in (("zsh", ["zsh", "-n"]), ("fish", ["fish", "-n"])):
            text = self.ithaca("completion", shell, check=0).stdout
            self.assertIn("workspace_write", text)
            if shutil.which(shell):
                subprocess.run([*check, self.write("c." + shell, text)], check=True, env=self.env, timeout=DEADLINE)

    def test_man_page(self):
        page = self.ithaca("docs", "man", check=0).stdout
        for word in (".TH ITHACA 1", ".SH NAME", ".SH SYNOPSIS", "session events", "\\-\\-json"):
            self.assertIn(word, page)
        self.assertEqual([line for line in page.splitlines() if re.match(r"\.(?!(TH|SH|SS|TP|PP|IP|RS|RE|B|I|BR|sp|nf|fi)\b|\\\")", line)], [])
        path = self.write("ithaca.1", page)
        for tool in (["mandoc", "-T", "lint", "-W", "error"], ["groff", "-man", "-ww", "-Tutf8", "-z"]):
            if shutil.which(tool[0]):
                p = subprocess.run([*tool, path], env=self.env, capture_output=True, text=True, timeout=DEADLINE)
                self.assertEqual((p.returncode, p.stdout + p.stderr), (0, ""))


class Models(Case):
    def fails(self, check, code, *says, config=None, args=()):
        if config:
            self.config(config)
        p = self.ithaca("run", "--json", *args, "go", check=check)
        r = json.loads(p.stdout)
        self.assertEqual((r["status"], r["error"]["code"], r["text"]), ("failed", code, ""))
        self.assertTrue(p.stderr.endswith("ithaca: %s\n" % r["error"]["message"]), p.stderr)
        for s in says:
            self.assertIn(s, r["error"]["message"])

    def test_unknown(self):
        self.fails(2, "config", "nope", "providers", args=("--model", "nope/x"))
        self.fails(2, "config", "antropic", args=("--model", "antropic/claude-sonnet-4-5"))
        self.fails(2, "config", "claude-sonnet-4-5", "nearest", args=("--model", "anthropic/claude-sonnet-4-55"))
        self.fails(2, "config", "provider/model", args=("--model", "offline"))
        self.fails(2, "config", "provider/model", config="model: nothing\n")

    def test_missing_key(self):
        self.fails(2, "auth", "ANTHROPIC_API_KEY", args=("--model", "anthropic/claude-sonnet-4-5"))

    def test_unreachable_server(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            where = "127.0.0.1:%d" % s.getsockname()[1]
        self.fails(1, "network", where, config="model: t/m\nproviders:\n  t: { api: anthropic, base_url: \"http://%s\", retries: 1 }\n" % where)

    def test_malformed_stream(self):
        for raw in ("data: {\\\"choices\\\": [{]}\\n\\n", "data: 7\\n\\n", "data: [[[[\\n\\n"):
            self.serve("repeat: true\nsteps: [ { answer: [ { raw: \"%s\" } ] } ]\n" % raw, extra="    retries: 1\n")
            self.fails(1, "protocol", "test")
            self.server.close()
            self.server = None

    def test_broken_script_of_the_offline_model(self):
        self.script("steps:\n  - anwser: []\n")
        self.fails(2, "invalid", "script.yaml", "line 2", "answer")


class Bytes(Case):
    """Text that is not text."""

    def raw(self, *args, input=b""):
        return subprocess.run([os.path.join(BIN, "ithaca").encode(), *args], cwd=self.work, env=self.env, input=input,
                              capture_output=True, timeout=DEADLINE)

    def test_words_that_are_not_utf8(self):
        for args in ((b"run", b"--json", b"\xff\xfe"), (b"session", b"show", b"\xc3("), (b"run", b"--model", b"\x80/x", b"x")):
            p = self.raw(*args)
            self.assertEqual(p.returncode, 2)
            self.assertIn(b"UTF-8", p.stderr)
            p.stderr.decode()

    def test_context_that_is_not_utf8(self):
        p = self.raw(b"run", b"--json", b"what is it?", input=b"caf\xe9 \xff end\n")
        self.assertEqual(p.returncode, 0)
        said = self.events(json.loads(p.stdout)["session"])[1]["body"]["text"]
        self.assertIn("caf\ufffd \ufffd end", said)

    def test_environment_and_files_that_are_not_utf8(self):
        path = os.path.join(self.home, "config.yaml")
        with open(path, "wb") as f:
            f.write(b"model: \xff\n")
        p = self.raw(b"run", b"x")
        self.assertEqual(p.returncode, 2)
        self.assertIn(b"config.yaml", p.stderr)
        p.stderr.decode()

    def test_controls_do_not_reach_the_terminal(self):
        p = self.raw(b"session", b"show", b"a\x1b[31mred")
        self.assertEqual(p.returncode, 1)
        self.assertNotIn(b"\x1b", p.stderr)


class Statuses(Case):
    """The table of exit statuses, each by the plainest way to get there."""

    def test_0_answered(self):
        self.assertEqual(self.run_json("hello", check=0)["status"], "answered")

    def test_1_failed(self):
        self.serve("steps: [ { answer: [ { error: { status: 400, message: no } } ] } ]\n")
        self.assertEqual(self.run_json("go", check=1)["status"], "failed")
        self.ithaca("session", "show", "nosuch", check=1)

    def test_2_usage_or_configuration(self):
        self.ithaca("run", "--nonsense", check=2)
        self.config("limits: { turn_steps: many }\n")
        self.assertEqual(self.run_json("hello", check=2)["status"], "failed")

    def test_3_approval(self):
        self.config("permissions: { ask: [\"Exec(*)\"], deny: [\"Write(*)\"] }\n")
        self.assertEqual(self.run_json("run true", check=3)["status"], "waiting")
        self.assertEqual(len(json.loads(self.ithaca("approval", "list", "--json", check=0).stdout)["approvals"]), 1)

    def test_4_limit(self):
        self.script("steps:\n" + "".join("  - answer: [ { call: { tool: stat, args: { path: f%d } } } ]\n" % i for i in range(5)))
        self.assertEqual(self.run_json("go", check=4, env={"ITHACA__LIMITS__TURN_STEPS": "2"})["status"], "limit")

    def test_5_cancelled(self):
        self.script("steps: [ { answer: [ { text: a }, { delay: 60000 }, { text: b } ] } ]\n")
        s = self.stream("go")
        s.until("model.started")
        s.proc.send_signal(signal.SIGINT)
        self.assertEqual(s.end(), 5)


if __name__ == "__main__":
    main()
