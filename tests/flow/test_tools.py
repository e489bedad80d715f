#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every tool in a real cell, called by the scripted offline model; what the model is told is read from the log."""
import hashlib
import json
import os
import re
import signal
import time
import unittest

from harness import Case, main


class Tools(Case):
    def calls(self, *answers, check=0, args=(), extra=""):
        """Each answer is a list of (tool, arguments); gives the outcomes by step and index, and the run's object."""
        self.config("model: s1/x\nproviders:\n" + "".join(
            "  s%d: { api: offline, script: s%d.yaml }\n" % (i, i) for i in range(1, 200)) + extra)
        self.made = 0
        self.result = self.run_json(*args, "--model", self.scripted(answers), "go", check=check)
        self.log = self.events(self.result["session"])
        out = {}
        for e in self.log:
            b = e["body"]
            if e["kind"] == "effect.outcome":
                step = int(b["effect"].split(".")[1])
                out[step, b["index"]] = b
        return [[out.get((s + 1, i)) for i in range(len(answer))] for s, answer in enumerate(answers)]

    def scripted(self, answers):
        """A model of its own for each script, so that the configuration, and with it the runtime, stays the same."""
        steps = [{"answer": [{"call": {"tool": t, "args": a}} for t, a in answer]} for answer in answers]
        self.made += 1
        with open(os.path.join(self.home, "s%d.yaml" % self.made), "w") as f:
            f.write(json.dumps({"rules": [{"when": {"step": i}, "answer": s["answer"]} for i, s in enumerate(steps)],
                                "steps": [], "otherwise": "builtin"}))
        return "s%d/x" % self.made

    def again(self, tool, **args):
        """One more call in the same session: its outcome."""
        self.run_json("--session", self.result["session"], "--model", self.scripted([[(tool, args)]]), "go on")
        return [e["body"] for e in self.events(self.result["session"]) if e["kind"] == "effect.outcome"][-1]

    def one(self, tool, check=0, **args):
        return self.calls([(tool, args)], check=check)[0][0]

    def ok(self, tool, **args):
        o = self.one(tool, **args)
        self.assertEqual((o["state"], o["is_error"]), ("done", False), o["text"])
        return o

    def bad(self, tool, says, state="not_done", **args):
        o = self.one(tool, **args)
        self.assertTrue(o["is_error"])
        self.assertEqual(o["state"], state)
        self.assertIn(says, o["text"])
        self.assertNotIn("may have happened", o["text"])
        return o


class Reading(Tools):
    def test_read_whole_and_ranges(self):
        self.write("a.txt", "".join("line %d ü\n" % i for i in range(1, 101)))
        whole, part, tail, byte = [o[0] for o in self.calls(
            [("read", {"path": "a.txt"})], [("read", {"path": "/shared/a.txt", "line": 10, "lines": 2})],
            [("read", {"path": "a.txt", "line": 99})], [("read", {"path": "a.txt", "offset": 10, "lines": 1})])]
        self.assertTrue(whole["text"].startswith("line 1 ü\n"))
        self.assertIn("line 100 ü", whole["text"])
        self.assertTrue(part["text"].startswith("line 10 ü\nline 11 ü\n["))
        self.assertIn("line 100", tail["text"])
        self.assertNotIn("line 98", tail["text"])
        self.assertTrue(byte["text"].startswith("line 2 ü"))

    def test_read_mistakes(self):
        self.bad("read", "nofile", path="nofile")
        os.mkdir(os.path.join(self.work, "dir"))
        self.bad("read", "list", path="dir")
        os.mkfifo(os.path.join(self.work, "pipe"))
        self.bad("read", "pipe", path="pipe")

    def test_read_of_a_large_file_says_how_to_go_on(self):
        whole = "".join("%07d\n" % i for i in range(100000))
        self.write("big", whole)
        text, where = "", {}
        for _ in range(3):
            o = self.ok("read", path="big", **where)
            self.assertLessEqual(len(o["text"].encode()), 32768)
            cut = o["text"].rindex("\n[") + 1
            text += o["text"][:cut]
            key, value = re.search(r"read on with (line|offset) (\d+)", o["text"][cut:]).groups()
            where = {key: int(value)}
        self.assertTrue(whole.startswith(text))
        self.assertGreater(len(text), 90000)

    def test_bytes_that_are_no_text(self):
        with open(os.path.join(self.work, "bin"), "wb") as f:
            f.write(b"a\x00b\xff\xfe\x1b[31m\n")
        o = self.ok("read", path="bin")
        self.assertTrue(o["facts"]["binary"])

    def test_list_glob_grep_stat(self):
        self.write("src/a.c", "int main(void) { return 42; }\n")
        self.write("src/deep/b.h", "#define ANSWER 42\n")
        self.write("README", "the answer is 42\n")
        ls, deep, globbed, grepped, sub, st, no = [o[0] for o in self.calls(
            [("list", {})], [("list", {"path": "src", "depth": 3})], [("glob", {"pattern": "**/*.{c,h}"})],
            [("grep", {"pattern": "4[0-9]"})], [("grep", {"pattern": "answer", "ignore_case": True, "glob": "**/*.h"})],
            [("stat", {"path": "README", "hash": True})], [("stat", {"path": "nothing"})])]
        self.assertIn("src/", ls["text"])
        self.assertIn("README", ls["text"])
        self.assertIn("b.h", deep["text"])
        self.assertEqual(globbed["text"].split("\n")[:2], ["src/a.c", "src/deep/b.h"])
        for line in ("README:1:the answer is 42", "src/a.c:1:", "src/deep/b.h:1:"):
            self.assertIn(line, grepped["text"])
        self.assertIn("src/deep/b.h:1:#define ANSWER 42", sub["text"])
        self.assertNotIn("README", sub["text"])
        self.assertIn("17", st["text"])
        self.assertIn(hashlib.sha256(b"the answer is 42\n").hexdigest(), st["text"])
        self.assertIn("does not exist", no["text"])
        self.assertEqual(no["is_error"], False)

    def test_bad_expression_is_explained(self):
        self.bad("grep", "pattern", pattern="(")

    def test_reads_in_one_answer_run_side_by_side_and_stay_in_order(self):
        self.write("a", "x")
        with open(os.path.join(self.work, "slow"), "w") as f:
            f.write(("a" * 60 + "\n") * 300000)
        grep, stat, read = self.calls([("grep", {"pattern": "(a|aa)+b$", "path": "slow"}), ("stat", {"path": "a"}),
                                       ("read", {"path": "a"})])[0]
        intents = [e["seq"] for e in self.log if e["kind"] == "effect.intent"]
        outcomes = [e["seq"] for e in self.log if e["kind"] == "effect.outcome"]
        self.assertLess(max(intents), min(outcomes))
        last = [e["body"]["tool"] for e in self.log if e["kind"] == "effect.outcome"][-1]
        self.assertEqual(last, "grep", "the quick ones waited for the slow one")
        self.assertEqual([e["tool"] for e in self.result["effects"]], ["grep", "stat", "read"])

    def test_a_change_between_reads_runs_alone(self):
        self.write("a", "before")
        out = self.calls([("read", {"path": "a"}), ("write", {"path": "a", "content": "after"}), ("read", {"path": "a"})])[0]
        self.assertIn("before", out[0]["text"])
        self.assertIn("after", out[2]["text"])


class Changing(Tools):
    def test_write(self):
        self.ok("write", path="new/dir/a.txt", content="hällo\n")
        self.assertEqual(self.read("new/dir/a.txt"), "hällo\n")
        self.ok("write", path="new/dir/a.txt", content="")
        self.assertEqual(self.read("new/dir/a.txt"), "")
        self.bad("write", "missing/x", path="missing/x", content="a", mkdirs=False)
        self.bad("write", "dir", path="new/dir", content="a")
        self.assertEqual(os.listdir(os.path.join(self.work, "new/dir")), ["a.txt"])

    def test_write_outside(self):
        self.bad("write", "/etc/evil", path="/etc/evil", content="x")
        self.bad("write", "etc", path="../etc/evil", content="x")
        self.assertFalse(os.path.exists("/etc/evil"))
        os.symlink("/etc", os.path.join(self.work, "link"))
        self.one("write", path="link/evil", content="x")
        self.assertFalse(os.path.exists("/etc/evil"))

    def test_edit(self):
        self.write("a.c", "one\ntwo\nthree\ntwo\n")
        self.ok("edit", path="a.c", old="three", new="drei")
        self.assertEqual(self.read("a.c"), "one\ntwo\ndrei\ntwo\n")
        self.bad("edit", "2", path="a.c", old="two", new="zwei")
        self.assertEqual(self.read("a.c"), "one\ntwo\ndrei\ntwo\n")
        self.ok("edit", path="a.c", old="two", new="zwei", all=True)
        self.assertEqual(self.read("a.c"), "one\nzwei\ndrei\nzwei\n")
        self.bad("edit", "not", path="a.c", old="four", new="vier")
        self.bad("edit", "nofile", path="nofile", old="a", new="b")

    def test_move_and_delete(self):
        self.write("a", "x")
        self.write("b", "y")
        self.ok("move", path="a", to="d/c")
        self.assertEqual((self.read("d/c"), self.exists("a")), ("x", False))
        self.bad("move", "replace", path="b", to="d/c")
        self.ok("move", path="b", to="d/c", replace=True)
        self.assertEqual(self.read("d/c"), "y")
        self.bad("delete", "recursive", path="d")
        self.ok("delete", path="d", recursive=True)
        self.assertFalse(self.exists("d"))
        self.bad("delete", "d", path="d")
        self.bad("delete", "shared", path="/shared", recursive=True)
        self.assertTrue(os.path.isdir(self.work))


class Exec(Tools):
    def test_status_output_and_duration(self):
        good, bad, both = [o[0] for o in self.calls(
            [("exec", {"command": "echo out; echo err >&2; sleep 0.3"})], [("exec", {"command": "exit 7"})],
            [("exec", {"command": "pwd; id -u; hostname; ls -d /vault 2>&1; echo $HOME", "cwd": "/tmp"})])]
        self.assertIn("out\n", good["text"])
        self.assertIn("err\n", good["text"])
        self.assertEqual((good["facts"]["exit"], good["is_error"]), (0, False))
        self.assertGreaterEqual(good["facts"]["ms"], 300)
        self.assertEqual((bad["facts"]["exit"], bad["is_error"], bad["state"]), (7, True, "done"))
        self.assertEqual(both["text"].split("\n")[:2], ["/tmp", "1000"])
        self.assertIn("/home/agent", both["text"])

    def test_signal(self):
        o = self.one("exec", command="kill -SEGV $$")
        self.assertEqual(o["facts"]["signal"], int(signal.SIGSEGV))
        self.assertIn("SIGSEGV", o["text"])

    def test_timeout_kills_the_whole_tree(self):
        at = time.monotonic()
        o = self.one("exec", command="(setsid sleep 300; touch late) & sleep 300", timeout_ms=400)
        self.assertLess(time.monotonic() - at, 20)
        self.assertTrue(o["facts"]["timed_out"])
        self.assertIn("timeout_ms", o["text"])
        self.assertEqual(self.cell_processes(), [])

    def cell_processes(self):
        """Commands of the cell that are still there: processes below shelld that are none of ours."""
        return [argv for _, _, argv in self.mine() if argv and argv[0].startswith("sleep")]

    def test_what_a_command_leaves_behind_ends_with_it(self):
        self.ok("exec", command="(setsid sleep 300 >/dev/null 2>&1 &) ; echo left")
        self.assertEqual(self.cell_processes(), [])

    def test_standard_input_is_closed(self):
        o = self.ok("exec", command="cat; echo read $?; [ -t 0 ] || echo no terminal")
        self.assertIn("read 0\nno terminal", o["text"])

    def test_configured_timeout(self):
        o = self.calls([("exec", {"command": "sleep 60"})], extra="exec: { timeout_ms: 300, timeout_max_ms: 500 }\n")[0][0]
        self.assertTrue(o["facts"]["timed_out"])
        o = self.calls([("exec", {"command": "sleep 60", "timeout_ms": 50000})],
                       extra="exec: { timeout_ms: 300, timeout_max_ms: 500 }\n")[0][0]
        self.assertLess(o["ms"], 30000)

    def test_a_megabyte_and_its_pages(self):
        o = self.ok("exec", command="seq 1 200000")
        self.assertLessEqual(len(o["text"].encode()), 32768)
        self.assertTrue(o["text"].startswith("1\n2\n3\n"))
        self.assertIn("\n200000\n", o["text"])
        self.assertEqual(o["facts"]["output_bytes"], 1288895)
        handle = o["facts"]["handle"]
        self.assertIn(handle, o["text"])
        whole = "".join("%d\n" % i for i in range(1, 200001))
        offset, got = 0, ""
        for page in range(3):  # in other turns: the output outlives its turn
            o = self.again("output", handle=handle, offset=offset)
            got += o["text"][:o["text"].rindex("\n[") + 1]
            offset = len(got)
        self.assertTrue(whole.startswith(got), "page 3 is not what the command wrote")
        self.assertGreater(len(got), 80000)

    def test_output_above_the_cap_is_counted(self):
        o = self.calls([("exec", {"command": "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end"})],
                       extra="exec: { output_max_bytes: 65536 }\n")[0][0]
        self.assertEqual(o["facts"]["output_bytes"], 1000005)
        self.assertLessEqual(o["facts"]["kept_bytes"], 65536)
        self.assertEqual(o["facts"]["exit"], 0)

    def test_binary_output_is_shown_as_text(self):
        o = self.ok("exec", command="printf 'a\\377\\000b\\033[31mred'")
        self.assertIn("a\ufffd", o["text"])
        self.assertIn("red", o["text"])

    def test_output_streams_while_the_command_runs(self):
        self.script(json.dumps({"steps": [{"answer": [{"call": {"tool": "exec", "args": {
            "command": "echo first; while [ ! -e go ]; do sleep 0.02; done; echo second"}}}]}, {"answer": [{"text": "done"}]}]}))
        s = self.stream("go")
        while True:  # live, or kept: who still reads what was before gets no live events
            event = s.next()
            self.assertIsNotNone(event)
            if event["kind"] in ("tool.progress", "tool.partial") and "first" in json.dumps(event["body"]):
                break
        self.write("go", "")
        self.assertEqual(s.end(), 0)
        self.assertEqual(s.events[-1]["body"]["status"], "answered")

    def test_background_job(self):
        self.write("hold", "")
        start = self.calls([("exec", {"command": "echo up; while [ -e hold ]; do sleep 0.02; done; echo down; exit 3",
                                      "background": True})])[0][0]
        job = start["facts"]["job"]
        self.assertFalse(start["is_error"])
        poll = self.again("job", id=job)
        self.assertIn("up", poll["text"])
        self.assertIn("running", poll["text"])
        os.unlink(os.path.join(self.work, "hold"))
        end = time.monotonic() + 20
        while "running" in poll["text"] and time.monotonic() < end:
            poll = self.again("job", id=job)
        self.assertIn("down", poll["text"])
        self.assertIn("exit 3", poll["text"])

    def test_background_job_is_killed(self):
        job = self.calls([("exec", {"command": "sleep 300", "background": True})])[0][0]["facts"]["job"]
        killed = self.again("job", id=job, action="kill")
        self.assertIn("SIGKILL", killed["text"])
        self.assertEqual(self.cell_processes(), [])
        self.assertIn("no command has the id nosuch", self.again("job", id="nosuch")["text"])

    def test_paths_and_privileges_inside(self):
        o = self.ok("exec", command="pwd; touch /shared/in /tmp/in /home/agent/in && echo writable; touch /usr/x 2>&1; "
                    "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; ls /proc | grep -c '^[0-9]'; "
                    "cat /proc/net/dev | grep -c eth; echo \"$ITHACA_HOME$TEST_KEY\"")
        self.assertIn("/shared\nwritable\n", o["text"])
        self.assertRegex(o["text"], r"touch: .*(Read-only|Permission)")
        self.assertIn("CapEff:\t0000000000000000", o["text"])
        self.assertIn("NoNewPrivs:\t1", o["text"])
        self.assertIn("Seccomp:\t2", o["text"])

    def test_a_denial_names_its_wall(self):
        for tool, args, wall, says in (
                ("write", {"path": "/etc/made", "content": "x"}, "system", "a cell can write: /shared"),
                ("write", {"path": "/root/made", "content": "x"}, "outside", "nothing else of the host"),
                ("read", {"path": "/root/.profile"}, "outside", "nothing else of the host"),
                ("read", {"path": os.path.join(self.work, "a")}, "outside", "this one is /shared/a there"),
                ("move", {"path": "/usr/bin/env", "to": "env"}, "system", "/usr is the system")):
            o = self.bad(tool, says, **args)
            self.assertEqual(o["facts"]["wall"], wall, o)
        self.assertNotIn("wall", self.bad("read", "does not exist", path="nothing")["facts"])
        o = self.calls([("read", {"path": os.path.join(self.work, "nothing")})], extra="tier: process\n")[0][0]
        self.assertTrue(o["is_error"])
        self.assertNotIn("wall", o["facts"], o)  # there the host's paths are the right ones
        o = self.one("exec", command="kill -s SYS $$")
        self.assertEqual(o["facts"]["wall"], "system_calls")
        o = self.one("exec", command="touch /usr/x")
        self.assertIn("it can write: /shared /scratch /home/agent /run/work /tmp", o["text"])
        self.assertNotIn("wall", o["facts"])

    def test_tmp_is_private_and_lasts_in_the_session(self):
        out = self.calls([("exec", {"command": "echo kept > /tmp/note"})], [("exec", {"command": "cat /tmp/note"})])
        self.assertIn("kept", out[1][0]["text"])
        self.assertFalse(os.path.exists("/tmp/note"))


class Modes(Tools):
    def test_read_only_is_enforced_by_the_kernel(self):
        self.write("a", "x")
        touch, direct, tmp, write, delete = [o[0] for o in self.calls(
            [("exec", {"command": "touch /shared/made"})], [("exec", {"command": "echo y > a; cat a"})],
            [("exec", {"command": "echo fine > /tmp/t; cat /tmp/t"})],
            [("write", {"path": "w", "content": "x"})], [("delete", {"path": "a"})],
            args=("--mode", "read_only"), extra="permissions: { allow: [ \"Exec(*)\", \"Write(**)\" ] }\n")]
        self.assertRegex(touch["text"], "Read-only|Permission denied")
        self.assertIn("x", direct["text"])
        self.assertIn("fine", tmp["text"])
        self.assertEqual(self.read("a"), "x")
        self.assertFalse(self.exists("made"))
        self.assertFalse(self.exists("w"))
        for o in (write, delete):
            self.assertTrue(o is None or o["is_error"])

    def test_danger_mode_sees_the_host(self):
        outside = os.path.join(self.dir, "outside")
        o = self.calls([("exec", {"command": "pwd; echo x > %s" % outside})], args=("--yes", "--mode", "danger_full_access"))[0][0]
        self.assertTrue(os.path.exists(outside), o and o["text"])
        self.assertTrue(o["text"].startswith(self.work))

    def test_workspace_write_cannot(self):
        outside = os.path.join(self.dir, "outside")
        self.one("exec", command="echo x > %s" % outside)
        self.assertFalse(os.path.exists(outside))


class Mistakes(Tools):
    def told(self, tool, args):
        self.calls([(tool, args)])
        b = [e["body"] for e in self.log if e["kind"] == "tool.requested"][0]
        self.assertEqual(b["decision"], "invalid")
        self.assertEqual(self.result["effects"][0]["status"], "invalid")
        self.assertEqual(self.result["status"], "answered")
        return b["reason"]

    def test_arguments(self):
        self.assertIn("did you mean path", self.told("read", {"pth": "x"}))
        self.assertIn("path", self.told("read", {}))
        self.assertIn("0", self.told("read", {"path": "a", "line": 0}))
        self.assertIn("JSON", self.told("read", "{ \"path\": "))

    def test_unknown_tool(self):
        self.assertIn("did you mean read", self.told("reed", {"path": "a"}))

    def test_what_can_be_repaired_is_repaired(self):
        self.write("a", "hello")
        out = self.calls([("read", "```json\n{\"path\": \"a\", \"line\": \"1\",}\n```")])[0][0]
        self.assertIn("hello", out["text"])


class Secrets(Tools):
    def test_secrets_are_scrubbed_and_ids_kept(self):
        key = "sk-ant-api03-" + "Ab3dEf6hIj9lMn2pQr5tUv8xYz" * 3
        self.write("env", "ANTHROPIC_API_KEY=%s\nid=123e4567-e89b-12d3-a456-426614174000\n"
                   "sha=5af7b95208fdcff454bab3f5eddf567a688a3796c703d4fef91072e38645c062\n" % key)
        out = self.calls([("read", {"path": "env"}), ("exec", {"command": "cat env"})])[0]
        for o in out:
            self.assertNotIn(key, o["text"])
            self.assertIn("123e4567-e89b-12d3-a456-426614174000", o["text"])
            self.assertIn("5af7b95208fdcff454bab3f5eddf567a688a3796c703d4fef91072e38645c062", o["text"])


if __name__ == "__main__":
    main()
