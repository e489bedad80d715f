#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A container engine that lies, is slow or breaks off: a reason code with what it did, no long wait, no container left. The
engine is this test's own, on a Unix socket; its control is the same one without a lie, which gets as far as it can."""
import json
import os
import re
import socket
import threading
import time

from harness import Case, main


def answer(status, body, kind="application/json"):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d Said\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
        status, kind.encode(), len(body), body)


class After(bytes):
    """The answer to what was done all the same."""


class Engine:
    """lies: (method, pattern of the target) -> bytes to answer with, or a function of the connection."""

    def __init__(self, path, lies):
        self.lies = lies
        self.made, self.seen = {}, []
        self.over = threading.Event()
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        self.server.listen(16)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                c, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(c,), daemon=True).start()

    def one(self, c):
        with c:
            try:
                self.talk(c)
            except OSError:
                pass

    def talk(self, c):
        data = b""
        while b"\r\n\r\n" not in data:
            part = c.recv(65536)
            if not part:
                return
            data += part
        head, body = data.split(b"\r\n\r\n", 1)
        method, target = head.split(b"\r\n")[0].decode().split(" ")[:2]
        length = int(re.search(rb"Content-Length: (\d+)", head).group(1))
        while len(body) < length:
            body += c.recv(65536)
        target = target.removeprefix("/v1.40")
        self.seen.append((method, target))
        for (m, pattern), lie in self.lies.items():
            if m == method and re.match(pattern, target):
                if isinstance(lie, After):
                    self.truth(method, target, body)
                lie(c) if callable(lie) else c.sendall(lie)
                return
        c.sendall(self.truth(method, target, body))

    def truth(self, method, target, body):
        if target == "/version":
            return answer(200, {"Version": "99.1", "ApiVersion": "1.40", "Components": [{"Name": "Engine"}]})
        if target == "/info":
            return answer(200, {"SecurityOptions": []})
        if target.startswith("/images/"):
            return answer(200, {"Id": "sha256:1"})
        if target.startswith("/containers/json"):
            return answer(200, [])
        if target.startswith("/containers/create"):
            id = "%064x" % (len(self.made) + 1)
            self.made[id] = target.split("name=")[1]
            return answer(201, {"Id": id, "Warnings": []})
        id = target.split("/")[2].split("?")[0]
        if method == "DELETE":
            gone = [i for i, name in self.made.items() if id in (i, name)]
            for i in gone:
                del self.made[i]
            return answer(204 if gone else 404, b"")
        if target.endswith("/start"):
            return answer(204, b"")
        if "/logs" in target:
            words = b"\x1b]0;title\x07no token\n"
            return answer(200, b"\x02\0\0\0" + len(words).to_bytes(4, "big") + words, "application/octet-stream")
        return answer(200, {"State": {"Running": False, "ExitCode": 3}})

    def close(self):
        self.over.set()
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join()


class Liar(Case):
    def refused(self, lies=None, code="engine_failed", says="", within=40, left=0):
        """What a command says that cannot run there."""
        path = os.path.join(self.dir, "e%d.sock" % len(os.listdir(self.dir)))
        self.engine = Engine(path, lies or {})
        self.config("tier: container\ncontainer: { socket: %s }\n" % path)
        began = time.monotonic()
        r = self.ithaca("run", "run true")
        took = time.monotonic() - began
        self.stop()
        self.engine.close()
        self.assertIn(r.returncode, (1, 2), r.stderr)
        self.assertIn(code + ": ", r.stderr)
        self.assertIn(says, r.stderr)
        self.assertLess(took, within)
        self.assertEqual(len(self.engine.made), left, self.engine.made)
        self.assertNotRegex(r.stderr.strip(), r"[\x00-\x08\x0b-\x1f\x7f]")
        return r.stderr

    def hang(self, c):
        self.engine.over.wait(60)

    def test_an_honest_one(self):
        """The control: each call of a start comes, and the container that ends at once is told with its last words."""
        self.refused(code="guest_failed", says="the container ended with status 3: ")
        calls = [m + " " + re.sub(r"[0-9a-f]{64}|\?.*", "", t) for m, t in self.engine.seen]
        for call in ("GET /version", "GET /info", "GET /images/localhost/ithaca-host/json", "GET /containers/json",
                     "POST /containers/create", "POST /containers//start", "GET /containers//json", "DELETE /containers/"):
            self.assertIn(call, calls)

    def test_what_it_is(self):
        for lie, says in ((answer(500, {"message": "out of order"}), "out of order (500)"), (answer(200, b"<html>"), "what it is"),
                          (answer(200, []), "what it is"), (answer(200, b'{"Version": 7}'), "what it is"),
                          (b"SSH-2.0-OpenSSH\r\n\r\n", "HTTP"), (b"", "middle"),
                          (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "middle"),
                          (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 100, "middle")):
            self.refused({("GET", "/version"): lie}, "engine_missing", says)

    def test_too_much(self):
        def pour(first, more):
            def lie(c):
                c.sendall(first)
                while not self.engine.over.is_set():
                    c.sendall(more)
            return lie
        for lie, says in ((pour(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536), "larger than"),
                          (pour(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 9999), "headers"),
                          (pour(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"),
                           "larger than"),
                          (answer(200, b"[" * 100000), "what it is")):
            self.refused({("GET", "/version"): lie}, "engine_missing", says)

    def test_too_slow(self):
        def drip(c):
            for b in b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n" + b" " * 60:
                c.sendall(bytes([b]))
                if self.engine.over.wait(0.5):
                    return
        for lie in (self.hang, drip):
            self.refused({("GET", "/version"): lie}, "engine_missing", "no answer within")
        # One that does not even remove what it made is not waited for long.
        self.refused({("DELETE", "/containers/"): self.hang}, "guest_failed", left=1)

    def test_images(self):
        self.refused({("GET", "/images/"): answer(500, {"message": "no disk"})}, says="no disk (500)")
        self.refused({("GET", "/images/"): answer(200, b"garbage")}, says="has no image")
        self.refused({("GET", "/images/"): answer(404, {}), ("POST", "/images/create"): b""}, says="/images/create")
        long = "begin " + "x" * 4000 + " because of \x1b[2Jthis"
        said = self.refused({("GET", "/images/"): answer(500, {"message": long})}, says="begin xxx")
        self.assertIn("because of", said)

    def test_containers(self):
        create = ("POST", "/containers/create")
        self.refused({create: answer(409, {"message": "the name is in use"})}, says="the name is in use (409)")
        self.refused({create: After(answer(201, b"{}"))}, says="without an id")
        for id in ("../../images", "a b", "a\r\nX: y", "", "x" * 100, "?", "a%2fb"):
            self.refused({create: After(answer(201, {"Id": id}))}, says="without an id")
        self.refused({("POST", "/containers/.*/start"): b""}, says="/start: ")  # whether it runs nobody knows: it goes
        self.refused({("POST", "/containers/.*/start"): answer(500, {"message": "no memory"})}, says="no memory (500)")

    def test_names_of_images(self):
        """What is configured is no way to ask for something else."""
        for image in ("a b", "a\\r\\nX: y"):
            path = os.path.join(self.dir, "never.sock")
            engine = Engine(path, {})
            self.config("tier: container\ncontainer: { socket: %s, image: \"%s\" }\n" % (path, image))
            r = self.ithaca("run", "run true")
            self.stop()
            engine.close()
            os.unlink(path)
            self.assertRegex(r.stderr, "engine_failed: |config")
            self.assertEqual([t for _, t in engine.seen if t not in ("/version", "/info")], [])

    def test_breaks_off_after_the_deed(self):
        """It made the container and then its answer is lost: what nobody knows the number of goes by its name."""
        for lie in (b"", b"HTTP/1.1 201 Created\r\nContent-Length: 900\r\n\r\n{", answer(201, b"not json")):
            self.refused({("POST", "/containers/create"): After(lie)})
            self.assertEqual([m for m, t in self.engine.seen if t.startswith("/containers/ithaca-guest-")], ["DELETE"])

    def test_only_ours_are_removed(self):
        """A list that ignores what it was asked for names containers of others, and of our other role."""
        home = os.path.realpath(self.home)
        listed = [{"Id": "a" * 64}, {"Id": "b" * 64, "Labels": {"ithaca.home": home + "2"}}, {"Id": "../x", "Labels": {
            "ithaca.home": home}}, {"Id": 7, "Labels": {"ithaca.home": home}}, "text", {"Id": "c" * 64, "Labels": {
            "ithaca.home": home, "ithaca.role": "shelld"}}, {"Id": "d" * 64, "Labels": {"ithaca.home": home, "ithaca.role": "runtime"}}]
        self.refused({("GET", "/containers/json"): answer(200, listed)}, "guest_failed")
        removed = [t.split("/")[2].split("?")[0] for m, t in self.engine.seen if m == "DELETE"]
        self.assertEqual(removed, ["c" * 64, "%064x" % 1])

    def test_never_ends(self):
        """It says that the container runs, and nobody is in it."""
        self.refused({("GET", "/containers/[0-9a-f]+/json"): answer(200, {"State": {"Running": True}})}, "guest_failed",
                     "did not listen within", within=55)


if __name__ == "__main__":
    main()
