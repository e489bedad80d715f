# SPDX-License-Identifier: MIT
"""Keys and secrets with the real executables: where they come from, where they go, and above all where they are not.
The search for a key looks into the memory of every process and every file, and is itself proven on the broker."""
import http.server
import json
import os
import signal
import stat
import threading

from harness import BIN, Case, main

KEY = "sk-flow-Zq7hT2vXw9LmN4pRb8sKd3"
ANSWER = "repeat: true\nsteps:\n  - answer: [ { text: fine } ]\n"


def needles(key):
    """The key, and parts of it that nothing else would hold."""
    data = key.encode()
    return [data, data[8:20], data[-12:], data.hex().encode(), "".join(c + "\0" for c in key).encode()]


SHADOWS = (0x7fff7000, 0x2008fff7000)  # AddressSanitizer's notes about memory: terabytes, which hold nothing of it


def search_memory(pid, key):
    """The parts of a key that stand in the memory of a process."""
    found = set()
    with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as mem:
        for line in maps:
            span, perms, rest = line.split(None, 2)
            if "r" not in perms or "[vvar" in rest or "[vsyscall]" in rest:
                continue
            start, end = (int(x, 16) for x in span.split("-"))
            if start in SHADOWS:
                continue
            keep = b""
            while start < end:
                try:
                    mem.seek(start)
                    data = mem.read(min(1 << 22, end - start))
                except (OSError, ValueError, OverflowError):
                    break
                if not data:
                    break
                text = keep + data
                found.update(n for n in needles(key) if n in text)
                keep = data[-64:]
                start += len(data)
    return found


def search_files(top, key, spared=()):
    found = []
    for dir, _, names in os.walk(top):
        for name in names:
            path = os.path.join(dir, name)
            if path in spared or not stat.S_ISREG(os.lstat(path).st_mode):
                continue
            with open(path, "rb") as f:
                data = f.read()
            if any(n in data for n in needles(key)):
                found.append(os.path.relpath(path, top))
    return found


def as_nobody(fn):
    """What fn gives in a child that is another user."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(w, repr(fn()).encode())
        finally:
            os._exit(0)
    os.close(w)
    with os.fdopen(r) as f:
        text = f.read()
    os.waitpid(pid, 0)
    return text


class KeyCase(Case):
    def serve_key(self, settings, script=ANSWER, extra=""):
        """A provider whose key comes as the settings say."""
        self.serve(script)
        os.environ.pop("TEST_KEY", None)
        del self.env["TEST_KEY"]
        self.settings(settings, extra)

    def settings(self, settings, extra=""):
        base = "http://127.0.0.1:%d/v1" % self.server.port
        self.config("model: test/m\nproviders:\n  test:\n    api: openai-chat\n    base_url: \"%s\"\n%s%s" %
                    (base, "".join("    %s\n" % s for s in settings), extra))

    def put(self, name, text, mode=0o600):
        path = os.path.join(self.home, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def sent(self):
        return [r["headers"].get("authorization") for r in self.server.requests()]

    def failing(self, *args, **kw):
        """What a command says that must not succeed."""
        p = self.ithaca(*args, **kw)
        self.assertIn(p.returncode, (1, 2, 3), p.stdout)
        return p.stderr + p.stdout

    def set_secret(self, name, value, *args, check=0, **kw):
        return self.ithaca("secret", "set", name, *args, stdin=value, check=check, **kw)


class Ways(KeyCase):
    """Each way by which a key may come; the server has seen it."""

    def assert_sent(self, key=KEY, **kw):
        self.run_json("hello", **kw)
        self.assertEqual(self.sent()[-1], "Bearer " + key)

    def assert_auth(self, *why, **kw):
        before = len(self.server.requests())
        p = self.ithaca("run", "--json", "hello", check=2, **kw)
        error = json.loads(p.stdout)["error"]
        self.assertEqual(error["code"], "auth")
        for text in why:
            self.assertIn(text, error["message"])
        self.assertNotIn(KEY, p.stdout + p.stderr)
        self.assertEqual(len(self.server.requests()), before)

    def test_environment(self):
        self.serve_key(["api_key_env: MY_KEY"])
        self.assert_sent(env={"MY_KEY": KEY})
        os.kill(self.pids()["broker"], signal.SIGKILL)  # the next one gets it again, though the environment has it no more
        self.assert_sent(env={"MY_KEY": KEY})
        self.assertEqual(self.sent(), ["Bearer " + KEY] * 2)

    def test_literal(self):
        self.serve_key(["api_key: " + KEY])
        self.assert_sent()
        self.assertEqual(self.ithaca("config", "get", "providers.test.api_key", check=0).stdout, "(secret)\n")
        listed = self.ithaca("config", "list", check=0).stdout
        self.assertIn("(secret)", listed)
        self.assertNotIn(KEY, listed)

    def test_file(self):
        self.serve_key(["api_key_file: my.key"])
        path = self.put("my.key", KEY + "\n")
        self.assert_sent()
        self.stop()
        os.chmod(path, 0o644)
        self.assert_auth("is open to other users", "chmod 600")

    def test_command(self):
        path = self.put("print-key", "#!/bin/sh\necho %s\necho more\n" % KEY, 0o700) if os.path.isdir(self.home) else ""
        self.serve_key(["api_key_cmd: \"%s\"" % path])
        self.assert_sent()
        self.stop()
        self.put("print-key", "#!/bin/sh\necho %s\necho %s >&2\nexit 4\n" % (KEY, KEY), 0o700)
        self.assert_auth("api_key_cmd failed with status 4")
        self.assertEqual(search_files(os.path.join(self.home, "logs"), KEY), [])

    def test_secret(self):
        self.serve_key(["api_key: {secret: mine}", "headers: { x-team: blue, x-token: {secret: token} }"])
        self.assert_auth("there is no secret token")
        said = self.set_secret("mine", KEY + "\n").stdout
        self.assertIn("it goes to http://127.0.0.1:%d only, as header" % self.server.port, said)
        self.assertNotIn("uses it yet", said)
        said = self.set_secret("spare", KEY + "\n", "--host", "api.example.org").stdout
        self.assertIn("nothing in the configuration uses it yet (for a model: ithaca config set providers.NAME.api_key "
                      "'{secret: spare}')", said)
        self.ithaca("secret", "remove", "spare", check=0)
        self.set_secret("token", "token-value-1234567\n", "--header", "x-token")
        self.assert_sent()
        self.assertEqual(self.server.requests()[-1]["headers"]["x-token"], "token-value-1234567")
        self.assertEqual(self.server.requests()[-1]["headers"]["x-team"], "blue")

    def test_nothing(self):
        self.serve_key(["api_key_env: MY_KEY"])
        self.assert_auth("set MY_KEY")
        checks = {c["name"]: c for c in json.loads(self.ithaca("doctor", "--json").stdout)["checks"]}
        self.assertEqual(checks["keys"]["ok"], "warn")
        self.assertIn("provider test, which the model needs, has no key", checks["keys"]["text"])


class Secrets(KeyCase):
    def test_set_list_remove(self):
        self.serve_key(["api_key: {secret: mine}"])
        self.set_secret("mine", KEY)
        self.set_secret("other", "x" * 8192, "--host", "api.example.com", "--host", "https://b.example:8443", "--url")
        listed = json.loads(self.ithaca("secret", "list", "--json", check=0).stdout)["secrets"]
        self.assertEqual([(s["name"], s["state"], s["hosts"], s["uses"]) for s in listed], [
            ("mine", "ready", ["http://127.0.0.1:%d" % self.server.port], ["header"]),
            ("other", "ready", ["api.example.com", "https://b.example:8443"], ["url"])])
        self.assertNotIn(KEY, self.ithaca("secret", "list", check=0).stdout)
        path = os.path.join(self.home, "secrets")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.assertEqual(search_files(self.home, KEY), [])
        self.ithaca("secret", "remove", "other", check=0)
        p = self.ithaca("secret", "remove", "other", check=1)
        self.assertIn("there is no secret other", p.stderr)
        listed = json.loads(self.ithaca("secret", "list", "--json", check=0).stdout)["secrets"]
        self.assertEqual([s["name"] for s in listed], ["mine"])

    def test_refusals(self):
        self.serve_key(["api_key: {secret: mine}"])
        for args, value, why in [(["a b"], KEY, "no name of a secret"), (["free"], KEY, "say where it may go"),
                                 (["mine"], "", "is empty"), (["mine"], "a\nb\n", "control character"),
                                 (["mine"], "x" * 9000, "longer than 8192"),
                                 (["mine", "--host", "*"], KEY, "is no host"),
                                 (["mine", "--header", "a:b"], KEY, "cannot be used as"),
                                 (["mine", KEY], "", "")]:
            p = self.ithaca("secret", "set", *args, stdin=value)
            self.assertEqual(p.returncode in (1, 2, 4), True, args)
            self.assertIn(why, p.stderr)
        self.assertFalse(os.path.exists(os.path.join(self.home, "secrets")))

    def test_prompt_does_not_echo(self):
        self.serve_key(["api_key: {secret: mine}"])
        p = self.pty("secret", "set", "mine")
        p.until(b"not shown): ")
        p.send(KEY.encode() + b"\n")
        self.assertEqual(p.end(), 0)
        self.assertNotIn(KEY.encode(), p.out)
        self.assertIn(b"secret mine is kept", p.out)
        self.run_json("hello")
        self.assertEqual(self.sent(), ["Bearer " + KEY])

    def test_config_set_takes_references_only(self):
        self.serve_key(["api_key_env: MY_KEY"])
        for key in ("providers.test.api_key", "providers.test.headers.x-key"):
            p = self.ithaca("config", "set", key, KEY, check=2)
            self.assertIn("ithaca secret set NAME", p.stderr)
            self.assertNotIn(KEY, p.stderr)
        self.assertEqual(search_files(self.home, KEY), [])
        self.ithaca("config", "set", "providers.test.api_key", "{secret: mine}", check=0)
        self.set_secret("mine", KEY)
        self.run_json("hello")
        self.assertEqual(self.sent(), ["Bearer " + KEY])

    def test_change_takes_effect_at_once(self):
        """In one runtime, and for the second call of one turn."""
        self.serve_key(["api_key: {secret: mine}"], script=Absence.HOLD)
        self.set_secret("mine", KEY)
        broker = self.pids()["broker"]
        fifo = os.path.join(self.work, "fifo")
        os.mkfifo(fifo, 0o666)
        s = self.stream("--yes", "--workspace", self.work, "hello")
        with open(fifo, "w") as f:  # the command runs: the first call is over
            self.set_secret("mine", "sk-flow-changed-0123456789")
            f.write("go")
        self.assertEqual(s.end(), 0)
        self.assertEqual(self.sent(), ["Bearer " + KEY, "Bearer sk-flow-changed-0123456789"])
        self.ithaca("secret", "remove", "mine", check=0)
        self.assertIn("there is no secret mine", self.failing("run", "hello"))
        self.assertEqual(self.pids()["broker"], broker)

    def test_bound_to_its_host(self):
        """Configuration that names another server, or a Host header, does not get it."""
        self.serve_key(["api_key: {secret: mine}"])
        self.set_secret("mine", KEY, "--host", "api.openai.com")
        self.assertIn("secret mine is not bound to http://127.0.0.1:%d" % self.server.port, self.failing("run", "hello"))
        self.settings(["headers: { host: api.openai.com, authorization: {secret: mine} }"])
        self.assertIn("is not bound to", self.failing("run", "hello"))
        self.assertEqual(self.server.requests(), [])
        self.set_secret("mine", KEY, "--host", "127.0.0.1")  # the control
        self.run_json("hello")
        self.assertEqual(self.sent(), [KEY])

    def test_broker_that_dies(self):
        self.serve_key(["api_key: {secret: mine}"])
        self.set_secret("mine", KEY)
        broker = self.pids()["broker"]
        os.kill(broker, signal.SIGKILL)
        self.run_json("hello")
        self.assertEqual(self.sent(), ["Bearer " + KEY])
        self.assertNotEqual(self.pids()["broker"], broker)

    def keys_check(self, ok, *texts, env=None):
        checks = {c["name"]: c for c in json.loads(self.ithaca("doctor", "--json", env=env).stdout)["checks"]}
        self.assertEqual(checks["keys"]["ok"], ok)
        for text in texts:
            self.assertIn(text, checks["keys"]["text"])

    def test_damaged_file_loses_nothing(self):
        self.serve_key(["api_key: {secret: mine}"], extra="  other: { api: openai-chat, base_url: \"http://127.0.0.1:%d/v1\" }\n"
                       % 1)
        self.set_secret("mine", KEY)
        self.stop()
        path = os.path.join(self.home, "secrets")
        with open(path) as f:
            good = f.read()
        for bad in (good[:-40], good.replace('"v":1', '"v":9'), "garbage"):
            self.put("secrets", bad)
            self.assertIn("the secrets file cannot be read", self.failing("run", "hello"))
            p = self.set_secret("more", KEY, "--host", "a.example", check=None)
            self.assertNotEqual(p.returncode, 0)
            self.assertIn("restore it from a backup, or move it away", p.stderr)
            self.keys_check("warn", "cannot be read")
            with open(path) as f:
                self.assertEqual(f.read(), bad)  # never written over
            self.assertEqual(self.run_json("--model", "offline/rules", "hello")["status"], "answered")  # the rest runs
            self.stop()
        # One changed digit of one secret: that one alone is closed.
        self.put("secrets", good)
        self.set_secret("second", KEY, "--host", "a.example")
        self.stop()
        with open(path) as f:
            doc = json.load(f)
        sealed = doc["secrets"][1]["sealed"]
        doc["secrets"][1]["sealed"] = ("1" if sealed[0] == "0" else "0") + sealed[1:]
        self.put("secrets", json.dumps(doc))
        states = {s["name"]: (s["state"], s.get("why")) for s in
                  json.loads(self.ithaca("secret", "list", "--json", check=0).stdout)["secrets"]}
        self.assertEqual(states["mine"], ("ready", None))
        self.assertEqual(states["second"][0], "closed")
        self.assertIn("was changed", states["second"][1])
        self.run_json("hello")

    def test_master_keys(self):
        self.serve_key(["api_key: {secret: mine}"])
        self.set_secret("mine", KEY)
        self.keys_check("pass", "the file master.key")
        self.stop()
        # Another file: closed, kept, and open again when the right one is back.
        path = os.path.join(self.home, "master.key")
        os.rename(path, path + ".away")
        self.assertIn("another master key", self.failing("run", "hello"))
        self.keys_check("warn", "1 secrets cannot be opened", "another master key")
        self.stop()
        os.rename(path + ".away", path)
        self.run_json("hello")
        self.stop()
        # A passphrase: what was sealed before still opens, what is sealed now needs it.
        phrase = {"ITHACA_PASSPHRASE_FILE": self.put("phrase", "correct horse battery staple\n")}
        self.run_json("hello", env=phrase)
        self.keys_check("pass", "a passphrase", env=phrase)
        self.set_secret("mine", KEY, env=phrase)
        self.run_json("hello", env=phrase)
        self.stop()
        self.assertIn("wait for their passphrase", self.failing("run", "hello"))
        self.assertIn("wait for their passphrase", self.set_secret("mine", KEY, check=None).stderr)
        self.stop()
        wrong = {"ITHACA_PASSPHRASE_FILE": self.put("wrong", "wrong horse battery staple\n")}
        self.assertIn("is not the one of", self.failing("run", "hello", env=wrong))
        self.stop()
        self.run_json("hello", env=phrase)
        self.stop()
        # A credential of systemd.
        os.mkdir(os.path.join(self.home, "credentials"), 0o700)
        self.put("credentials/ithaca-master", "0123456789abcdef0123456789abcdef\n", 0o400)
        credential = {"CREDENTIALS_DIRECTORY": os.path.join(self.home, "credentials"), **phrase}
        self.run_json("hello", env=credential)
        self.keys_check("pass", "a credential of systemd", env=credential)


class Absence(KeyCase):
    """Where a key is not."""

    HOLD = "repeat: true\nsteps:\n  - answer: [ { call: { tool: exec, args: { command: \"env; cat fifo\" } } } ]\n" \
        "  - answer: [ { text: fine } ]\n"

    def search(self, way, spared=(), also_runner=True, env=None):
        """During a turn, between two calls of the model, and after it."""
        fifo = os.path.join(self.work, "fifo")
        os.mkfifo(fifo, 0o666)
        s = self.stream("--yes", "--workspace", self.work, "hello", env=env)
        with open(fifo, "w") as f:
            pids = self.pids()
            others = [p for p, _, _ in self.mine() if p not in (pids["broker"], pids["runner"])]
            # With a key in its own environment the command has what it was started with; see /proc below.
            if env:
                others.remove(s.proc.pid)
            roles = {pids["runtime"], pids["shelld"]}
            self.assertTrue(roles <= set(others))
            self.assertGreaterEqual(len(others), 4)  # the command, runtime, shelld, the cell
            if os.geteuid() == 0:
                self.assertIn(KEY.encode(), search_memory(pids["broker"], KEY), "the control: the search finds keys")
                for pid in others + ([pids["runner"]] if also_runner else []):
                    self.assertEqual(search_memory(pid, KEY), set(), (way, pid))
            for pid in list(pids.values()):
                self.not_in_proc(pid)
            f.write("go")
        self.assertEqual(s.end(), 0)
        if os.geteuid() == 0:
            for role in ("runtime", "shelld"):
                self.assertEqual(search_memory(self.pids()[role], KEY), set(), (way, role))
        self.assertEqual(self.sent(), ["Bearer " + KEY] * 2)
        self.assertNotIn(KEY, json.dumps(s.events))
        self.assertNotIn(KEY, json.dumps(self.events(s.events[0]["session"])))
        self.assertEqual(search_files(self.home, KEY, spared), [])
        self.stop()
        self.assertEqual(search_files(self.home, KEY, spared), [])

    def not_in_proc(self, pid):
        """Other users may not even look; root finds no key among arguments and environment."""
        if os.geteuid() != 0:
            for name in ("environ", "mem"):
                with self.assertRaises(PermissionError):
                    open("/proc/%d/%s" % (pid, name), "rb").close()
            return
        for name in ("environ", "cmdline"):
            with open("/proc/%d/%s" % (pid, name), "rb") as f:
                data = f.read()
            self.assertFalse(any(n in data for n in needles(KEY)), (pid, name))

        def look():
            try:
                open("/proc/%d/mem" % pid, "rb").close()
                return "opened"
            except PermissionError:
                return "refused"
        self.assertEqual(as_nobody(look), "'refused'")

    def test_secret(self):
        self.serve_key(["api_key: {secret: mine}"], self.HOLD)
        self.set_secret("mine", KEY)
        self.search("secret")

    def test_file(self):
        self.serve_key(["api_key_file: my.key"], self.HOLD)
        self.search("file", spared=[self.put("my.key", KEY)])

    def test_command(self):
        self.serve_key(["api_key_cmd: \"cat %s/kept\"" % self.dir], self.HOLD)
        with open(os.path.join(self.dir, "kept"), "w") as f:
            f.write(KEY)
        self.search("command")

    def test_environment(self):
        """The runner has to keep it for a broker that is started again, in a locked page."""
        self.serve_key(["api_key_env: MY_KEY"], self.HOLD)
        self.search("environment", env={"MY_KEY": KEY}, also_runner=False)

    def test_literal(self):
        self.serve_key(["api_key: " + KEY], self.HOLD)
        self.search("literal", spared=[os.path.join(self.home, "config.yaml")], also_runner=False)

    def test_literal_in_the_environment(self):
        self.serve_key([], self.HOLD)
        self.search("literal in the environment", env={"ITHACA__PROVIDERS__TEST__API_KEY": KEY}, also_runner=False)

    def test_same_user_is_refused(self):
        """The processes cannot be looked into by others of their user."""
        if os.geteuid() == 0:
            self.skipTest("SKIP root may look everywhere; runs as nobody too")
        self.serve_key(["api_key: " + KEY])
        self.run_json("hello")
        for pid in self.pids().values():
            self.not_in_proc(pid)

    def test_refused_key_that_is_echoed(self):
        """A server that quotes the key in its error: neither error nor event nor log has it."""
        class Echo(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.dumps({"error": {"message": "Incorrect API key provided: " +
                                             self.headers["Authorization"].split()[1], "type": "invalid_request_error"}}).encode()
                self.send_response(401)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-Echo", self.headers["Authorization"])
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass
        web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        self.addCleanup(web.server_close)
        self.addCleanup(web.shutdown)
        key = "Zq7hT2vXw9LmN4pRb8sKd3"  # of no known form, so that the scrubber does not recognise it
        self.config("model: test/m\nproviders:\n  test: { api: openai-chat, base_url: \"http://127.0.0.1:%d/v1\", "
                    "api_key: {secret: mine} }\n" % web.server_port)
        self.set_secret("mine", key)
        p = self.ithaca("run", "--json", "hello", check=2)
        self.assertIn("Incorrect API key provided: **********************", p.stdout)
        self.assertNotIn(key, p.stdout + p.stderr)
        self.assertNotIn(key, self.ithaca("session", "events", json.loads(p.stdout)["session"], "--json").stdout)
        self.assertEqual(search_files(self.home, key), [])
        if os.geteuid() == 0:
            self.assertEqual(search_memory(self.pids()["runtime"], key), set())


if __name__ == "__main__":
    main()
