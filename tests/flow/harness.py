# SPDX-License-Identifier: MIT
"""What the flow and crash tests share: a home of its own for each test, the real executables, the scripted model server.
Nothing here sleeps for a fixed time to wait for something: it waits on events, files and exits, with a deadline."""
import ctypes
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

BIN = os.path.abspath(os.environ.get("ITHACA_TEST_BIN") or sys.argv[1])
MODEL = os.path.join(BIN, "ithaca-model")
if not os.path.exists(MODEL):
    MODEL = os.path.join(BIN, "tests", "model", "ithaca-model")
DEADLINE = 60


# Orphans come to this process, so that whatever a test started, at any depth, is among its descendants.
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER



def processes():
    """pid -> (parent, state, argv) of all processes."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as f:
                stat = f.read().rsplit(")", 1)[1].split()
            with open("/proc/%s/cmdline" % pid) as f:
                argv = f.read().split("\0")[:-1]
        except OSError:
            continue
        found[int(pid)] = (int(stat[1]), stat[0], argv)
    return found


def descendants():
    """The living ones of this process, with parents before children."""
    every = processes()
    family, at = [os.getpid()], 0
    children = {}
    for pid, (parent, state, _) in every.items():
        if state not in "ZX":
            children.setdefault(parent, []).append(pid)
    while at < len(family):
        family += children.get(family[at], [])
        at += 1
    return [(pid, every[pid][0], every[pid][2]) for pid in family[1:]]


def role_of(argv):
    return argv[argv.index("-x") + 1] if "-x" in argv[:-1] else None


def wait_ends(pids, deadline):
    """Waits until the processes are gone; gives those that are not."""
    end = time.monotonic() + deadline
    left = []
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            continue
        if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
            left.append(pid)
        os.close(fd)
    return left


class ModelServer:
    """ithaca-model with a script; ends with the test, because it reads our end of its standard input."""

    def __init__(self, dir, script):
        self.log = os.path.join(dir, "model.log")
        path = os.path.join(dir, "model.yaml")
        with open(path, "w") as f:
            f.write(script)
        self.proc = subprocess.Popen([MODEL, "-e", "-l", self.log, path], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True)
        self.port = int(self.proc.stdout.readline())

    def requests(self):
        with open(self.log) as f:
            found = [r for r in map(json.loads, f) if "path" in r]
        for r in found:
            r["headers"] = {name.lower(): value for name, value in r["headers"].items()}
        return found

    def close(self):
        self.proc.stdin.close()
        self.proc.wait(DEADLINE)
        self.proc.stdout.close()


class Stream:
    """`ithaca run --stream-json` as a list of events that grows."""

    def __init__(self, proc):
        self.proc = proc
        self.events = []
        self.rest = b""

    def next(self, deadline=DEADLINE):
        """The next event, or None at the end. Reads the descriptor itself: a buffered reader would hide lines from select."""
        end = time.monotonic() + deadline
        while b"\n" not in self.rest:
            if not select.select([self.proc.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError("no event within %s s; so far %s" % (deadline, self.kinds()))
            data = os.read(self.proc.stdout.fileno(), 1 << 16)
            if not data:
                return None
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        event = json.loads(line)
        self.events.append(event)
        return event

    def until(self, kind, **match):
        while True:
            event = self.next()
            if event is None:
                raise AssertionError("the stream ended before %s: %s\n%s" %
                                     (kind, [e["kind"] for e in self.events], self.proc.stderr.read().decode()))
            body = event.get("body") or {}
            if event["kind"] == kind and all(body.get(k) == v for k, v in match.items()):
                return event

    def end(self):
        while self.next() is not None:
            pass
        rc = self.proc.wait(DEADLINE)
        self.close()
        return rc

    def close(self):
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        self.proc.stdout.close()
        self.proc.stderr.close()

    def kinds(self):
        return [e["kind"] for e in self.events]

    def live_text(self):
        """What a reader of the answer has in the end: each piece stands at its offset, and a reset takes back what follows."""
        text = ""
        for e in self.events:
            b = e["body"]
            if e["kind"] in ("model.delta", "model.partial", "model.reset") and not b.get("reasoning"):
                rest = text[b["offset"] + len(b["text"]):] if e["kind"] == "model.partial" else ""
                text = text[:b["offset"]] + b["text"] + rest
        return text


class Pty:
    """A program on a terminal of its own; what it writes is kept whole."""

    def __init__(self, argv, cwd, env, rows=24, cols=100):
        pid, self.fd = pty.fork()
        if pid == 0:
            os.chdir(cwd)
            os.execvpe(argv[0], argv, env)
        self.pid = pid
        self.out = b""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def _read(self, deadline):
        if not select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0]:
            raise AssertionError("nothing more within %s s: %r" % (DEADLINE, self.out))
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # EIO: the other side is closed
            data = b""
        self.out += data
        return bool(data)

    def until(self, text):
        end = time.monotonic() + DEADLINE
        while text not in self.out:
            if not self._read(end):
                raise AssertionError("ended before %r: %r" % (text, self.out))

    def send(self, data):
        os.write(self.fd, data)

    def end(self):
        end = time.monotonic() + DEADLINE
        while self._read(end):
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Rpc:
    """A client of run/rpc.sock: calls by method, without the command line."""

    def __init__(self, home):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(os.path.join(home, "run", "rpc.sock"))
        self.id = 0

    def frame(self):
        total, head_n = struct.unpack("<II", self._exactly(8))
        rest = self._exactly(total - 4)
        return json.loads(rest[:head_n]), rest[head_n:]

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def call(self, method, **params):
        """The result, or the head of the error."""
        self.send(method, **params)
        return self.answer()

    def send(self, method, **params):
        self.id += 1
        head = json.dumps({"v": 1, "kind": "call", "id": self.id, "method": method}).encode()
        tail = json.dumps(params).encode()
        self.sock.sendall(struct.pack("<II", 4 + len(head) + len(tail), len(head)) + head + tail)

    def answer(self):
        """Of the call that was sent last."""
        while True:
            head, tail = self.frame()
            if head.get("id") == self.id and head["kind"] in ("result", "error"):
                return json.loads(tail) if head["kind"] == "result" else head

    def close(self):
        self.sock.close()


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="ithaca-flow.")
        self.home = os.path.join(self.dir, "home")
        self.work = os.path.join(self.dir, "work")
        os.makedirs(self.work)
        os.makedirs(self.home, mode=0o700)
        self.env = {"PATH": os.environ["PATH"], "HOME": self.dir, "ITHACA_HOME": self.home, "LANG": "C.UTF-8",
                    "TMPDIR": self.dir, "ITHACA__RUNNER__IDLE_MS": "2000"}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                self.env[name] = os.environ[name]
        self.env.update(json.loads(os.environ.get("ITHACA_TEST_ENV", "{}")))  # another tier: tests/tiers
        self.server = None
        self.streams = []

    def tearDown(self):
        for s in self.streams:
            s.close()
        self.stop()
        if self.server:
            self.server.close()
        outcome = self._outcome
        failed = any(error for _, error in getattr(outcome, "errors", []) if error) or \
            any(t is self for t, _ in getattr(getattr(outcome, "result", None), "failures", [])) or \
            any(t is self for t, _ in getattr(getattr(outcome, "result", None), "errors", []))
        if failed:
            self.show_logs()
        shutil.rmtree(self.dir, ignore_errors=True)

    def show_logs(self):
        logs = os.path.join(self.home, "logs")
        for name in sorted(os.listdir(logs)) if os.path.isdir(logs) else []:
            text = ""
            if os.path.isfile(os.path.join(logs, name)):
                with open(os.path.join(logs, name), errors="replace") as f:
                    text = f.read()[-3000:]
            if text:
                print("--- %s\n%s" % (name, text), file=sys.stderr)

    # ---- the programs ----

    def config(self, text):
        with open(os.path.join(self.home, "config.yaml"), "w") as f:
            f.write(text)

    def write(self, name, text):
        path = os.path.join(self.work, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        return path

    def read(self, name):
        with open(os.path.join(self.work, name)) as f:
            return f.read()

    def exists(self, name):
        return os.path.lexists(os.path.join(self.work, name))

    def ithaca(self, *args, stdin=None, env=None, check=None):
        p = subprocess.run([os.path.join(BIN, "ithaca"), *args], cwd=self.work, env={**self.env, **(env or {})},
                           input=stdin, stdin=subprocess.DEVNULL if stdin is None else None, text=True,
                           capture_output=True, timeout=DEADLINE)
        if check is not None:
            self.assertEqual(p.returncode, check, "stdout: %s\nstderr: %s" % (p.stdout, p.stderr))
        return p

    def run_json(self, *args, check=0, **kw):
        p = self.ithaca("run", "--json", *args, check=check, **kw)
        return json.loads(p.stdout)

    def spawn(self, *args, env=None):
        """A command whose standard output is a stream of events."""
        s = Stream(subprocess.Popen([os.path.join(BIN, "ithaca"), *args], cwd=self.work, env={**self.env, **(env or {})},
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        self.streams.append(s)
        return s

    def stream(self, *args, env=None):
        return self.spawn("run", "--stream-json", *args, env=env)

    def pty(self, *args, env=None):
        return Pty([os.path.join(BIN, "ithaca"), *args], self.work, {**self.env, "TERM": "xterm-256color", **(env or {})})

    def rpc(self):
        rpc = Rpc(self.home)
        self.addCleanup(rpc.close)
        return rpc

    def events(self, session):
        return [json.loads(line) for line in self.ithaca("session", "events", session, "--json", check=0).stdout.splitlines()]

    # ---- a model ----

    def script(self, text):
        """The offline model with a script."""
        with open(os.path.join(self.home, "script.yaml"), "w") as f:
            f.write(text)
        self.config("model: offline/script\nproviders:\n  offline: { api: offline, script: script.yaml }\n")

    def serve(self, script, api="openai-chat", extra=""):
        self.server = ModelServer(self.dir, script)
        base = "http://127.0.0.1:%d" % self.server.port + ("/v1" if api.startswith("openai") else "")
        self.config("model: test/m\nproviders:\n  test:\n    api: %s\n    base_url: \"%s\"\n    api_key_env: TEST_KEY\n%s" %
                    (api, base, extra))
        self.env["TEST_KEY"] = "sk-test-0123456789abcdefghij"

    # ---- processes: everything that this test started is below it ----

    def mine(self):
        servers = (self.server, getattr(self.server, "model", None))  # one may stand before another
        spared = {s.proc.pid for s in servers if s}
        return [(pid, parent, argv) for pid, parent, argv in descendants() if pid not in spared]

    def pids(self):
        """Roles by name; a role's own children carry its command line too."""
        found = {pid: (parent, role_of(argv)) for pid, parent, argv in self.mine()}
        roles = {}
        for pid, (parent, role) in found.items():
            if role and found.get(parent, (0, None))[1] != role and pid not in self.dead:
                roles[role] = pid
        return roles

    dead = frozenset()  # killed by the test itself

    def stop(self):
        """Ends what this test started: the runner in order, then whatever is left."""
        runner = self.pids().get("runner")
        if runner:
            try:
                os.kill(runner, signal.SIGTERM)
            except OSError:
                pass
        for pid in wait_ends([pid for pid, _, _ in self.mine()], 10):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        wait_ends([pid for pid, _, _ in self.mine()], 10)


def main():
    """Runs the tests; a skipped one says SKIP and why, and status 77 that none could run."""
    del sys.argv[1:2]
    result = unittest.main(exit=False, verbosity=1).result
    for test, why in result.skipped:
        print("SKIP %s: %s" % (test.id(), why))
    if result.wasSuccessful() and result.testsRun > 0 and len(result.skipped) == result.testsRun:
        sys.exit(77)
    sys.exit(0 if result.wasSuccessful() and result.testsRun > 0 else 1)
