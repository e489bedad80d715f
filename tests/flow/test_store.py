#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A store that cannot be used, or stops to be: locked, read-only, damaged, full. Each says what is wrong with which file
and how to fix it, nothing that was shown is lost, nothing runs twice, and work goes on when the cause is gone."""
import json
import os
import resource
import sqlite3
import subprocess
import unittest

from harness import BIN, DEADLINE, Case, main

CALLS = 40


class Store(Case):
    def setUp(self):
        super().setUp()
        self.state = os.path.join(self.home, "state")
        self.db = os.path.join(self.state, "ithaca.db")

    def made(self):
        """A home whose store is sound and closed; gives its session."""
        session = self.run_json("write a.txt with x")["session"]
        self.stop()
        return session

    def refused(self, code, *says, prefix=(), check=1):
        """`ithaca run --json` fails before any turn: the object, the line on standard error, the exit status."""
        p = subprocess.run([*prefix, os.path.join(BIN, "ithaca"), "run", "--json", "hello"], cwd=self.work, env=self.env,
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual(p.returncode, check, p.stderr)
        r = json.loads(p.stdout)
        self.assertEqual((r["status"], r["error"]["code"], r["effects"]), ("failed", code, []))
        for s in (*says, "ithaca.db"):
            self.assertIn(s, r["error"]["message"])
        self.assertRegex(r["error"]["message"], r"\(.+\)$")  # how to fix it
        self.assertEqual(p.stderr, "ithaca: %s\n" % r["error"]["message"])
        return r

    def bytes(self):
        with open(self.db, "rb") as f:
            return f.read()

    def put(self, data):
        with open(self.db, "wb") as f:
            f.write(data)


class Locked(Store):
    def lock(self):
        c = sqlite3.connect(self.db, isolation_level=None)
        self.addCleanup(c.close)
        c.execute("BEGIN IMMEDIATE")
        return c

    def test_by_another_process(self):
        session = self.made()
        c = self.lock()
        self.refused("busy", "locked", "another process")
        self.assertEqual(self.ithaca("session", "show", session, check=0).stderr, "")  # reading goes on
        c.execute("ROLLBACK")
        self.run_json("--session", session, "hello")

    def test_while_a_turn_runs(self):
        """The turn stops where it is; what it showed is there, and it goes on where it stopped."""
        self.made()
        self.script("steps:\n  - answer: [ { call: { tool: exec, args: { command: \"echo a >> log; until [ -e go ]; do :; done\" } } } ]\n"
                    "  - answer: [ { call: { tool: exec, args: { command: \"echo b >> log\" } } } ]\n  - answer: [ { text: done } ]\n")
        s = self.stream("--new", "go")
        session = s.until("effect.intent")["session"]
        c = self.lock()
        self.write("go", "")
        self.assertEqual(s.end(), 1)
        c.execute("ROLLBACK")
        ids = {e["id"] for e in self.events(session)}
        self.assertEqual([e for e in s.events if e["seq"] and e["id"] not in ids], [])
        r = self.run_json("--session", session, "--continue")
        self.assertEqual((r["status"], self.read("log")), ("answered", "a\nb\n"))


class ReadOnly(Store):
    def test_file(self):
        self.made()
        if os.getuid() == 0:
            self.refused("read_only", "read-only", prefix=self.mounted(self.db))
        else:
            os.chmod(self.db, 0o400)
            self.refused("read_only", "writable")

    def test_directory(self):
        self.made()
        if os.getuid() == 0:
            self.refused("read_only", "read-only", prefix=self.mounted(self.state))
        else:
            os.chmod(self.state, 0o500)
            self.addCleanup(os.chmod, self.state, 0o700)
            self.refused("read_only", "writable")

    def mounted(self, path):
        """Root writes through any mode: the path is read-only in a mount namespace of this command's own."""
        return ["unshare", "-m", "sh", "-ec", "mount --bind \"$0\" \"$0\"; mount -o remount,ro,bind \"$0\"; exec \"$@\"", path]


class Damaged(Store):
    def flipped(self, data, at, n=64):
        return data[:at] + bytes(b ^ 0xff for b in data[at:at + n]) + data[at + n:]

    def test_header_schema_or_end(self):
        self.made()
        data = self.bytes()
        for bad in (self.flipped(data, 0), self.flipped(data, 20), self.flipped(data, 100), data[:5000], b"not a database " * 500):
            self.put(bad)
            self.refused("corrupt", "backup")
            self.assertEqual(self.bytes(), bad)  # left as it is, for whoever repairs it
        self.put(data)
        self.run_json("hello")

    def test_every_page(self):
        """Whatever page is hit, there is an answer or a clear error, never a crash, and doctor finds it or all still works."""
        session = self.made()
        data = self.bytes()
        found = 0
        for page in range(1, len(data) // 4096):
            self.put(self.flipped(data, page * 4096))
            doctor = self.ithaca("doctor")
            p = self.ithaca("run", "--json", "--session", session, "hello")
            r = json.loads(p.stdout)
            self.assertIn((p.returncode, r["status"]), ((0, "answered"), (1, "failed")))
            if p.returncode:
                self.assertIn(r["error"]["code"], ("corrupt", "not_found", "internal"))
            if doctor.returncode:
                found += 1
                self.assertIn("ithaca.db", doctor.stdout + doctor.stderr)
            self.assertIn(doctor.returncode, (0, 1))
            self.stop()
            for suffix in ("-wal", "-shm"):
                if os.path.exists(self.db + suffix):
                    os.unlink(self.db + suffix)
        self.assertGreater(found, 5)

    def test_another_programs_file(self):
        os.makedirs(self.state, mode=0o700)
        c = sqlite3.connect(self.db)
        c.execute("CREATE TABLE note (text)")
        c.execute("PRAGMA application_id = 7")
        c.commit()
        c.close()
        self.refused("invalid", "another program", check=2)


class Full(Store):
    """A turn that writes until there is no room."""

    def long_script(self):
        self.script("steps:\n" + "".join(
            "  - answer: [ { text: \"%s\" }, { call: { tool: exec, args: { command: \"echo %d >> log\" } } } ]\n" % ("x" * 6000, i)
            for i in range(CALLS)) + "  - answer: [ { text: done } ]\n")

    def check(self, lines, events, result):
        """Every event that was shown is in the log, each command ran once, and the rest came after. A command that could
        not begin, because its output had no room either, was told to the model as not done."""
        shown = [json.loads(line) for line in lines.splitlines()]
        kept = [json.loads(line) for line in events.splitlines()]
        ids = {e["id"] for e in kept}
        self.assertGreater(len([e for e in shown if e["seq"]]), 3)
        self.assertEqual([e["kind"] for e in shown if e["seq"] and e["id"] not in ids], [])
        self.assertEqual([e["seq"] for e in kept], list(range(1, len(kept) + 1)))
        self.assertEqual((result["status"], result["text"]), ("answered", "[offline model] done"))
        outcomes = [e["body"] for e in kept if e["kind"] == "effect.outcome"]
        ran = [b["state"] == "done" and not b.get("is_error") for b in outcomes]
        self.assertEqual(len(outcomes), CALLS)
        self.assertEqual(self.read("log").split(), [str(i) for i in range(CALLS) if ran[i]], [b for b in outcomes if b.get("is_error")])
        self.assertGreaterEqual(ran.count(True), CALLS - 2)
        self.assertNotIn("unknown", [b["state"] for b in outcomes])

    def test_file_size_limit(self):
        self.long_script()
        p = subprocess.run([os.path.join(BIN, "ithaca"), "run", "--stream-json", "go"], cwd=self.work, env=self.env,
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300000, 300000)))
        self.assertEqual(p.returncode, 1, p.stderr)
        self.assertIn("file size limit is reached", p.stderr)
        self.stop()
        result = self.run_json("--continue")
        self.check(p.stdout, self.ithaca("session", "events", result["session"], "--json", check=0).stdout, result)

    def test_disk(self):
        """On a small file system in a mount namespace of its own, where room is made while the daemon runs: shelld keeps
        what a command gave until the store takes it, so nothing is unknown."""
        self.env["ITHACA__RUNNER__IDLE_MS"] = "30000"
        self.long_script()
        os.mkdir(os.path.join(self.dir, "out"))
        script = ("mount -t tmpfs -o size=20400k,mode=700 ithaca \"$ITHACA_HOME\"; cp ../script.yaml ../config.yaml \"$ITHACA_HOME\"\n"
                  "head -c 20000000 /dev/zero > \"$ITHACA_HOME/ballast\"\n"
                  "\"$0\" run --stream-json go > ../out/stream 2> ../out/err && exit 9\n"
                  "rm \"$ITHACA_HOME/ballast\"\n"
                  "\"$0\" run --json --continue > ../out/result\n"
                  "\"$0\" session events \"$(sed 's/.*\"session\":\"\\([^\"]*\\)\".*/\\1/' ../out/result)\" --json > ../out/events\n")
        for name in ("script.yaml", "config.yaml"):
            os.rename(os.path.join(self.home, name), os.path.join(self.dir, name))
        p = subprocess.run(["unshare", "-m" if os.getuid() == 0 else "-Urm", "sh", "-ec", script, os.path.join(BIN, "ithaca")],
                           cwd=self.work, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE)
        if "permission denied" in p.stderr.lower() or "not permitted" in p.stderr.lower():
            self.skipTest("may not mount a file system here: " + p.stderr.strip())
        self.assertEqual((p.returncode, p.stderr), (0, ""))
        out = {}
        for name in ("stream", "err", "result", "events"):
            with open(os.path.join(self.dir, "out", name)) as f:
                out[name] = f.read()
        self.assertIn("the disk is full (free some space", out["err"])
        self.check(out["stream"], out["events"], json.loads(out["result"]))


if __name__ == "__main__":
    main()
