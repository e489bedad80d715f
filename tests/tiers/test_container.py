# SPDX-License-Identifier: MIT
"""The container tier on a real engine: a daemon in it, the life of a sidecar and of the runtime's container, what reaches out of
that one, and the whole escape suite inside the sidecar with its controls. test_container.py BUILD podman|rootless|docker|docker_user"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from engine import DEADLINE, Docker, Given, Podman, as_ordinary, family, is_there, pause, processes, skip

BIN = os.path.abspath(sys.argv[1])
TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

ITHACA = os.path.join(BIN, "ithaca")
WALLS_HOLD = re.compile(r"\b(\d\d) of \1 walls hold")


class Home:
    """A real daemon whose cells and runtime are in containers of that engine."""

    def __init__(self, engine, settings="", **container):
        self.engine = engine
        self.dir = os.path.join(engine.dir, "home%d" % len(os.listdir(engine.dir)))
        self.work = self.dir + "-work"
        self.other = self.dir + "-other"
        for d in (self.dir, self.work, self.other):
            os.mkdir(d, 0o700)
        with open(os.path.join(self.dir, "config.yaml"), "w") as f:
            f.write(settings or json.dumps({"tier": "container", "container": dict(engine.settings, **container)}))
        self.env = dict(os.environ, **engine.env)

    def run(self, *args, cwd=None, **more):
        return subprocess.run([ITHACA, "--home", self.dir] + list(args), cwd=cwd or self.work, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, env=self.env, **more)

    def status(self):
        return json.loads(self.run("status", "--json").stdout)

    def containers(self, role=None):
        found = json.loads(self.engine.call("GET", "/v1.40/containers/json?all=1")[1])
        return [c["Id"] for c in found if c["Labels"].get("ithaca.home") == self.dir and
                role in (None, c["Labels"].get("ithaca.role"))]

    def counts(self):
        return len(self.containers("shelld")), len(self.containers("runtime")), len(self.containers())

    def role(self, name):
        return [r for r in self.status()["roles"] if r["name"] == name][0]

    def left(self):
        """Whatever is in run/, but what is kept there on purpose."""
        top = os.path.join(self.dir, "run")
        found = [os.path.relpath(os.path.join(d, n), top) for d, dirs, files in os.walk(top) for n in dirs + files]
        return sorted(set(found) - {"lock", "selftest", "stopped", "guest", "runtime"})

    def wait(self, what, is_so, deadline=DEADLINE):
        until = time.monotonic() + deadline
        while not is_so():
            assert time.monotonic() < until, "waited in vain: " + what
            pause()


def check(is_so, what):
    assert is_so, what


def daemon(engine):
    h = Home(engine)
    r = h.run("start")
    check(r.returncode == 0, r.stderr)
    try:
        s = h.status()
        check((s["tier"], s["tier_asked"]) == ("container", "container"), s)
        r = h.run("run", "--json", "run echo `id -u` > made; cat made")
        check(r.returncode == 0 and "1000" in r.stdout, r.stdout + r.stderr)
        check(open(os.path.join(h.work, "made")).read() == "1000\n", "the workspace is the same directory")
        r = h.run("run", "run pwd", cwd=h.other)
        check("not_mounted: " in r.stdout, "another directory is refused with its reason: " + r.stdout)
        # The container dies: its tools go and come back.
        first = h.containers("shelld")
        check(h.counts() == (1, 1, 2), h.counts())
        check(all(h.role(r)["container"] for r in ("shelld", "runtime")) and "container" not in h.role("broker"), h.status())
        engine.call("POST", "/v1.40/containers/%s/kill" % first[0])
        h.wait("a new sidecar", lambda: h.role("shelld")["restarts"] == 1 and h.role("shelld")["state"] == "up")
        check(h.counts() == (1, 1, 2) and h.containers("shelld") != first, "the old container is removed")
        check(h.role("runtime")["restarts"] == 0, "the runtime's own is left alone")
        r = h.run("run", "run echo back again")
        check("back again" in r.stdout, r.stdout + r.stderr)
        # The runner dies: the next one removes what it left.
        second = set(h.containers())
        os.kill(h.role("runner")["pid"], signal.SIGKILL)
        r = h.run("start")
        check(r.returncode == 0, r.stderr)
        check(h.counts() == (1, 1, 2) and not second & set(h.containers()), "the orphans are removed")
    finally:
        r = h.run("stop")
    check(r.returncode == 0 and h.containers() == [], "stop leaves no container")


def deserted(engine):
    """The runner of a daemon, or of one command, is killed and nobody starts another: all ends by itself, and when it has nothing
    is left in the home. What lies stopped in the engine goes with the next start."""
    h = Home(engine, json.dumps({"tier": "container", "container": engine.settings, "cell": {"orphan_ms": 10000},
                                 "runner": {"idle_ms": 600000}}))
    for command in (("start",), ("run", "run echo alone")):
        r = h.run(*command)
        check(r.returncode == 0, r.stdout + r.stderr)
        check(h.counts() == (1, 1, 2), "what was left there is replaced: %s" % (h.counts(),))
        runner = h.role("runner")["pid"]
        ours = family(runner)
        cleaners = [p for p in ours if first_line("/proc/%d/comm" % p) == "ithaca-cleaner"]
        check(len(cleaners) == 1, "there is a cleaner: %s" % ours)
        before = h.left()
        check({"control.sock", "rpc.sock", "guest/shelld.sock"} <= set(before), before)
        os.kill(runner, signal.SIGKILL)
        seen = []

        def is_over():
            seen[:] = h.left(), [p for p in ours if is_there(p)], list(processes(lambda pid, argv, uid: h.dir + "/run/" in argv))
            check("guest/seccomp.json" in seen[0] or not seen[2], "files went before who may need them")
            return seen == [[], [], []]
        try:
            h.wait("the end of all that a killed runner leaves", is_over, 90 * int(os.environ.get("RIG_SLOW") or "1"))
        except AssertionError as e:
            raise AssertionError("%s: %s" % (e, seen))
        check(len(h.containers()) == 2, "they lie in the engine, which only the next start speaks to")
    check(h.run("start").returncode == 0 and h.counts() == (1, 1, 2), h.counts())
    check(h.run("stop").returncode == 0 and h.containers() == [], "stop leaves no container")


def files(engine):
    """The file tools act inside as well, on the same files."""
    h = Home(engine)
    try:
        with open(os.path.join(h.work, "seen"), "w") as f:
            f.write("from outside\n")
        r = h.run("run", "read seen; write inside.txt with from the tool")
        check("from outside" in r.stdout and r.returncode == 0, r.stdout + r.stderr)
        with open(os.path.join(h.work, "inside.txt")) as f:
            check("from the tool" in f.read(), "written")
        check(os.stat(os.path.join(h.work, "inside.txt")).st_uid == os.geteuid(), "it is ours")
    finally:
        h.run("stop")


def survives(engine):
    """The runtime's container dies in the middle of a command: another takes the session on, and nothing runs twice."""
    h = Home(engine)
    r = h.run("start"); check(r.returncode == 0, "starts: " + r.stderr)
    try:
        os.mkfifo(os.path.join(h.work, "gate"))
        ran = os.path.join(h.work, "ran")
        p = subprocess.Popen([ITHACA, "--home", h.dir, "run", "run echo once >> ran; cat gate; echo through"], cwd=h.work, env=h.env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        h.wait("the command", lambda: os.path.exists(ran) and os.path.getsize(ran) > 0)
        first = h.containers("runtime")
        status, body = engine.call("POST", "/v1.40/containers/%s/kill" % first[0])  # SIGKILL
        check(status == 204, body)
        h.wait("a new runtime", lambda: h.role("runtime")["restarts"] == 1 and h.role("runtime")["state"] == "up")
        check(h.counts() == (1, 1, 2) and h.containers("runtime") != first, "the old container is removed")
        check(h.role("shelld")["restarts"] == 0, "the sidecar is left alone")
        with open(os.path.join(h.work, "gate"), "w") as f:
            f.write("open\n")
        out = p.communicate(timeout=DEADLINE)[0]
        check(p.returncode == 0 and "through" in out, out)
        with open(ran) as f:
            check(f.read() == "once\n", "it ran once")
        check(h.run("restart", "runtime").returncode == 0 and h.counts() == (1, 1, 2), "asked to restart")
    finally:
        r = h.run("stop")
    check(r.returncode == 0 and h.containers() == [], "stop leaves no container: " + r.stderr)


def kept(engine):
    """What the runtime does not see is read and written by the runner for it: its own files, a workspace's, a script."""
    h = Home(engine, "tier: container\ncontainer: %s\nmodel: test/one\nproviders:\n  test: { api: offline, script: script.yaml }\n" %
             json.dumps(engine.settings))
    with open(os.path.join(h.dir, "script.yaml"), "w") as f:
        json.dump({"steps": [{"answer": [{"text": "from the script"}]}]}, f)
    config = os.path.join(h.dir, "config.yaml")
    try:
        r = h.run("run", "hello")
        check(r.returncode == 0 and "from the script" in r.stdout, r.stdout + r.stderr)
        r = h.run("start"); check(r.returncode == 0, "starts: " + r.stderr)
        r = h.run("config", "set", "limits.turn_steps", "7")
        with open(config) as f:
            check(r.returncode == 0 and "turn_steps: 7" in f.read(), r.stderr)
        r = subprocess.run([ITHACA, "--home", h.dir, "secret", "set", "token", "--host", "example.com"], cwd=h.work, env=h.env,
                           input="a secret\n", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
        check(r.returncode == 0 and os.path.getsize(os.path.join(h.dir, "secrets")) > 0, r.stderr)
        check("token" in h.run("secret", "list").stdout, "it is listed")
        bad = os.path.join(h.work, "bad.yaml")
        with open(bad, "w") as f:
            f.write("limits: { turn_steps: none }\n")
        r = h.run("config", "validate", "bad.yaml")
        check(r.returncode == 2 and "turn_steps" in r.stderr, r.stdout + r.stderr)
        check(h.run("config", "validate", config).returncode == 0, "the one in use is valid")
        with open(os.path.join(h.work, ".ithaca.yaml"), "w") as f:
            f.write("tier_min: microvm\n")
        r = h.run("run", "run true")
        check("tier_min microvm cannot be met" in r.stdout + r.stderr, r.stdout + r.stderr)
        rows = {c["name"]: c for c in json.loads(h.run("doctor", "--json").stdout)["checks"]}
        check(rows["home"]["ok"] == "pass" and rows["disk"]["ok"] == "pass", rows)
        check(rows["runtime"]["ok"] == ("pass" if engine.limits else "warn") and "no network" in rows["runtime"]["text"], rows)
    finally:
        h.run("stop")


def execute(engine, container, scripts):
    """Exit status and output of each script, by a shell in that container: it has the user, root, network, capabilities and filter
    of the first process there."""
    marked = ["( %s ) </dev/null 2>&1; rc=$?; echo; echo \"= $rc\"" % s for s in scripts]
    spec = {"Cmd": ["/usr/bin/sh", "-c", "\n".join(marked)], "AttachStdout": True, "AttachStderr": True, "Tty": True}
    status, body = engine.call("POST", "/v1.40/containers/%s/exec" % container, json.dumps(spec))
    check(status == 201, body)
    status, body = engine.call("POST", "/v1.40/exec/%s/start" % json.loads(body)["Id"], json.dumps({"Detach": False, "Tty": True}))
    check(status == 200, body)
    parts = re.split(r"\n= (\d+)\n", body.decode(errors="replace").replace("\r", ""))
    found = [(int(rc), out.strip()) for out, rc in zip(parts[::2], parts[1::2])]
    check(len(found) == len(scripts), body)
    return found


def reach(engine):
    """Whoever takes the runtime over sees the store, and neither keys, configuration, workspaces, cells, the control socket nor the
    network. The control is the same attempt outside, where the runtime of every other tier is."""
    h = Home(engine)
    server = socket.create_server(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0ithaca-test-%d" % os.getpid())
    abstract.listen()
    r = h.run("start"); check(r.returncode == 0, "starts: " + r.stderr)
    try:
        check(h.run("run", "run echo of a cell").returncode == 0, "there is something of a cell")
        check(h.run("restart", "runtime").returncode == 0, "the container is made when it is there")
        for name in ("master.key", "secrets"):
            if not os.path.exists(os.path.join(h.dir, name)):
                with open(os.path.join(h.dir, name), "w") as f:
                    f.write("a key\n")
        with open(os.path.join(h.work, "file"), "w") as f:
            f.write("of a workspace\n")
        first = h.containers("runtime")[0]
        connect = "python3 -c 'import socket; s = socket.socket(socket.%s); s.settimeout(5); s.connect(%s)'"
        attempts = ["cat %s/%s" % (h.dir, name) for name in ("master.key", "secrets", "config.yaml", "logs/runner.log", "run/lock")]
        attempts += ["cat %s/file" % h.work, "ls -A %s/state/cells | grep ." % h.dir, "ls -A %s/state/spool | grep ." % h.dir,
                     "ls %s/workspaces" % h.dir, "test -S %s/run/control.sock" % h.dir, "test -S " + engine.socket,
                     "test -d /proc/%d" % os.getpid(),
                     connect % ("AF_INET", '("127.0.0.1", %d)' % server.getsockname()[1]),
                     connect % ("AF_UNIX", '"\\0ithaca-test-%d"' % os.getpid())]
        changes = ["touch /usr/x", "touch /x", "mkdir /etc/x", "unshare -U true", "touch %s/state/cells/x" % h.dir]
        works = "test -s %s/state/ithaca.db && touch %s/state/made && echo yes" % (h.dir, h.dir)
        *found, last = execute(engine, first, attempts + changes + [works])
        check(last == (0, "yes"), "what it is for it can do: %s" % (last,))
        for script, (rc, out) in zip(attempts + changes, found):
            check(rc != 0, "the runtime can: %s: %s" % (script, out))
        for script in attempts:
            r = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            check(r.returncode == 0, "the control: %s: %s" % (script, r.stdout))
        check(os.stat(os.path.join(h.dir, "state/made")).st_uid == os.geteuid(), "what it makes is ours")
        for name in os.listdir(os.path.join(h.dir, "state")):
            check(os.stat(os.path.join(h.dir, "state", name)).st_uid == os.geteuid(), name)
        check(os.listdir(os.path.join(h.dir, "run/runtime")) == ["seccomp.json"], "the token and the socket are gone")
    finally:
        server.close()
        abstract.close()
        h.run("stop")


def outside(engine):
    """A store in another directory is there for the runtime; in one that holds the home it is refused."""
    h = Home(engine)
    config, store = os.path.join(h.dir, "config.yaml"), os.path.join(h.other, "store.db")
    with open(config, "w") as f:
        json.dump({"tier": "container", "container": engine.settings, "store": {"url": "sqlite:" + store}}, f)
    try:
        check("in its store" in h.run("run", "run echo in its store").stdout and os.path.getsize(store) > 0, "the store is there")
    finally:
        h.run("stop")
    with open(config, "w") as f:
        json.dump({"tier": "container", "container": engine.settings, "store": {"url": "sqlite:%s.db" % h.dir}}, f)
    r = h.run("start")
    check(r.returncode == 2 and "runtime_failed: store.url: " in r.stderr, "%d %s" % (r.returncode, r.stderr))
    h.wait("the end of what was begun", lambda: h.containers() == [])
    check(not os.path.exists(h.dir + ".db"), "nothing was made")


def first_line(path):
    with open(path) as f:
        return f.readline().strip()


def limits_of(pid):
    """Memory and processes that the kernel lets the groups of a process have; None: as many as it likes."""
    found = {}
    with open("/proc/%d/cgroup" % pid) as f:
        groups = [line.strip().split(":", 2) for line in f]
    for name, v1, v2 in (("memory", "memory.limit_in_bytes", "memory.max"), ("pids", "pids.max", "pids.max")):
        for _, controllers, path in groups:
            for file in ("/sys/fs/cgroup/%s%s/%s" % (name, path, v1) if name in controllers.split(",") else "",
                         "/sys/fs/cgroup%s/%s" % (path, v2) if controllers == "" else ""):
                if os.path.exists(file):
                    text = first_line(file)
                    found[name] = None if text == "max" or int(text) >= 1 << 60 else int(text)
    return found


def seen_from_outside(pid):
    """What the kernel of the host says of a process, whatever an engine says."""
    with open("/proc/%d/status" % pid) as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    with open("/proc/%d/mountinfo" % pid) as f:
        roots = [line.split() for line in f if line.split()[4] == "/"]
    with open("/proc/%d/net/dev" % pid) as f:
        interfaces = [line.split(":")[0].strip() for line in f.readlines()[2:]]
    return {"capabilities": max(int(status[c], 16) for c in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")),
            "no_new_privileges": status["NoNewPrivs"] == "1", "filtered": status["Seccomp"] == "2",
            "root_is_read_only": "ro" in roots[-1][5].split(","), "interfaces": interfaces,
            "network": first_link("/proc/%d/ns/net" % pid), "limits": limits_of(pid)}


def first_link(path):
    try:
        return os.readlink(path)
    except PermissionError:  # of a process that nobody but root may look into
        return None


def walls(engine):
    """What is around all cells, seen from the host: by the engine's words and by the kernel's. The control is a container of
    the same engine that asks for none of it."""
    h = Home(engine, memory_mb=900, processes=700)
    loose = None
    try:
        r = h.run("start"); check(r.returncode == 0, "starts: " + r.stderr)
        allowed = 1 << 31 if os.geteuid() == 0 else 0  # SETFCAP, of root
        # The first process, shelld, and the zygote; the first process and the runtime.
        for role, n, may, limits in (("shelld", 3, allowed, {"memory": 900 << 20, "pids": 700}),
                                     ("runtime", 2, 0, {"memory": 2048 << 20, "pids": 256})):
            said = json.loads(engine.call("GET", "/v1.40/containers/%s/json" % h.containers(role)[0])[1])
            host = said["HostConfig"]
            check((host["NetworkMode"], host["ReadonlyRootfs"], host["Privileged"]) == ("none", True, False), host)
            check(any(o.startswith("no-new-privileges") for o in host["SecurityOpt"]), host["SecurityOpt"])
            check(any(o.startswith("seccomp=") for o in host["SecurityOpt"]), host["SecurityOpt"])
            processes = family(said["State"]["Pid"])[:n]
            check(len(processes) == n, processes)
            for pid in processes:
                f = seen_from_outside(pid)
                check(f["capabilities"] & ~may == 0, "%d: %s" % (pid, f))
                check(f["no_new_privileges"] and f["filtered"] and f["root_is_read_only"], "%d: %s" % (pid, f))
                check(f["interfaces"] == ["lo"] and f["network"] != os.readlink("/proc/self/ns/net"), "%d: %s" % (pid, f))
                if engine.limits:
                    check(f["limits"] == limits, "%d: %s" % (pid, f))
        # The control.
        spec = {"Image": "localhost/ithaca-host", "Entrypoint": ["/usr/bin/sleep", "100"], "User": "0:0", "HostConfig": {
            "NetworkMode": "host", "SecurityOpt": ["seccomp=unconfined"], "Binds": ["/usr:/usr:ro"],
            "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 1024}, {"Name": "nproc", "Soft": 1024, "Hard": 1024}]}}
        status, body = engine.call("POST", "/v1.40/containers/create", json.dumps(spec))
        check(status == 201, body)
        loose = json.loads(body)["Id"]
        status, body = engine.call("POST", "/v1.40/containers/%s/start" % loose)
        check(status == 204, body)
        f = seen_from_outside(json.loads(engine.call("GET", "/v1.40/containers/%s/json" % loose)[1])["State"]["Pid"])
        check(f["capabilities"] & ~allowed and not f["no_new_privileges"] and not f["filtered"], f)
        check(not f["root_is_read_only"] and f["network"] in (os.readlink("/proc/self/ns/net"), None), f)
        check(f["interfaces"] == seen_from_outside(os.getpid())["interfaces"], f)
        check(f["limits"].get("memory") is None and f["limits"].get("pids") != 700, f)
    finally:
        if loose:
            engine.call("DELETE", "/v1.40/containers/%s?force=1" % loose)
        h.run("stop")


def around(engine, row):
    """What doctor says of the container was found inside, where a limit that is not there is missing."""
    for part in ("no network", "read-only root", "no capability", "no new privileges", "system calls filtered"):
        check(part in row["text"].split("; missing: ")[0], row)
    if engine.limits:
        check(row["ok"] == "pass" and "at most 4096 MiB and 2048 processes by cgroup v" in row["text"], row)
    else:
        check(row["ok"] == "warn" and row["text"].endswith("; missing: no limit of memory and processes by a cgroup"), row)


def doctor(engine):
    h = Home(engine)
    r = h.run("doctor", "--json")
    h.run("stop")
    rows = {c["name"]: c for c in json.loads(r.stdout)["checks"]}
    check(rows["cell"]["ok"] == "pass" and WALLS_HOLD.search(rows["cell"]["text"]), r.stdout)
    around(engine, rows["tier"])


def tiers(engine):
    """doctor --tier all: each tier in a home of its own, with this configuration; the home itself is not touched."""
    h = Home(engine)
    before = sorted(os.listdir(h.dir))
    r = h.run("doctor", "--tier", "all", "--json")
    rows = {t["tier"]: t for t in json.loads(r.stdout)["tiers"]}
    check(r.returncode == 0 and list(rows) == ["microvm", "container", "cell", "process"], r.stdout + r.stderr)
    check(rows["container"]["ok"] == "pass" and WALLS_HOLD.search(rows["container"]["text"]), rows)
    check(rows["process"]["ok"] != "pass", rows)
    around(engine, rows["container"]["checks"][0])
    r = h.run("doctor", "--tier", "container")
    lines = [line.split()[:3] for line in r.stdout.splitlines()]
    check([line[0] for line in lines[:2]] == ["TIER", "container"] and len(lines) == 5 and "no network" in r.stdout, r.stdout)
    check(sorted(os.listdir(h.dir)) == before, "nothing was made in the home")
    left = json.loads(engine.call("GET", "/v1.40/containers/json?all=1")[1])
    check(not [c for c in left if "/ithaca-doctor-" in c["Labels"].get("ithaca.home", "")], "its container is gone")


def refused(engine):
    h = Home(engine, "tier: container\ncontainer: { socket: /nonexistent/engine.sock }\n")
    for command in (["run", "run true"], ["start"]):
        r = h.run(*command)
        check(r.returncode == 2 and "engine_missing: " in r.stderr, r.stderr)
    h = Home(engine, "tier: container\ncontainer: { socket: %s, image: localhost/none }\n" % engine.socket)
    r = h.run("run", "run true")
    check(r.returncode == 1 and "image_missing: " in r.stderr, "%d %s" % (r.returncode, r.stderr))
    check(h.containers() == [], "nothing was made")
    # The sidecar could be had, the runtime's container not: refused as well, not run outside.
    h = Home(engine)
    os.mkdir(os.path.join(h.dir, "run"))
    with open(os.path.join(h.dir, "run/runtime"), "w"):
        pass
    for command in (["run", "run true"], ["start"]):
        r = h.run(*command)
        check(r.returncode == 1 and "engine_failed: " in r.stderr and "run/runtime" in r.stderr, r.stderr)
    h.wait("the end of what was begun", lambda: h.containers() == [])


def images(engine):
    """An image out of a directory: what commands find then is what was in it."""
    h = Home(engine)
    s = ["--socket", engine.socket]
    r = h.run("image", "build", "--root", h.other, *s)
    check(r.returncode == 2 and "usr is missing" in r.stderr, r.stderr)
    root = os.path.join(engine.dir, "root-dir")
    for d in ("usr/bin", "etc", "proc", "sys", "dev", "tmp", "run", "var", "home", "root"):
        os.makedirs(os.path.join(root, d))
    for name in ("bin", "lib", "lib64", "sbin"):
        os.symlink("usr/" + name, os.path.join(root, name))
    busybox = shutil.which("busybox")
    if not busybox or subprocess.run(["ldd", busybox], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode == 0:
        print("SKIP: no static busybox (busybox-static) to make a root directory of")
        return
    shutil.copy(busybox, os.path.join(root, "usr/bin/busybox"))
    for name in ("sh", "cat", "echo", "ls", "id"):
        os.link(os.path.join(root, "usr/bin/busybox"), os.path.join(root, "usr/bin", name))
    open(os.path.join(root, "usr/only-in-this-image"), "w").write("yes\n")
    r = h.run("image", "build", "--root", root, "--name", "ithaca-small", *s)
    check(r.returncode == 0 and "localhost/ithaca-small" in r.stdout, r.stdout + r.stderr)
    check("localhost/ithaca-small:latest" in h.run("image", "list", *s).stdout, "it is listed")
    h = Home(engine, "tier: container\ncontainer: { socket: %s, image: localhost/ithaca-small }\n" % engine.socket)
    r = h.run("run", "run cat /usr/only-in-this-image; ls /usr")
    check("yes" in r.stdout and "lib" not in r.stdout, r.stdout + r.stderr)
    h.run("stop")
    check(h.run("image", "remove", "ithaca-small", *s).returncode == 0, "it is removed")
    check(h.run("image", "remove", "ithaca-small", *s).returncode == 1, "once")


def rises(engine):
    """tier auto, where no user namespace can be made: the container serves, whose engine is not below that limit."""
    limit = ["unshare", "-Ur", "sh", "-c", 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"', "sh"]
    h = Home(engine, json.dumps({"tier": "auto", "container": engine.settings}))
    if subprocess.call(limit + ["true"], stderr=subprocess.DEVNULL) != 0:
        print("SKIP: user namespaces cannot be limited here")
        return
    r = subprocess.run(limit + [ITHACA, "--home", h.dir, "start"], cwd=h.work, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, env=h.env)
    try:
        s = h.status()
        check((s["tier"], s["tier_asked"]) == ("container", "auto"), r.stdout + json.dumps(s))
        check("risen" in h.run("run", "run echo risen").stdout, "commands run there")
        h.wait("the runtime to follow", lambda: h.role("runtime").get("container") and h.role("runtime")["state"] == "up")
        check(h.counts() == (1, 1, 2) and "again" in h.run("run", "run echo again").stdout, "and there")
    finally:
        h.run("stop")
    check(h.containers() == [], "stop leaves no container")
    # Nobody named the tier: a runtime that cannot follow stays where it was, and says so.
    h = Home(engine, json.dumps({"tier": "auto", "container": engine.settings}))
    os.mkdir(os.path.join(h.dir, "run"))
    with open(os.path.join(h.dir, "run/runtime"), "w"):
        pass
    r = subprocess.run(limit + [ITHACA, "--home", h.dir, "start"], cwd=h.work, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, env=h.env)
    try:
        h.wait("its reason", lambda: "runtime_on_host" in [d["code"] for d in h.status()["degraded"]])
        check(h.counts() == (1, 0, 1) and "risen" in h.run("run", "run echo risen").stdout, "commands run in the sidecar")
    finally:
        h.run("stop")
    check(h.containers() == [], "stop leaves no container")


EGRESS = ["Reach.test_refusal_names_the_rule", "Programs.test_git_http", "Programs.test_pip", "Service.test_key_is_added_outside",
          "Attacks.test_only_the_proxy"]


def egress(engine, names):
    """What cells may reach by the proxy of the host, and what not, is here as it is in tier cell: the same tests, all or those
    names."""
    settings = {"ITHACA__CONTAINER__" + name.upper(): value for name, value in engine.settings.items()}
    env = dict(os.environ, ITHACA_TEST_ENV=json.dumps(dict(engine.env, ITHACA__TIER="container", **settings)))
    began = int(time.time())
    rc = subprocess.call([sys.executable, os.path.join(TESTS, "flow", "test_egress.py"), BIN] + names, env=env)
    check(rc == 0, "tests/flow/test_egress.py: status %d" % rc)
    made = engine.call("GET", "/v1.40/events?since=%d&until=%d&filters=%s" % (began, time.time() + 1, urllib.parse.quote(
        json.dumps({"type": ["container"], "event": ["create"]}))))[1].decode().strip().splitlines()
    check(len(made) >= (len(names) or 10), "its cells were in containers: %d were made" % len(made))


def main():
    which = sys.argv[2]
    if which == "rootless":
        if os.geteuid() != 0:
            skip("this user's own podman is tried by tiers/container")
        sys.exit(as_ordinary(BIN, "podman"))
    if which == "docker_user":  # of a docker that is root's: his containers are then of his own number, without any capability
        docker = Docker()
        os.chmod(docker.dir, 0o711)
        os.chmod(docker.socket, 0o666)
        rc = as_ordinary(BIN, "given", docker.socket)
        left = docker.stop()
        print("".join("FAILED: left behind: %s\n" % what for what in left))
        sys.exit(rc or len(left))
    engine = {"podman": Podman, "docker": Docker, "given": Given}[which](*sys.argv[3:])
    failed = []
    try:
        for step in (daemon, survives, deserted, kept, files, walls, reach, outside, doctor, tiers, refused, images, rises):
            print("== " + step.__name__, flush=True)
            try:
                step(engine)
            except Exception as e:
                failed.append("%s: %s" % (step.__name__, e or type(e).__name__))
        env = dict(os.environ, RIG_TIER="container", RIG_ENGINE=engine.socket)
        for program in ("tests/tiers/tier", "tests/escape/escape"):
            print("== " + program, flush=True)
            if subprocess.call([os.path.join(BIN, program)], env=env) != 0:
                failed.append(program)
        print("== egress", flush=True)
        try:
            egress(engine, [] if which == "docker" else EGRESS)
        except Exception as e:
            failed.append("egress: %s" % (e or type(e).__name__))
        left = json.loads(engine.call("GET", "/v1.40/containers/json?all=1")[1])
        for c in left:
            failed.append("left behind: %s %s" % (c["Names"], c["State"]))
            engine.call("DELETE", "/v1.40/containers/%s?force=1" % c["Id"])
    finally:
        failed += ["left behind: " + what for what in engine.stop()]
    for what in failed:
        print("FAILED: " + what)
    sys.exit(1 if failed else 0)


main()
