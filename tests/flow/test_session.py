#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Sessions from outside: the log and who reads it, names, several clients on one session, cancel, continue, delete."""
import glob
import json
import os
import signal
import socket
import sqlite3
import time
import unittest

from harness import Case, main, wait_ends

ENVELOPE = {"seq", "id", "session", "turn", "time", "kind", "body"}
HOLD = "while [ -e hold ]; do sleep 0.02; done; echo released"


class Reading(Case):
    def test_list_show_events(self):
        a = self.run_json("--name", "first one", "list the files")["session"]
        b = self.run_json("list the files")["session"]
        rows = json.loads(self.ithaca("session", "list", "--json", check=0).stdout)["sessions"]
        self.assertEqual([r["session"] for r in rows], [b, a])
        self.assertEqual(rows[1]["name"], "first one")
        self.assertEqual(rows[0]["workspace"], self.work)
        self.assertEqual(len(json.loads(self.ithaca("session", "list", "--limit", "1", "--json", check=0).stdout)["sessions"]), 1)
        show = json.loads(self.ithaca("session", "show", a, "--json", check=0).stdout)
        self.assertEqual((show["session"], len(show["turns"]), show["turns"][0]["status"]), (a, 1, "answered"))
        log = self.events(a)
        self.assertEqual(show["last_seq"], len(log))
        self.assertEqual([e["seq"] for e in log], list(range(1, len(log) + 1)))
        self.assertEqual(self.ithaca("session", "list", check=0).stdout.count(a), 1)
        self.assertIn("answered", self.ithaca("session", "show", a, check=0).stdout)
        self.assertIn("turn.finished", self.ithaca("session", "events", a, check=0).stdout)

    def test_envelopes(self):
        s = self.stream("list the files")
        self.assertEqual(s.end(), 0)
        seq = 0
        for e in s.events:
            self.assertEqual(set(e) - ENVELOPE, set())
            self.assertLessEqual({"seq", "id", "session", "time", "kind", "body"}, set(e))
            self.assertRegex(e["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertIsInstance(e["body"], dict)
            if e["seq"]:
                self.assertEqual(e["seq"], seq + 1)
                seq += 1
            self.assertEqual(e["session"], s.events[0]["session"])
        self.assertEqual(s.events[-1]["kind"], "turn.finished")
        self.assertEqual([e for e in self.events(s.events[0]["session"])], [e for e in s.events if e["seq"]])

    def test_after_a_number(self):
        r = self.run_json("list the files")
        log = self.events(r["session"])
        out = self.ithaca("session", "events", r["session"], "--after", "3", "--json", check=0).stdout
        self.assertEqual([json.loads(x) for x in out.splitlines()], log[3:])

    def test_names_prefixes_and_mistakes(self):
        a = self.run_json("--name", "blue", "hello")["session"]
        show = lambda ref, check=0: self.ithaca("session", "show", ref, "--json", check=check)
        self.assertEqual(json.loads(show("blue").stdout)["session"], a)
        self.assertEqual(json.loads(show(a[:20]).stdout)["session"], a)
        self.assertEqual(self.run_json("--session", "blue", "hello")["session"], a)
        self.ithaca("session", "rename", "blue", "green", check=0)
        self.assertEqual(json.loads(show("green").stdout)["name"], "green")
        self.assertIn("blue", show("blue", 1).stderr)
        b = self.run_json("hello")["session"]
        common = os.path.commonprefix([a, b])
        p = show(common, None)
        self.assertNotEqual(p.returncode, 0)
        self.assertIn("start of 2 sessions", p.stderr)
        self.assertIn("session list", show("nosuch", 1).stderr)

    def test_json_object(self):
        r = self.run_json("list the files")
        self.assertEqual(set(r), {"session", "turn", "status", "text", "model", "usage", "cost_microusd", "steps", "effects",
                                  "duration_ms"})
        self.assertEqual(set(r["usage"]), {"input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"})
        self.assertEqual(set(r["effects"][0]), {"tool", "status", "ms"})


class Following(Case):
    def follow(self, session, after=0):
        return self.spawn("session", "events", session, "--after", str(after), "--follow", "--json")

    def test_from_a_number_and_on(self):
        r = self.run_json("list the files")
        f = self.follow(r["session"], 3)
        self.assertEqual(f.next()["seq"], 4)
        self.run_json("--session", r["session"], "list the files")
        f.until("turn.finished")
        f.until("turn.finished")
        stored = [e["seq"] for e in f.events if e["seq"]]
        self.assertEqual(stored, list(range(4, stored[-1] + 1)))
        self.assertEqual(stored[-1], len(self.events(r["session"])))

    def test_a_stopped_reader_misses_nothing(self):
        """SIGSTOP of a reader while far more is said than is queued for it."""
        self.script(json.dumps({"rules": [{"when": {"user_has": "flood", "step": n}, "answer": [{"call": {
            "tool": "exec", "args": {"command": "seq %d 400000" % n}}}]} for n in range(4)], "otherwise": "builtin"}))
        r = self.run_json("hello")
        f = self.follow(r["session"], 0)
        f.until("turn.finished")
        f.proc.send_signal(signal.SIGSTOP)
        self.assertEqual(self.run_json("--session", r["session"], "flood")["status"], "answered")
        f.proc.send_signal(signal.SIGCONT)
        f.until("turn.finished")
        stored = [e for e in f.events if e["seq"]]
        self.assertEqual([e["seq"] for e in stored], list(range(1, stored[-1]["seq"] + 1)))
        self.assertEqual(stored, self.events(r["session"]))

    def test_a_stopped_run_ends_with_the_whole_text(self):
        self.script(json.dumps({"steps": [{"answer": [{"text": "x" * 300000 + " end", "chunk": 100, "delay": 1}]}]}))
        s = self.stream("go")
        s.until("model.started")
        s.proc.send_signal(signal.SIGSTOP)
        session = s.events[0]["session"]
        rpc = self.rpc()
        end = time.monotonic() + 50
        while rpc.call("session.get", session=session)["turns"][0]["state"] != "done" and time.monotonic() < end:
            time.sleep(0.05)
        s.proc.send_signal(signal.SIGCONT)
        self.assertEqual(s.end(), 0)
        self.assertEqual(s.events[-1]["body"]["text"], "[offline model] " + "x" * 300000 + " end")
        self.assertEqual([e["seq"] for e in s.events if e["seq"]], list(range(1, len(self.events(session)) + 1)))


class Together(Case):
    """Several clients on one session."""

    def setUp(self):
        super().setUp()
        self.write("hold", "")
        self.script(json.dumps({"rules": [
            {"when": {"user_has": "hold", "step": 0}, "answer": [{"call": {"tool": "exec", "args": {"command": HOLD}}}]},
            {"when": {"user_has": "other", "step": 0}, "answer": [{"call": {"tool": "exec", "args": {"command": "echo other"}}}]}],
            "otherwise": "builtin"}))

    def release(self):
        os.unlink(os.path.join(self.work, "hold"))

    def started(self):
        s = self.stream("hold")
        s.until("effect.intent")
        return s, s.events[0]["session"]

    def test_turns_of_one_session_are_serial(self):
        s, session = self.started()
        second = self.stream("--session", session, "other")
        third = self.stream("--session", session, "other again")
        second.until("turn.queued")
        third.until("turn.queued")
        self.assertEqual([t["state"] for t in self.rpc().call("session.get", session=session)["turns"]].count("queued"), 2)
        self.release()
        self.assertEqual((s.end(), second.end(), third.end()), (0, 0, 0))
        log = self.events(session)
        kinds = [e["kind"] for e in log if e["kind"] in ("turn.started", "turn.finished")]
        self.assertEqual(kinds, ["turn.started", "turn.finished"] * 3)
        self.assertEqual([e["seq"] for e in log], list(range(1, len(log) + 1)))
        order = [e["body"]["text"] for e in log if e["kind"] == "user.message"]
        self.assertEqual(order[0], "hold")
        self.assertEqual(set(order[1:]), {"other", "other again"})

    def test_sessions_run_side_by_side(self):
        s, session = self.started()
        self.assertEqual(self.run_json("other")["status"], "answered")
        self.release()
        self.assertEqual(s.end(), 0)

    def test_queued_turns_survive_the_end_of_the_runtime(self):
        s, session = self.started()
        second = self.stream("--session", session, "other")
        second.until("turn.queued")
        for name in ("runner", "runtime"):
            self.kill(name)
        self.release()
        self.assertEqual((s.end(), second.end()), (0, 0))
        log = self.events(session)
        self.assertEqual([e["body"]["status"] for e in log if e["kind"] == "turn.finished"], ["answered"] * 2)

    def kill(self, name):
        pid = self.pids().get(name)
        if pid:
            os.kill(pid, signal.SIGKILL)
            wait_ends([pid], 10)

    def test_cancel_from_a_second_client(self):
        s, session = self.started()
        turn = [e["turn"] for e in s.events if e["kind"] == "turn.started"][0]
        self.assertEqual(self.rpc().call("turn.cancel", turn=turn), {})
        self.assertEqual(s.end(), 5)
        self.assertEqual(s.events[-1]["body"]["status"], "cancelled")
        self.assertEqual([a for _, _, a in self.mine() if a and a[0] == "sleep"], [])
        error = self.rpc().call("turn.cancel", turn=turn)
        self.assertEqual(error["kind"], "error")

    def test_cancel_of_a_queued_turn(self):
        s, session = self.started()
        second = self.stream("--session", session, "other")
        turn = second.until("turn.queued")["turn"]
        self.assertEqual(self.rpc().call("turn.cancel", turn=turn), {})
        self.assertEqual(second.end(), 5)
        self.release()
        self.assertEqual(s.end(), 0)
        log = self.events(session)
        self.assertNotIn("echo other", json.dumps(log))

    def test_a_message_that_grows_beyond_an_event_is_refused_whole(self):
        s, session = self.started()
        rpc, before = self.rpc(), len(self.events(session))
        for where in ({"session": session}, {}):  # behind the turn that runs; in a new session
            error = rpc.call("session.turn", text="\1" * 690000, **where)
            self.assertEqual((error["kind"], error["code"]), ("error", "limit"), error)
            self.assertIn("control characters", error["message"])
        self.assertEqual(len(self.events(session)), before)
        self.assertEqual(len(rpc.call("session.list")["sessions"]), 1)
        text = "other" + "\1" * 600000
        self.assertEqual(rpc.call("session.turn", session=session, text=text)["session"], session)
        self.release()
        self.assertEqual(s.end(), 0)
        log = self.events(session)
        self.assertEqual([e["body"]["text"] for e in log if e["kind"] == "turn.queued"], [text])

    def test_continue_after_the_client_left(self):
        s, session = self.started()
        s.close()
        again = self.stream("--continue")
        self.assertEqual(again.next()["session"], session)  # it follows: now the turn may end
        self.release()
        self.assertEqual(again.end(), 0)
        log = self.events(session)
        self.assertEqual([e["body"]["status"] for e in log if e["kind"] == "turn.finished"], ["answered"])
        self.assertEqual([e["kind"] for e in log].count("effect.intent"), 1)

    def test_an_effect_in_flight_ends_with_its_runtime(self):
        s, session = self.started()
        os.kill(self.pids()["runner"], signal.SIGTERM)
        self.assertEqual(wait_ends([pid for pid, _, _ in self.mine() if pid != s.proc.pid], 10), [])
        with open(os.path.join(self.home, "logs", "runtime.log")) as f:
            self.assertNotIn("Sanitizer", f.read())  # what is built with one says what was lost
        s.close()
        self.release()
        r = self.run_json("--session", session, "--continue")
        self.assertEqual((r["session"], r["status"]), (session, "answered"))
        # Once a later turn began, the one that was open is the past: its answer is not told as that of the newest.
        self.run_json("--session", session, "other")
        p = self.ithaca("run", "--session", session, "--continue", check=1)
        self.assertIn("nothing is open", p.stderr)

    def test_continue_with_nothing_open(self):
        r = self.run_json("other")
        p = self.ithaca("run", "--session", r["session"], "--continue", check=1)
        self.assertIn("nothing is open", p.stderr)

    def test_delete_in_the_middle_of_a_turn(self):
        s, session = self.started()
        turn = s.events[1]["turn"] or s.events[2]["turn"]
        self.ithaca("session", "delete", session, check=0)
        self.assertNotEqual(s.end(), 0)
        self.assertEqual([a for _, _, a in self.mine() if a and a[0] == "sleep"], [])
        self.ithaca("session", "show", session, check=1)
        self.assertEqual(json.loads(self.ithaca("session", "list", "--json", check=0).stdout)["sessions"], [])
        self.stop()
        db = sqlite3.connect(os.path.join(self.home, "state", "ithaca.db"))
        for table in ("session", "event", "turn", "effect", "approval"):
            column = "id" if table == "session" else "session"
            self.assertEqual(db.execute("SELECT count(*) FROM %s WHERE %s = ?" % (table, column), (session,)).fetchone()[0], 0, table)
        db.close()
        left = [p for p in glob.glob(os.path.join(self.home, "state", "**"), recursive=True)
                if session in p or turn in p]
        self.assertEqual(left, [])

    def test_delete_while_others_wait(self):
        """Who waits behind the turn that runs is told as well, and nobody can act on what is going."""
        self.env["ITHACA__RUNNER__IDLE_MS"] = "30000"
        s, session = self.started()
        waits = self.stream("--session", session, "other")
        waits.until("turn.queued")
        rpc, other = self.rpc(), self.rpc()
        turn = waits.events[-1]["turn"]
        rpc.send("session.delete", session=session)
        codes = [other.call("turn.cancel", turn=turn).get("code"), other.call("session.continue", session=session).get("code"),
                 other.call("session.turn", session=session, text="x").get("code")]
        self.assertLessEqual(set(codes), {"gone", "not_found"})
        self.assertEqual(rpc.answer(), {})
        self.assertNotEqual(s.end(), 0)
        self.assertEqual(waits.next()["kind"], "turn.suspended")
        self.assertEqual(waits.end(), 1)

    def test_delete_ends_who_follows(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "30000"
        session = self.run_json("other")["session"]
        f = self.spawn("session", "events", session, "--follow", "--json")
        f.until("turn.finished")
        self.ithaca("session", "delete", session, check=0)
        self.assertEqual(f.next()["error"]["code"], "not_found")
        self.assertEqual(f.end(), 1)

    def test_delete_by_a_name_of_two(self):
        ids = [self.run_json("--name", "x", "other")["session"] for _ in range(2)]
        p = self.ithaca("session", "delete", "x", check=2)
        self.assertIn("x is the name of 2 sessions (give the id of one)", p.stderr)
        self.assertEqual(self.run_json("--session", "x", "other")["session"], ids[1])  # the newest, where nothing is lost
        self.ithaca("session", "delete", ids[1], check=0)
        self.ithaca("session", "delete", "x", check=0)

    def test_delete_of_an_idle_session_leaves_the_workspace(self):
        r = self.run_json("other")
        self.ithaca("session", "delete", r["session"], check=0)
        self.assertTrue(self.exists("hold"))
        p = self.ithaca("run", "--session", r["session"], "other")
        self.assertEqual(p.returncode, 1)
        self.assertIn(r["session"], p.stderr)


class Memory(Case):
    """What is idle costs little, however many sessions there are and however long they are."""

    def setUp(self):
        super().setUp()
        self.env["ITHACA__RUNNER__IDLE_MS"] = "30000"

    def test_sessions_that_only_were_made(self):
        self.run_json("hello")
        rpc = self.rpc()
        made = [rpc.call("session.create", workspace=self.work)["session"] for _ in range(200)]
        self.assertLessEqual(rpc.call("status.get")["sessions"], 65)
        r = self.run_json("--session", made[0], "hello")
        self.assertEqual(r["session"], made[0])

    def test_long_conversations(self):
        """4 MB a turn: after 18 turns in 6 sessions, not all of them are in memory any more; each is there when it is asked for."""
        for i in range(120):
            self.write("big%d" % i, "%d\n" % i + ("y" * 99 + "\n") * 330)
        reads = ", ".join("{ call: { tool: read, args: { path: big%d } } }" % i for i in range(120))
        self.script("rules:\n  - when: { step: 0 }\n    answer: [ %s ]\n  - when: { user: \".\" }\n    answer: [ { text: done } ]\n" % reads)
        sessions = []
        for _ in range(6):
            session = self.run_json("go")["session"]
            for _ in range(2):
                self.run_json("--session", session, "go")
            sessions.append(session)
        done = [e["body"]["state"] for e in self.events(sessions[0]) if e["kind"] == "effect.outcome"]
        self.assertEqual(done, ["done"] * 360)  # although a cell runs 64 commands at a time
        loaded = self.rpc().call("status.get")["sessions"]
        self.assertTrue(2 <= loaded < 6, loaded)
        self.assertEqual(self.run_json("--session", sessions[0], "go")["text"], "[offline model] done")
        parts = json.loads(self.ithaca("context", sessions[0], "--json", check=0).stdout)["parts"]
        self.assertGreaterEqual(len([p for p in parts if p["kind"] == "result"]), 120)


class Nul(Case):
    """A NUL is a character like any other where text is for a model, and refused where it would end a name."""
    def setUp(self):
        super().setUp()
        self.env["ITHACA__RUNNER__IDLE_MS"] = "30000"

    def texts(self):
        return [m["content"] for m in self.server.requests()[-1]["body"]["messages"] if m["role"] == "user"]

    def test_in_a_message_that_runs_and_in_one_that_waits(self):
        self.serve("repeat: true\nrules: [ { when: { user_has: first }, times: 1, answer: [ { text: so }, { delay: 60000 } ] } ]\n"
                   "steps: [ { answer: [ { text: seen } ] } ]\n")
        s = self.stream("first")
        s.until("model.partial")
        rpc = self.rpc()
        second = rpc.call("session.turn", session=s.events[0]["session"], text="a\0b")
        self.assertEqual(rpc.call("turn.get", turn=second["turn"])["state"], "queued")
        os.kill(self.pids()["runtime"], signal.SIGKILL)
        s.end()
        self.run_json("--session", second["session"], "third")
        self.assertEqual(self.texts()[-2:], ["a\0b", "third"])
        third = self.rpc().call("session.turn", session=second["session"], text="c\0d")
        self.run_json("--session", second["session"], "fourth")
        self.assertEqual(self.texts()[-2:], ["c\0d", "fourth"])
        said = [e["body"]["text"] for e in self.events(second["session"]) if e["kind"] == "user.message"]
        self.assertEqual(said, ["first", "a\0b", "third", "c\0d", "fourth"])
        made = self.rpc().call("session.context", session=second["session"], text="e\0f and more than that")
        self.assertIn("and more than that", json.dumps(made))
        self.assertEqual(third["session"], second["session"])

    def test_on_standard_input(self):
        self.serve("steps: [ { answer: [ { text: seen } ] } ]\n")
        self.ithaca("run", "look", stdin="x\0y, and more", check=0)
        self.assertIn("x\0y, and more", self.texts()[-1])

    def test_in_a_name(self):
        r = self.run_json("hello")
        rpc = self.rpc()
        for method, params in (("session.rename", {"session": r["session"], "name": "a\0b"}),
                               ("session.get", {"session": r["session"] + "\0x"}),
                               ("session.create", {"workspace": self.work + "\0/x"}),
                               ("session.turn", {"session": r["session"], "text": "hello", "model": "offline/rules\0x"})):
            e = rpc.call(method, **params)
            self.assertEqual((e.get("code"), "NUL" in e.get("message", "")), ("invalid", True), method)

    def test_in_what_a_model_gives_to_a_tool(self):
        self.serve("by: sequence\nsteps:\n"
                   "  - answer: [ { call: { tool: exec, args: { command: \"touch made\", cwd: \"/nowhere\\0\" } } },"
                   " { call: { tool: write, args: { path: f, content: \"a\\0b\" } } } ]\n"
                   "  - answer: [ { text: \"x\\0y and more\" } ]\n")
        r = self.run_json("go")
        self.assertEqual(r["text"], "x\0y and more")
        results = [m["content"] for m in self.server.requests()[-1]["body"]["messages"] if m["role"] == "tool"]
        self.assertIn("exec: cwd: a text may not hold a NUL character", results[0])
        self.assertFalse(self.exists("made"))
        with open(os.path.join(self.work, "f"), "rb") as f:
            self.assertEqual(f.read(), b"a\0b")


class Rpc(Case):
    def test_protocol_mistakes_do_not_harm_others(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "30000"
        self.run_json("hello")
        path = os.path.join(self.home, "run", "rpc.sock")
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\x10\0\0\0\x04\0\0\0{\"v\"", b""):
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(10)
                s.connect(path)
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                while True:
                    try:
                        if not s.recv(4096):
                            break
                    except ConnectionResetError:
                        break
        rpc = self.rpc()
        self.assertIn("did you mean", rpc.call("session.lst")["message"])
        self.assertEqual(rpc.call("session.get")["code"], "invalid")
        self.assertIn("limit", rpc.call("session.list", limit=0)["message"])
        self.assertEqual(len(rpc.call("session.list")["sessions"]), 1)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)


if __name__ == "__main__":
    main()
