# SPDX-License-Identifier: MIT
"""The container tier on a real podman: a daemon in it, the life of a sidecar, and the whole escape suite inside it with its
controls."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import engine

BIN = os.path.abspath(sys.argv[1])


ITHACA = os.path.join(BIN, "ithaca")


class Home:
    """A real daemon whose cells are in a container of that podman."""

    def __init__(self, podman, settings=""):
        self.podman = podman
        self.dir = os.path.join(podman.dir, "home%d" % len(os.listdir(podman.dir)))
        self.work = self.dir + "-work"
        self.other = self.dir + "-other"
        for d in (self.dir, self.work, self.other):
            os.mkdir(d, 0o700)
        with open(os.path.join(self.dir, "config.yaml"), "w") as f:
            f.write(settings or "tier: container\ncontainer: { socket: %s }\n" % podman.socket)

    def run(self, *args, cwd=None, **more):
        return subprocess.run([ITHACA, "--home", self.dir] + list(args), cwd=cwd or self.work, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, **more)

    def status(self):
        return json.loads(self.run("status", "--json").stdout)

    def containers(self):
        found = json.loads(self.podman.call("GET", "/v1.40/containers/json?all=1")[1])
        return [c["Id"] for c in found if c["Labels"].get("ithaca.home") == self.dir]

    def role(self, name):
        return [r for r in self.status()["roles"] if r["name"] == name][0]

    def wait(self, what, is_so):
        until = time.monotonic() + engine.DEADLINE
        while not is_so():
            assert time.monotonic() < until, "waited in vain: " + what
            engine.pause()


def check(is_so, what):
    assert is_so, what


def daemon(podman):
    h = Home(podman)
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
        first = h.containers()
        check(len(first) == 1, first)
        podman.call("POST", "/v1.40/containers/%s/kill" % first[0])
        h.wait("a new sidecar", lambda: h.role("shelld")["restarts"] == 1 and h.role("shelld")["state"] == "up")
        check(len(h.containers()) == 1 and h.containers() != first, "the old container is removed")
        r = h.run("run", "run echo back again")
        check("back again" in r.stdout, r.stdout + r.stderr)
        # The runner dies: the next one removes what it left.
        second = h.containers()
        os.kill(h.role("runner")["pid"], signal.SIGKILL)
        r = h.run("start")
        check(r.returncode == 0, r.stderr)
        check(len(h.containers()) == 1 and h.containers() != second, "the orphan is removed")
    finally:
        r = h.run("stop")
    check(r.returncode == 0 and h.containers() == [], "stop leaves no container")


def doctor(podman):
    h = Home(podman)
    r = h.run("doctor", "--json")
    h.run("stop")
    rows = {c["name"]: c for c in json.loads(r.stdout)["checks"]}
    check(rows["cell"]["ok"] == "pass" and "13 of 13 walls hold" in rows["cell"]["text"], r.stdout)


def tiers(podman):
    """doctor --tier all: each tier in a home of its own, with this configuration; the home itself is not touched."""
    h = Home(podman)
    before = sorted(os.listdir(h.dir))
    r = h.run("doctor", "--tier", "all", "--json")
    rows = {t["tier"]: t for t in json.loads(r.stdout)["tiers"]}
    check(r.returncode == 0 and list(rows) == ["microvm", "container", "cell", "process"], r.stdout + r.stderr)
    check(rows["container"]["ok"] == "pass" and "13 of 13 walls hold" in rows["container"]["text"], rows)
    check(rows["process"]["ok"] != "pass", rows)
    check(sorted(os.listdir(h.dir)) == before, "nothing was made in the home")
    left = json.loads(podman.call("GET", "/v1.40/containers/json?all=1")[1])
    check(not [c for c in left if "/ithaca-doctor-" in c["Labels"].get("ithaca.home", "")], "its container is gone")


def refused(podman):
    h = Home(podman, "tier: container\ncontainer: { socket: /nonexistent/engine.sock }\n")
    for command in (["run", "run true"], ["start"]):
        r = h.run(*command)
        check(r.returncode == 2 and "engine_missing: " in r.stderr, r.stderr)
    h = Home(podman, "tier: container\ncontainer: { socket: %s, image: localhost/none }\n" % podman.socket)
    r = h.run("run", "run true")
    check(r.returncode == 1 and "image_missing: " in r.stderr, "%d %s" % (r.returncode, r.stderr))
    check(h.containers() == [], "nothing was made")


def images(podman):
    """An image out of a directory: what commands find then is what was in it."""
    h = Home(podman)
    s = ["--socket", podman.socket]
    r = h.run("image", "build", "--root", h.other, *s)
    check(r.returncode == 2 and "usr is missing" in r.stderr, r.stderr)
    root = os.path.join(podman.dir, "root-dir")
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
    h = Home(podman, "tier: container\ncontainer: { socket: %s, image: localhost/ithaca-small }\n" % podman.socket)
    r = h.run("run", "run cat /usr/only-in-this-image; ls /usr")
    check("yes" in r.stdout and "lib" not in r.stdout, r.stdout + r.stderr)
    h.run("stop")
    check(h.run("image", "remove", "ithaca-small", *s).returncode == 0, "it is removed")
    check(h.run("image", "remove", "ithaca-small", *s).returncode == 1, "once")


def rises(podman):
    """tier auto, where no user namespace can be made: the container serves, whose engine is not below that limit."""
    limit = ["unshare", "-Ur", "sh", "-c", 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"', "sh"]
    h = Home(podman, "tier: auto\ncontainer: { socket: %s }\n" % podman.socket)
    if subprocess.call(limit + ["true"], stderr=subprocess.DEVNULL) != 0:
        print("SKIP: user namespaces cannot be limited here")
        return
    r = subprocess.run(limit + [ITHACA, "--home", h.dir, "start"], cwd=h.work, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    try:
        s = h.status()
        check((s["tier"], s["tier_asked"]) == ("container", "auto"), r.stdout + json.dumps(s))
        check("risen" in h.run("run", "run echo risen").stdout, "commands run there")
    finally:
        h.run("stop")
    check(h.containers() == [], "stop leaves no container")


def main():
    podman = engine.Podman()
    failed = []
    try:
        for step in (daemon, doctor, tiers, refused, images, rises):
            print("== " + step.__name__, flush=True)
            try:
                step(podman)
            except Exception as e:
                failed.append("%s: %s" % (step.__name__, e or type(e).__name__))
        env = dict(os.environ, RIG_TIER="container", RIG_ENGINE=podman.socket)
        for program in ("tests/tiers/tier", "tests/escape/escape"):
            print("== " + program, flush=True)
            if subprocess.call([os.path.join(BIN, program)], env=env) != 0:
                failed.append(program)
        left = json.loads(podman.call("GET", "/v1.40/containers/json?all=1")[1])
        for c in left:
            failed.append("left behind: %s %s" % (c["Names"], c["State"]))
            podman.call("DELETE", "/v1.40/containers/%s?force=1" % c["Id"])
    finally:
        podman.stop()
    for what in failed:
        print("FAILED: " + what)
    sys.exit(1 if failed else 0)


main()
