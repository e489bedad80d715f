# SPDX-License-Identifier: MIT
"""A podman of the test's own: its storage, its settings and its socket are in one directory that goes away with it."""
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

DEADLINE = 60


def skip(why):
    print("SKIP: " + why)
    sys.exit(77)


class Local(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=DEADLINE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(self.path)


class Podman:
    def __init__(self):
        runtime = shutil.which("runc") or shutil.which("crun")
        if not shutil.which("podman") or not runtime:
            skip("podman and runc are not installed (scripts/bootstrap tiers)")
        self.dir = tempfile.mkdtemp(prefix="ithaca-podman-")
        self.socket = os.path.join(self.dir, "engine.sock")
        with open(os.path.join(self.dir, "storage.conf"), "w") as f:
            f.write('[storage]\ndriver = "vfs"\ngraphroot = "%s/root"\nrunroot = "%s/run"\n' % (self.dir, self.dir))
        with open(os.path.join(self.dir, "containers.conf"), "w") as f:
            f.write('[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "%s"\nstatic_dir = "%s/static"\n'
                    'tmp_dir = "%s/tmp"\nvolume_path = "%s/volumes"\n'
                    % (os.path.basename(runtime), self.dir, self.dir, self.dir))
        env = dict(os.environ, CONTAINERS_STORAGE_CONF=self.dir + "/storage.conf", CONTAINERS_CONF=self.dir + "/containers.conf",
                   TMPDIR=self.dir, HOME=self.dir)
        self.log = open(os.path.join(self.dir, "log"), "w+")
        self.process = subprocess.Popen(["podman", "system", "service", "--time=0", "unix://" + self.socket], env=env,
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        self.wait()

    def wait(self):
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
                skip("podman does not start here: " + (lines[-1] if lines else "no reason given"))
            pause()

    def call(self, method, path):
        c = Local(self.socket)
        c.request(method, path)
        r = c.getresponse()
        return r.status, r.read()

    def stop(self):
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.kill(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def pause():
    """Between two looks at a socket that another program is about to make; nothing tells of it."""
    time.sleep(0.02)
