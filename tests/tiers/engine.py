# SPDX-License-Identifier: MIT
"""Container engines of the test's own: storage, settings and socket are in one directory that goes away with it, and
nothing of the machine is changed. podman as root, podman of an ordinary user, docker."""
import http.client
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

DEADLINE = 60
# Whom as_ordinary makes: beyond 65536, as users of directories often are, and another one for each test that runs.
UID = 200000 + os.getpid()
RANGE = ((1 << 30) + os.getpid() % 16384 * 65536, 65536)


def skip(why):
    print("SKIP: " + why)
    sys.exit(77)


def pause():
    """Between two looks at a socket that another program is about to make; nothing tells of it."""
    time.sleep(0.02)


def processes(is_ours):
    """pid -> command line of all living processes for which is_ours(pid, argv, uid) holds."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid) as f:
                argv = f.read()
            with open("/proc/%s/stat" % pid) as f:
                state = f.read().rsplit(")", 1)[1].split()[0]
            if state not in "ZX" and is_ours(int(pid), argv, os.stat("/proc/" + pid).st_uid):
                found[int(pid)] = argv
        except OSError:
            pass
    return found


def is_there(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def family(pid):
    """A process and all below it."""
    found = [pid]
    for p in found:
        for task in os.listdir("/proc/%d/task" % p):
            with open("/proc/%d/task/%s/children" % (p, task)) as f:
                found += [int(c) for c in f.read().split()]
    return found


class Local(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=DEADLINE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(self.path)


class Engine:
    """start() and stop() are the subclasses'; settings and env: how Ithaca is told where it is."""

    def __init__(self, name):
        self.name = name
        self.dir = tempfile.mkdtemp(prefix="ithaca-%s-" % name)
        self.socket = os.path.join(self.dir, "engine.sock")
        self.env = {}
        self.limits = True  # what it writes into cgroups
        self.settings = {"socket": self.socket}
        self.log = open(os.path.join(self.dir, "log"), "w+")

    def launch(self, argv, env):
        self.process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        start_new_session=True)
        until = time.monotonic() + DEADLINE
        while True:
            try:
                if self.call("GET", "/_ping")[0] == 200:
                    return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > until:
                self.log.seek(0)
                lines = self.log.read().strip().splitlines()
                self.stop()
                skip("%s does not start here: %s" % (self.name, lines[-1] if lines else "no reason given"))
            pause()

    def call(self, method, path, body=None):
        c = Local(self.socket)
        c.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        r = c.getresponse()
        return r.status, r.read()

    def end(self):
        """Its own processes, however long they take to. Whoever else has its directory in his command line and is still there
        is told of, and ended."""
        own = [self.process.pid] + list(processes(lambda pid, argv, uid: self.is_own(argv)))
        for signal_, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 5)):
            until = time.monotonic() + seconds
            for pid in own:
                if is_there(pid):
                    os.kill(pid, signal_)
            while any(map(is_there, own)) and time.monotonic() < until:
                self.process.poll()
                pause()
        until = time.monotonic() + 5  # those that are just ending
        while left := processes(lambda pid, argv, uid: self.dir in argv and pid != os.getpid()):
            if time.monotonic() > until:
                break
            pause()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.log.close()
        with open("/proc/self/mountinfo") as f:
            mounts = [line for line in f if self.dir in line]
        return ["process %d %s" % (pid, name.replace("\0", " ")) for pid, name in left.items()] + ["mount " + m for m in mounts]


class Podman(Engine):
    """Of this user: root's, or one without root where an ordinary user runs it."""

    def is_own(self, argv):  # without root it starts itself a second time, in a user namespace
        return "system\0service" in argv and self.socket in argv

    def __init__(self):
        runtime = shutil.which("runc") or shutil.which("crun")
        if not shutil.which("podman") or not runtime:
            skip("podman and runc are not installed (scripts/bootstrap check)")
        if os.geteuid() != 0:
            if not shutil.which("newuidmap"):
                skip("newuidmap is not installed (scripts/bootstrap check)")
            with open("/etc/subuid") as f:
                if not any(line.split(":")[0] in (pwd.getpwuid(os.geteuid()).pw_name, str(os.geteuid())) for line in f):
                    skip("/etc/subuid gives this user no range (usermod --add-subuids)")
        super().__init__("podman")
        run = os.path.join(self.dir, "run")
        os.mkdir(run, 0o700)
        if os.geteuid() != 0:  # found there, without any setting
            self.socket = os.path.join(run, "podman", "podman.sock")
            os.mkdir(os.path.dirname(self.socket), 0o700)
            self.settings = {}
            self.limits = os.path.exists("/sys/fs/cgroup/cgroup.controllers")  # it has none in those of v1
            self.env = {"XDG_RUNTIME_DIR": run}
        with open(os.path.join(self.dir, "storage.conf"), "w") as f:
            f.write('[storage]\ndriver = "vfs"\ngraphroot = "%s/root"\nrunroot = "%s/run"\n' % (self.dir, self.dir))
        with open(os.path.join(self.dir, "containers.conf"), "w") as f:
            f.write('[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nexit_command_delay = 1\nruntime = "%s"\nstatic_dir = "%s/static"\n'
                    'tmp_dir = "%s/tmp"\nvolume_path = "%s/volumes"\n'
                    % (os.path.basename(runtime), self.dir, self.dir, self.dir))
        self.own = dict(os.environ, CONTAINERS_STORAGE_CONF=self.dir + "/storage.conf", TMPDIR=self.dir, HOME=self.dir,
                        CONTAINERS_CONF=self.dir + "/containers.conf", XDG_RUNTIME_DIR=run)
        self.launch(["podman", "system", "service", "--time=0", "unix://" + self.socket], self.own)

    def stop(self):
        left = self.end()
        if os.geteuid() != 0:  # some of it belongs to users of his range
            subprocess.run(["podman", "unshare", "rm", "-rf", self.dir + "/root"], env=self.own, stderr=subprocess.DEVNULL)
        # The process that keeps a user's namespace for his next podman, which may have been that one.
        try:
            with open(os.path.join(self.dir, "tmp", "pause.pid")) as f:
                keeper = int(f.read())
        except (OSError, ValueError):
            keeper = 0
        if keeper and os.path.exists("/proc/%d" % keeper):
            os.kill(keeper, signal.SIGTERM)
        shutil.rmtree(self.dir, ignore_errors=True)
        return left


class Docker(Engine):
    """dockerd with a containerd of its own, in a mount namespace of its own."""

    def is_own(self, argv):
        return argv.split("\0")[0].split("/")[-1] in ("dockerd", "containerd") and self.dir in argv

    def __init__(self):
        if not shutil.which("dockerd") or not shutil.which("runc"):
            skip("dockerd is not installed (scripts/bootstrap docker)")
        if os.geteuid() != 0:
            skip("dockerd runs as root alone")
        super().__init__("docker")
        self.env = {"DOCKER_HOST": "unix://" + self.socket}
        self.settings = {}
        self.group = "/" + os.path.basename(self.dir)
        self.launch(["unshare", "-m", "dockerd", "--data-root", self.dir + "/root", "--exec-root", self.dir + "/exec", "--pidfile",
                     self.dir + "/pid", "--host", "unix://" + self.socket, "--group", "root", "--bridge=none", "--iptables=false",
                     "--ip6tables=false", "--ip-masq=false", "--ip-forward=false", "--userland-proxy=false",
                     "--storage-driver=vfs", "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", self.group],
                    dict(os.environ, HOME=self.dir, TMPDIR=self.dir))

    def stop(self):
        left = self.end()
        for top, dirs, _ in os.walk("/sys/fs/cgroup"):
            if self.group[1:] in dirs:
                for d, _, _ in os.walk(os.path.join(top, self.group[1:]), topdown=False):
                    try:
                        os.rmdir(d)
                    except OSError as e:
                        left.append("group %s: %s" % (d, e))
        shutil.rmtree(self.dir, ignore_errors=True)
        return left


class Given(Engine):
    """One that somebody else has started and lets this user speak to."""

    def __init__(self, path):
        super().__init__("given")
        self.socket = path
        self.env = {"DOCKER_HOST": "unix://" + path}
        self.settings = {}

    def stop(self):
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        return []


def as_ordinary(build, *engine):
    """Runs this script again, and the programs of this build, as an ordinary user with a range of ids of his own: in a mount
    namespace whose lists of users have him, because those of the machine are not ours to change. Its exit status."""
    dir = tempfile.mkdtemp(prefix="ithaca-user-")
    os.chmod(dir, 0o755)
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    name = "ithaca-test"
    for d in ("home", "tmp", "lists", "tests", "bin/tests/tiers", "bin/tests/escape"):
        os.makedirs(os.path.join(dir, d))
    for suite in ("tiers", "flow"):
        shutil.copytree(os.path.join(tests, suite), os.path.join(dir, "tests", suite))
    for p in ("ithaca", "ithacad", "ithaca-guest", "tests/tiers/tier", "tests/escape/escape"):
        shutil.copy(os.path.join(build, p), os.path.join(dir, "bin", p))
    lines = {"passwd": "%s:x:%d:%d::%s/home:/bin/sh\n" % (name, UID, UID, dir), "group": "%s:x:%d:\n" % (name, UID),
             "subuid": "%s:%d:%d\n" % (name, *RANGE), "subgid": "%s:%d:%d\n" % (name, *RANGE)}
    for file, line in lines.items():
        with open(os.path.join(dir, "lists", file), "w") as f:
            if file in ("passwd", "group"):
                with open("/etc/" + file) as old:
                    f.write(old.read())
            f.write(line)
    for d in ("home", "tmp"):
        os.chown(os.path.join(dir, d), UID, UID)
    if not all(os.path.exists("/etc/" + file) for file in lines):
        shutil.rmtree(dir)
        skip("there is no /etc/subuid to put another one over (scripts/bootstrap check)")
    command = "mount --make-rshared / && " + " && ".join("mount --bind %s/lists/%s /etc/%s" % (dir, f, f) for f in lines)
    again = ["setpriv", "--reuid=%d" % UID, "--regid=%d" % UID, "--clear-groups", "/usr/bin/python3",
             os.path.join(dir, "tests/tiers", os.path.basename(sys.argv[0])), os.path.join(dir, "bin"), *engine]
    try:
        rc = subprocess.call(["unshare", "-m", "sh", "-ec", command + '\ncd "$HOME"\nexec "$@"', "sh"] + again,
                             env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": dir + "/home", "TMPDIR": dir + "/tmp",
                                  "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")})
        theirs = range(RANGE[0], RANGE[0] + RANGE[1])
        for pid, argv in processes(lambda pid, argv, uid: uid == UID or uid in theirs).items():
            print("FAILED: left behind: process %d %s" % (pid, argv.replace("\0", " ")))
            os.kill(pid, signal.SIGKILL)
            rc = rc or 1
    finally:
        shutil.rmtree(dir, ignore_errors=True)
    return rc
