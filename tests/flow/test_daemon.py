# SPDX-License-Identifier: MIT
"""The daemon: start, stop, restart, status and logs with the real executables; what it says when a role is lost; tiers,
workspaces, the service manager."""
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
import unittest

from harness import BIN, DEADLINE, Case, Stream, main, wait_ends


def offline(steps):
    return json.dumps({"steps": [{"answer": a} for a in steps]})


class DaemonCase(Case):
    bin = BIN

    def ithaca(self, *args, stdin=None, env=None, check=None):
        p = subprocess.run([os.path.join(self.bin, "ithaca"), *args], cwd=self.work, env={**self.env, **(env or {})},
                           input=stdin, stdin=subprocess.DEVNULL if stdin is None else None, text=True, capture_output=True,
                           timeout=DEADLINE)
        if check is not None:
            self.assertEqual(p.returncode, check, "stdout: %s\nstderr: %s" % (p.stdout, p.stderr))
        return p

    def start(self, *args, check=0, **kw):
        return self.ithaca("start", *args, check=check, **kw)

    def status(self, check=0):
        return json.loads(self.ithaca("status", "--json", check=check).stdout)

    def role(self, name, status=None):
        return next(r for r in (status or self.status())["roles"] if r["name"] == name)

    def codes(self, status=None):
        return {d["code"] for d in (status or self.status())["degraded"]}

    def until(self, what, message):
        """Asks again until it is so: each ask is a command that waits for the daemon's answer."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            got = what()
            if got:
                return got
        raise AssertionError("%s: %s" % (message, self.ithaca("status").stdout))

    def kill(self, pid):
        self.dead = self.dead | {pid}
        fd = os.pidfd_open(pid)
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        self.assertTrue(select.select([fd], [], [], DEADLINE)[0])
        os.close(fd)

    def own_bin(self):
        """Programs of our own, so that one can be taken away."""
        self.bin = os.path.join(self.dir, "bin")
        os.makedirs(self.bin)
        for name in ("ithaca", "ithacad", "ithaca-guest"):
            shutil.copy(os.path.join(BIN, name), self.bin)
        os.chmod(self.dir, 0o755)

    def log(self, *args):
        return [json.loads(line) for line in self.ithaca("logs", "--json", "--tail", "0", *args, check=0).stdout.splitlines()]


class Life(DaemonCase):
    def test_start_status_stop(self):
        said = self.start().stdout
        before = self.status()
        pid = self.role("runner", before)["pid"]
        self.assertIn("pid %d" % pid, said)
        self.assertEqual([r["name"] for r in before["roles"]], ["runner", "runtime", "broker", "shelld"])
        self.assertEqual({r["state"] for r in before["roles"]}, {"up"})
        self.assertEqual((before["running"], before["private"], before["tier"]), (True, False, "cell"))
        self.assertEqual({r["pid"] for r in before["roles"]}, set(self.pids().values()))
        second = self.start(check=2)
        self.assertRegex(second.stderr, r"\Aithaca: already running \(pid %d, since 20\d\d-\S+Z\)" % pid)
        self.assertEqual([r["pid"] for r in self.status()["roles"]], [r["pid"] for r in before["roles"]])
        self.assertEqual(self.run_json("hello")["status"], "answered")
        self.assertEqual(self.ithaca("stop", check=0).stdout, "stopped (pid %d)\n" % pid)
        self.assertEqual(wait_ends([p for p, _, _ in self.mine()], 10), [])
        self.assertEqual(sorted(os.listdir(os.path.join(self.home, "run"))), ["lock", "selftest", "stopped"])
        self.assertIn("no runtime is running", self.ithaca("status", check=1).stdout)
        self.assertEqual(self.ithaca("stop", check=0).stdout, "nothing is running\n")

    def test_a_daemon_does_not_end_when_idle(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "50"
        self.start()
        self.run_json("hello")
        runner = self.role("runner")["pid"]
        self.assertEqual(wait_ends([runner], 1), [runner])

    def test_a_private_runner_becomes_the_daemon(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "1500"
        self.run_json("hello")
        private = self.status()
        self.assertTrue(private["private"])
        said = self.start().stdout
        pid = self.role("runner", private)["pid"]
        self.assertIn("pid %d" % pid, said)
        self.assertFalse(self.status()["private"])
        self.assertEqual(wait_ends([pid], 2.5), [pid], "the daemon ended as if it were private")
        self.start(check=2)

    def test_a_private_runner_with_other_settings_gives_way(self):
        self.run_json("hello", env={"ITHACA__LIMITS__TURN_STEPS": "7"})
        private = self.role("runner")["pid"]
        self.start()
        self.assertEqual(wait_ends([private], 10), [])
        self.assertFalse(self.status()["private"])
        self.assertNotEqual(self.role("runner")["pid"], private)

    def test_start_tells_the_fault(self):
        os.makedirs(os.path.join(self.home, "state"))
        with open(os.path.join(self.home, "state", "ithaca.db"), "w") as f:
            f.write("this is no database " * 1000)
        self.assertRegex(self.start(check=1).stderr, r"\Aithaca: .*ithaca\.db")
        self.assertEqual(wait_ends([p for p, _, _ in self.mine()], 10), [])
        self.config("limits: { turn_steps: many }\n")
        self.assertIn("turn_steps", self.start(check=2).stderr)

    def test_start_while_another_ends(self):
        """After a start that was refused, or a stop that nobody waited for: the next one waits for the end, and starts."""
        self.start()
        old = self.status()
        os.kill(self.role("broker", old)["pid"], signal.SIGSTOP)
        stop = self.spawn("stop")
        self.until(lambda: self.role("runner")["state"] == "stopping", "does not stop")
        starts = [self.spawn("start") for _ in range(3)]
        self.assertEqual(len(wait_ends([s.proc.pid for s in starts], 0.5)), 3, "did not wait")
        os.kill(self.role("broker", old)["pid"], signal.SIGCONT)
        self.assertEqual(sorted(s.proc.wait(DEADLINE) for s in starts), [0, 2, 2])
        self.assertEqual(stop.proc.wait(DEADLINE), 0, "took the next one for what it stopped")
        self.assertNotEqual(self.role("runner")["pid"], self.role("runner", old)["pid"])

    def test_start_after_a_refused_one(self):
        db = os.path.join(self.home, "state", "ithaca.db")
        os.makedirs(os.path.dirname(db))
        for _ in range(5):
            with open(db, "w") as f:
                f.write("this is no database " * 1000)
            self.assertIn("ithaca.db", self.start(check=1).stderr)
            os.unlink(db)
            self.start()
            self.ithaca("stop", check=0)

    def test_foreground_ends_by_sigterm_with_status_0(self):
        for end in (signal.SIGTERM, signal.SIGINT):
            p = subprocess.Popen([os.path.join(BIN, "ithaca"), "start", "--foreground"], cwd=self.work, env=self.env,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            self.until(lambda: self.ithaca("status").returncode == 0 and
                       {r["state"] for r in self.status()["roles"]} == {"up"}, "not up")
            self.assertEqual(self.role("runner")["pid"], p.pid)
            p.send_signal(end)
            self.assertEqual(p.wait(DEADLINE), 0)
            self.assertIn(b"msg=stopped", p.stderr.read())
            p.stderr.close()

    def foreground(self):
        p = self.pty("start", "--foreground")
        self.until(lambda: self.ithaca("status").returncode == 0 and {r["state"] for r in self.status()["roles"]} == {"up"}, "not up")
        return p

    def test_a_key_at_its_terminal_is_for_the_runner(self):
        """Ctrl-C goes to a whole group: the roles are stopped in order all the same."""
        p = self.foreground()
        p.send(b"\x03")
        self.assertEqual(p.end(), 0)
        self.assertNotIn(b"a role exited", p.out)
        self.assertIn(b"msg=stopped killed=0", p.out)

    def test_the_end_of_its_terminal(self):
        p = self.foreground()
        os.close(p.fd)
        self.assertEqual(wait_ends([p.pid], 20), [])
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(p.pid, 0)[1]), 0)
        self.check_left_nothing()
        self.assertEqual(self.log("--role", "runner")[-1]["msg"], "stopped")

    def check_left_nothing(self):
        self.assertEqual(wait_ends([p for p, _, _ in self.mine()], 20), [])
        self.assertEqual(set(os.listdir(os.path.join(self.home, "run"))) - {"lock", "selftest", "stopped"}, set())

    def test_descriptors_of_who_starts_are_not_held(self):
        for command in (["start"], ["run", "hello"]):  # the daemon, and a private runner
            path = os.path.join(self.work, "lock")
            with open(path, "w") as f:
                fcntl.flock(f, fcntl.LOCK_EX)
                fd = fcntl.fcntl(f, fcntl.F_DUPFD, 20)
                subprocess.run([os.path.join(BIN, "ithaca"), *command], cwd=self.work, env=self.env, stdin=subprocess.DEVNULL,
                               capture_output=True, timeout=DEADLINE, pass_fds=[fd], check=True)
                os.close(fd)
            self.assertIn("runner", self.pids())
            with open(path) as f:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.ithaca("stop", check=0)

    def test_the_home_is_taken_away(self):
        """No command reaches that daemon any more: it ends by itself, and does no harm to the next one."""
        for take in (lambda: os.rename(self.home, self.home + ".away"), lambda: shutil.rmtree(self.home)):
            self.start()
            old = self.pids()
            os.kill(old["broker"], signal.SIGSTOP)  # so that its end takes a while
            take()
            os.makedirs(self.home, mode=0o700)
            self.start()
            new = {r["pid"] for r in self.status()["roles"]}
            self.assertEqual(new & set(old.values()), set())
            os.kill(old["broker"], signal.SIGCONT)
            self.assertEqual(wait_ends(old.values(), 20), [])
            self.assertEqual({r["pid"] for r in self.status()["roles"]}, new)
            self.assertEqual(self.run_json("hello")["status"], "answered")
            self.assertEqual({n for n in os.listdir(os.path.join(self.home, "run")) if n.endswith(".sock")},
                             {"control.sock", "rpc.sock", "shelld.sock"})
            self.ithaca("stop", check=0)
        self.check_left_nothing()

    def test_an_open_turn_goes_on_after_the_next_start(self):
        self.script(offline([[{"text": "First. ", "chunk": 2, "delay": 2}, {"call": {"tool": "write", "args": {"path": "a.txt", "content": "1"}}}],
                          [{"text": "word " * 400, "chunk": 4, "delay": 5}]]))
        self.start()
        s = self.stream("go")
        session = s.until("model.started", step=2)["session"]
        self.ithaca("stop", check=0)
        self.assertEqual(s.end(), 5)  # who waits neither hangs nor starts another
        self.ithaca("status", check=1)
        self.start()
        p = self.ithaca("run", "--session", session, "--continue", "--json")
        if "nothing is open" not in p.stdout + p.stderr:
            self.assertEqual(json.loads(p.stdout)["status"], "answered", p.stdout)
        events = self.events(session)
        self.assertEqual(events[-1]["kind"], "turn.finished")
        self.assertEqual(events[-1]["body"]["status"], "answered")
        self.assertEqual([e["kind"] for e in events].count("effect.intent"), 1)

    def test_stale_files_of_a_dead_runner(self):
        self.start()
        for name in ("runtime", "broker", "shelld"):
            self.assertIn(name, self.pids())
        pids = self.pids()
        for pid in pids.values():
            os.kill(pid, signal.SIGSTOP)  # nobody sees another's end and tidies up
        for name in ("runner", "runtime", "broker", "shelld"):
            self.kill(pids[name])
        self.assertEqual(wait_ends([p for p, _, _ in self.mine()], 10), [])
        self.assertEqual(sorted(os.listdir(os.path.join(self.home, "run"))), ["lock", "selftest"])
        self.ithaca("status", check=1)
        for name in ("control.sock", "rpc.sock", "shelld.sock"):  # of one that nobody was left to clean up after
            s = socket.socket(socket.AF_UNIX)
            s.bind(os.path.join(self.home, "run", name))
            s.close()
        self.ithaca("status", check=1)
        self.assertEqual(self.ithaca("stop", check=0).stdout, "nothing is running\n")
        self.start()
        self.assertEqual({r["state"] for r in self.status()["roles"]}, {"up"})

    def test_a_killed_runner_leaves_no_socket(self):
        self.env["ITHACA__CELL__ORPHAN_MS"] = "100"
        self.start()
        pids = self.pids()
        self.kill(pids["runner"])
        self.assertEqual(wait_ends([p for n, p in pids.items() if n != "runner"], 20), [])
        self.assertEqual([n for n in os.listdir(os.path.join(self.home, "run")) if n.endswith(".sock")], [])

    def test_an_adopted_shelld_says_further_things(self):
        self.start()
        pids = self.pids()
        self.kill(pids["runner"])
        wait_ends([pids["runtime"], pids["broker"]], 20)
        self.start()
        self.assertEqual(self.role("shelld")["pid"], pids["shelld"])
        self.assertEqual(self.run_json("list the files")["status"], "answered")
        self.ithaca("restart", "shelld", check=0)
        self.assertNotEqual(self.role("shelld")["pid"], pids["shelld"])


    def test_a_shelld_that_hangs_is_not_adopted(self):
        self.start()
        pids = self.pids()
        self.kill(pids["runner"])
        wait_ends([pids["runtime"], pids["broker"]], 20)
        os.kill(pids["shelld"], signal.SIGSTOP)
        self.start()
        self.assertEqual(wait_ends([pids["shelld"]], 10), [])
        self.assertEqual(self.role("shelld")["state"], "up")
        self.assertEqual(self.run_json("list the files")["status"], "answered")


class Roles(DaemonCase):
    def test_restart_of_one_leaves_the_others(self):
        self.start()
        for name in ("runtime", "broker", "shelld"):
            before = {r["name"]: r["pid"] for r in self.status()["roles"]}
            self.ithaca("restart", name, check=0)
            after = {r["name"]: r["pid"] for r in self.status()["roles"]}
            self.assertEqual({n for n in before if before[n] != after[n]}, {name})
            self.assertEqual(self.role(name)["restarts"], 1)
        self.assertEqual(self.codes() & {"runtime_down", "broker_down", "shelld_down"}, set())
        self.assertEqual(self.run_json("list the files")["status"], "answered")
        self.assertIn("did you mean", self.ithaca("restart", "runtme", check=2).stderr + " did you mean")
        old = self.role("runner")["pid"]
        self.ithaca("restart", check=0)
        self.assertNotEqual(self.role("runner")["pid"], old)

    def test_restart_of_the_runtime_in_a_turn(self):
        self.script(offline([[{"call": {"tool": "write", "args": {"path": "a.txt", "content": "1"}}}],
                          [{"text": "word " * 300, "chunk": 4, "delay": 3}]]))
        self.start()
        s = self.stream("go")
        s.until("model.started", step=2)
        self.ithaca("restart", "runtime", check=0)
        s.until("turn.finished", status="answered")
        self.assertEqual(s.end(), 0)
        self.assertEqual([e["kind"] for e in s.events].count("effect.intent"), 1)

    def test_restart_of_everything_in_a_turn(self):
        self.script(offline([[{"text": "word " * 300, "chunk": 4, "delay": 3}]]))
        self.start()
        s = self.stream("go")
        s.until("model.started")
        self.ithaca("restart", check=0)
        s.until("turn.finished", status="answered")
        self.assertEqual(s.end(), 0)

    def test_a_killed_role_is_told_and_comes_back(self):
        self.start()
        for name in ("runtime", "broker", "shelld"):
            pid = self.role(name)["pid"]
            self.kill(pid)
            row = self.until(lambda: self.role(name)["state"] == "up" and self.role(name), "not back")
            self.assertEqual((row["restarts"], row["pid"] != pid), (1, True))
        lines = [r for r in self.log("--role", "runner") if r["msg"] == "a role ended and is started again"]
        self.assertEqual([(r["name"], r["reason"]) for r in lines],
                         [(n, "it was killed by signal 9") for n in ("runtime", "broker", "shelld")])

    def test_status_when_the_runtime_does_not_answer(self):
        self.start()
        pid = self.role("runtime")["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            status = self.status()
            self.assertIn("runtime_down", self.codes(status))
            self.assertEqual(self.role("runtime", status)["pid"], pid)
        finally:
            os.kill(pid, signal.SIGCONT)
        self.assertNotIn("runtime_down", self.codes())

    def test_status_when_the_runtime_cannot_start(self):
        self.own_bin()
        self.start()
        os.rename(os.path.join(self.bin, "ithacad"), os.path.join(self.bin, "away"))
        self.kill(self.role("runtime")["pid"])
        status = self.until(lambda: self.role("runtime")["restarts"] >= 2 and self.status(), "no restart was tried")
        self.assertIn("runtime_down", self.codes(status))
        self.assertIn(self.role("runtime", status)["state"], ("restarting", "down"))
        self.assertTrue(self.role("runtime", status)["reason"])
        os.rename(os.path.join(self.bin, "away"), os.path.join(self.bin, "ithacad"))
        self.ithaca("restart", "runtime", check=0)
        self.assertEqual(self.role("runtime")["state"], "up")
        self.assertNotIn("runtime_down", self.codes())

    def test_a_stop_before_shelld_is_back(self):
        """A shelld that was killed cannot take its socket away."""
        self.own_bin()
        self.start()
        self.run_json("hello")
        pid = self.role("shelld")["pid"]
        os.rename(os.path.join(self.bin, "ithaca-guest"), os.path.join(self.bin, "away"))
        self.kill(pid)
        self.until(lambda: "shelld_down" in self.codes(), "not told")
        self.assertIn("shelld.sock", os.listdir(os.path.join(self.home, "run")))
        self.ithaca("stop", check=0)
        self.assertEqual(sorted(os.listdir(os.path.join(self.home, "run"))), ["lock", "selftest", "stopped"])

    def test_stop_ends_an_adopted_shelld_that_hangs(self):
        self.start()
        pids = self.pids()
        self.kill(pids["runner"])
        wait_ends([pids["runtime"], pids["broker"]], 20)
        self.start()
        self.assertEqual(self.role("shelld")["pid"], pids["shelld"])
        os.kill(pids["shelld"], signal.SIGSTOP)
        self.assertEqual(self.ithaca("stop", check=0).stdout, "stopped; did not end in time and was killed: shelld\n")
        self.assertEqual(wait_ends([p for p, _, _ in self.mine()], 10), [])
        self.assertEqual(sorted(os.listdir(os.path.join(self.home, "run"))), ["lock", "selftest", "stopped"])

    def test_stop_says_what_was_left(self):
        self.start()
        os.kill(self.role("broker")["pid"], signal.SIGSTOP)
        self.assertEqual(self.ithaca("stop", check=0).stdout, "stopped; did not end in time and was killed: broker\n")
        self.assertEqual(wait_ends([p for p, _, _ in self.mine()], 10), [])

    def test_lost_shelld_takes_its_tools_along(self):
        self.own_bin()
        flag = os.path.join(self.work, "flag")
        os.mkfifo(flag, 0o666)
        os.chmod(flag, 0o666)
        self.serve("by: turn_results\nsteps:\n"
                   "  - answer: [ { call: { tool: write, args: { path: a.txt, content: x } } } ]\n"
                   "  - first_delay: 1500\n    answer: [ { text: done } ]\n")
        self.start()
        guest, away = os.path.join(self.bin, "ithaca-guest"), os.path.join(self.bin, "away")
        s = Stream(subprocess.Popen([os.path.join(self.bin, "ithaca"), "run", "--stream-json", "first"], cwd=self.work, env=self.env,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        self.streams.append(s)
        s.until("effect.outcome")
        os.rename(guest, away)
        self.kill(self.role("shelld")["pid"])
        self.until(lambda: "shelld_down" in self.codes(), "not told")
        tools = json.loads(self.ithaca("tool", "list", "--json", check=0).stdout)["tools"]
        self.assertEqual({(t["offered"], t.get("code")) for t in tools}, {(False, "shelld_down")})
        self.assertEqual(s.end(), 0)
        self.assertEqual(self.run_json("second")["status"], "answered")
        last = self.server.requests()[-1]["body"]
        last = json.loads(last) if isinstance(last, str) else last
        self.assertEqual(last.get("tools", []), [])
        self.assertIn("shelld_down", json.dumps(last))
        os.rename(away, guest)
        self.ithaca("restart", "shelld", check=0)
        self.until(lambda: "shelld_down" not in self.codes(), "did not come back")
        self.assertEqual(self.run_json("third")["status"], "answered")
        last = self.server.requests()[-1]["body"]
        last = json.loads(last) if isinstance(last, str) else last
        self.assertIn("exec", json.dumps(last["tools"]))
        self.assertNotIn("shelld_down", json.dumps(last["messages"][0]))
        lines = [(r["msg"], r.get("code")) for r in self.log("--role", "runtime") if r.get("code") == "shelld_down"]
        self.assertEqual(lines, [("degraded", "shelld_down"), ("no longer degraded", "shelld_down")])

    def test_effects_in_flight_wait_for_a_new_shelld(self):
        self.script(offline([[{"call": {"tool": "exec", "args": {"command": "echo began > began; read x < go; echo end"}}}],
                          [{"text": "done"}]]))
        for name in ("began", "go"):
            os.mkfifo(os.path.join(self.work, name), 0o666)
            os.chmod(os.path.join(self.work, name), 0o666)
        self.start()
        began = os.open(os.path.join(self.work, "began"), os.O_RDWR | os.O_NONBLOCK)
        s = self.stream("go")
        self.assertTrue(select.select([began], [], [], DEADLINE)[0])
        os.close(began)
        self.kill(self.role("shelld")["pid"])
        outcome = s.until("effect.outcome")
        self.assertIn(outcome["body"]["state"], ("unknown", "not_done"))
        s.until("turn.finished", status="answered")
        self.assertEqual(s.end(), 0)


class Control(DaemonCase):
    def connect(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(DEADLINE)
        sock.connect(os.path.join(self.home, "run", "control.sock"))
        self.addCleanup(sock.close)
        return sock

    def call(self, sock, **head):
        text = json.dumps({"v": 1, "kind": "call", "id": 7, **head}).encode()
        sock.sendall(struct.pack("<II", 4 + len(text), len(text)) + text)
        data = b""
        while len(data) < 8 or len(data) < 4 + struct.unpack("<I", data[:4])[0]:
            part = sock.recv(65536)
            if not part:
                return None
            data += part
        n = struct.unpack("<I", data[4:8])[0]
        return json.loads(data[8:8 + n]), data[8 + n:]

    def test_frames(self):
        self.start()
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(self.home, "run", "control.sock")).st_mode), 0o600)
        sock = self.connect()
        head, tail = self.call(sock, method="status")
        self.assertEqual((head["kind"], json.loads(tail)["roles"][0]["name"]), ("result", "runner"))
        head, _ = self.call(sock, method="explode")
        self.assertEqual((head["kind"], head["code"]), ("error", "not_found"))
        head, _ = self.call(sock, method="restart", about="runner")
        self.assertEqual((head["kind"], head["code"]), ("error", "invalid"))
        for bad in (b"\xff" * 64, struct.pack("<II", 20, 4000) + b"x" * 16, struct.pack("<II", 6, 2) + b"[]",
                    struct.pack("<II", 4 + 35, 35) + b'{"v":1,"kind":"boot","id":1}       '):
            sock = self.connect()
            sock.sendall(bad)
            self.assertEqual(sock.recv(100), b"", bad)
        full = [self.connect() for _ in range(30)]
        self.assertEqual(full[0].recv(1), b"", "idle clients lock others out")
        self.assertEqual({r["state"] for r in self.status()["roles"]}, {"up"})

    def test_one_object_on_both_surfaces(self):
        self.start()
        mine, theirs = self.rpc().call("status.get"), json.loads(self.call(self.connect(), method="status")[1])
        for key in set(theirs) - {"degraded"}:
            self.assertEqual(mine[key], theirs[key], key)
        self.assertLessEqual(self.codes(theirs), self.codes(mine))  # the runner does not know what cells lack
        self.assertEqual({"sessions", "turns"}, set(mine) - set(theirs))


class Logs(DaemonCase):
    def record(self, ms, msg, level="info", role="runtime"):
        return 'time=2026-01-01T00:00:%02d.%03dZ level=%s role=%s msg="%s" n=7\n' % (ms // 1000, ms % 1000, level, role, msg)

    def put(self, name, text):
        os.makedirs(os.path.join(self.home, "logs"), exist_ok=True)
        with open(os.path.join(self.home, "logs", name), "a") as f:
            f.write(text)

    def test_merged_by_time(self):
        self.put("runtime.log.2", self.record(1, "one"))
        self.put("runtime.log.1", self.record(3, "three"))
        self.put("runtime.log", self.record(5, "five", "error"))
        self.put("broker.log", self.record(2, "two", role="broker") + self.record(4, "four", "warn", role="broker"))
        self.assertEqual([r["msg"] for r in self.log()], ["one", "two", "three", "four", "five"])
        self.assertEqual(self.log()[0], {"time": "2026-01-01T00:00:00.001Z", "level": "info", "role": "runtime", "msg": "one", "n": 7})
        self.assertEqual([r["msg"] for r in self.log("--role", "broker")], ["two", "four"])
        self.assertEqual([r["msg"] for r in self.log("--level", "warn")], ["four", "five"])
        self.assertEqual([r["msg"] for r in self.log("--since", "2026-01-01T00:00:00.003")], ["three", "four", "five"])
        self.assertEqual(self.log("--since", "10m"), [])
        p = self.ithaca("logs", "--tail", "2", check=0)
        self.assertEqual([line.split()[3] for line in p.stdout.splitlines()], ["four", "five"])
        for args in (["--since", "yesterday"], ["--since", "2026-11-26 10:00"], ["--since", "2026-11-2x"], ["--role", "nobody"], ["--tail", "-1"], ["--level", "loud"]):
            self.ithaca("logs", *args, check=2)

    def test_what_is_no_record_and_what_is_hostile(self):
        self.put("runtime.log", "plain words\n" + self.record(1, "fine") + "\x1b[31mred\x1b[0m\n" + "y" * 100000 + "\n" +
                 'time=2026-01-01T00:00:01Z level=info role=runtime msg="no end\n' + '{"time":"2026-01-01T00:00:02Z","level":"warn",'
                 '"role":"runtime","stream":"stderr","msg":"as JSON \\u001b[2J"}\n' + "\xff\n" +
                 '{"time":"2026-01-01T00:00:02Z","level":"warn","role":"\\u001b[2J","msg":"steers"}\n' + self.record(3, "twice") + "half a line")
        p = self.ithaca("logs", check=0)
        self.assertNotIn("\x1b", p.stdout)
        self.assertIn("plain words", p.stdout)
        self.assertIn("red", p.stdout)
        self.assertNotIn("half a line", p.stdout)
        msgs = [r["msg"] for r in self.log("--stream", "stderr")]
        self.assertIn("plain words", msgs)
        self.assertEqual(sum(len(m) for m in msgs if set(m) == {"y"}), 100000)
        self.assertEqual([r["msg"] for r in self.log("--stream", "log")], ["fine", "steers", "twice"])

    def test_follow_over_rotation(self):
        self.put("runtime.log", self.record(1, "before"))
        p = subprocess.Popen([os.path.join(BIN, "ithaca"), "logs", "--follow", "--json"], cwd=self.work, env=self.env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        s = Stream(p)
        self.streams.append(s)
        logs = os.path.join(self.home, "logs")

        def msg():
            self.assertTrue(b"\n" in s.rest or select.select([p.stdout], [], [], DEADLINE)[0])
            while b"\n" not in s.rest:
                s.rest += os.read(p.stdout.fileno(), 65536)
            line, s.rest = s.rest.split(b"\n", 1)
            return json.loads(line)["msg"]

        self.assertEqual(msg(), "before")
        for turn in range(3):
            self.put("runtime.log", self.record(10 + turn, "last %d" % turn))
            for i in (2, 1, 0):
                old = os.path.join(logs, "runtime.log" + (".%d" % i if i else ""))
                if os.path.exists(old):
                    os.rename(old, os.path.join(logs, "runtime.log.%d" % (i + 1)))
            self.put("runtime.log", self.record(20 + turn, "first %d" % turn))
            self.assertEqual([msg(), msg()], ["last %d" % turn, "first %d" % turn])

    @unittest.skipUnless(os.geteuid() == 0, "SKIP: only root can write to a role's descriptors")
    def test_files_are_put_aside_by_size(self):
        self.env["ITHACA__LOG__FILE_KB"] = "64"
        self.env["ITHACA__LOG__KEEP"] = "2"
        self.env["ITHACA__LOG__LEVEL"] = "debug"
        old = (64 * 1024 - 300) // len(self.record(1, "old"))
        self.put("runtime.log", self.record(1, "old") * old)
        self.start()
        fd = os.open("/proc/%d/fd/2" % self.role("runtime")["pid"], os.O_WRONLY)
        for i in range(100):
            os.write(fd, b"line %d\n" % i)
        os.close(fd)
        self.ithaca("stop", check=0)
        names = sorted(os.listdir(os.path.join(self.home, "logs")))
        self.assertIn("runtime.log.1", names)
        self.assertNotIn("runtime.log.3", names)
        for name in names:
            st = os.stat(os.path.join(self.home, "logs", name))
            self.assertLessEqual(st.st_size, 64 * 1024)
            self.assertEqual(stat.S_IMODE(st.st_mode) & 0o077 if name != "runtime.log.1" else 0, 0)
        self.assertEqual([r["msg"] for r in self.log("--role", "runtime")].count("old"), old)
        self.assertEqual([r["msg"] for r in self.log("--role", "runtime", "--stream", "stderr")], ["line %d" % i for i in range(100)])

    @unittest.skipUnless(os.geteuid() == 0, "SKIP: only root can write to a role's descriptors")
    def test_last_words(self):
        """A role that aborts is heard: what it printed by itself is a record of the stream stderr."""
        self.start()
        pid = self.role("runtime")["pid"]
        fd = os.open("/proc/%d/fd/2" % pid, os.O_WRONLY)
        os.write(fd, b"Assertion failed: the last words\nwithout an end")
        os.close(fd)
        self.kill(pid)
        self.until(lambda: self.role("runtime")["state"] == "up", "not back")
        said = [(r["msg"], r["stream"], r["role"]) for r in self.log("--role", "runtime", "--stream", "stderr")]
        self.assertEqual(said, [("Assertion failed: the last words", "stderr", "runtime"), ("without an end", "stderr", "runtime")])

    @unittest.skipUnless(os.geteuid() == 0, "SKIP: only root can write to a role's descriptors")
    def test_a_flood_neither_blocks_nor_fills(self):
        self.env["ITHACA__LOG__FILE_KB"] = "64"
        self.env["ITHACA__LOG__KEEP"] = "1"
        self.start()
        fd = os.open("/proc/%d/fd/2" % self.role("broker")["pid"], os.O_WRONLY)
        line = b"flood " * 20 + b"\n"
        for _ in range(64):
            os.write(fd, line * 4096)  # 31 MB: blocks only if nobody reads
        os.close(fd)
        self.assertEqual({r["state"] for r in self.status()["roles"]}, {"up"})
        self.ithaca("stop", check=0)
        logs = os.path.join(self.home, "logs")
        self.assertLessEqual(sum(os.path.getsize(os.path.join(logs, n)) for n in os.listdir(logs) if n.startswith("broker")), 160 * 1024)
        self.assertIn("a flood of log lines was cut", [r["msg"] for r in self.log("--role", "broker")])


class Tiers(DaemonCase):
    def test_process(self):
        self.serve("by: turn_results\nsteps:\n"
                   "  - answer: [ { call: { tool: write, args: { path: a.txt, content: hello } } } ]\n"
                   "  - answer: [ { call: { tool: read, args: { path: a.txt } } } ]\n"
                   "  - answer: [ { call: { tool: exec, args: { command: id } } } ]\n"
                   "  - answer: [ { call: { tool: read, args: { path: /etc/shadow } } } ]\n"
                   "  - answer: [ { call: { tool: read, args: { path: %s } } } ]\n"
                   "  - answer: [ { call: { tool: write, args: { path: %s, content: x } } } ]\n"
                   "  - answer: [ { text: done } ]\n" % (os.path.join(self.home, "config.yaml"), os.path.join(self.dir, "outside")))
        p = self.ithaca("run", "--insecure", "--json", "go", check=0)
        self.assertIn("WARNING", p.stderr)
        self.assertIn("tier process", p.stderr)
        result = json.loads(p.stdout)
        self.assertEqual([(e["tool"], e["status"]) for e in result["effects"]][:2], [("write", "done"), ("read", "done")])
        self.assertEqual(self.read("a.txt"), "hello")
        self.assertFalse(os.path.exists(os.path.join(self.dir, "outside")))
        events = self.events(result["session"])
        asked = {e["body"]["tool"]: e["body"] for e in events if e["kind"] == "tool.requested" and e["body"]["tool"] == "exec"}
        self.assertEqual(asked["exec"]["decision"], "invalid")
        self.assertIn("tier process", asked["exec"]["reason"])
        outcomes = [e["body"] for e in events if e["kind"] == "effect.outcome"]
        self.assertEqual([o["is_error"] for o in outcomes], [False, False, True, True, True], outcomes)
        first = self.server.requests()[0]["body"]
        first = json.loads(first) if isinstance(first, str) else first
        names = {t["function"]["name"] for t in first["tools"]}
        self.assertIn("read", names)
        self.assertEqual(names & {"exec", "job", "output"} - {"job", "output"}, set())
        self.assertIn("tier_process", json.dumps(first["messages"][0]))

    def test_process_in_status_doctor_and_log(self):
        self.config("tier: process\n")
        self.assertIn("WARNING", self.start().stderr)
        status = self.status()
        self.assertEqual((status["tier"], status["tier_asked"]), ("process", "process"))
        self.assertIn("tier_process", self.codes(status))
        self.assertIn("tier process", self.ithaca("doctor").stdout)
        words = [r["msg"] for r in self.log("--role", "runtime")]
        self.assertTrue([w for w in words if w.startswith("tier process: the runtime is")], words)
        p = self.ithaca("run", "--mode", "danger_full_access", "list the files")
        self.assertIn("no meaning without commands", p.stdout + p.stderr)

    def test_refusals(self):
        for config, code, fix in (("tier: microvm\nmicrovm: { kernel: /nowhere }\n", "_missing", "install"),
                                  ("tier: auto\ntier_min: container\n", "tier_below_minimum", "lower tier_min")):
            self.config(config)
            for command in (["start"], ["run", "hello"]):
                p = self.ithaca(*command, check=2)
                self.assertIn(code, p.stderr)
                self.assertIn(fix, p.stderr)
        self.config("tier_min: cell\n")
        self.assertIn("tier_min", self.ithaca("start", "--insecure", check=2).stderr)
        self.ithaca("run", "--insecure", "hello", check=2)
        self.start()


class Workspaces(DaemonCase):
    def test_made_private_and_seen_as_said(self):
        user = os.path.join(self.home, "workspaces", "default")
        command = "echo s > /shared/s; echo t > /scratch/t; ls -d /vault; ls /; cat %s/vault/key" % user
        self.script(offline([[{"call": {"tool": "exec", "args": {"command": command}}}], [{"text": "{{result}}"}]]))
        self.start()
        for name in ("shared", "tmp", "vault"):
            self.assertEqual(stat.S_IMODE(os.stat(os.path.join(user, name)).st_mode), 0o700)
        with open(os.path.join(user, "vault", "key"), "w") as f:
            f.write("the vault's own words")
        result = self.run_json("--workspace", "user", "go")
        self.assertTrue(os.path.exists(os.path.join(user, "shared", "s")), result)
        self.assertTrue(os.path.exists(os.path.join(user, "tmp", "t")), result)
        self.assertNotIn("own words", json.dumps(self.events(result["session"])))
        self.assertNotIn("\nvault", result["text"])

    def test_the_vault_is_hidden_in_a_workspace_above_it(self):
        user = os.path.join(self.home, "workspaces", "default")
        self.script(offline([[{"call": {"tool": "exec", "args": {"command": "ls -la; cat vault/key; ls vault; echo over"}}}], [{"text": "{{result}}"}]]))
        self.start()
        with open(os.path.join(user, "vault", "key"), "w") as f:
            f.write("the vault's own words")
        with open(os.path.join(user, "shared", "seen"), "w") as f:
            f.write("x")
        result = self.run_json("--workspace", user, "go")
        self.assertIn("over", result["text"])
        self.assertIn("shared", result["text"])
        self.assertNotIn("own words", json.dumps(self.events(result["session"])))
        p = self.ithaca("run", "--json", "--workspace", os.path.join(user, "vault"), "go")
        self.assertNotIn("own words", p.stdout)

    def test_another_root(self):
        root = os.path.join(self.dir, "elsewhere")
        self.config("workspace_root: %s\n" % root)
        self.start()
        self.assertEqual(sorted(os.listdir(os.path.join(root, "default"))), ["shared", "tmp", "vault"])


class Others(DaemonCase):
    """Two users: neither reaches the other's daemon, workspace or sockets."""

    ASK = ("import socket, struct, sys\n"
           "s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect(sys.argv[1])\n"
           "head = b'{\"v\":1,\"kind\":\"call\",\"id\":1,\"method\":\"' + sys.argv[2].encode() + b'\"}'\n"
           "try:\n"
           "    s.sendall(struct.pack('<II', 6 + len(head), len(head)) + head + b'{}')\n"
           "    print(len(s.recv(100)))\n"
           "except (BrokenPipeError, ConnectionResetError):\n"
           "    print(0)\n")

    def asked(self, name, method, **as_whom):
        """How much an answer had: 0, the peer closed."""
        p = subprocess.run(["/usr/bin/python3", "-c", self.ASK, os.path.join(self.home, "run", name), method], cwd="/", text=True,
                           capture_output=True, timeout=DEADLINE, **as_whom)
        self.assertEqual(p.returncode, 0, p.stderr)
        return int(p.stdout)

    @unittest.skipUnless(os.geteuid() == 0, "SKIP: only root can be somebody else")
    def test_the_peer_of_each_socket_is_looked_at(self):
        """With every directory and socket open to all, so that nothing but the look at the peer is left."""
        self.start()
        for path in (self.dir, self.home, os.path.join(self.home, "run")):
            os.chmod(path, 0o755)
        for name, method in (("control.sock", "status"), ("rpc.sock", "status.get")):
            os.chmod(os.path.join(self.home, "run", name), 0o666)
            self.assertGreater(self.asked(name, method), 0)
            self.assertEqual(self.asked(name, method, user=65534, group=65534, extra_groups=[]), 0, name)
        os.chmod(os.path.join(self.home, "run", "shelld.sock"), 0o666)
        before = self.role("shelld")["pid"]
        self.assertEqual(self.asked("shelld.sock", "x", user=65534, group=65534, extra_groups=[]), 0)
        self.assertEqual(self.role("shelld")["pid"], before)
        self.assertEqual({r["state"] for r in self.status()["roles"]}, {"up"})

    def test_no_workspace_of_another(self):
        other = os.path.join(self.dir, "other")
        os.mkdir(other, 0o700)
        env = {"ITHACA_HOME": other, "HOME": other}
        self.ithaca("start", check=0, env=env)
        theirs = os.path.join(other, "workspaces", "default")
        for name in ("shared", "tmp", "vault"):
            with open(os.path.join(theirs, name, "words"), "w") as f:
                f.write("what the other one wrote")
        up = "/".join([".."] * 12)
        command = ("cat {0}/shared/words {0}/tmp/words {0}/vault/words {1}{0}/shared/words /proc/1/root{0}/shared/words "
                   "/proc/self/root{0}/shared/words; ls -a {2}; ln -s {0}/shared l; cat l/words; rm -f l; python3 -c "
                   "'import socket; socket.socket(socket.AF_UNIX).connect(\"{2}/run/rpc.sock\")' && echo connected; echo over").format(
                       theirs, up, other)
        calls = [{"call": {"tool": "exec", "args": {"command": command}}}] + [
            {"call": {"tool": "read", "args": {"path": path}}}
            for path in (theirs + "/shared/words", up + theirs + "/shared/words", "/scratch/../.." + theirs + "/tmp/words")]
        self.script(offline([calls, [{"text": "{{result}}"}]]))
        self.start()
        for workspace in ([], ["--workspace", "user"]):
            result = self.run_json("--new", *workspace, "go")
            said = json.dumps(self.events(result["session"]))
            self.assertIn("over", said)
            self.assertNotIn("the other one wrote", said)
            self.assertNotIn("connected\\n", said)
        # The control: without a cell the same calls find it, since both are of one account.
        result = self.run_json("--new", "--yes", "--mode", "danger_full_access", "go")
        said = json.dumps(self.events(result["session"]))
        self.assertGreater(said.count("the other one wrote"), 5)
        self.assertIn("connected\\n", said)
        self.ithaca("stop", check=0, env=env)


class Service(DaemonCase):
    def test_notify(self):
        for abstract in (False, True):
            path = os.path.join(self.dir, "notify")
            name = "\0ithaca-test-%d" % os.getpid() if abstract else path
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sock.settimeout(DEADLINE)
            sock.bind(name)
            p = subprocess.Popen([os.path.join(BIN, "ithacad")], cwd=self.work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL, env={**self.env, "NOTIFY_SOCKET": name.replace("\0", "@")})
            self.assertEqual(sock.recv(1000).split(b"\n")[0], b"READY=1")
            self.assertEqual({r["state"] for r in self.status()["roles"]}, {"up"})
            for pid in self.pids().values():
                if pid != p.pid and os.geteuid() == 0:
                    with open("/proc/%d/environ" % pid, "rb") as f:
                        self.assertNotIn(b"NOTIFY_SOCKET", f.read())
            p.terminate()
            self.assertEqual(sock.recv(1000), b"STOPPING=1")
            self.assertEqual(p.wait(DEADLINE), 0)
            sock.close()

    def test_the_unit(self):
        unit = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "packaging", "systemd", "ithaca.service")
        if not os.path.exists(unit):
            self.skipTest("SKIP: the sources are not here")
        with open(unit) as f:
            lines = dict(line.strip().split("=", 1) for line in f if "=" in line and not line.startswith("#"))
        self.assertEqual((lines["Type"], lines["Delegate"], lines["KillMode"]), ("notify", "yes", "mixed"))
        if shutil.which("systemd-analyze") is None:
            self.skipTest("no systemd-analyze here")
        p = subprocess.run(["systemd-analyze", "verify", "--user", unit], capture_output=True, text=True, timeout=DEADLINE)
        self.assertNotIn("Unknown", p.stderr)


if __name__ == "__main__":
    main()
