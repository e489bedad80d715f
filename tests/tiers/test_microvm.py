# SPDX-License-Identifier: MIT
"""The microVM tier on a real QEMU: acceleration that is believed when a machine answered, a daemon in it and what becomes of it
when its processes die, a session that changes its tier, floods of its logs, two homes, starts that are given up, the way out of
its cells. With RIG_EMULATION=1 (scripts/in-machine) also where KVM does not work; else that is a SKIP."""
import glob
import http.server
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time

from engine import family, is_there

BIN = os.path.abspath(os.environ.get("ITHACA_TEST_BIN") or sys.argv[1])
ITHACA = os.path.join(BIN, "ithaca")
SLOW = int(os.environ.get("RIG_SLOW") or "1")
DEADLINE = 60 * SLOW
EMULATION = os.environ.get("RIG_EMULATION") == "1"
KERNEL = os.environ.get("RIG_KERNEL") or ""
TOP = tempfile.mkdtemp(prefix="ithaca-vm-")


def skip(why):
    print("SKIP: " + why)
    shutil.rmtree(TOP, ignore_errors=True)
    sys.exit(77)


def check(is_so, what):
    assert is_so, what


def wait(what, is_so):
    until = time.monotonic() + DEADLINE
    while not is_so():
        assert time.monotonic() < until, "waited in vain: " + what
        time.sleep(0.02)


def processes(home):
    """Whatever runs for the machine of this home: pid -> program."""
    found = {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            argv = open("/proc/%s/cmdline" % p, "rb").read().decode(errors="replace").split("\0")
            state = open("/proc/%s/stat" % p).read().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        program = os.path.basename(argv[0])
        if state != "Z" and any(home.dir + "/run/guest" in a for a in argv) and program in ("qemu-system-x86_64", "virtiofsd", "sleep", "ithaca-guest"):
            found[int(p)] = program
    return found


class Home:
    count = 0

    def __init__(self, more="", **machine):
        Home.count += 1
        self.dir = os.path.join(TOP, "home%d" % Home.count)
        self.work = self.dir + "-work"
        self.other = self.dir + "-other"
        for d in (self.dir, self.work, self.other):
            os.mkdir(d, 0o700)
        machine = {"allow_emulation": EMULATION, "kernel": KERNEL, "memory_mb": 512, **machine}
        with open(os.path.join(self.dir, "config.yaml"), "w") as f:
            f.write("tier: microvm\nmicrovm: %s\n%s" % (json.dumps(machine), more))

    def argv(self, *args):
        return [ITHACA, "--home", self.dir] + list(args)

    def run(self, *args, cwd=None):
        return subprocess.run(self.argv(*args), cwd=cwd or self.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=DEADLINE * 2)

    def start(self):
        r = self.run("start")
        check(r.returncode == 0, r.stdout + r.stderr)

    def status(self):
        return json.loads(self.run("status", "--json").stdout)

    def role(self, name):
        return [r for r in self.status()["roles"] if r["name"] == name][0]

    def pid(self, program):
        return max(p for p, name in processes(self).items() if name == program)

    def logged(self, text):
        return sum(open(f, errors="replace").read().count(text) for f in glob.glob(self.dir + "/logs/*"))

    def left(self):
        """Whatever is in run/, but what is kept there on purpose."""
        top = os.path.join(self.dir, "run")
        found = [os.path.relpath(os.path.join(d, n), top) for d, dirs, files in os.walk(top) for n in dirs + files]
        return sorted(set(found) - {"lock", "selftest", "stopped", "guest"})

    def expect_nothing(self):
        check(processes(self) == {}, "processes are left: %s" % processes(self))
        left = os.listdir(self.dir + "/run/guest") if os.path.isdir(self.dir + "/run/guest") else []
        check(left == [], "files are left: %s" % left)
        check(self.dir not in open("/proc/self/mounts").read(), "mounts are left")
        check(not os.path.exists(self.dir + "/state/machine.new"), "half a saved machine is left")


# ---- acceleration ----

def stand_in(name, real, text):
    """A program that the configuration names instead of the real one: text, then the real one takes its place."""
    path = os.path.join(TOP, name)
    with open(path, "w") as f:
        f.write('#!/bin/sh\n%s\nexec %s "$@"\n' % (text, real))
    os.chmod(path, 0o755)
    return path


def virtiofsd():
    return (glob.glob("/usr/lib*/qemu/virtiofsd") + glob.glob("/usr/libexec/virtiofsd") + glob.glob("/usr/bin/virtiofsd"))[0]


def pretends():
    """A KVM with which no machine ever answers: refused in time, or emulated where that is allowed, and not waited for again
    until something that it may be due to has changed, or doctor tries it."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        h = Home(allow_emulation=False)
        r = h.run("start")
        check(r.returncode == 2 and "no_acceleration: " in r.stderr and "allow_emulation" in r.stderr, r.stderr)
        h.expect_nothing()
        return
    fake = stand_in("qemu", shutil.which("qemu-system-x86_64"),
                    'case "$*" in *"-accel kvm"*) echo tried >>%s/tries; exec sleep 1000 ;; esac' % TOP)
    h = Home(allow_emulation=False, qemu=fake)

    def tries():
        return len(open(TOP + "/tries").readlines())

    def refused(word, count):
        r = h.run("start")
        check(r.returncode == 2 and "no_acceleration: " in r.stderr and word in r.stderr and "allow_emulation" in r.stderr, r.stderr)
        check(tries() == count, "%d tries, not %d: %s" % (tries(), count, r.stderr))
        h.expect_nothing()

    refused("in time", 1)
    refused("when it was tried", 1)
    os.utime(fake, (1, 1))  # another QEMU
    refused("in time", 2)
    refused("when it was tried", 2)
    r = h.run("doctor", "--tier", "microvm")
    check(r.returncode != 0 and tries() == 3, "doctor tries it: %d\n%s" % (tries(), r.stdout + r.stderr))
    refused("when it was tried", 3)
    os.unlink(h.dir + "/state/machine.kvm")
    r = h.run("doctor", "--tier", "microvm")
    refused("when it was tried", 4)  # by doctor
    with open(h.dir + "/state/machine.kvm", "a") as f:
        f.write("more\n")
    refused("in time", 5)
    if EMULATION:
        h = Home(qemu=fake)
        for count in (6, 6):
            h.start()
            check("6" in h.run("run", "run expr 2 + 4").stdout, "commands run there")
            check(h.logged("acceleration=tcg") + h.logged('"acceleration":"tcg"') > 0, "it says so")
            check(h.run("stop").returncode == 0, "stop")
            check(tries() == count, "%d tries, not %d" % (tries(), count))
            h.expect_nothing()
        check(h.logged("no machine answers with KVM") == 1 and h.logged("no machine answered with KVM when") == 1, "each start says why")


def crashes():
    """A QEMU that crashes while a machine starts is tried once more, and not for ever."""
    runs = TOP + "/runs"
    for crash, count in (("once", 2), ("always", 2)):
        fake = stand_in("crash-" + crash, shutil.which("qemu-system-x86_64"),
                        'case "$*" in *"-accel kvm"*) exit 1 ;; esac; echo run >>%s; %s kill -SEGV $$' %
                        (runs, "[ $(wc -l <%s) -gt 1 ] ||" % runs if crash == "once" else ""))
        h = Home(qemu=fake)
        r = h.run("start")
        check((r.returncode == 0) == (crash == "once"), crash + ": " + r.stdout + r.stderr)
        check(crash == "once" or "guest_failed: the machine ended: signal 11" in r.stderr, r.stderr)
        check(len(open(runs).readlines()) == count, "%s: %s" % (crash, open(runs).readlines()))
        check(h.logged("tried once more") == 1, crash + " is told")
        h.run("stop")
        h.expect_nothing()
        os.unlink(runs)


# ---- its life ----

def deaths():
    h = Home()
    h.start()
    try:
        s = h.status()
        check((s["tier"], s["tier_asked"]) == ("microvm", "microvm"), s)
        r = h.run("run", "run id -u > made; cat made")
        check(r.returncode == 0 and "1000" in r.stdout, r.stdout + r.stderr)
        check(open(os.path.join(h.work, "made")).read() == "1000\n", "the workspace is the same directory")
        check("not_mounted: " in h.run("run", "run pwd", cwd=h.other).stdout, "another directory is refused with its reason")
        saved = os.stat(h.dir + "/state/machine")
        check(stat.S_IMODE(saved.st_mode) == 0o600 and saved.st_uid == os.geteuid(), "the saved machine is ours alone")

        def back(role, restarts, was):
            """The role is there again, and commands run. was: processes that are gone."""
            wait("%s after its end" % role, lambda: h.role(role)["restarts"] == restarts and h.role(role)["state"] == "up")
            wait("the end of the old machine", lambda: not was & set(processes(h)))
            r = h.run("run", "run echo back again")
            check("back again" in r.stdout, role + ": " + r.stdout + r.stderr)

        restarts = 0
        for program in ("qemu-system-x86_64", "virtiofsd"):
            was = set(processes(h))
            os.kill(h.pid(program), signal.SIGKILL)
            restarts += 1
            back("shelld", restarts, was)
        # All in the machine but its first program, shelld among them, by its kernel: with it the machine ends.
        was = set(processes(h))
        h.run("run", "--mode", "danger_full_access", "--yes", "run echo i >/proc/sysrq-trigger; sleep 1000")
        back("shelld", restarts + 1, was)
        check(h.logged("a saved state") == 3, "they did not boot")
        # The runtime: the machine stays, and is linked to the next one.
        was = set(processes(h))
        os.kill(h.role("runtime")["pid"], signal.SIGKILL)
        back("runtime", 1, set())
        check(was == set(processes(h)), "the machine is the same")
        check(h.role("shelld")["restarts"] == restarts + 1, "shelld lives on")
        check("restart" not in h.run("restart", "shelld").stderr, "it can be asked for")
        wait("the end of the old machine", lambda: not was & set(processes(h)))
        check("by request" in h.run("run", "run echo by request").stdout, "commands run")
        # The runner dies: the next one ends what it left.
        was = set(processes(h))
        os.kill(h.role("runner")["pid"], signal.SIGKILL)
        h.start()
        check(not was & set(processes(h)), "nothing of the old machine is left")
        check("once more" in h.run("run", "run echo once more").stdout, "commands run")
    finally:
        r = h.run("stop")
    check(r.returncode == 0, r.stderr)
    h.expect_nothing()


def deserted():
    """The runner of a daemon, or of one command, is killed and nobody starts another: all ends by itself, and when it has nothing
    is left."""
    h = Home("cell: { orphan_ms: 10000 }\nrunner: { idle_ms: 600000 }\n")
    for command in (("start",), ("run", "run echo alone")):
        r = h.run(*command)
        check(r.returncode == 0, r.stdout + r.stderr)
        runner = h.role("runner")["pid"]
        all_ours = family(runner)
        names = [open("/proc/%d/comm" % p).read().strip() for p in all_ours]
        check(names.count("ithaca-cleaner") == 1 and "virtiofsd" in names, names)
        before = h.left()
        check({"control.sock", "rpc.sock", "guest/runner.sock", "guest/processes", "guest/tree"} <= set(before), before)
        os.kill(runner, signal.SIGKILL)
        seen = []

        def is_over():
            seen[:] = h.left(), [p for p in all_ours if is_there(p)], processes(h)
            check("guest/processes" in seen[0] or not seen[2], "the next start could not end it")
            return seen == [[], [], {}]
        try:
            wait("the end of all that a killed runner leaves", is_over)
        except AssertionError as e:
            raise AssertionError("%s: %s" % (e, seen))
        h.expect_nothing()
    h.start()
    check("at last" in h.run("run", "run echo at last").stdout, "commands run")
    check(h.run("stop").returncode == 0, "stop")
    h.expect_nothing()


def other_tier():
    """A session that goes on in another tier has another cell: its files go along, what is in memory and what runs does not."""
    h = Home()
    config = open(h.dir + "/config.yaml").read()
    ask = "run cat /tmp/mark mark /home/agent/mark; uname -r; true"

    def run(*args):
        r = h.run("run", "--json", *args)
        check(r.returncode == 0, r.stdout + r.stderr)
        return json.loads(r.stdout)

    def in_tier(tier):
        with open(h.dir + "/config.yaml", "w") as f:
            f.write("tier: cell\n" if tier == "cell" else config)
        h.start()

    in_tier("cell")
    first = run("run echo one | tee /tmp/mark mark >/home/agent/mark")
    text = run("--session", first["session"], ask)["text"]
    check(text.count("one") == 3 and os.uname().release in text, "the control, in one tier: " + text)
    check(h.run("stop").returncode == 0, "stop")
    in_tier("microvm")
    text = run("--session", first["session"], ask)["text"]
    check(text.count("one") == 2 and "/tmp/mark: No such file" in text, "not the same cell: " + text)
    check(os.uname().release not in text, "another kernel: " + text)
    check(h.run("stop").returncode == 0, "stop")
    h.expect_nothing()


def flood():
    """Whatever QEMU, the machine's console and virtiofsd say: it is bounded on the disk, and nobody waits for it."""
    go = TOP + "/flood-"
    wait_for_go = "( exec 3>&- 4>&- 5>&-; while [ ! -e %s ] && kill -0 $$; do sleep 0.1; done; %s ) &"
    much = "yes 'a line of a flood' | head -c 40000000 >&2"
    # QEMU does not wait on the output that is the console's: a writer has to bear that.
    lines = "i=0; while [ $i -lt 400000 ]; do echo 'a line of a flood'; i=$((i + 1)); done 2>/dev/null"
    qemu = stand_in("loud-qemu", shutil.which("qemu-system-x86_64"),
                    wait_for_go % (go + "console", lines) + "\n" + wait_for_go % (go + "qemu", much))
    share = stand_in("loud-virtiofsd", virtiofsd(), wait_for_go % (go + "virtiofsd", much))
    h = Home("log: { file_kb: 1024, keep: 1 }\n", qemu=qemu, virtiofsd=share)
    h.start()
    try:
        check("before" in h.run("run", "run echo before").stdout, "commands run")
        for stream in ("console", "qemu", "virtiofsd"):
            open(go + stream, "w").close()
            wait(stream + " is logged", lambda: "a line of a flood" in h.run("logs", "--stream", stream, "--tail", "1").stdout)
        wait("the cut of a flood", lambda: h.logged("a flood of log lines was cut") > 0)
        check("meanwhile" in h.run("run", "run echo meanwhile").stdout, "commands run")
        kept = sum(os.path.getsize(f) for f in glob.glob(h.dir + "/logs/shelld.log*"))
        check(kept <= 2 * 1024 * 1024, "%d bytes are kept" % kept)
        beside = {n: os.path.getsize(h.dir + "/run/guest/" + n) for n in os.listdir(h.dir + "/run/guest") if n != "initrd"}
        check(sum(beside.values()) < 65536, "nothing of it is elsewhere: %s" % beside)
    finally:
        h.run("stop")
        for stream in ("console", "qemu", "virtiofsd"):
            if os.path.exists(go + stream):
                os.unlink(go + stream)
    h.expect_nothing()


def doctor():
    """The escape suite as doctor runs it, in a cell of a machine."""
    h = Home()
    cell = {c["name"]: c for c in json.loads(h.run("doctor", "--json").stdout)["checks"]}["cell"]
    check(cell["ok"] == "pass" and re.search(r"\b(\d\d) of \1 walls hold", cell["text"]), cell)
    h.run("stop")
    h.expect_nothing()


def two_homes():
    a, b = Home(), Home(keep_booted=False)
    a.start()
    b.start()
    try:
        for h, word in ((a, "first"), (b, "second")):
            check(h.run("run", "run echo %s > word" % word).returncode == 0, word)
        check(open(a.work + "/word").read() == "first\n" and open(b.work + "/word").read() == "second\n", "each has its own")
        check(not set(processes(a)) & set(processes(b)), "each has its own")
        r = a.run("stop")
        check(r.returncode == 0, r.stderr)
        a.expect_nothing()
        check("still" in b.run("run", "run echo still here").stdout, "the other one lives")
        check(not os.path.exists(b.dir + "/state/machine"), "keep_booted: false keeps none")
    finally:
        a.run("stop")
        b.run("stop")
    b.expect_nothing()


def noted(home):
    """What the next start would end."""
    try:
        with open(home.dir + "/run/guest/processes") as f:
            return f.read().split()
    except OSError:
        return []


def given_up():
    """A stop while the machine is started, at two points; and a runner that is killed there, without a next one."""
    points = ("virtiofsd", "qemu-system-x86_64")
    for point in points:
        h = Home()
        p = subprocess.Popen(h.argv("start"), cwd=h.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        wait(point, lambda: point in processes(h).values())
        r = h.run("stop")
        check(r.returncode == 0, r.stdout + r.stderr)
        out = p.communicate(timeout=DEADLINE)[0].decode()
        check(p.returncode != 0, "the start says that it failed: " + out)
        h.expect_nothing()
    for point in points:
        h = Home()
        p = subprocess.Popen(h.argv("start"), cwd=h.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        wait(point, lambda: any(name == point and str(p) in noted(h) for p, name in processes(h).items()))
        os.kill(h.role("runner")["pid"], signal.SIGKILL)
        out = p.communicate(timeout=DEADLINE)[0].decode()
        check(p.returncode != 0, "the start says that it failed: " + out)
        wait("the end of a machine whose start was under way", lambda: processes(h) == {} and h.left() == [])
        h.expect_nothing()


# ---- the way out ----

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"reached")

    def log_message(self, *args):
        pass


def egress():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    for s in (server, other):
        threading.Thread(target=s.serve_forever, daemon=True).start()
    h = Home("egress: { allow: [\"page.test:%d\"], hosts: { page.test: 127.0.0.1 } }\n" % server.server_port)
    h.start()
    try:
        fetch = "run curl -sS -m 30 http://page.test:%d/ 2>&1; true"
        r = h.run("run", fetch % server.server_port)
        check("reached" in r.stdout, r.stdout + r.stderr)
        r = h.run("run", fetch % other.server_port)
        check("reached" not in r.stdout and "egress denied: page.test:%d: no rule allows it" % other.server_port in r.stdout, r.stdout + r.stderr)
        # Without the proxy there is nothing: the machine has no network device, and its loopback is not the host's.
        r = h.run("run", "run curl -sS -m 5 --noproxy '*' http://127.0.0.1:%d/ 2>&1; true" % server.server_port)
        check("reached" not in r.stdout and "curl: (" in r.stdout, r.stdout + r.stderr)
        # The same in a machine that came up again.
        os.kill(h.pid("qemu-system-x86_64"), signal.SIGKILL)
        wait("a new machine", lambda: h.role("shelld")["restarts"] == 1 and h.role("shelld")["state"] == "up")
        r = h.run("run", fetch % server.server_port)
        check("reached" in r.stdout, r.stdout + r.stderr)
    finally:
        h.run("stop")
        for s in (server, other):
            s.shutdown()
            s.server_close()
    h.expect_nothing()


def first_reason():
    """Why no machine can be had here, or None. Where one can, it has been started and stopped."""
    h = Home()
    r = h.run("start")
    h.run("stop")
    h.expect_nothing()
    return None if r.returncode == 0 else r.stderr.strip()


def main():
    only = sys.argv[2:]
    if not shutil.which("qemu-system-x86_64"):
        skip("there is no qemu-system-x86_64 (qemu-system-x86)")
    if not (glob.glob("/usr/lib*/qemu/virtiofsd") + glob.glob("/usr/libexec/virtiofsd") + glob.glob("/usr/bin/virtiofsd")):
        skip("there is no virtiofsd (qemu-system-common)")
    if not KERNEL and not glob.glob("/boot/vmlinuz-*"):
        skip("there is no kernel in /boot (linux-image-cloud-amd64, or RIG_KERNEL)")
    failed = []

    def step(f, *args):
        if only and f.__name__ not in only:
            return
        print("== " + f.__name__, flush=True)
        began = time.monotonic()
        try:
            f(*args)
            print("   ok (%.0f s)" % (time.monotonic() - began), flush=True)
        except Exception as e:
            failed.append("%s: %s" % (f.__name__, e or type(e).__name__))
            for log in glob.glob(TOP + "/home%d/logs/r*.log" % Home.count):
                print("   " + "   ".join(open(log, errors="replace").readlines()[-20:]))

    reason = None if only else first_reason()
    step(pretends)
    for f in (crashes, deaths, deserted, other_tier, flood, doctor, two_homes, given_up, egress) if reason is None else ():
        step(f)
    for what in failed:
        print("FAILED: " + what)
    if reason is not None and not failed:
        skip("no machine here (RIG_EMULATION=1 lets it be emulated): " + reason)
    shutil.rmtree(TOP, ignore_errors=True)
    sys.exit(1 if failed else 0)


main()
