# SPDX-License-Identifier: MIT
"""Files that a model cannot see but has to work on: the inbox of a run, and what a turn leaves in its outbox."""
import base64
import hashlib
import io
import json
import os
import re
import signal
import struct
import time
import zipfile

import harness
from test_attach import Blobs, noise, png


def archive(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in files.items():
            z.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Files(harness.Case):
    INBOX = "/run/work/inbox"

    def model(self, *commands, extra="", api="openai-chat"):
        """A model that runs these commands one after the other in each turn, then says so."""
        steps = [{"answer": [{"call": {"tool": "exec", "args": c if isinstance(c, dict) else {"command": c}}}]} for c in commands]
        self.serve(json.dumps({"by": "turn_results", "steps": steps + [{"answer": [{"text": "done"}]}]}), api, extra)

    def blobs(self):
        rpc = Blobs(self.home)
        self.addCleanup(rpc.close)
        return rpc

    def file(self, name, data):
        path = os.path.join(self.work, name)
        with open(path, "wb") as f:
            f.write(data)
        return path

    def log(self, session, kind):
        return [e["body"] for e in self.events(session) if e["kind"] == kind]

    def results(self, session):
        return [b["text"] for b in self.log(session, "effect.outcome")]


class Inbox(Files):
    def test_a_command_works_on_what_no_model_takes(self):
        self.model("cd %s && ls -l | cut -c1-10 | tail -n 2; sha256sum *; echo x > parts.zip; cat data.csv" % self.INBOX)
        z = archive(**{"a.txt": b"hello"})
        csv = "größe;1\n".encode("latin-1")
        self.file("parts.zip", z)
        self.file("data.csv", csv)
        r = self.run_json("--attach", "parts.zip", "--attach", "data.csv", "what is in it?")
        self.assertEqual(r["text"], "done")
        text, = self.results(r["session"])
        self.assertEqual(text.split("\n")[:2], ["-r--r--r--"] * 2)
        self.assertIn(sha(z) + "  parts.zip", text)
        self.assertIn(sha(csv) + "  data.csv", text)
        asked = json.dumps(self.server.requests()[0]["body"])
        for said in ("[parts.zip (application/zip, %d bytes) is not shown: no model takes such a file]" % len(z),
                     "[Your tools find it in /run/work/inbox: parts.zip, data.csv]"):
            self.assertIn(said, asked)
        self.assertNotIn(base64.b64encode(z).decode(), asked)
        said, = self.log(r["session"], "user.message")
        self.assertEqual([a["mime"] for a in said["attachments"]], ["application/zip", "application/octet-stream"])

    def test_what_the_model_sees_is_there_as_well(self):
        self.model("sha256sum %s/*" % self.INBOX)
        photo = png(64, 64, noise(5 << 20))  # more than fits into one operation
        big = b"a line\n" * 200000  # text that is too long for a message
        self.file("photo.png", photo)
        self.file("big.txt", big)
        r = self.run_json("--attach", "photo.png", "--attach", "big.txt", "look")
        self.assertEqual(self.results(r["session"])[0].split("\n")[:2],
                         ["%s  %s/big.txt" % (sha(big), self.INBOX), "%s  %s/photo.png" % (sha(photo), self.INBOX)])
        self.assertIn(base64.b64encode(photo).decode(), json.dumps(self.server.requests()[0]["body"]))

    def test_a_file_tool_is_enough_and_files_of_earlier_turns_stay(self):
        self.serve(json.dumps({"by": "turn_results", "steps": [
            {"answer": [{"call": {"tool": "list", "args": {"path": self.INBOX}}}]}, {"answer": [{"text": "done"}]}]}))
        self.file("x.bin", b"\0one")
        session = self.run_json("--attach", "x.bin", "look")["session"]
        self.file("x.bin", b"\0two")
        self.run_json("--session", session, "--attach", "x.bin", "look")
        self.run_json("--session", session, "--attach", "x.bin", "again the same one")
        self.assertEqual([re.findall(r"^(\S+)  4 bytes", t, re.M) for t in self.results(session)],
                         [["x.bin"], ["x-2.bin", "x.bin"], ["x-2.bin", "x.bin"]])
        asked = json.dumps(self.server.requests()[-1]["body"])
        self.assertEqual(re.findall(r"inbox: ([^]]*)\]", asked), ["x.bin", "x-2.bin", "x-2.bin"])

    def test_in_every_mode(self):
        self.model("cat $(echo /run/work/inbox/* %s/state/cells/*/runs/*/inbox/* | tr ' ' '\\n' | grep -v '[*]')" % self.home)
        self.file("x.bin", b"\0only here")
        for mode in ("read_only", "danger_full_access"):
            r = self.run_json("--mode", mode, "--yes", "--attach", "x.bin", "look")
            self.assertIn("only here", self.results(r["session"])[0])
            path = re.search(r"find it in (\S+): x.bin", json.dumps(self.server.requests()[-1]["body"])).group(1)
            self.assertEqual(path, self.INBOX if mode == "read_only" else
                             "%s/state/cells/%s/runs/%s/inbox" % (self.home, r["session"], r["turn"]))

    def test_what_cannot_be_put_there_is_said(self):
        self.model("ls %s" % self.INBOX, extra="cell: { file_mb: 1 }\n")
        self.file("large.bin", b"\0" * (2 << 20))
        self.file("small.bin", b"\0")
        r = self.run_json("--attach", "large.bin", "--attach", "small.bin", "look")
        text, = self.results(r["session"])
        self.assertEqual(text.split("\n")[0], "small.bin")
        self.assertRegex(text, r"\[large\.bin is not in the inbox: .* larger than this session may write\]$")

    def test_names_are_harmless(self):
        self.model("cd %s && for f in * .[!.]*; do echo \"<$f>\"; done" % self.INBOX)
        self.run_json("hello")
        rpc = self.blobs()
        names = ["../../etc/passwd", "..", "a\nb\x1b[31m.zip", "-rf", ".profile", "two words; rm -rf $HOME", "\u202etxt.exe", "größe.bin",
                 "x" * 250 + ".tar", "x" * 250 + ".tar", "a/", "'\"`"]
        blobs = [rpc.put(b"\0" + bytes([i]))["blob"] for i in range(len(names))]
        turn = rpc.call("session.turn", text="look", attachments=[{"blob": b, "name": n} for b, n in zip(blobs, names)])
        self.wait_turn(rpc, turn)
        found = re.findall("<(.*)>", self.results(turn["session"])[0])
        self.assertEqual(sorted(found), sorted(["passwd", "_.", "a_b__31m.zip", "_rf", "_profile", "two_words__rm_-rf__HOME",
                                                "_txt.exe", "größe.bin", "x" * 116 + ".tar", "x" * 114 + "-2.tar", "file", "___",
                                                ".[!.]*"]))

    def wait_turn(self, rpc, turn):
        s = self.spawn("session", "events", turn["session"], "--follow", "--json")
        while True:
            event = s.until("turn.finished")
            if event["turn"] == turn["turn"]:
                return event

    def test_kills_of_runtime_and_shelld_before_and_after(self):
        """What commands did to the inbox is theirs; until they began it is filled as if nothing had happened."""
        self.model("cd %s && cat one.bin > two && rm one.bin && mkfifo /shared/go && echo > /shared/began && cat /shared/go; ls" % self.INBOX,
                   "ls %s" % self.INBOX)
        self.file("one.bin", b"\0" * 100)
        for who in ("runtime", "shelld"):
            for name in ("go", "began"):
                if self.exists(name):
                    os.remove(os.path.join(self.work, name))
            s = self.stream("--attach", "one.bin", "look")
            s.until("effect.intent")
            while not self.exists("began"):
                pass
            os.kill(self.find(who), signal.SIGKILL)
            if who == "runtime":
                with open(os.path.join(self.work, "go"), "w") as f:
                    f.write("")
            last = s.until("turn.finished")["body"]
            self.assertEqual(last["status"], "answered")
            s.end()
            first, second = self.log(s.events[0]["session"], "effect.outcome")
            self.assertEqual(first["state"], "done" if who == "runtime" else "unknown")
            self.assertEqual(second["text"].split("\n")[0], "two")

    def find(self, role):
        if role != "shelld":
            return self.pids()[role]
        return next(pid for pid, _, argv in self.mine() if argv and os.path.basename(argv[0]).startswith("ithaca-guest"))


if __name__ == "__main__":
    harness.main()
