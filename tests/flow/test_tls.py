# SPDX-License-Identifier: MIT
"""The broker against real TLS servers, with certificates made here: private authorities, wrong ones, HTTP/2 with many
requests on one connection. Controls show that the same server answers where it should."""
import json
import os
import socket
import ssl
import struct
import subprocess
import threading

from harness import main
from test_secret import KEY, KeyCase

CHUNKS = b"".join(b"data: " + json.dumps({"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}).encode() +
                  b"\n\n" for delta, end in (({"role": "assistant", "content": "over TLS"}, None), ({}, "stop"))) + \
    b"data: [DONE]\n\n"


def certificate(dir, name, names="DNS:localhost,IP:127.0.0.1", days="2"):
    """A key and a certificate that signs itself: (certificate, both in one file)."""
    cert, key, both = (os.path.join(dir, name + end) for end in (".pem", ".key", ".both"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                    "-out", cert, "-days", days, "-subj", "/CN=" + name, "-addext", "subjectAltName=" + names],
                   check=True, capture_output=True)
    with open(both, "w") as out:
        for path in (key, cert):
            with open(path) as f:
                out.write(f.read())
    return cert, both


class Server:
    """Serves each connection on a thread with `talk`; counts connections and keeps what was asked."""

    def __init__(self, both, protocol):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(both)
        self.context.set_alpn_protocols([protocol])
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.asked, self.connections = [], 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        try:
            with self.context.wrap_socket(conn, server_side=True) as tls:
                self.connections += 1
                self.talk(tls)
        except (OSError, EOFError):
            pass  # the client did not like us, or is gone

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def exactly(conn, n):
    data = b""
    while len(data) < n:
        part = conn.recv(n - len(data))
        if not part:
            raise EOFError
        data += part
    return data


class Http1(Server):
    def __init__(self, both):
        super().__init__(both, "http/1.1")

    def talk(self, conn):
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += exactly(conn, 1)
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            exactly(conn, length)
            self.asked.append(head.decode())
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(CHUNKS) + CHUNKS)


class Http2(Server):
    """Answers nothing before `together` requests are open at once on one connection."""
    DATA, HEADERS, SETTINGS, PING, WINDOW = 0, 1, 4, 6, 8

    def __init__(self, both, together):
        self.together, self.most = together, 0
        super().__init__(both, "h2")

    def frame(self, conn, kind, flags, stream, payload=b""):
        conn.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload)

    def talk(self, conn):
        if exactly(conn, 24) != b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":
            return
        self.frame(conn, self.SETTINGS, 0, 0)
        opened = []
        while True:
            head = exactly(conn, 9)
            kind, flags, stream = head[3], head[4], struct.unpack(">I", head[5:])[0]
            payload = exactly(conn, int.from_bytes(head[:3], "big"))
            if kind == self.SETTINGS and not flags & 1:
                self.frame(conn, self.SETTINGS, 1, 0)
            if kind == self.PING and not flags & 1:
                self.frame(conn, self.PING, 1, 0, payload)
            if kind == self.DATA and payload:
                for s in (0, stream):
                    self.frame(conn, self.WINDOW, 0, s, struct.pack(">I", len(payload)))
            if kind in (self.DATA, self.HEADERS) and flags & 1:
                opened.append(stream)
                self.asked.append(stream)
            self.most = max(self.most, len(opened))
            if len(opened) >= self.together:
                for s in opened:
                    kind_of = b"text/event-stream"
                    self.frame(conn, self.HEADERS, 4, s, b"\x88\x0f\x10" + bytes([len(kind_of)]) + kind_of)
                    self.frame(conn, self.DATA, 1, s, CHUNKS)
                opened, self.together = [], 1


class Tls(KeyCase):
    def setUp(self):
        super().setUp()
        self.cert, self.both = certificate(self.dir, "here")

    def at(self, server, *settings, host="127.0.0.1"):
        self.addCleanup(server.close)
        self.web = server
        self.provider(*settings, host=host)

    def provider(self, *settings, host="127.0.0.1"):
        self.config("model: test/m\nproviders:\n  test:\n    api: openai-chat\n    retries: 0\n    base_url: \"https://%s:%d/v1\"\n%s" %
                    (host, self.web.port, "".join("    %s\n" % s for s in settings)))

    def assert_refused(self, *texts):
        said = self.failing("run", "--json", "hello")
        self.assertIn('"code":"network"', said)
        for text in texts:
            self.assertIn(text, said)
        self.assertEqual(self.web.asked, [])  # nothing was sent, above all no key

    def test_private_authority(self):
        self.at(Http1(self.both), "api_key: " + KEY)
        self.assert_refused("self-signed certificate", "trust it by ca_file?")
        self.provider("api_key: " + KEY, "ca_file: " + self.cert)
        self.assertEqual(self.run_json("hello")["text"], "over TLS")
        self.assertIn("Authorization: Bearer " + KEY, self.web.asked[0])

    def test_secret_goes_over_tls_without_a_word(self):
        self.at(Http1(self.both), "api_key: {secret: mine}", "ca_file: " + self.cert)
        self.set_secret("mine", KEY)
        self.run_json("hello")
        self.assertIn("Authorization: Bearer " + KEY, self.web.asked[0])

    def test_ca_file_alone_is_trusted(self):
        other, _ = certificate(self.dir, "other")
        self.at(Http1(self.both), "api_key: " + KEY, "ca_file: " + other)
        self.assert_refused("certificate")

    def test_ca_file_below_home(self):
        self.at(Http1(self.both), "ca_file: authority.pem")
        with open(self.cert) as f:
            self.put("authority.pem", f.read())
        self.run_json("hello")
        self.stop()
        os.unlink(os.path.join(self.home, "authority.pem"))
        self.web.asked.clear()
        self.assert_refused("its ca_file cannot be read", "PEM")
        self.put("authority.pem", "no certificate\n")
        self.assert_refused("its ca_file cannot be read")

    def test_name_of_another(self):
        cert, both = certificate(self.dir, "another", names="DNS:another.example")
        self.at(Http1(both), "api_key: " + KEY, "ca_file: " + cert)
        self.assert_refused("certificate")

    def test_http2_shares_a_connection(self):
        n = 8
        self.at(Http2(self.both, n), "api_key: " + KEY, "ca_file: " + self.cert)
        self.ithaca("config", "list", check=0)  # one runner for all
        streams = [self.stream("hello") for _ in range(n)]
        for s in streams:
            self.assertEqual(s.end(), 0)
        self.assertEqual(self.web.most, n)
        self.assertEqual(self.web.connections, 1)
        self.assertEqual(len(self.web.asked), n)

    def test_plain_port(self):
        self.at(Http1(self.both))
        plain = socket.create_server(("127.0.0.1", 0))

        def answer():
            conn, _ = plain.accept()
            conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            conn.close()
        threading.Thread(target=answer, daemon=True).start()
        self.addCleanup(plain.close)
        self.web.port = plain.getsockname()[1]
        self.provider("api_key: " + KEY)
        self.assert_refused("does base_url name a TLS port?")


if __name__ == "__main__":
    main()
