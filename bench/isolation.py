# SPDX-License-Identifier: MIT
"""What bench/run measures of isolation: one command in a cell beside other ways to isolate one, what a hundred idle cells keep in
memory, and what goes through a cell and through the tiers around it. Containers get their programs from the host's /usr, read-only:
nothing is downloaded, and none of them has a network."""
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys

import microvm

BWRAP = "bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --unshare-all --die-with-parent sh -c true"
HYBRID = "/sys/fs/cgroup/unified"  # crun refuses a machine with both versions of cgroups
CELLS = 100
FLOOD_BYTES = 1 << 30
ECHOS = 2000
LIMIT_MAX = 20000
TIER_ECHOS = {"container": 1000, "microvm": 100}  # a machine may be an emulated one


def script(path, text):
    with open(path, "w") as f:
        f.write("#!/bin/sh\n" + text + "\n")
    os.chmod(path, 0o755)
    return path


def make_rootfs(dir):
    root = os.path.join(dir, "rootfs")
    for name in ("usr", "proc", "dev", "sys", "tmp", "etc", "run"):
        os.makedirs(os.path.join(root, name), exist_ok=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        if os.path.exists("/" + name) and not os.path.lexists(os.path.join(root, name)):
            os.symlink("usr/" + name, os.path.join(root, name))
    return root


def bundle(dir, tool):
    """An OCI bundle as the tool proposes it, with our command and the host's programs."""
    os.makedirs(dir)
    make_rootfs(dir)
    subprocess.run([tool, "spec"], cwd=dir, check=True)
    path = os.path.join(dir, "config.json")
    with open(path) as f:
        spec = json.load(f)
    spec["process"].update(terminal=False, args=["sh", "-c", "true"])
    spec["mounts"].append({"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro", "nosuid"]})
    with open(path, "w") as f:
        json.dump(spec, f)


def oci_script(dir, tool, prefix=""):
    return script(os.path.join(dir, tool + (".private" if prefix else "") + ".sh"),
                  "%sexec %s --root %s/state run --bundle %s %s-$$" % (prefix, tool, dir, os.path.join(dir, tool), tool))


def podman_script(dir, runtime):
    """A storage and settings of its own; limits as this process has them, since it may not raise any."""
    names = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    ulimits = ["%s=%d:%d" % (name, most, most) for name, most in ((name, min(resource.getrlimit(x)[1] % 2**64, LIMIT_MAX))
                                                                  for name, x in names.items())]
    with open(os.path.join(dir, "containers.conf"), "w") as f:
        f.write("[containers]\ndefault_ulimits = %s\n[engine]\nevents_logger = \"none\"\n" % json.dumps(ulimits))
    root = make_rootfs(os.path.join(dir, "podman"))
    return script(os.path.join(dir, "podman.sh"), "export CONTAINERS_CONF=%s/containers.conf\n"
                  "exec podman --root %s/storage --runroot %s/runroot --tmpdir %s/tmp --storage-driver vfs --cgroup-manager cgroupfs "
                  "--runtime %s run --rm --network none --read-only --volume /usr:/usr:ro --rootfs %s sh -c true"
                  % (dir, dir, dir, dir, runtime, root))


def works(argv):
    """What it says when it fails; None: it works."""
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                       errors="replace")
    return None if p.returncode == 0 else (p.stdout.strip().splitlines() or ["status %d" % p.returncode])[-1]


def engines(dir):
    """The other ways that work here, as {row: command}; and why the rest does not."""
    ways, skipped = {}, []

    def take(row, tool, *commands):
        if shutil.which(tool) is None:
            skipped.append("%s is not installed" % tool)
            return False
        why = None
        for c in commands:
            why = works(c.split())
            if why is None:
                ways[row] = c
                return True
        skipped.append("%s: %s" % (tool, why))
        return False

    take("bwrap_sh", "bwrap", BWRAP)
    runtime = None
    for tool in ("crun", "runc"):
        if shutil.which(tool) is not None:
            bundle(os.path.join(dir, tool), tool)
        commands = [oci_script(dir, tool)]
        if os.path.ismount(HYBRID):
            private = oci_script(dir, tool, "umount %s && " % HYBRID)
            commands.append("unshare --mount %s" % private)
        if take(tool, tool, *commands) and ways[tool] == commands[0]:
            runtime = runtime or tool
    if runtime is not None:
        take("podman", "podman", podman_script(dir, runtime))
    else:
        skipped.append("podman: it has neither crun nor runc")
    return ways, skipped


def cells(b, rows, rounds, ways):
    """One command, each way in turn."""
    dir = os.path.join(b.dir, "cells")
    os.makedirs(dir)
    p = subprocess.run([b.bin("bench/cells"), str(rounds), b.bin("ithaca-guest"), dir] + ["%s=%s" % x for x in ways.items()],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
    shutil.rmtree(dir, ignore_errors=True)
    if p.returncode != 0:
        raise SystemExit("bench: cells: %s" % p.stderr)
    for name, values in json.loads(p.stdout).items():
        rows.add(name, "ms", *[v / 1e3 for v in values])


@contextlib.contextmanager
def traffic(b, *options, env=None):
    dir = os.path.join(b.dir, "traffic")
    os.makedirs(dir)
    p = subprocess.Popen([b.bin("bench/traffic"), *options, b.bin("ithaca-guest"), dir], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ, **(env or {})))
    try:
        yield p
    finally:
        p.stdin.close()
        p.wait(60)
        shutil.rmtree(dir, ignore_errors=True)


def echo_rows(b, rows, p, tier):
    for line in p.stdout:
        r = json.loads(line)
        if "echo" in r and (tier == "cell" or r["echo"] != "pipes"):
            row = {"pipes": "process: two pipes", "cell": "%s: pipes" % tier, "terminal": "%s: terminal" % tier}[r["echo"]]
            rows.add(row, "us_p50", r["us_p50"])
            rows.add(row, "us_p99", r["us_p99"])
        elif "flood" in r:
            if tier != "cell" and r["flood"] == "pipe":
                continue
            row = "flood, " + (r["flood"] if tier == "cell" else "%s: %s" % (tier, r["flood"]))
            rows.add(row, "mb_s", r["mb_s"])
            if r["peak_kib"] > 0:
                rows.add(row, "peak_mib", r["peak_kib"] / 1024)


def through_cells(b, rows, has_flood):
    with traffic(b, "-e", str(ECHOS), "-b", str(FLOOD_BYTES if has_flood else 0)) as p:
        echo_rows(b, rows, p, "cell")
    if p.returncode != 0:
        raise SystemExit("bench: traffic: %s" % p.stderr.read())


def idle_cells(b, rows, pss_parts):
    """shelld, its zygote and CELLS cells of which each has run a command."""
    found = []
    with traffic(b, "-c", str(CELLS)) as p:
        for line in p.stdout:
            found.append(pss_parts(json.loads(line)["pid"]))
            p.stdin.write("\n")
            p.stdin.flush()
    if p.returncode != 0 or len(found) != 2:
        raise SystemExit("bench: traffic: %s" % p.stderr.read())
    before, after = (1024 * sum(x.values()) for x in found)
    rows.add("%d idle cells" % CELLS, "all_mib", after / 1024)
    rows.add("%d idle cells" % CELLS, "none_mib", before / 1024)
    rows.add("%d idle cells" % CELLS, "each_kib", (after - before) / CELLS)


def tiers(b, rows):
    """The echo and the flood in a sidecar of each tier; the engine of containers is one of the bench's own."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "tiers"))
    for tier in TIER_ECHOS:
        try:
            with engine(tier) as env, traffic(b, "-t", tier, "-e", str(TIER_ECHOS[tier]), "-b", str(FLOOD_BYTES), env=env) as p:
                echo_rows(b, rows, p, tier)
            if p.returncode != 0:
                rows.skip("%s: %s" % (tier, (p.stderr.read().strip().splitlines() or ["no reason"])[-1]))
        except SystemExit as e:  # how the engine of the tests says that it is not there
            if e.code != 77:
                raise
            rows.skip("%s: its engine does not start here" % tier)


@contextlib.contextmanager
def engine(tier):
    if tier == "microvm":
        yield {"RIG_KERNEL": microvm.kernel()}
        return
    from engine import Podman
    podman = Podman()
    try:
        yield {"BENCH_ENGINE": podman.socket}
    finally:
        podman.stop()
