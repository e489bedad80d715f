#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Servers and clients that mean harm: answers without end, numbers and trees without measure, calls without number. Each costs
its own turn or call and nothing else: afterwards a good turn is answered."""
import json
import socket
import struct
import threading

from harness import Case, main

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


class Evil:
    """A server that answers every request with head, then body after body for as long as it is heard."""

    def __init__(self, head, bodies):
        self.head, self.bodies = head, bodies
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.left = threading.Semaphore(0)  # one for each client that hung up
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                peer = self.sock.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.answer, args=(peer,), daemon=True).start()

    def answer(self, peer):
        try:
            peer.recv(1 << 20)
            peer.sendall(self.head)
            for body in self.bodies():
                peer.sendall(body)
            while peer.recv(1 << 20):
                pass
        except OSError:
            pass
        self.left.release()
        peer.close()

    def close(self):
        self.sock.close()


def forever(data):
    def bodies():
        while True:
            yield data
    return bodies


class Hostile(Case):
    def evil(self, head, bodies, extra="", api="openai-chat", retries=0):
        server = Evil(head, bodies)
        self.addCleanup(server.close)
        self.config("model: evil/m\nproviders:\n  evil: { api: %s, base_url: \"http://127.0.0.1:%d/v1\", retries: %d }\n"
                    "models: { embedding: evil/e }\n"
                    "catalog: { models: { evil/m: { input_usd_per_mtok: 3, output_usd_per_mtok: 15, max_output: 1000 } } }\n%s"
                    % (api, server.port, retries, extra))
        return server

    def still_works(self):
        self.assertEqual(self.run_json("--model", "offline/rules", "hello")["status"], "answered")

    def test_an_error_without_end(self):
        server = self.evil(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", forever(chunk(b"x" * 4096)))
        r = self.run_json("go", check=1)
        self.assertIn("HTTP 500", r["error"]["message"])
        self.assertEqual(r["cost_microusd"], 0)
        self.assertTrue(server.left.acquire(timeout=30))  # it is not listened to any longer
        self.still_works()

    def test_vectors_that_are_an_error_without_end(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "30000"
        server = self.evil(b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n", forever(chunk(b"x" * 4096)))
        self.still_works()
        e = self.rpc().call("model.embed", texts=["a"])
        self.assertIn("HTTP 400", e["message"])
        self.assertTrue(server.left.acquire(timeout=30))

    def test_a_stream_of_comments_ends_with_the_turn(self):
        server = self.evil(EVENTS, forever(chunk(b": still there\n\n" * 100)), "limits: { turn_ms: 1500 }\n")
        r = self.run_json("go", check=4)
        self.assertIn("turn_ms", r["error"]["message"])
        self.assertGreater(r["cost_microusd"], 0)  # it did answer
        self.assertTrue(server.left.acquire(timeout=30))
        self.still_works()

    def test_text_without_end(self):
        data = chunk(b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "x" * 60000}}]}).encode() + b"\n\n")
        self.evil(EVENTS, forever(data))
        r = self.run_json("go", check=1)
        self.assertIn("larger than", r["error"]["message"])
        self.still_works()

    def test_a_line_without_end(self):
        self.evil(EVENTS, forever(chunk(b"x" * 65536)))
        self.assertEqual(self.run_json("go", check=1)["status"], "failed")
        self.still_works()

    def test_a_tree_without_bottom(self):
        self.evil(EVENTS, lambda: [chunk(b"data: " + b"[" * 200000 + b"\n\n")])
        self.assertEqual(self.run_json("go", check=1)["status"], "failed")
        self.still_works()

    def test_counts_without_measure(self):
        for count in ("1e300", "-5", "99999999999999999999999", "\"7\"", "9223372036854775807"):
            text = json.dumps({"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]})
            usage = "{\"choices\":[],\"usage\":{\"prompt_tokens\":%s,\"completion_tokens\":%s}}" % (count, count)
            end = b"".join(b"data: %s\n\n" % x.encode() for x in (text, usage, "[DONE]"))
            self.evil(EVENTS, lambda: [chunk(end), b"0\r\n\r\n"], "limits: { turn_cost_usd: 1000000 }\n")
            p = self.ithaca("run", "--json", "--model", "evil/m", "go", check=None)
            r = json.loads(p.stdout)
            self.assertIn(r["status"], ("answered", "failed"), count)
            self.assertGreaterEqual(r["cost_microusd"], 0, count)
            self.assertGreaterEqual(r["usage"]["input_tokens"], 0, count)
            self.stop()
        self.still_works()  # although the day has cost more than it may: this model costs nothing

    def test_a_client_that_calls_and_calls(self):
        """256 calls of a client may wait for their answer; others are served."""
        self.env["ITHACA__RUNNER__IDLE_MS"] = "30000"
        self.evil(b"", lambda: [])
        self.still_works()
        rpc = self.rpc()
        tail = b'{"texts":["a"]}'
        for id in range(1, 301):
            head = json.dumps({"v": 1, "kind": "call", "id": id, "method": "model.embed"}).encode()
            rpc.sock.sendall(struct.pack("<II", 4 + len(head) + len(tail), len(head)) + head + tail)
        codes = [rpc.frame()[0] for _ in range(44)]
        self.assertEqual({(h["kind"], h["code"]) for h in codes}, {("error", "busy")})
        self.assertEqual([h["id"] for h in codes], list(range(257, 301)))
        self.assertEqual(len(self.rpc().call("session.list")["sessions"]), 1)

    def test_a_client_that_follows_and_follows(self):
        self.env["ITHACA__RUNNER__IDLE_MS"] = "30000"
        session = self.run_json("hello")["session"]
        rpc = self.rpc()
        subs = [rpc.call("session.events", session=session, after=1000, follow=True)["sub"] for _ in range(1024)]
        said = rpc.call("session.events", session=session, after=1000, follow=True)
        self.assertEqual((said["code"], "follows 1024 times already" in said["message"]), ("limit", True))
        self.assertEqual(rpc.call("session.unfollow", sub=subs[1]), {})
        self.assertEqual(rpc.call("session.unfollow", sub=subs[1])["code"], "not_found")
        self.assertEqual(self.rpc().call("session.unfollow", sub=subs[2])["code"], "not_found")  # of another link
        self.assertIn("sub", rpc.call("session.events", session=session, after=1000, follow=True))
        self.assertIn("sub", self.rpc().call("session.events", session=session, follow=True))


if __name__ == "__main__":
    main()
