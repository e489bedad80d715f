#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every limit of a cell, made small and passed by a command: it holds, and the model gets the word of the limit and the key that sets
it. The control is the same command where the limit is large."""
import json
import os

from harness import Case, main

# key, small, large, command, words of the result
LIMITS = (
    ("cell.processes", 16, 400, "for i in $(seq 40); do sleep 600 & done; kill $(jobs -p); echo all begun",
     ("(cell.processes)",)),
    ("cell.memory_mb", 64, 1024, "python3 -c 'x = bytearray(200 << 20); print(len(x))' && echo had it", ("(cell.memory_mb)",)),
    ("cell.open_files", 32, 4096, "python3 -c 'f = [open(\"/dev/null\") for i in range(100)]; print(len(f))'",
     ("(cell.open_files)", "may have 32 ")),
    ("cell.file_mb", 2, 64, "head -c 8000000 /dev/zero > big", ("(cell.file_mb)", "file_size")),
    ("cell.tmp_mb", 2, 64, "head -c 8000000 /dev/zero > /tmp/big", ("(cell.tmp_mb)", "/tmp has 2 MiB")),
    ("cell.cpu_ms", 1000, 600000, "timeout 0.2 sh -c 'while :; do :; done'; i=0; while [ $i -lt %d ]; do i=$((i+1)); done",
     ("cpu_time", "(cell.cpu_ms)")),
    ("exec.timeout_ms", 500, 60000, "sleep %d", ("timeout_ms",)),
)
# What the command does for as long as its limit lets it, and what it does in the control.
COUNTS = {"cell.cpu_ms": (10 ** 12, 1000), "exec.timeout_ms": (600, 0)}


class Limits(Case):
    def result(self, key, value, command):
        section, name = key.split(".")
        with open(os.path.join(self.home, "script.yaml"), "w") as f:
            json.dump({"steps": [{"answer": [{"call": {"tool": "exec", "args": {"command": command}}}]},
                                 {"answer": [{"text": "{{result}}"}]}]}, f)
        self.config("model: offline/script\nproviders:\n  offline: { api: offline, script: script.yaml }\n"
                    "%s: { %s: %d }\n" % (section, name, value))
        out = self.run_json("--new", "go")["text"]
        self.stop()
        return out

    def test_each(self):
        for key, small, large, command, words in LIMITS:
            passes, stays = (command % n for n in COUNTS[key]) if key in COUNTS else (command, command)
            met = self.result(key, small, passes)
            for word in words:
                self.assertIn(word, met, key)
            free = self.result(key, large, stays)
            self.assertIn("exit 0", free, key)
            self.assertNotIn("(cell.", free, key)


if __name__ == "__main__":
    main()
