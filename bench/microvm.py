#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How long a machine of tier microvm takes to start: booted, booted and saved, restored. `bench/microvm.py BUILD [-n ROUNDS]`, or a
part of `bench/run BUILD --tiers`. RIG_KERNEL: its kernel; else that of tests/kernel (scripts/bootstrap check), else the newest of
/boot. Emulated where KVM does not run one."""
import argparse
import glob
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

WAYS = ("booted", "booted and saved", "restored")


def kernel():
    """Empty: the newest of /boot."""
    ours = glob.glob(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "kernel", "boot", "vmlinuz-*"))
    return os.environ.get("RIG_KERNEL") or (os.path.realpath(ours[0]) if ours else "")


class Start:
    """One start of a daemon in this home, its first command, and its end."""

    def __init__(self, build, home, work):
        def ithaca(*args):
            r = subprocess.run([build + "/ithaca", "--home", home, *args], cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, timeout=300)
            if r.returncode != 0:
                raise RuntimeError(r.stdout.strip())
            return r.stdout

        began = time.monotonic()
        ithaca("start")
        self.ready_ms = (time.monotonic() - began) * 1000
        try:
            began = time.monotonic()
            text = ithaca("run", "run echo `expr 20 + 22`")
            self.command_ms = (time.monotonic() - began) * 1000
            if "42" not in text:
                raise RuntimeError("a command does not run there: " + text)
        finally:
            ithaca("stop")
        with open(home + "/logs/runner.log") as f:
            up = [line for line in f if "a machine is up" in line][-1]
        self.machine_ms = int(re.search(r'\bms"?[=:](\d+)', up).group(1))
        self.accel = re.search(r'acceleration"?[=:]"?(\w+)', up).group(1)
        self.is_restored = "a saved state" in up


def new_home(top, keep, verdict):
    """verdict: what a first start found out about KVM, or None: no measured one has to wait for that."""
    home = tempfile.mkdtemp(dir=top)
    machine = {"allow_emulation": True, "kernel": kernel(), "keep_booted": keep}
    with open(home + "/config.yaml", "w") as f:
        f.write("tier: microvm\nmicrovm: %s\n" % json.dumps(machine))
    if verdict and os.path.exists(verdict):
        os.mkdir(home + "/state", 0o700)
        shutil.copy(verdict, home + "/state/machine.kvm")
    return home


def measure(build, rows, rounds):
    """Adds to rows[way]; gives the acceleration, or why there is none."""
    if not shutil.which("qemu-system-x86_64") or not (kernel() or glob.glob("/boot/vmlinuz-*")):
        return None, "microvm: there is no qemu-system-x86_64 or no kernel"
    top, accel = tempfile.mkdtemp(prefix="ithaca-bench-vm."), None
    try:
        first = new_home(top, False, None)
        Start(build, first, tempfile.mkdtemp(dir=top))
        for _ in range(rounds):
            for keep in (False, True):
                home = new_home(top, keep, first + "/state/machine.kvm")
                work = tempfile.mkdtemp(dir=top)
                for way in WAYS[1:] if keep else WAYS[:1]:
                    s = Start(build, home, work)
                    if s.is_restored != (way == "restored"):
                        raise RuntimeError("%s: it was not" % way)
                    accel = s.accel
                    rows.add("machine, " + way, "machine_ms", s.machine_ms)
                    rows.add("machine, " + way, "ready_ms", s.ready_ms)
                    rows.add("machine, " + way, "command_ms", s.command_ms)
                    if way == "booted and saved":
                        rows.add("machine, " + way, "file_mib", os.stat(home + "/state/machine").st_blocks / 2048)
                shutil.rmtree(home)
    except RuntimeError as e:
        return accel, "microvm: %s" % (str(e).splitlines() or ["no reason"])[0]
    finally:
        shutil.rmtree(top, ignore_errors=True)
    return accel, None


COLUMNS = [("machine_ms", "order to answer of shelld, ms"), ("ready_ms", "`ithaca start`, ms"), ("command_ms", "the first command, ms"),
           ("file_mib", "file, MiB")]
NAMES = ["machine, " + way for way in WAYS]


class Rows(dict):
    def add(self, row, column, value):
        self.setdefault(row, {}).setdefault(column, []).append(value)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("build")
    p.add_argument("-n", "--rounds", type=int, default=3)
    o = p.parse_args()
    rows, before = Rows(), os.getloadavg()[0]
    accel, why = measure(os.path.abspath(o.build), rows, o.rounds)
    if why:
        print("SKIP " + why)
    print("acceleration %s; load average %.1f before, %.1f after" % (accel, before, os.getloadavg()[0]))
    for name in NAMES:
        print(name, *("%s %.0f (%.0f-%.0f)" % (c, statistics.median(v), min(v), max(v)) for c, v in rows.get(name, {}).items()), sep="\t")
    sys.exit(1 if why else 0)


if __name__ == "__main__":
    main()
