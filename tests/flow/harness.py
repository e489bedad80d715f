# SPDX-License-Identifier: MIT
"""What the flow and crash tests share: a home of its own for each test, the real executables, the scripted model server.
Nothing here sleeps for a fixed time to wait for something: it waits on events, files and exits, with a deadline."""
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BIN = os.environ.get("ITHACA_TEST_BIN") or sys.argv[1]
MODEL = os.path.join(BIN, "ithaca-model")
if not os.path.exists(MODEL):
    MODEL = os.path.join(BIN, "tests", "model", "ithaca-model")
DEADLINE = 60


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
        self.proc.stdout.close()
        self.proc.stderr.close()
        return rc

    def kinds(self):
        return [e["kind"] for e in self.events]


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
        self.server = None

    def tearDown(self):
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

    def stream(self, *args, env=None):
        p = subprocess.Popen([os.path.join(BIN, "ithaca"), "run", "--stream-json", *args], cwd=self.work,
                             env={**self.env, **(env or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        return Stream(p)

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
        base = "http://127.0.0.1:%d" % self.server.port + ("/v1" if api == "openai-chat" else "")
        self.config("model: test/m\nproviders:\n  test:\n    api: %s\n    base_url: \"%s\"\n    api_key_env: TEST_KEY\n%s" %
                    (api, base, extra))
        self.env["TEST_KEY"] = "sk-test-0123456789abcdefghij"

    # ---- processes of this home ----

    def pids(self):
        """Roles of this home by name, found by their environment-independent mark: a log file of the home as stderr."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                log = os.readlink("/proc/%s/fd/2" % pid)
            except OSError:
                continue
            if not log.startswith(self.home + "/logs/"):
                continue
            try:
                with open("/proc/%s/cmdline" % pid) as f:
                    argv = f.read().split("\0")
                with open("/proc/%s/stat" % pid) as f:
                    parent = int(f.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            found[int(pid)] = (argv, parent)
        roles = {}
        for pid, (argv, parent) in found.items():
            role = argv[argv.index("-x") + 1] if "-x" in argv else None
            if role and not (parent in found and "-x" in found[parent][0] and
                             found[parent][0][found[parent][0].index("-x") + 1] == role):
                roles[role] = pid
        return roles

    def stop(self):
        """Ends what this test started: the runner in order, then whatever is left of this home."""
        runner = self.pids().get("runner")
        if runner:
            os.kill(runner, signal.SIGTERM)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            left = self.pids()
            if not left:
                return
            fds = []
            for pid in left.values():
                try:
                    fds.append(os.pidfd_open(pid))
                except OSError:
                    pass
            if fds:
                select.select(fds, [], [], 5)
            for fd in fds:
                os.close(fd)
            if time.monotonic() > end - 10:
                for pid in left.values():
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except OSError:
                        pass


def main():
    del sys.argv[1:2]
    program = unittest.main(exit=False, verbosity=1)
    sys.exit(0 if program.result.wasSuccessful() and program.result.testsRun > 0 else 1)
