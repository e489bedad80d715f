#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The way out of a cell: real programs in real cells, through the proxy, against servers on loopback that only an explicit
rule makes reachable; and what must not work, each with a control that shows the attempt."""
import base64
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tarfile
import threading
import time
import unittest
import zipfile

from harness import DEADLINE, Case, main


class Fixture(http.server.ThreadingHTTPServer):
    """A server on loopback that remembers what it was asked. routes: path -> (status, headers, body) or a function."""
    daemon_threads = True

    def __init__(self, routes=None, directory=None, tls=None):
        self.seen = []
        self.routes = routes or {}
        fixture = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __init__(self, *args):
                super().__init__(*args, directory=directory or "/nonexistent")

            def log_message(self, *args):
                pass

            def answer(self):
                n = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(n)
                if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                fixture.seen.append((self.command, self.path, dict(self.headers.items()), body))
                route = fixture.routes.get(self.path.split("?")[0]) or fixture.routes.get("*")
                if route is None and directory and self.command in ("GET", "HEAD"):
                    return super().do_GET() if self.command == "GET" else super().do_HEAD()
                status, headers, out = (route(self, body) if callable(route) else route) or (404, {}, b"no such thing")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(out)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(out)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = answer

        super().__init__(("127.0.0.1", 0), Handler)
        self.port = self.server_address[1]
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    def handle_error(self, request, address):
        pass

    def close(self):
        self.shutdown()
        self.thread.join()
        self.server_close()


class Egress(Case):
    def setUp(self):
        super().setUp()
        self.made = 0

    def fixture(self, *args, **kw):
        f = Fixture(*args, **kw)
        self.addCleanup(f.close)
        return f

    def egress(self, extra="", **section):
        """The configuration with a section egress; the models m1..m99 each run one command."""
        self.config("model: m1/x\nproviders:\n" +
                    "".join("  m%d: { api: offline, script: m%d.yaml }\n" % (i, i) for i in range(1, 100)) +
                    "egress: %s\n%s" % (json.dumps(section), extra))

    def sh(self, command, *args):
        """Runs a command in the cell: its outcome; self.last is the run."""
        self.made += 1
        call = {"call": {"tool": "exec", "args": {"command": command, "timeout_ms": 50000}}}
        with open(os.path.join(self.home, "m%d.yaml" % self.made), "w") as f:
            json.dump({"rules": [{"when": {"step": 0}, "answer": [call]}], "steps": [], "otherwise": "builtin"}, f)
        self.last = self.run_json("--model", "m%d/x" % self.made, *args, "go")
        self.log = self.events(self.last["session"])
        return [e["body"] for e in self.log if e["kind"] == "effect.outcome"][-1]

    def ok(self, command, *args):
        o = self.sh(command, *args)
        self.assertFalse(o["is_error"], o["text"])
        return o["text"]

    def denied(self):
        return [e["body"]["target"] for e in self.log if e["kind"] == "egress.denied"]


class Reach(Egress):
    def test_nothing_by_default(self):
        self.egress()
        text = self.ok("env | grep -ic _proxy; curl -sS -m 5 http://127.0.0.1:3128/ 2>&1; true")
        self.assertTrue(text.startswith("0\n"), text)
        self.assertIn("Failed to connect", text)

    def test_get_and_connect(self):
        s = self.fixture({"/hello": (200, {}, b"hello from outside\n")})
        self.egress(allow=["shop.test:%d" % s.port], hosts={"shop.test": "127.0.0.1"})
        text = self.ok("curl -sS http://shop.test:{0}/hello; curl -sS -p http://shop.test:{0}/hello".format(s.port))
        self.assertEqual(text.count("hello from outside"), 2)
        plain, tunnel = s.seen
        self.assertEqual(plain[2]["Host"], "shop.test:%d" % s.port)
        self.assertEqual(plain[2]["Connection"], "close")
        self.assertNotIn("Proxy-Connection", plain[2])
        self.assertEqual(self.denied(), [])

    def test_refusal_names_the_rule(self):
        self.egress(allow=["other.test:1"])
        o = self.sh("curl -sS -m 20 https://github.test/x")
        self.assertTrue(o["is_error"])
        self.assertIn("CONNECT tunnel failed, response 403", o["text"])
        self.assertIn("egress denied: github.test:443: no rule allows it (rule to allow: Fetch(github.test:443))", o["text"])
        self.assertEqual(self.denied(), ["github.test:443"])
        self.assertEqual(o["facts"]["wall"], "egress")
        self.assertEqual(o["facts"]["egress_denied"], [{"target": "github.test:443", "rule": "Fetch(github.test:443)",
                                                        "why": "no rule allows it"}])

    def test_wall_is_of_the_command_that_met_it(self):
        self.egress(allow=["other.test:1"])
        o = self.sh("curl -sS -m 20 https://github.test/x; true")
        self.assertEqual((o["is_error"], o["facts"].get("wall")), (False, None))  # it went well all the same
        self.assertEqual([d["target"] for d in o["facts"]["egress_denied"]], ["github.test:443"])
        o = self.sh("exit 3", "--session", self.last["session"])
        self.assertEqual((o["facts"]["exit"], o["facts"].get("wall"), o["facts"].get("egress_denied")), (3, None, None))
        o = self.sh("curl -sS -m 20 https://github.test/x; kill -SYS $$")
        self.assertEqual(o["facts"]["wall"], "system_calls")  # which one ended it
        self.assertEqual(len(o["facts"]["egress_denied"]), 1)

    def test_refusal_behind_the_end(self):
        """The runtime hears of a refusal on another link than of the end of the command: it waits for both. It is stopped while
        the command runs, so that it finds output, refusal and end all at once, and the link with output and end first."""
        self.egress(allow=["other.test:1"])
        for name in ("begun", "go", "ended"):
            os.mkfifo(os.path.join(self.work, name))
            os.chmod(os.path.join(self.work, name), 0o666)
        command = "echo >begun; read x <go; echo first; curl -sS -m 50 https://github.test/x; echo >ended; exit 5"
        self.made += 1
        with open(os.path.join(self.home, "m1.yaml"), "w") as f:
            json.dump({"rules": [{"when": {"step": 0}, "answer": [{"call": {"tool": "exec", "args": {"command": command}}}]}],
                       "steps": [], "otherwise": "builtin"}, f)
        stream = self.stream("--model", "m1/x", "go")
        with open(os.path.join(self.work, "begun")) as f:
            f.read()  # which waits for the command
        roles = json.loads(self.ithaca("status", "--json").stdout)["roles"]  # in a container it is not below us
        runtime = [r["pid"] for r in roles if r["name"] == "runtime"][0]
        os.kill(runtime, signal.SIGSTOP)
        try:
            with open(os.path.join(self.work, "go"), "w") as f:
                f.write("\n")
            with open(os.path.join(self.work, "ended")) as f:
                f.read()
            self.wait_file(os.path.join(self.home, "state", "spool"), ".status")
        finally:
            os.kill(runtime, signal.SIGCONT)
        o = stream.until("effect.outcome")["body"]
        self.assertEqual((o["facts"]["exit"], o["facts"].get("wall")), (5, "egress"), o)
        self.assertIn("egress denied: github.test:443", o["text"])
        stream.end()

    def wait_file(self, directory, end):
        until = time.monotonic() + DEADLINE
        while not any(name.endswith(end) for _, _, names in os.walk(directory) for name in names):
            self.assertLess(time.monotonic(), until, "no file *%s in %s" % (end, directory))
            time.sleep(0.005)  # between two looks

    def test_permission_rule(self):
        s = self.fixture({"/a": (200, {}, b"reached\n")})
        self.egress(hosts={"a.test": "127.0.0.1"},
                    extra="permissions: { allow: [\"Fetch(a.test:%d)\", \"Fetch(*.b.test:*)\"], deny: [\"Fetch(c.b.test)\"] }\n" % s.port)
        self.assertIn("reached", self.ok("curl -sS http://a.test:%d/a" % s.port))
        self.sh("curl -sS -m 20 https://c.b.test/")
        self.assertEqual(self.denied(), ["c.b.test:443"])



def certificate(dir, *names):
    """An authority of its own in DIR and a certificate for the names: (ca, chain, key)."""
    def openssl(*args):
        subprocess.run(("openssl",) + args, cwd=dir, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out",
            "ca.pem", "-subj", "/CN=test authority", "-days", "2")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "server.key", "-out",
            "server.csr", "-subj", "/CN=" + names[0])
    with open(os.path.join(dir, "ext"), "w") as f:
        f.write("subjectAltName=" + ",".join(("IP:" if n[0].isdigit() else "DNS:") + n for n in names))
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
            "server.pem", "-days", "2", "-extfile", "ext")
    return tuple(os.path.join(dir, n) for n in ("ca.pem", "server.pem", "server.key"))


def git_backend(root):
    """git's own CGI program as a route: what a git server does."""
    def serve(handler, body):
        path, _, query = handler.path.partition("?")
        env = {"GIT_PROJECT_ROOT": root, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
               "REQUEST_METHOD": handler.command, "CONTENT_TYPE": handler.headers.get("Content-Type") or "",
               "CONTENT_LENGTH": str(len(body)), "REMOTE_USER": "tester", "PATH": os.environ["PATH"],
               "HTTP_CONTENT_ENCODING": handler.headers.get("Content-Encoding") or "",
               "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
        out = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=True).stdout
        head, _, body = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        return int(headers.pop("Status", "200").split()[0]), headers, body
    return serve


class Programs(Egress):
    def repository(self):
        root = os.path.join(self.dir, "git")
        work = os.path.join(self.dir, "seed")
        os.makedirs(root)
        run = lambda *a, cwd=None: subprocess.run(a, cwd=cwd, check=True, capture_output=True, env={
            **self.env, "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t"})
        run("git", "init", "-q", "-b", "main", work)
        with open(os.path.join(work, "file.txt"), "w") as f:
            f.write("cloned through the proxy\n")
        run("git", "add", ".", cwd=work)
        run("git", "commit", "-qm", "one", cwd=work)
        run("git", "clone", "-q", "--bare", work, os.path.join(root, "r.git"))
        run("git", "config", "http.receivepack", "true", cwd=os.path.join(root, "r.git"))
        run("git", "update-server-info", cwd=os.path.join(root, "r.git"))
        return root

    def test_git_http(self):
        root = self.repository()
        dumb = self.fixture(directory=root)
        smart = self.fixture({"*": git_backend(root)})
        self.egress(allow=["git.test:*"], hosts={"git.test": "127.0.0.1"})
        self.assertIn("cloned through", self.ok("git clone -q http://git.test:%d/r.git dumb && cat dumb/file.txt" % dumb.port))
        self.assertIn("cloned through", self.ok("git clone -q http://git.test:%d/r.git smart && cat smart/file.txt" % smart.port))
        # A push larger than http.postBuffer is sent in chunks.
        self.ok("cd smart && head -c 3000000 /dev/urandom >big && git add big && git -c user.name=t -c user.email=t@t commit -qm two"
                " && git push -q origin main")
        log = subprocess.run(["git", "-C", os.path.join(root, "r.git"), "log", "--format=%s", "main"], text=True,
                             capture_output=True, check=True).stdout
        self.assertEqual(log, "two\none\n")
        self.assertTrue(any(h.get("Transfer-Encoding") == "chunked" for _, _, h, _ in smart.seen))

    def test_git_https(self):
        ca, chain, key = certificate(self.dir, "git.test")
        smart = self.fixture({"*": git_backend(self.repository())}, tls=(chain, key))
        shutil.copy(ca, os.path.join(self.work, "ca.pem"))
        self.egress(allow=["git.test:%d" % smart.port], hosts={"git.test": "127.0.0.1"})
        url = "https://git.test:%d/r.git" % smart.port
        text = self.ok("git clone -q %s a 2>&1; git -c http.sslCAInfo=/shared/ca.pem clone -q %s b && cat b/file.txt" % (url, url))
        self.assertIn("certificate", text)  # the proxy hides nothing: the program checks the server itself
        self.assertIn("cloned through", text)

    def test_pip(self):
        wheel = io.BytesIO()
        with zipfile.ZipFile(wheel, "w") as z:
            z.writestr("egressdemo/__init__.py", "WORD = 'from the index'\n")
            z.writestr("egressdemo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: egressdemo\nVersion: 1.0\n")
            z.writestr("egressdemo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            z.writestr("egressdemo-1.0.dist-info/RECORD", "egressdemo/__init__.py,,\negressdemo-1.0.dist-info/METADATA,,\n"
                       "egressdemo-1.0.dist-info/WHEEL,,\negressdemo-1.0.dist-info/RECORD,,\n")
        name = "egressdemo-1.0-py3-none-any.whl"
        page = '<!DOCTYPE html><html><body><a href="/%s#sha256=%s">%s</a></body></html>' % (
            name, hashlib.sha256(wheel.getvalue()).hexdigest(), name)
        s = self.fixture({"/simple/egressdemo/": (200, {"Content-Type": "text/html"}, page.encode()),
                          "/" + name: (200, {"Content-Type": "application/octet-stream"}, wheel.getvalue())})
        self.egress(allow=["pypi.test:%d" % s.port], hosts={"pypi.test": "127.0.0.1"})
        pip = "/usr/bin/python3 -m pip install -q --disable-pip-version-check --target lib --trusted-host pypi.test " \
              "-i http://pypi.test:%d/simple egressdemo" % s.port
        if subprocess.run(["/usr/bin/python3", "-m", "pip", "--version"], capture_output=True).returncode != 0:
            self.skipTest("python3-pip is not installed")
        self.assertIn("from the index", self.ok("%s && PYTHONPATH=lib /usr/bin/python3 -c 'import egressdemo; "
                                                "print(egressdemo.WORD)'" % pip))

    def test_npm(self):
        if not os.path.exists("/usr/bin/npm"):
            self.skipTest("npm is not installed")
        package = io.BytesIO()
        with tarfile.open(fileobj=package, mode="w:gz") as t:
            for name, text in (("package/package.json", '{"name": "egressdemo", "version": "1.0.0", "main": "i.js"}'),
                               ("package/i.js", "module.exports = 'from the registry'\n")):
                info = tarfile.TarInfo(name)
                info.size = len(text)
                t.addfile(info, io.BytesIO(text.encode()))
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(package.getvalue()).digest()).decode()

        def document(handler, body):
            base = "http://registry.test:%d" % s.port
            return 200, {"Content-Type": "application/json"}, json.dumps({
                "name": "egressdemo", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {
                    "name": "egressdemo", "version": "1.0.0", "main": "i.js",
                    "dist": {"tarball": base + "/egressdemo-1.0.0.tgz", "integrity": integrity}}}}).encode()
        s = self.fixture({"/egressdemo": document, "/egressdemo-1.0.0.tgz": (200, {}, package.getvalue())})
        self.egress(allow=["registry.test:%d" % s.port], hosts={"registry.test": "127.0.0.1"})
        text = self.ok("npm install --no-audit --no-fund --no-update-notifier --registry http://registry.test:%d egressdemo && "
                       "node -p 'require(\"egressdemo\")'" % s.port)
        self.assertIn("from the registry", text)


class Service(Egress):
    KEY = "sk-egress-4711-0123456789abcdef"

    def test_key_is_added_outside(self):
        def echo(handler, body):
            return 200, {"X-Echo": handler.headers.get("Authorization") or ""}, \
                b"key " + (handler.headers.get("Authorization") or "").encode() + b" body " + body
        s = self.fixture({"/v1/thing": echo})
        self.egress(services={"api": {"url": "http://127.0.0.1:%d/v1" % s.port, "key": self.KEY}})
        text = self.ok("U=http://127.0.0.1:3128/svc/api/thing; curl -sS --trace-ascii - -H 'Authorization: Bearer mine' -d data $U; "
                       "curl -sS -X DELETE $U?q=1; curl -sSI $U; curl -sS -T /etc/hostname $U; curl -sS -H 'Transfer-Encoding: chunked' "
                       "-d chunks $U; env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; "
                       "grep -r sk-egress /home/agent /tmp /shared /run /etc 2>/dev/null; true")
        self.assertIn("body data", text)
        self.assertNotIn(self.KEY, text)
        self.assertNotIn("4711", text)
        self.assertEqual([(m, p) for m, p, _, _ in s.seen], [("POST", "/v1/thing"), ("DELETE", "/v1/thing?q=1"),
                         ("HEAD", "/v1/thing"), ("PUT", "/v1/thing"), ("POST", "/v1/thing")])
        self.assertEqual([h["Authorization"] for _, _, h, _ in s.seen], ["Bearer " + self.KEY] * 5)
        self.assertEqual(s.seen[4][3], b"chunks")

    def test_tls_and_another_header(self):
        ca, chain, key = certificate(self.dir, "127.0.0.1")
        s = self.fixture({"/": (302, {"Location": "https://elsewhere.test/"}, b"")}, tls=(chain, key))
        shutil.copy(ca, os.path.join(self.home, "ca.pem"))
        self.egress(services={"api": {"url": "https://127.0.0.1:%d" % s.port, "header": "X-Token: ", "key": self.KEY,
                                      "ca_file": "ca.pem"}})
        text = self.ok("curl -sS -L -D - -H 'X-Token: mine' http://127.0.0.1:3128/svc/api/; true")
        self.assertEqual([h["X-Token"] for _, _, h, _ in s.seen], [self.KEY])
        self.assertIn("HTTP/1.1 302", text)  # and where it leads is the cell's own request, which no rule allows
        self.assertEqual(self.denied(), ["elsewhere.test:443"])

    def test_sealed_key(self):
        s = self.fixture({"/": (200, {}, b"reached\n")})
        self.egress(services={"api": {"url": "http://127.0.0.1:%d" % s.port, "key": {"secret": "apikey"}}})
        self.assertIn("service api", self.ok("curl -sS http://127.0.0.1:3128/svc/api/"))  # there is none yet
        said = self.ithaca("secret", "set", "apikey", stdin=self.KEY, check=0).stdout
        self.assertIn("127.0.0.1", said)  # bound to the service that refers to it
        self.assertIn("reached", self.ok("curl -sS http://127.0.0.1:3128/svc/api/"))
        self.assertEqual([h["Authorization"] for _, _, h, _ in s.seen], ["Bearer " + self.KEY])

    def test_narrowed_and_unknown(self):
        s = self.fixture({"/": (200, {}, b"reached\n")})
        self.egress(services={"api": {"url": "http://127.0.0.1:%d" % s.port, "key": self.KEY}})
        text = self.ok("for u in api apii ../api 'api/%2e%2e/x'; do curl -sS --path-as-is -o /dev/null -w '%{http_code}\\n' "
                       "http://127.0.0.1:3128/svc/$u/; done")
        self.assertTrue(text.startswith("200\n404\n404\n400\n"), text)
        self.write(".ithaca.yaml", "egress: { deny: [\"127.0.0.1\"] }\n")
        text = self.ok("curl -sS http://127.0.0.1:3128/svc/api/")
        self.assertIn("egress denied: service api", text)
        self.assertEqual(len(s.seen), 1)


class Attacks(Egress):
    SEND = """
import socket, sys
for line in open('requests.txt'):
    s = socket.create_connection(('127.0.0.1', 3128))
    s.settimeout(20)
    s.sendall(eval(line))
    got = b''
    try:
        while part := s.recv(65536):
            got += part
    except OSError as e:
        got += repr(e).encode()
    print(got.split(b'\\r\\n')[0].decode()[:80], '|', got[-300:].split(b'\\r\\n\\r\\n')[-1][:200].decode().strip())
"""

    def raw(self, *requests):
        """What the proxy says to each: [(first line, end)]."""
        self.write("send.py", self.SEND)
        self.write("requests.txt", "".join(repr(r) + "\n" for r in requests))
        text = self.ok("/usr/bin/python3 send.py")
        return [tuple(line.split(" | ")) for line in text.splitlines()[:len(requests)]]

    def test_only_the_proxy(self):
        s = self.fixture({"/": (200, {}, b"reached\n")})
        self.egress(allow=["127.0.0.1:%d" % s.port, "shop.test:%d" % s.port], hosts={"shop.test": "127.0.0.1"})
        text = self.ok("curl -sS --noproxy '*' http://127.0.0.1:{0}/ 2>&1; curl -sS --noproxy '*' http://192.0.2.1/ 2>&1; "
                       "curl -sS --noproxy '*' 'http://[2001:db8::1]/' 2>&1; curl -sS --noproxy '' http://127.0.0.1:{0}/".format(s.port))
        self.assertIn("Failed to connect to 127.0.0.1 port %d" % s.port, text)
        self.assertIn("Failed to connect to 192.0.2.1", text)
        self.assertIn("Failed to connect to 2001:db8::1", text)
        self.assertTrue("reached" in text and len(s.seen) == 1, text)  # the control: the same address, through the proxy
        text = self.ok("/usr/bin/python3 -c \"import socket, errno\ntry: socket.create_connection(('192.0.2.1', 80))\n"
                       "except OSError as e: print(errno.errorcode[e.errno])\"")
        self.assertTrue(text.startswith("ENETUNREACH"), text)

    def test_addresses(self):
        s = self.fixture({"/": (200, {}, b"reached\n")})
        self.egress(allow=["*:*", "localhost:*"], hosts={"mapped.test": "127.0.0.1:%d" % s.port})
        hosts = ["127.0.0.1", "127.1", "2130706433", "0177.0.0.1", "0x7f000001", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]",
                 "[::127.0.0.1]", "[64:ff9b::7f00:1]", "0.0.0.0", "169.254.169.254", "localhost", "LOCALHOST.", "127.0.0.1.",
                 "[fe80::1%25lo]", "10.0.0.1", "192.168.1.1"]
        answers = self.raw(*[b"CONNECT %s:%d HTTP/1.1\r\nHost: x\r\n\r\n" % (h.encode(), s.port) for h in hosts])
        for host, (line, end) in zip(hosts, answers):
            if "cannot resolve localhost" not in end.lower():  # not every machine knows where that is
                self.assertRegex(line, "^HTTP/1.1 (400|403) ", host + end)
        self.assertEqual(s.seen, [])
        # The control: a name of the operator's map leads to the very same server.
        self.assertIn("reached", self.ok("curl -sS http://mapped.test/"))

    def test_ports_and_redirects(self):
        other = self.fixture({"/": (200, {}, b"never\n")})
        s = self.fixture({"/": lambda h, b: (302, {"Location": "http://other.test:%d/" % other.port}, b"")})
        self.egress(allow=["shop.test:%d" % s.port, "web.test"], hosts={"shop.test": "127.0.0.1", "other.test": "127.0.0.1",
                                                                         "web.test": "127.0.0.1"})
        self.sh("curl -sS -L http://shop.test:%d/; curl -sS web.test:22; curl -sS -p web.test:22" % s.port)
        self.assertEqual((len(s.seen), other.seen), (1, []))
        self.assertEqual(self.denied(), ["other.test:%d" % other.port, "web.test:22"])

    def test_smuggling(self):
        s = self.fixture({"/": (200, {}, b"fine\n")})
        self.egress(allow=["shop.test:%d" % s.port], hosts={"shop.test": "127.0.0.1"},
                    services={"api": {"url": "http://127.0.0.1:%d" % s.port, "key": "sk-secret-0123456789"}})
        get = b"GET http://shop.test:%d/ HTTP/1.1\r\n" % s.port
        inner = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        bad = [
            get + b"Host: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
            get + b"Host: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
            get + b"Host: a\r\nContent-Length: 4, 4\r\n\r\nabcd",
            get + b"Host: a\r\nContent-Length: +4\r\n\r\nabcd",
            get + b"Host: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            get + b"Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            get + b"Host: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            get + b"Host: a\r\nX: 1\nY: 2\r\n\r\n",
            get + b"Host: a\r\nX: 1\rY: 2\r\n\r\n",
            get + b"Host: a\r\nX: 1\r\n folded\r\n\r\n",
            get + b"Host: a\r\nX: a\x00b\r\n\r\n",
            get + b"Host: a\r\nHost: b\r\n\r\n",
            get + b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n",
            get + b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
            b"GET http://shop.test@evil.test/ HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET http://shop.test:%d/ HTTP/1.1 x\r\nHost: a\r\n\r\n" % s.port,
            b"GET  http://shop.test:%d/ HTTP/1.1\r\nHost: a\r\n\r\n" % s.port,
            b"GET https://shop.test/ HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"CONNECT shop.test HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /svc/api/x%0d%0aX:1 HTTP/1.1\r\nHost: a\r\nX-A: b\x0bc\r\n\r\n",
            b"GET /svc/api/../x HTTP/1.1\r\nHost: a\r\n\r\n",
            b"TRACE /svc/api/ HTTP/1.1\r\nHost: a\r\n\r\n",
        ]
        for request, (line, end) in zip(bad, self.raw(*bad)):
            self.assertRegex(line, "^HTTP/1.1 (400|502) ", request)
        self.assertEqual([p for _, p, _, _ in s.seen if p != "/"], [])
        s.seen.clear()
        # What is legal, with a second request behind it, reaches the server as one.
        answers = self.raw(get + b"Host: other\r\nX: y\r\nConnection: X-Drop, close\r\nX-Drop: 1\r\nContent-Length: 3\r\n\r\nabc" + inner)
        self.assertTrue(answers[0][0].startswith("HTTP/1.1 200"), answers)
        self.assertEqual([(m, p, b) for m, p, _, b in s.seen], [("GET", "/", b"abc")])
        self.assertEqual(s.seen[0][2].get("Host"), "shop.test:%d" % s.port)
        self.assertNotIn("X-Drop", s.seen[0][2])

    def test_many_connections(self):
        s = self.fixture({"/": (200, {}, b"reached\n")})
        self.egress(allow=["shop.test:%d" % s.port], hosts={"shop.test": "127.0.0.1"})
        self.write("many.py", """
import socket
held = []
for i in range(10000):
    c = socket.socket()
    c.setblocking(False)
    c.connect_ex(('127.0.0.1', 3128))
    held.append(c)
print(len(held), 'made')
""")
        text = self.ok("ulimit -n 12000; /usr/bin/python3 many.py; curl -sS http://shop.test:%d/" % s.port)
        self.assertIn("10000 made", text)
        self.assertIn("reached", text)  # and another cell, and this one, go on
        self.assertIn("reached", self.ok("curl -sS http://shop.test:%d/" % s.port))

    def test_quota(self):
        s = self.fixture({"/big": (200, {}, b"x" * 3000000), "/small": (200, {}, b"small\n")})
        self.egress(allow=["shop.test:%d" % s.port], hosts={"shop.test": "127.0.0.1"}, quota_mb=2)
        o = self.sh("curl -sS -o big http://shop.test:%d/big; wc -c <big" % s.port)
        self.assertIn("egress.quota_mb of 2 MiB is spent", o["text"])
        self.assertEqual(self.denied(), ["quota"])
        self.assertLessEqual(os.path.getsize(os.path.join(self.work, "big")), 2 << 20)
        session = self.last["session"]
        o = self.sh("curl -sS http://shop.test:%d/small" % s.port, "--session", session)
        self.assertIn("egress.quota_mb is spent", o["text"])
        self.stop()  # what was used is in the log
        o = self.sh("curl -sS http://shop.test:%d/small" % s.port, "--session", session)
        self.assertIn("egress.quota_mb is spent", o["text"])
        self.assertIn("small", self.ok("curl -sS http://shop.test:%d/small" % s.port))  # another session has its own

    def test_workspace_only_narrows(self):
        s = self.fixture({"/": (200, {}, b"reached\n")})
        self.egress(allow=["shop.test:%d" % s.port], hosts={"shop.test": "127.0.0.1", "more.test": "127.0.0.1"})
        self.write(".ithaca.yaml", "egress: { allow: [\"more.test:*\"], hosts: { a.test: 127.0.0.1 } }\n")
        self.assertIn("reached", self.ok("curl -sS http://shop.test:%d/" % s.port))
        self.sh("curl -sS http://more.test:%d/" % s.port)
        self.assertEqual(self.denied(), ["more.test:%d" % s.port])
        self.write(".ithaca.yaml", "egress: { deny: [\"shop.test\"] }\n")
        self.sh("curl -sS http://shop.test:%d/" % s.port)
        self.assertEqual((self.denied(), len(s.seen)), (["shop.test:%d" % s.port], 1))


if __name__ == "__main__":
    main()
