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

    def find(self, role):
        if role != "shelld":
            return self.pids()[role]
        return next(pid for pid, _, argv in self.mine() if argv and os.path.basename(argv[0]).startswith("ithaca-guest"))


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


class Outbox(Files):
    OUT = "/run/work/outbox"

    def files(self, turn_or_session):
        """The event that names them, of the session's newest turn: it is there once, right before the end."""
        events = self.events(turn_or_session)
        last = [e for e in events if e["turn"] == events[-1]["turn"]]
        self.assertEqual([e["kind"] for e in last[-2:]], ["turn.files", "turn.finished"])
        self.assertEqual(len([e for e in last if e["kind"] == "turn.files"]), 1)
        return last[-2]["body"]

    def test_files_are_kept_and_links_are_not(self):
        z = archive(**{"a.txt": b"hello"})
        self.file("made.zip", z)
        self.model("mkdir -p %s/site && cd %s && cp /shared/made.zip . && echo 'a;b' > site/t.csv && ln -s /etc/passwd p && "
                   "mkfifo f && : > empty && echo out" % (self.OUT, self.OUT))
        r = self.run_json("make them")
        text, = self.results(r["session"])
        for said in ("out\n[exit 0", "[in the outbox, for the user when the turn ends: ", '"made.zip" application/zip %d bytes' % len(z),
                     '"site/t.csv" text/plain 4 bytes', '"p" (link: not kept)', '"f" (fifo: not kept)'):
            self.assertIn(said, text)
        kept = self.files(r["session"])
        want = [("empty", b"", "text/plain"), ("made.zip", z, "application/zip"), ("site/t.csv", b"a;b\n", "text/plain")]
        self.assertEqual(kept["files"], [{"name": n, "bytes": len(d), "type": t, "blob": sha(d)} for n, d, t in want])
        self.assertEqual(kept["left_out"], [{"name": "f", "bytes": 0, "why": "fifo"}, {"name": "p", "bytes": 0, "why": "link"}])
        rpc = self.blobs()
        for _, data, _ in want:
            self.assertEqual(rpc.get(sha(data)), data)
        self.assertEqual(r["files"], kept["files"])
        self.assertEqual(rpc.call("turn.get", turn=r["turn"])["files"], kept["files"])
        p = self.ithaca("blob", "get", sha(z), "--output", "got.zip", check=0)
        with open(os.path.join(self.work, "got.zip"), "rb") as f:
            self.assertEqual(f.read(), z)

    def test_file_tools_and_a_cancelled_turn(self):
        steps = [{"answer": [{"call": {"tool": "write", "args": {"path": self.OUT + "/note.md", "content": "# note\n"}}}]},
                 {"answer": [{"call": {"tool": "exec", "args": {"command": "echo half > %s/half; echo > began; sleep 1000" % self.OUT}}}]}]
        self.serve(json.dumps({"by": "turn_results", "steps": steps}))
        s = self.stream("go")
        s.until("effect.intent", tool="exec")
        while not self.exists("began"):
            pass
        s.proc.send_signal(signal.SIGINT)
        self.assertEqual(s.until("turn.finished")["body"]["status"], "cancelled")
        s.end()
        self.assertEqual([(f["name"], f["bytes"]) for f in self.files(s.events[0]["session"])["files"]], [("half", 5), ("note.md", 7)])

    def test_in_every_mode(self):
        self.model("for d in %s %s/state/cells/*/runs/*/outbox; do [ ! -d $d ] || echo mine > $d/f; done" % (self.OUT, self.home))
        for mode in ("read_only", "danger_full_access"):
            r = self.run_json("--mode", mode, "--yes", "go")
            self.assertIn("f", [f["name"] for f in r["files"]], mode)

    def test_a_flood_of_files_and_names_that_lie(self):
        names = ["a\\nb", "e\\033[31mx", "-rf"]
        self.model("cd %s && i=0; while [ $i -lt 10000 ]; do : > z$i; i=$((i+1)); done; %s; mkdir -p d/%s && echo deep > d/%s/x" %
                   (self.OUT, "; ".join("echo x > ./\"$(printf -- '%s')\"" % n for n in names),
                    "/".join("e" * 12), "/".join("e" * 12)))
        r = self.run_json("go")
        kept = self.files(r["session"])
        self.assertEqual(len(kept["files"]), 32)
        found = [f["name"] for f in kept["files"]]
        for name in ("-rf", "a\nb", "e\x1b[31mx"):
            self.assertIn(name, found)
        self.assertNotIn("..", "".join(found))
        self.assertEqual({x["why"] for x in kept["left_out"]}, {"more than 32 files"})
        self.assertGreaterEqual(kept["left_out_more"], 100)
        text, = self.results(r["session"])
        self.assertIn(", and more]", text)
        self.assertLess(len(text), 4000)
        self.assertIn('"a\\nb"', text)  # a name cannot end its line
        p = self.ithaca("session", "events", r["session"], check=0).stdout + self.ithaca("session", "show", r["session"], check=0).stdout
        self.assertNotIn("\x1b[31m", p)

    def test_limits_of_size(self):
        self.model("cd %s && head -c 21M /dev/zero > big; for i in 1 2 3; do head -c 15M /dev/urandom > r$i; done; truncate -s 100M hole; : > \"$(printf '\\377bad')\"" % self.OUT)
        r = self.run_json("go")
        kept = self.files(r["session"])
        self.assertEqual([f["name"] for f in kept["files"]], ["r1", "r2"])
        bad = kept["left_out"].pop()  # no operation can name it
        self.assertEqual(bad["name"], "\ufffdbad")
        self.assertIn("does not exist", bad["why"])
        self.assertEqual({x["name"]: x["why"] for x in kept["left_out"]},
                         {"big": "it is larger than 20 MiB", "hole": "it is larger than 20 MiB", "r3": "more than 32 MiB together"})
        rpc = self.blobs()
        for f in kept["files"]:
            self.assertEqual(sha(rpc.get(f["blob"])), f["blob"])

    def test_no_link_leads_out(self):
        """The directory itself, one in it, and one that changes all the time."""
        self.model("cd /run/work && rmdir outbox && ln -s /etc outbox", "cd /run/work && rm outbox && mkdir outbox && ln -s /etc outbox/d",
                   {"command": "cd %s && while :; do ln -sfn /etc/passwd x 2>/dev/null; echo mine > y; mv -f y x; done" % self.OUT,
                    "background": True}, "echo kept > %s/k" % self.OUT)
        r = self.run_json("go")
        names = {f["name"]: f for f in r["files"]}
        self.assertIn("k", names)
        self.assertLessEqual(set(names), {"k", "x", "y"})
        rpc = self.blobs()
        for name in set(names) & {"x", "y"}:
            self.assertIn(rpc.get(names[name]["blob"]), (b"mine\n", b""))

    def test_kills_while_it_is_collected(self):
        """Each role, as soon as the answer is there: all is collected again, and told once."""
        self.model("cd %s && for i in 1 2 3 4 5 6; do head -c 3M /dev/urandom > r$i; done; sha256sum *" % self.OUT)
        for role in ("runtime", "shelld", "runtime"):
            s = self.stream("go")
            s.until("effect.outcome")
            s.until("model.done")
            try:
                os.kill(self.find(role), signal.SIGKILL)
            except StopIteration:
                pass
            self.assertEqual(s.until("turn.finished")["body"]["status"], "answered")
            s.end()
            session = s.events[0]["session"]
            kept, text = self.files(session)["files"], self.results(session)[0]
            self.assertEqual(["%s  %s" % (f["blob"], f["name"]) for f in kept], text.split("\n")[:6])

    def test_a_turn_that_left_nothing_ends_as_before(self):
        self.model("echo x > %s/f && rm %s/f" % (self.OUT, self.OUT))
        r = self.run_json("go")
        self.assertEqual(r["status"], "answered")
        self.assertNotIn("files", r)
        self.assertNotIn("turn.files", [e["kind"] for e in self.events(r["session"])])


if __name__ == "__main__":
    harness.main()
