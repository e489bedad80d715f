#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Under a daemon with a turn at work: after kill -9 of any of its processes, the roles are there once and nothing of the dead
is left; after the stop nothing is."""
import os
import signal

from crash import ANSWER, LABEL, ROLES, CrashCase, main, wait_ends


class Household(CrashCase):
    def start(self):
        self.prepare(False, pace=2)
        self.ithaca("start", check=0)
        stream = self.stream("go")
        self.began.wait()
        return stream

    def test_each_role(self):
        stream = self.start()
        for name in ("broker", "runtime", "broker", "runtime"):
            self.kill(name)
            self.check_household()
        self.go.go()
        self.finish(stream)
        self.check_answered(stream.events[0]["session"], stream)
        for name in ("shelld", "runtime", "shelld", "broker"):
            self.kill(name)
            self.check_household()
        self.assertIn("stopped", self.ithaca("stop", check=0).stdout)
        self.check_stopped()

    def test_the_runner(self):
        stream = self.start()
        for _ in range(3):
            self.kill("runner")
            self.ithaca("start", check=0)
            self.check_household()
        self.go.go()
        self.finish(stream)
        self.check_answered(stream.events[0]["session"], stream)
        self.ithaca("stop", check=0)
        self.check_stopped()

    def test_everything_of_shelld(self):
        """The zygote and the inits of cells too: whoever of them dies, the rest goes with it or goes on."""
        stream = self.start()
        shelld = self.role("shelld")
        below = [pid for pid, parent, _ in self.mine() if parent == shelld]
        self.assertTrue(below)
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.dead = self.dead | {pid}
        self.assertEqual(wait_ends(below, 10), [])
        self.finish(stream)
        events, tools = self.check_log(stream.events[0]["session"])
        self.assertIn(tools["exec"]["state"], ("unknown", "done"))
        self.assertEqual(events[-1]["body"]["text"], LABEL + ANSWER)
        self.check_household()
        self.ithaca("stop", check=0)
        self.check_stopped()

    def test_all_at_once_and_again(self):
        stream = self.start()
        self.leave(stream)
        self.kill_all(ROLES)
        self.ithaca("start", check=0)
        self.check_household()
        self.ithaca("stop", check=0)
        self.check_stopped()

    def test_all_at_once_and_nobody_comes(self):
        """The cleaner is the last: sockets and groups go although no role is left."""
        self.leave(self.start())
        self.kill_all(ROLES)
        self.check_stopped()

    def test_all_but_shelld_and_nobody_comes(self):
        self.env["ITHACA__CELL__ORPHAN_MS"] = "300"
        self.leave(self.start())
        self.kill_all(("runner", "runtime", "broker"))
        self.check_stopped()


if __name__ == "__main__":
    main()
