# SPDX-License-Identifier: MIT
"""A turn that does every kind of effect, kills of its roles, and the claims that must hold afterwards. The checks read the
log and the workspace only; nothing here knows how recovery works."""
import json
import os
import select
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "flow"))

from harness import BIN, DEADLINE, Case, Stream, descendants, main, role_of, wait_ends

ROLES = ("runner", "runtime", "broker", "shelld")
BELOW = ("cell", "exec", "spare", "zygote", "cleaner")  # what shelld is made of besides itself
ANSWER = "All of it is done: written, edited, run, moved and deleted. Zwölf Prüfungen, genau einmal. ✓"
AGAIN = "And that was the second turn."
LABEL = "[offline model] "
LEAD = "First the file, then the rest of the work, one call after the other. "


def name_of(pid):
    try:
        with open("/proc/%d/comm" % pid) as f:
            return f.read().strip()
    except OSError:
        return "gone"


class Fifo:
    """A named pipe in the workspace: the command and the test wait for each other on it."""

    def __init__(self, path):
        os.mkfifo(path, 0o666)
        os.chmod(path, 0o666)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def wait(self, deadline=DEADLINE):
        if not select.select([self.fd], [], [], deadline)[0]:
            raise AssertionError("the command did not come this far within %s s" % deadline)
        return os.read(self.fd, 4096)

    def go(self):
        os.write(self.fd, b"g\n")

    def close(self):
        os.close(self.fd)


def yaml(text):
    return json.dumps(text, ensure_ascii=False)


def script(network=False, ask=False, pace=4):
    """The whole turn; `network` in the words of the model server, which differ for a pause only."""
    call = "call: { tool: %s, args: %s }"
    run = "echo x >> count; echo begin äöü; echo began > began; read g < go; echo ended; echo ended > ended"
    answers = [
        "text: %s, chunk: 4, delay: %d }, { %s" % (yaml(LEAD), pace, call % ("write", "{ path: a.txt, content: \"one\\n\" }")),
        call % ("edit", "{ path: a.txt, old: one, new: two }"),
        call % ("exec", "{ command: %s }" % yaml(run)),
        call % ("move", "{ path: b.txt, to: c.txt }"),
        call % ("delete", "{ path: d.txt }"),
        "text: %s, chunk: 3, delay: %d" % (yaml(ANSWER), pace),
        "text: %s" % yaml(AGAIN),
    ]
    head = "by: results\n" if network else ""
    return head + "steps:\n" + "".join("  - answer: [ { %s } ]\n" % a for a in answers)


class CrashCase(Case):
    client = None
    shellds = frozenset()

    def pids(self):
        found = super().pids()
        if "shelld" in found:
            self.shellds = self.shellds | {found["shelld"]}
        return found

    def setUp(self):
        super().setUp()
        self.write("b.txt", "to be moved\n")
        self.write("d.txt", "to be deleted\n")
        self.began = Fifo(os.path.join(self.work, "began"))
        self.go = Fifo(os.path.join(self.work, "go"))
        self.ended = Fifo(os.path.join(self.work, "ended"))

    def tearDown(self):
        for fifo in (self.began, self.go, self.ended):
            fifo.close()
        super().tearDown()

    def prepare(self, network, pace=4, extra=""):
        if network:
            self.serve(script(True, pace=pace), extra=extra)
        else:
            self.script(script(pace=pace))
            with open(os.path.join(self.home, "config.yaml"), "a") as f:
                f.write(extra)

    def role(self, name, deadline=DEADLINE):
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            pid = self.pids().get(name)
            if pid:
                return pid
            if self.client and self.client.proc.poll() is not None:
                raise AssertionError("no %s, and the client ended: %s" % (name, self.client.proc.stderr.read().decode()))
            select.select([], [], [], 0.002)  # between two looks at /proc, which tells nobody when it changes
        raise AssertionError("no %s within %s s: %s" % (name, deadline, self.mine()))

    def stream(self, *args, **kw):
        self.client = super().stream(*args, **kw)
        return self.client

    def kill(self, name):
        while True:  # one that is on its way out, because another was killed, is followed by the next
            pid = self.role(name)
            try:
                fd = os.pidfd_open(pid)
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                break
            except ProcessLookupError:
                continue
        self.assertTrue(select.select([fd], [], [], DEADLINE)[0], "%s did not end" % name)
        os.close(fd)
        self.dead = self.dead | {pid}
        return pid

    def kill_below(self, name):
        """One of the processes below shelld, if there is one now; they are told apart by the name that they give themselves."""
        for pid, _, argv in self.mine():
            if name_of(pid) == "ithaca-" + name:
                try:
                    fd = os.pidfd_open(pid)
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                self.assertTrue(select.select([fd], [], [], DEADLINE)[0], "%s did not end" % name)
                os.close(fd)
                return True
        return False

    def kill_all(self, roles=ROLES):
        """As fast as one can, whatever ends by itself meanwhile."""
        pids = self.pids()
        for name in roles:
            if name in pids:
                try:
                    os.kill(pids[name], signal.SIGKILL)
                except ProcessLookupError:
                    continue
                self.dead = self.dead | {pids[name]}
        self.assertEqual(wait_ends([pids[n] for n in roles if n in pids], DEADLINE), [])

    def leave(self, stream):
        """The client is killed, so that nobody starts a runner again."""
        stream.proc.kill()
        stream.proc.wait()
        stream.proc.stdout.close()
        stream.proc.stderr.close()

    def check_gone(self, deadline=10):
        """After the runner's end nothing is left, at any depth."""
        left = wait_ends([pid for pid, _, _ in self.mine()], deadline)
        self.assertEqual([(p, a) for p, _, a in self.mine() if p in left], [], "survivors")
        self.check_mounts()
        self.assertEqual(set(os.listdir(self.dir)) - {"home", "work", "model.log", "model.yaml", "bin"}, set(), "temporary files")

    def check_mounts(self):
        """None of ours in the name space that everybody lives in."""
        with open("/proc/self/mountinfo") as f:
            self.assertNotIn(self.dir, f.read())

    def check_stopped(self, deadline=20):
        """After an end, in order or not: no process, mount, socket, temporary file or cgroup, whatever was killed before."""
        self.check_gone(deadline)
        names = set(os.listdir(os.path.join(self.home, "run")))
        self.assertEqual(names - {"lock", "selftest", "stopped"}, set(), "left in run/")
        self.assertEqual(self.groups(), [])

    def groups(self):
        """Control groups of cells that a shelld of this test made: ithaca-cell-NAMESPACE-PID-NUMBER."""
        found = []
        for base, dirs, _ in os.walk("/sys/fs/cgroup"):
            mine = [d for d in dirs if d.startswith("ithaca-cell-")]
            found += [os.path.join(base, d) for d in mine if int(d.split("-")[3]) in self.shellds]
            dirs[:] = [d for d in dirs if d not in mine]
        return found

    def check_household(self):
        """While it runs, soon after kills: each role once, one zygote and cleaner, and nothing of the dead."""
        end = time.monotonic() + DEADLINE
        while True:
            shelld = self.pids().get("shelld")
            tops = [role_of(a) for _, parent, a in self.mine() if role_of(a) and parent != shelld and role_of(a) != "shelld"]
            below = sorted(name_of(pid) for pid, parent, a in self.mine() if shelld and parent == shelld)
            sockets = {n for n in os.listdir(os.path.join(self.home, "run")) if n.endswith(".sock")}
            stale = [g for g in self.groups() if int(os.path.basename(g).split("-")[3]) in self.dead]
            if sorted(tops) == ["broker", "runner", "runtime"] and below == ["ithaca-cleaner", "ithaca-zygote"] and not stale and \
                    sockets == {"rpc.sock", "control.sock", "shelld.sock"}:
                return
            if time.monotonic() > end:
                raise AssertionError("left over: %s" % [tops, below, sockets, stale])
            select.select([], [], [], 0.05)  # nobody tells when the last of it is gone

    def show_logs(self):
        super().show_logs()
        for s in json.loads(self.ithaca("session", "list", "--json").stdout or "{}").get("sessions", []):
            for e in self.events(s["session"]):
                print(e["seq"], e["kind"], json.dumps(e["body"], ensure_ascii=False)[:300], file=sys.stderr)
        self.stop()

    def finish(self, stream, code=0, may_be_over=False):
        """The client ends by itself. One that came to continue may find that the turn has ended meanwhile."""
        while stream.next() is not None:
            pass
        said = stream.proc.stderr.read().decode()
        if may_be_over and "nothing is open" in said:
            code = 1
        self.assertEqual(stream.end(), code, "%s\n%s" % (said, stream.events[-3:]))

    # ---- claims ----

    def check_log(self, session, status="answered"):
        """Gapless, one turn, each effect with one outcome. Gives the events and the states by tool."""
        events = self.events(session)
        kinds = [e["kind"] for e in events]
        self.assertEqual([e["seq"] for e in events], list(range(1, len(events) + 1)))
        for once in ("session.created", "user.message", "turn.started", "turn.finished"):
            self.assertEqual(kinds.count(once), 1, "%s in %s" % (once, kinds))
        self.assertEqual(events[-1]["body"]["status"], status, events[-1])
        intents = [e["body"]["effect"] for e in events if e["kind"] == "effect.intent"]
        outcomes = [e["body"] for e in events if e["kind"] == "effect.outcome"]
        self.assertEqual(len(set(intents)), len(intents), "an intent twice")
        self.assertEqual(len({o["effect"] for o in outcomes}), len(outcomes), "an outcome twice")
        self.assertLessEqual(set(intents), {o["effect"] for o in outcomes}, "an effect ended silently")
        for o in outcomes:
            self.assertIn(o["state"], ("done", "not_done", "unknown"))
        self.told = {o["effect"]: (o["tool"], o["state"], o["text"][:200]) for o in outcomes if o["state"] != "done"}
        return events, {o["tool"]: o for o in outcomes}

    def check_text(self, events):
        """What deltas, partials and resets add up to is always the start of what model.done says."""
        text, step, attempt, done = b"", 0, 0, {}
        for e in events:
            body = e.get("body") or {}
            if e["kind"] in ("model.delta", "model.partial", "model.reset", "model.started"):
                if body["step"] != step:
                    text, step, attempt = b"", body["step"], body["attempt"]
                if body["attempt"] > attempt:
                    text, attempt = b"", body["attempt"]
                if e["kind"] == "model.reset":
                    text = text[:body["offset"]]
                if e["kind"] == "model.started" or body["attempt"] < attempt:
                    continue
                piece = body["text"].encode()
                have = text[body["offset"]:body["offset"] + len(piece)]
                self.assertTrue(piece.startswith(have), "text was doubled or differs: %r" % body)
                if len(text) >= body["offset"]:
                    text += piece[len(have):]
            if e["kind"] == "model.done":
                self.assertNotIn("error", body)
                whole = "".join(b["text"] for b in body["blocks"] if b["type"] == "text").encode()
                self.assertNotIn(body["step"], done, "a step was answered twice")
                done[body["step"]] = whole
                if body["step"] == step:
                    self.assertTrue(whole.startswith(text) or text == b"", "%r is not the start of %r" % (text, whole))
        return done

    def check_output(self, events):
        """Output of a command in the log: pieces lie side by side, none twice."""
        at = {}
        for e in events:
            if e["kind"] == "tool.partial":
                body = e["body"]
                self.assertEqual(body["offset"], at.get(body["effect"], 0), "output doubled or lost: %s" % body)
                self.assertEqual(body["bytes"], len(body["text"].encode()))
                at[body["effect"]] = body["offset"] + body["bytes"]

    def check_effects(self, tools):
        """The workspace agrees with the outcomes."""
        lines = self.read("count").count("x\n") if self.exists("count") else 0
        state = {name: o["state"] for name, o in tools.items()}
        self.assertLessEqual(lines, 1, "the command ran twice: %s" % state)
        if state["exec"] == "done" and not tools["exec"]["is_error"]:
            self.assertEqual((lines, tools["exec"]["text"].split("[")[0]), (1, "begin äöü\nended\n"))
        if state["exec"] == "not_done":
            self.assertEqual(lines, 0)
        if state["write"] == "done":
            want = {"done": ["two\n"], "not_done": ["one\n"], "unknown": ["one\n", "two\n"]}[state["edit"]]
            self.assertIn(self.read("a.txt"), want)
        if state["move"] == "done":
            self.assertEqual((self.exists("b.txt"), self.read("c.txt")), (False, "to be moved\n"))
        if state["move"] == "not_done":
            self.assertEqual((self.exists("c.txt"), self.read("b.txt")), (False, "to be moved\n"))
        if state["delete"] != "unknown":
            self.assertEqual(self.exists("d.txt"), state["delete"] == "not_done")
        self.assertEqual([n for n in os.listdir(self.work) if n.startswith(".ithaca")], [])
        return state

    def check_stream(self, stream, events):
        """The client that stayed connected saw each stored event once, in order."""
        seqs = [e["seq"] for e in stream.events if e.get("seq")]
        self.assertEqual(seqs, list(range(1, len(events) + 1)))
        self.check_text(stream.events)

    def check_answered(self, session, stream=None):
        events, tools = self.check_log(session)
        self.assertEqual(set(tools), {"write", "edit", "exec", "move", "delete"})
        self.assertEqual(events[-1]["body"]["text"].replace(LABEL, ""), ANSWER)
        self.assertEqual(self.check_text(events)[6].decode().replace(LABEL, ""), ANSWER)
        self.check_output(events)
        if stream:
            self.check_stream(stream, events)
        return events, self.check_effects(tools)
