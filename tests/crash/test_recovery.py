#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What single kills do not show: kills during recovery, of the client as well, with an approval pending, while a turn
stops, in a plain and in a live view; one writer at a time; and that nothing outlives its owner."""
import os
import pty
import select
import signal
import subprocess
import unittest

from crash import ANSWER, BIN, DEADLINE, LABEL, LEAD, ROLES, CrashCase, Fifo, descendants, main, role_of, wait_ends, yaml
from harness import Stream


class Repeated(CrashCase):
    """A turn that is interrupted again while it is being taken up."""

    def interrupt(self, roles, network=False):
        self.prepare(network, pace=2)
        stream = self.stream("go")
        self.began.wait()
        for role in roles:
            self.kill(role)
        self.go.go()
        self.finish(stream)
        return self.check_answered(stream.events[0]["session"], stream)[1]

    def test_runtime_six_times(self):
        self.assertEqual(set(self.interrupt(["runtime"] * 6).values()), {"done"})

    def test_runner_four_times(self):
        self.assertEqual(set(self.interrupt(["runner"] * 4).values()), {"done"})

    def test_runner_and_runtime_by_turns(self):
        self.assertEqual(set(self.interrupt(["runner", "runtime", "runtime", "runner", "runtime"]).values()), {"done"})

    def test_all_of_them(self):
        state = self.interrupt(["shelld", "broker", "runtime", "runner"], network=True)
        self.assertEqual(state["exec"], "unknown")

    def test_shelld_while_the_runtime_recovers(self):
        self.assertIn(self.interrupt(["runtime", "shelld", "runtime"])["exec"], ("unknown", "done"))

    def test_broker_more_often_than_a_server_may_fail(self):
        self.serve("repeat: true\nsteps:\n  - answer: [ { text: %s, chunk: 2, delay: 20 } ]\n" % yaml(ANSWER))
        stream = self.stream("go")
        for i in range(7):
            stream.until("model.delta", attempt=i + 1)
            self.kill("broker")
        self.finish(stream)
        events, _ = self.check_log(stream.events[0]["session"])
        self.assertEqual(events[-1]["body"]["text"], ANSWER)
        self.check_stream(stream, events)

    def test_runtime_while_a_cut_stream_is_retried(self):
        self.serve("by: sequence\nsteps:\n  - answer: [ { text: All of, chunk: 2, delay: 1 }, { cut: mid } ]\n"
                   "  - answer: [ { text: %s, chunk: 9 } ]\n" % yaml(ANSWER))
        stream = self.stream("go")
        stream.until("model.retry")
        self.kill("runtime")
        self.finish(stream)
        events, _ = self.check_log(stream.events[0]["session"])
        self.assertEqual(events[-1]["body"]["text"], ANSWER)
        self.check_stream(stream, events)
        self.assertIn("All of", [e["body"]["text"] for e in events if e["kind"] == "model.partial"])

    def test_queued_messages_keep_their_order(self):
        self.prepare(False, pace=2)
        first = self.stream("go")
        self.began.wait()
        session = first.events[0]["session"] if first.events else first.next()["session"]
        second = self.stream("--session", session, "then this")
        second.until("turn.queued")
        self.kill("runtime")
        self.kill("runner")
        self.go.go()
        self.finish(first)
        second.end()
        events = self.events(session)
        self.assertEqual([e["seq"] for e in events], list(range(1, len(events) + 1)))
        turns = [e["turn"] for e in events if e["kind"] == "turn.finished"]
        self.assertEqual(turns, [e["turn"] for e in events if e["kind"] == "turn.started"])
        self.assertEqual(len(turns), 2)
        self.assertEqual(self.read("count"), "x\n")


class Continue(CrashCase):
    """`ithaca run --session ID --continue` after the client is gone as well."""

    def start(self, **kw):
        self.prepare(False, pace=2, **kw)
        stream = self.stream("go")
        session = stream.next()["session"]
        return stream, session

    def test_after_everything_was_killed(self):
        stream, session = self.start()
        self.began.wait()
        self.leave(stream)
        self.kill_all()
        p = self.ithaca("run", "--session", session, "--continue", check=0)
        self.assertEqual(p.stdout, LABEL + ANSWER + "\n")
        self.assertEqual(self.check_answered(session)[1]["exec"], "unknown")

    def test_the_command_goes_on_without_a_runner(self):
        stream, session = self.start()
        self.began.wait()
        self.leave(stream)
        self.kill("runner")
        self.go.go()
        self.ended.wait()
        p = self.ithaca("run", "--session", session, "--continue", check=0)
        self.assertEqual(p.stdout, LABEL + ANSWER + "\n")
        self.assertEqual(set(self.check_answered(session)[1].values()), {"done"})

    def test_a_turn_that_ends_before_the_client_asks(self):
        stream, session = self.start()
        self.began.wait()
        self.leave(stream)
        self.kill("runner")
        self.go.go()
        self.ithaca("session", "list", check=0)  # starts a runner, and that takes the turn up
        watch = self.stream("--session", session, "--continue")
        watch.until("turn.finished")
        watch.end()
        p = self.ithaca("run", "--session", session, "--continue", check=0)
        self.assertEqual(p.stdout, LABEL + ANSWER + "\n")

    def test_nothing_to_continue_is_said(self):
        self.go.go()
        stream, session = self.start()
        self.finish(stream)
        p = self.ithaca("run", "--session", session, "--continue", check=1)
        self.assertIn("nothing is open", p.stderr)

    def check_approval(self, role):
        stream, session = self.start(extra="permissions: { ask: [\"Exec(*)\"] }\n")
        stream.until("approval.requested")
        self.kill(role)
        self.finish(stream, 3)
        approval = [e for e in stream.events if e["kind"] == "approval.requested"][0]["body"]["id"]
        self.ithaca("approval", "allow", approval, check=0)
        self.go.go()
        p = self.ithaca("run", "--session", session, "--continue", check=0)
        self.assertEqual(p.stdout, LABEL + ANSWER + "\n")
        events, state = self.check_answered(session)
        kinds = [e["kind"] for e in events]
        self.assertEqual((kinds.count("approval.requested"), kinds.count("approval.resolved")), (1, 1))
        self.assertEqual(set(state.values()), {"done"})

    def check_stopping(self, role):
        stream, session = self.start()
        self.began.wait()
        stream.proc.send_signal(signal.SIGINT)
        stream.until("turn.stopping")
        self.kill(role)
        self.finish(stream, 5)
        _, tools = self.check_log(session, "cancelled")
        self.assertIn(tools["exec"]["state"], ("done", "unknown"))
        self.assertEqual(self.read("count"), "x\n")
        self.assertFalse([a for _, _, a in self.mine() if "count" in " ".join(a)], "the command was not killed")


for role in ROLES:
    setattr(Continue, "test_approval_" + role, lambda self, role=role: self.check_approval(role))
    setattr(Continue, "test_stopping_" + role, lambda self, role=role: self.check_stopping(role))


class Views(CrashCase):
    """Other views of the same turn print the answer once, too."""

    def check_plain(self, role):
        self.prepare(False, pace=2)
        p = subprocess.Popen([os.path.join(BIN, "ithaca"), "run", "go"], cwd=self.work, env=self.env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.began.wait()
        self.kill(role)
        self.go.go()
        out, err = p.communicate(timeout=DEADLINE)
        self.assertEqual((p.returncode, out), (0, LABEL + ANSWER + "\n"), err)
        return err

    def test_plain_runtime(self):
        self.check_plain("runtime")

    def test_plain_runner(self):
        self.check_plain("runner")

    def test_plain_shelld_says_unknown(self):
        self.assertIn("unknown", self.check_plain("shelld"))

    def check_live(self, role):
        """On a dumb terminal nothing can be taken back: what was printed stands, and the rest is behind it."""
        self.serve("repeat: true\nsteps:\n  - answer: [ { text: %s, chunk: 3, delay: 25 } ]\n" % yaml(ANSWER))
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(self.work)
            os.execve(os.path.join(BIN, "ithaca"), ["ithaca", "run", "go"], {**self.env, "TERM": "dumb"})
        shown, killed = b"", False
        while True:
            self.assertTrue(select.select([fd], [], [], DEADLINE)[0], shown)
            try:
                data = os.read(fd, 4096)
            except OSError:
                break
            if not data:
                break
            shown += data
            if not killed and b"written, edited" in shown:
                self.kill(role)
                killed = True
        os.close(fd)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0, shown)
        text = shown.decode().replace("\r\n", "\n")
        self.assertTrue(killed)
        self.assertEqual(text.count("genau einmal. ✓"), 1, text)
        last = text.rsplit("from the start:)\n", 1)[-1]
        self.assertIn(ANSWER, last)

    def test_live_runtime(self):
        self.check_live("runtime")

    def test_live_broker(self):
        self.check_live("broker")


class Owners(CrashCase):
    """Who writes, and what is left behind."""

    def test_one_runtime_writes(self):
        """A runtime that is slow to end holds the next one back."""
        self.prepare(False, pace=2)
        stream = self.stream("go")
        self.began.wait()
        old = self.role("runtime")
        os.kill(old, signal.SIGSTOP)
        self.kill("runner")
        self.go.go()
        self.ended.wait()
        self.assertEqual([p for p, parent, a in self.mine() if role_of(a) == "runtime"], [old])
        os.kill(old, signal.SIGCONT)
        self.finish(stream)
        self.check_answered(stream.events[0]["session"], stream)

    def orphaned(self, victims, extra=""):
        self.prepare(False, pace=2, extra=extra)
        stream = self.stream("go")
        self.began.wait()
        cells = [p for p, _, a in self.mine() if "count" in " ".join(a)]
        self.assertTrue(cells)
        self.leave(stream)
        self.kill_all(victims)

    def test_all_ends_when_nobody_comes_back(self):
        self.orphaned(["runner"], "cell: { orphan_ms: 500 }\n")
        self.check_stopped(10)

    def test_commands_end_with_shelld(self):
        self.orphaned(["runner", "runtime", "shelld"])
        self.check_stopped(5)

    def test_all_ends_when_the_runtime_never_comes_back(self):
        """shelld waits for a runtime even while its runner is there."""
        self.orphaned(["runtime", "runner"], "cell: { orphan_ms: 500 }\n")
        self.check_stopped(10)

    @unittest.skipUnless(os.environ.get("ITHACA_TEST_SLOW"), "SKIP: takes 60 s (set ITHACA_TEST_SLOW=1)")
    def test_all_ends_after_60_s(self):
        self.orphaned(["runner"])
        self.check_stopped(65)


if __name__ == "__main__":
    main()
