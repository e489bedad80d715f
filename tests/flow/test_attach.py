# SPDX-License-Identifier: MIT
"""Files that go along with a message: over every API, past crashes and restarts, and what is refused before any request."""
import base64
import hashlib
import json
import os
import random
import re
import signal
import struct
import time
import zlib

import harness

OK = "repeat: true\nsteps: [ { answer: [ { text: seen } ] } ]\n"


def png(width, height, extra=b""):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(b"\0" * (width + 1) * height)) + extra + chunk(b"IEND", b""))


def noise(n, seed=1):
    return random.Random(seed).randbytes(n)


WAV = b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\x08\0\0\0soundsss"
PDF = b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\n%%EOF\n"
MP3 = (b"\xff\xfb\x90\x44" + b"\0" * 413) * 3


class Blobs(harness.Rpc):
    """blob.put and blob.get, whose bytes travel as a stream on the id of the call."""

    def put_frame(self, kind, id, tail=b"", **head):
        head = json.dumps({"v": 1, "kind": kind, "id": id, **head}).encode()
        self.sock.sendall(struct.pack("<II", 4 + len(head) + len(tail), len(head)) + head + tail)

    def begin(self, size):
        self.id += 1
        self.put_frame("call", self.id, json.dumps({"size": size}).encode(), method="blob.put")
        return self.id

    def answer_of(self, id):
        while True:
            head, tail = self.frame()
            if head["id"] == id and head["kind"] in ("result", "error"):
                return json.loads(tail) if head["kind"] == "result" else head

    def put(self, data, size=None, eof=True):
        id = self.begin(len(data) if size is None else size)
        credit, at = 256 * 1024, 0
        while at < len(data):
            while credit == 0:
                head, tail = self.frame()
                if head["kind"] in ("result", "error") and head["id"] == id:
                    return head
                credit += head["n"] if head["kind"] == "credit" else 0
            part = data[at:at + min(credit, 65536)]
            self.put_frame("data", id, part, ch=0)
            at += len(part)
            credit -= len(part)
        if eof:
            self.put_frame("eof", id)
        return self.answer_of(id)

    def get(self, blob):
        self.id += 1
        id = self.id
        self.put_frame("call", id, json.dumps({"blob": blob}).encode(), method="blob.get")
        self.put_frame("eof", id)
        result, data = None, b""
        while True:
            head, tail = self.frame()
            if head["id"] != id:
                continue
            if head["kind"] == "error":
                return head
            if head["kind"] == "result":
                result = json.loads(tail)
            elif head["kind"] == "data":
                data += tail
                self.put_frame("credit", id, n=len(tail))
            elif head["kind"] == "eof":
                assert len(data) == result["size"]
                return data


class Attach(harness.Case):
    def blobs(self):
        rpc = Blobs(self.home)
        self.addCleanup(rpc.close)
        return rpc

    def file(self, name, data):
        path = os.path.join(self.work, name)
        with open(path, "wb") as f:
            f.write(data)
        return path

    def stored(self):
        """Names of blobs that are files."""
        return sorted(name for _, _, names in os.walk(os.path.join(self.home, "state", "blobs")) for name in names)

    def bodies(self):
        return [json.dumps(r["body"]) for r in self.server.requests()]

    # ---- what reaches the model ----

    def api_gets_the_bytes(self, api):
        photo = png(640, 480)
        self.serve(OK, api)
        self.file("photo.png", photo)
        self.file("notes.md", b"# the plan\n")
        r = self.run_json("--attach", "photo.png", "--attach", "notes.md", "what is this?")
        self.assertEqual(r["text"], "seen")
        body, = self.bodies()
        image, text, ask = (body.find(x) for x in (base64.b64encode(photo).decode(), "# the plan", "what is this?"))
        self.assertTrue(0 < image < text < ask, (image, text, ask))
        self.assertIn("file notes.md", body)
        said, = (e for e in self.events(r["session"]) if e["kind"] == "user.message")
        self.assertEqual(said["body"]["text"], "what is this?")
        self.assertEqual([{k: a[k] for k in ("name", "mime", "size", "blob")} for a in said["body"]["attachments"]],
                         [{"name": "photo.png", "mime": "image/png", "size": len(photo),
                           "blob": hashlib.sha256(photo).hexdigest()},
                          {"name": "notes.md", "mime": "text/plain", "size": 11,
                           "blob": hashlib.sha256(b"# the plan\n").hexdigest()}])
        self.assertEqual((said["body"]["attachments"][0]["width"], said["body"]["attachments"][0]["tokens"]), (640, 410))
        self.assertLess(len(json.dumps(said)), 1500)

    def test_openai_chat_gets_the_bytes(self):
        self.api_gets_the_bytes("openai-chat")

    def test_openai_responses_gets_the_bytes(self):
        self.api_gets_the_bytes("openai-responses")

    def test_anthropic_gets_the_bytes(self):
        self.api_gets_the_bytes("anthropic")

    def test_gemini_gets_the_bytes(self):
        self.api_gets_the_bytes("gemini")

    def test_pdf_and_sound(self):
        self.serve(OK, "gemini")
        for name, data, mime in (("a.pdf", PDF, "application/pdf"), ("a.wav", WAV, "audio/wav"), ("a.mp3", MP3, "audio/mpeg")):
            self.file(name, data)
            self.run_json("--attach", name, "what is " + name)
            body = self.bodies()[-1]
            self.assertIn(base64.b64encode(data).decode(), body)
            self.assertIn(mime, body)

    def test_later_turns_send_it_again_also_after_a_restart(self):
        self.serve(OK, "anthropic")
        photo = png(64, 64, noise(200000))
        self.file("photo.png", photo)
        session = self.run_json("--attach", "photo.png", "look")["session"]
        self.assertEqual(self.stored(), [hashlib.sha256(photo).hexdigest()])
        os.remove(os.path.join(self.work, "photo.png"))
        self.run_json("--session", session, "and?")
        self.stop()
        self.run_json("--session", session, "and now?")
        self.assertEqual([b.count(base64.b64encode(photo).decode()) for b in self.bodies()], [1, 1, 1])

    def test_a_crash_in_the_middle_of_the_call(self):
        self.serve("rules: [ { when: { user_has: look }, times: 1, answer: [ { delay: 60000 }, { text: late } ] } ]\n" + OK)
        photo = png(64, 64)
        self.file("photo.png", photo)
        s = self.stream("--attach", "photo.png", "look")
        s.until("model.started")
        while not self.server.requests():
            pass
        os.kill(self.pids()["runtime"], signal.SIGKILL)
        self.assertEqual(s.until("turn.finished")["body"]["text"], "seen")
        self.assertEqual(s.end(), 0)
        self.assertEqual([b.count(base64.b64encode(photo).decode()) for b in self.bodies()], [1, 1])

    def test_a_message_that_waits_keeps_its_files(self):
        self.serve("rules: [ { when: { user_has: first }, times: 1, answer: [ { delay: 60000 } ] } ]\n" + OK)
        s = self.stream("first")
        s.until("model.started")
        rpc = self.blobs()
        data = png(32, 32)
        blob = rpc.put(data)["blob"]
        second = rpc.call("session.turn", session=s.events[0]["session"], text="second",
                          attachments=[{"blob": blob, "name": "b.png"}])
        self.assertEqual(rpc.call("turn.get", turn=second["turn"])["state"], "queued")
        os.kill(self.pids()["runtime"], signal.SIGKILL)
        s.end()
        self.run_json("--session", second["session"], "third")
        self.assertEqual([b.count(base64.b64encode(data).decode()) for b in self.bodies()][-1], 1)
        said = [e["body"] for e in self.events(second["session"]) if e["kind"] == "user.message"]
        self.assertEqual([[a["name"] for a in b.get("attachments", [])] for b in said], [[], ["b.png"], []])

    # ---- what it may see ----

    MODELS = "catalog:\n  models:\n    test/m: { input: [image] }\n    test/blind: { input: [] }\n    test/ears: { input: [audio] }\n"

    def test_a_model_that_cannot_take_it_is_never_asked(self):
        self.serve(OK, extra=self.MODELS)
        self.file("song.mp3", MP3)
        p = self.ithaca("run", "--attach", "song.mp3", "what is this?", check=2)
        for word in ("song.mp3", "audio", "test/m", "text, image", "test/ears"):
            self.assertIn(word, p.stderr)
        self.assertEqual(json.loads(self.ithaca("session", "list", "--json", check=0).stdout)["sessions"], [])
        self.assertEqual(self.server.requests(), [])
        self.run_json("--model", "test/ears", "--attach", "song.mp3", "what is this?")
        self.assertEqual(len(self.server.requests()), 1)

    def test_an_api_without_a_form_for_sound(self):
        for api in ("openai-responses", "anthropic"):
            self.serve(OK, api, extra="catalog: { models: { test/m: { input: [image, audio] } } }\n")
            self.file("song.mp3", MP3)
            p = self.ithaca("run", "--attach", "song.mp3", "what is this?", check=2)
            self.assertIn("takes text, image only", p.stderr)
            self.assertEqual(self.server.requests(), [])
            self.stop()
            self.server.close()

    def test_older_files_become_a_line_for_a_model_that_cannot_see(self):
        self.serve(OK, extra=self.MODELS)
        photo = png(64, 64)
        self.file("photo.png", photo)
        session = self.run_json("--attach", "photo.png", "look")["session"]
        self.run_json("--session", session, "--model", "test/blind", "and?")
        self.run_json("--session", session, "and now?")
        seen = [base64.b64encode(photo).decode() in b for b in self.bodies()]
        self.assertEqual(seen, [True, False, True])
        self.assertIn("[photo.png (image/png, %d bytes) is not shown: this model does not take image]" % len(photo),
                      self.bodies()[1])
        p = self.ithaca("run", "--session", session, "--model", "test/blind", "--attach", "photo.png", "this?", check=2)
        self.assertIn("test/blind takes text only", p.stderr)
        self.assertEqual(len(self.server.requests()), 3)

    def test_a_fallback_that_cannot_see(self):
        self.serve("rules: [ { when: { model: m, user_has: again }, answer: [ { error: { status: 500, message: no } } ] } ]\n" + OK,
                   extra="    retries: 0\nmodels: { fallback: [test/blind] }\n" + self.MODELS)
        photo = png(64, 64)
        self.file("photo.png", photo)
        session = self.run_json("--attach", "photo.png", "look")["session"]
        self.assertEqual(self.run_json("--session", session, "again")["text"], "seen")
        self.assertEqual([base64.b64encode(photo).decode() in b for b in self.bodies()], [True, True, False])
        # A file of this very turn: the fallback is not asked, and the user is told.
        r = self.run_json("--session", session, "--attach", "photo.png", "again", check=2)
        self.assertIn("test/blind takes text only", r["error"]["message"])
        self.assertEqual(len(self.server.requests()), 4)

    # ---- what is refused ----

    def test_refused_before_anything_is_started(self):
        self.serve(OK)
        os.mkdir(os.path.join(self.work, "dir"))
        self.file("empty.txt", b"")
        self.file("page.png", b"<html>404</html>")
        self.file("cut.png", png(1, 1)[:20])
        self.file("huge.pdf", b"%PDF-1.7" + b"\0" * (20 * 1024 * 1024))
        for name, word in (("dir", "is a directory"), ("none", "No such file"), ("empty.txt", "is empty"),
                           ("page.png", "its name says an image"), ("cut.png", "inside its header"), ("huge.pdf", "larger than")):
            p = self.ithaca("run", "--attach", name, "look")
            self.assertNotEqual(p.returncode, 0, name)
            self.assertIn("--attach: ", p.stderr)
            self.assertIn(word, p.stderr)
            self.assertIn(name, p.stderr)
        self.assertFalse(os.path.exists(os.path.join(self.home, "state")))
        r = self.run_json("--attach", "none", "look", check=1)
        self.assertEqual(r["error"]["code"], "not_found")
        self.assertIn("goes with a task", self.ithaca("run", "--attach", "empty.txt", check=2).stderr)

    def test_what_no_model_takes_needs_commands(self):
        self.serve(OK)
        self.env["ITHACA__TIER"] = "process"
        for name, data, word in (("x.docx", b"PK\x03\x04....", "Office"), ("data.bin", b"\0\xff\xfe", "not known"),
                                 ("big.txt", b"a" * (1024 * 1024 + 1), "text above 1 MiB")):
            self.file(name, data)
            p = self.ithaca("run", "--attach", name, "look", check=2)
            for said in (name, word, "for commands"):
                self.assertIn(said, p.stderr)
        self.assertEqual(json.loads(self.ithaca("session", "list", "--json", check=0).stdout)["sessions"], [])
        self.assertEqual(self.server.requests(), [])
        self.file("photo.png", png(8, 8))  # what the model sees needs none, and nothing is said of an inbox
        self.run_json("--attach", "photo.png", "look")
        self.assertNotIn("inbox", self.bodies()[0])

    def test_the_runtime_looks_itself(self):
        self.serve(OK)
        self.run_json("hello")
        rpc = self.blobs()
        def turn(data, name, **more):
            return rpc.call("session.turn", text="look", attachments=[{"blob": rpc.put(data)["blob"], "name": name}], **more)
        self.assertIn("its name says an image", turn(b"<html>", "a.png")["message"])
        self.assertIn("its name says a PDF", turn(b"\0\xff", "a.pdf")["message"])
        gone = rpc.call("session.turn", text="look", attachments=[{"blob": "0" * 64, "name": "a.png"}])
        self.assertEqual(gone["code"], "not_found")
        self.assertIn("a.png", gone["message"])
        self.assertEqual(rpc.call("session.turn", text="look", attachments=[{"blob": "Z" * 64, "name": "a"}])["code"], "invalid")
        half = [rpc.put(b"%PDF-1.7" + noise(17 << 20, seed))["blob"] for seed in (1, 2)]
        both = rpc.call("session.turn", text="look", attachments=[{"blob": b, "name": "a.pdf"} for b in half])
        self.assertIn("32 MiB together", both["message"])
        self.assertEqual(len(rpc.call("session.list")["sessions"]), 1)
        self.assertEqual(len(self.server.requests()), 1)

    # ---- blobs ----

    def test_blobs_over_frames(self):
        self.script("steps: []\n")
        self.ithaca("session", "list", check=0)
        rpc = self.blobs()
        for n in (1, 65536, 65537, 3 << 20):
            data = noise(n, n)
            self.assertEqual(rpc.put(data), {"blob": hashlib.sha256(data).hexdigest(), "size": n})
            self.assertEqual(rpc.get(hashlib.sha256(data).hexdigest()), data)
        self.assertEqual(self.stored(), sorted(hashlib.sha256(noise(n, n)).hexdigest() for n in (65537, 3 << 20)))
        self.assertEqual(rpc.get("0" * 64)["code"], "not_found")
        self.assertEqual(rpc.get("../" + "0" * 61)["code"], "invalid")
        self.assertIn("3 of the 4 bytes", rpc.put(b"abc", size=4)["message"])
        self.assertIn("more than the 2 bytes", rpc.put(b"abc", size=2, eof=False)["message"])
        self.assertEqual(rpc.begin(20 * 1024 * 1024 + 1) and rpc.answer_of(rpc.id)["code"], "invalid")
        open_ids = [rpc.begin(10) for _ in range(8)]
        self.assertEqual(rpc.answer_of(rpc.begin(10))["code"], "busy")
        rpc.put_frame("reset", open_ids[0], code="cancelled", message="enough")
        self.assertEqual(rpc.put(b"x")["size"], 1)
        other = self.blobs()
        rpc.close()  # its uploads end with it
        for _ in range(8):
            while other.put(b"y").get("code") == "busy":
                pass
        self.assertEqual(other.put(b"y")["size"], 1)

    def test_who_takes_nothing_gives_way(self):
        """Eight downloads that nobody reads hold all places; one that wants to begin gets one of them, and the others go on."""
        self.env["ITHACA__RUNNER__IDLE_MS"] = "60000"
        self.script("steps: []\n")
        self.ithaca("session", "list", check=0)
        slow, other, data = self.blobs(), self.blobs(), noise(1 << 20, 1)
        blob = slow.put(data)["blob"]
        for id in range(1001, 1009):
            slow.put_frame("call", id, json.dumps({"blob": blob}).encode(), method="blob.get")
            slow.put_frame("eof", id)
        got = {id: 0 for id in range(1001, 1009)}
        while any(n < 256 * 1024 for n in got.values()):  # all of them are stuck
            head, tail = slow.frame()
            if head["kind"] == "data":
                got[head["id"]] += len(tail)
        self.assertEqual(other.put(b"x")["code"], "busy")
        end = time.monotonic() + harness.DEADLINE
        while other.put(b"x").get("code") == "busy":
            self.assertLess(time.monotonic(), end)
        head = slow.frame()[0]
        self.assertEqual((head["kind"], head["code"]), ("reset", "timeout"))
        self.assertIn("no byte of the blob moved", head["message"])
        del got[head["id"]]
        id = min(got)
        while got[id] < len(data):  # by a client that takes it after all
            slow.put_frame("credit", id, n=256 * 1024 if got[id] == 256 * 1024 else len(tail))
            tail = b""
            while not tail:
                head, tail = slow.frame()
                self.assertIn(head["kind"], ("data", "eof"))
                tail = tail if head["id"] == id else b""
            got[id] += len(tail)
        self.assertEqual(other.get(blob), data)

    def test_a_deleted_session_takes_its_blobs_along(self):
        self.serve(OK)
        kept, gone = png(8, 8, noise(100000, 1)), png(8, 8, noise(100000, 2))
        self.file("kept.png", kept)
        self.file("gone.png", gone)
        first = self.run_json("--attach", "kept.png", "--attach", "gone.png", "look")["session"]
        second = self.run_json("--attach", "kept.png", "look")["session"]
        self.assertEqual(len(self.stored()), 2)
        self.ithaca("session", "delete", first, check=0)
        rpc = self.blobs()
        rpc.put(b"behind the sweep")
        self.assertEqual(self.stored(), [hashlib.sha256(kept).hexdigest()])
        self.assertEqual(rpc.get(hashlib.sha256(gone).hexdigest())["code"], "not_found")
        self.ithaca("session", "delete", second, check=0)
        rpc = self.blobs()
        rpc.put(b"behind the sweep, too")
        self.assertEqual(self.stored(), [])

    def test_a_lost_file_is_told(self):
        self.serve(OK)
        photo = png(8, 8, noise(100000))
        self.file("photo.png", photo)
        session = self.run_json("--attach", "photo.png", "look")["session"]
        hash = hashlib.sha256(photo).hexdigest()
        path = os.path.join(self.home, "state", "blobs", hash[:2], hash)
        with open(path, "r+b") as f:
            f.write(b"damage")
        self.run_json("--session", session, "and?")
        self.assertIn("is lost", self.bodies()[1])
        rpc = self.blobs()
        self.assertEqual(rpc.get(hash)["code"], "corrupt")

    # ---- what a person sees ----

    def test_shown(self):
        self.serve(OK)
        self.file("photo.png", png(640, 480))
        size = len(png(640, 480))
        p = self.ithaca("run", "--attach", "photo.png", "look", check=0)
        self.assertIn("[attached photo.png image/png %s]" % ("%d bytes" % size if size < 1000 else "1 KB"), p.stderr)
        session = re.search(r"session (\w+)", p.stderr).group(1)
        self.assertRegex(self.ithaca("session", "show", session, check=0).stdout, r"ATTACHED .*\nphoto\.png +image/png +%d " % size)
        self.assertRegex(self.ithaca("session", "events", session, check=0).stdout,
                         r"user\.message +look \[photo\.png image/png")
        shown = json.loads(self.ithaca("session", "show", session, "--json", check=0).stdout)
        self.assertEqual(shown["attachments"][0]["name"], "photo.png")


if __name__ == "__main__":
    harness.main()
