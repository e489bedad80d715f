#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The broker and TLS as others speak it: Node.js serves HTTP/1.1 and HTTP/2 in front of the model server. A whole turn
passes; a certificate for another name, an expired one and one that nobody vouches for are refused with the reason."""
import os
import shutil
import socket
import subprocess
import threading
import unittest

from harness import DEADLINE, Case, ModelServer, main

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPT = ("repeat: true\nsteps:\n  - answer: [ { text: \"I look …\", chunk: 2 }, { call: { tool: exec, args: { command: \"echo x >> log\" } } } ]\n"
          "  - answer: [ { text: \"over TLS ✓\", chunk: 1 } ]\n")


class Front:
    """tls.mjs before a model server; takes the part of the model server in a Case."""

    def __init__(self, dir, script, cert, key, protocol):
        self.model = ModelServer(dir, script)
        self.proc = subprocess.Popen([shutil.which("node"), os.path.join(HERE, "tls.mjs"), cert, key, str(self.model.port), protocol],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.proc.stdout.readline())

    def close(self):
        """Gives the protocol of each request."""
        self.proc.stdin.close()
        spoken = self.proc.stdout.read().split()
        self.proc.wait(DEADLINE)
        self.proc.stdout.close()
        self.model.close()
        return spoken


@unittest.skipUnless(shutil.which("node") and shutil.which("openssl"), "needs node and openssl (scripts/bootstrap check)")
class Tls(Case):
    def setUp(self):
        super().setUp()
        self.openssl("req", "-x509", *KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Authority of a test")

    def openssl(self, *args):
        subprocess.run(["openssl", *args], cwd=self.dir, check=True, capture_output=True, timeout=DEADLINE)

    def path(self, name):
        return os.path.join(self.dir, name)

    def certificate(self, names="DNS:localhost,IP:127.0.0.1", days="2"):
        with open(self.path("ext"), "w") as f:
            f.write("subjectAltName=%s\n" % names)
        self.openssl("req", *KEY, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
        self.openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", days,
                     "-extfile", "ext", "-out", "server.pem")

    def front(self, protocol="h2", trust="ca.pem", host="localhost"):
        """A server with server.pem, and a home that trusts that authority."""
        self.server = Front(self.dir, SCRIPT, self.path("server.pem"), self.path("server.key"), protocol)
        self.config("model: test/m\nproviders:\n  test:\n    api: openai-chat\n    base_url: \"https://%s:%d/v1\"\n    retries: 1\n"
                    "    api_key_env: TEST_KEY\n%s" %
                    (host, self.server.port, "    ca_file: \"%s\"\n" % self.path(trust) if trust else ""))
        self.env["TEST_KEY"] = "sk-test-0123456789abcdefghij"

    def served(self):
        self.stop()
        server, self.server = self.server, None
        return server.close(), server.model.requests()

    def works(self, protocol, version, **kw):
        self.front(protocol, **kw)
        r = self.run_json("go")
        self.assertEqual((r["text"], self.read("log")), ("over TLS ✓", "x\n"))
        spoken, requests = self.served()
        self.assertEqual(spoken, [version] * 2)
        self.assertEqual(requests[0]["headers"]["authorization"], "Bearer sk-test-0123456789abcdefghij")

    def refused(self, *says, **kw):
        self.front(**kw)
        r = self.run_json("go", check=1)
        self.assertEqual((r["status"], r["error"]["code"], r["effects"]), ("failed", "network", []))
        for s in ("test", "localhost:%d" % self.server.port, *says):
            self.assertIn(s, r["error"]["message"])
        self.assertRegex(r["error"]["message"], r"\(.+\)$")  # how to fix it
        self.assertEqual(self.served(), ([], []))

    def test_http2(self):
        self.certificate()
        self.works("h2", "2.0")

    def test_http1(self):
        self.certificate()
        self.works("http/1.1", "1.1")

    def test_by_address(self):
        self.certificate()
        self.works("h2", "2.0", host="127.0.0.1")

    def test_certificate_of_another_host(self):
        self.certificate(names="DNS:other.example")
        self.refused("localhost")

    def test_expired(self):
        self.certificate(days="-1")
        self.refused("expired")

    def test_authority_that_nobody_trusts(self):
        self.certificate()
        self.refused("certificate", trust=None)

    def test_self_signed(self):
        self.openssl("req", "-x509", *KEY, "-keyout", "server.key", "-out", "server.pem", "-days", "2", "-subj", "/CN=localhost",
                     "-addext", "subjectAltName=DNS:localhost")
        self.refused("self", trust="ca.pem")

    def plain(self, answer):
        """A server that does not speak TLS: the message of a run that asks it."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen(8)

            def talk():
                c, _ = s.accept()
                with c:
                    c.recv(1000)
                    c.sendall(answer)
            t = threading.Thread(target=talk)
            t.start()
            self.config("model: test/m\nproviders:\n  test: { api: openai-chat, base_url: \"https://localhost:%d/v1\", retries: 0 }\n" %
                        s.getsockname()[1])
            r = self.run_json("go", check=1)
            t.join(DEADLINE)
            self.assertEqual(r["error"]["code"], "network")
            return r["error"]["message"]

    def test_no_tls_at_all(self):
        for answer in (b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", b""):
            said = self.plain(answer)
            self.assertIn("localhost", said)
            self.assertIn("base_url", said)

    def test_nobody_greets(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen(8)
            self.config("model: test/m\nproviders:\n  test: { api: openai-chat, base_url: \"https://localhost:%d/v1\", retries: 0, "
                        "connect_ms: 300, idle_ms: 300 }\n" % s.getsockname()[1])
            r = self.run_json("go", check=1)
            self.assertEqual(r["error"]["code"], "timeout")
            self.assertIn("connect_ms", r["error"]["message"])


if __name__ == "__main__":
    main()
