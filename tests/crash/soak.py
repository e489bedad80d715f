#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""soak.py BUILD [KILLS [SEED]]: kills at random moments until that many were made, up to four in one turn, so also during
recovery; of single roles, of what shelld is made of (the inits of cells and commands, the spare, the zygote, the cleaner), of
the client, of all roles at once. Each turn ends with a stop or with another kill of all roles, and then nothing may be left;
a fresh start must find the session and go on with it. The same seed chooses the same kills (the machine's timing is its own).
Ends with one line of counts; prints the seed of a turn that broke a claim and goes on."""
import collections
import json
import random
import select
import sys
import time
import traceback

KILLS = int(sys.argv[2]) if len(sys.argv) > 2 else 300
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else 1
del sys.argv[2:]

from crash import BELOW, ROLES, CrashCase, name_of

VICTIMS = ROLES + BELOW + ("runtime", "runner", "shelld", "client", "all")
TAKE_COMMANDS = {"shelld", "all", "zygote", "cell", "exec"}  # a command that runs goes with them


class Turn(CrashCase):
    """One turn under attack."""

    def runTest(self):
        pass

    def attack(self, rng, counts):
        self.network = rng.random() < 0.5
        self.prepare(self.network, pace=rng.choice((1, 2, 8)))
        self.hit = []
        stream, session = self.stream("go"), None
        holds, found_none = rng.random() < 0.5, False
        if not holds:
            self.go.go()
        for _ in range(rng.choice((1, 1, 2, 3, 4))):
            session = self.run_a_while(stream, rng.choice((rng.randrange(4), rng.randrange(70))), rng.random() * 0.02) or session
            victim = rng.choice(VICTIMS)
            try:
                stream = self.strike(stream, victim, session, counts)
            except AssertionError as e:
                found_none = "nothing is open" in str(e)  # who came to continue
                if stream.proc.poll() != 0 and not found_none:
                    raise
                break  # the turn was over, and with it the private runner: there is nobody to kill
        if holds:
            self.go.go()
        if not found_none:
            self.finish(stream, may_be_over="client" in self.hit)
        session = session or stream.events[0]["session"]
        whole = None if "client" in self.hit else stream
        _, state = self.check_answered(session, whole)
        if not TAKE_COMMANDS & set(self.hit):
            self.assertEqual(set(state.values()), {"done"}, self.told)
        counts.update("effects " + s for s in state.values())
        for effect, told in self.told.items():
            print("   %s after kills of %s: %s" % (told[1], self.hit, told), flush=True)
        self.end(rng, counts)
        self.check_stopped()
        self.go_on(session)
        self.stop()
        self.check_stopped()

    def end(self, rng, counts):
        if rng.random() < 0.5:
            self.stop()
            return
        while set(ROLES) & set(self.pids()):  # one that was only just being started is met by the next
            self.kill_all()
        self.hit.append("all")
        counts["all"] += 1

    def go_on(self, session):
        """What a new start finds."""
        found = json.loads(self.ithaca("session", "list", "--json", check=0).stdout)["sessions"]
        self.assertIn(session, [s["session"] for s in found])
        for other in {s["session"] for s in found} - {session}:  # made for a client that was never told of it
            self.assertEqual({e["kind"] for e in self.events(other)}, {"session.created"})
        self.assertIn("nothing is open", self.ithaca("run", "--session", session, "--continue", check=1).stderr)
        self.assertEqual(self.run_json("--session", session, "and again")["status"], "answered")
        events = self.events(session)
        self.assertEqual([e["seq"] for e in events], list(range(1, len(events) + 1)))
        self.assertEqual([e["kind"] for e in events].count("turn.finished"), 2)

    def run_a_while(self, stream, events, delay_s):
        for _ in range(events):
            if stream.proc.poll() is not None or (stream.events and stream.events[-1]["kind"] == "turn.finished"):
                break
            if not stream.rest.count(b"\n") and not select.select([stream.proc.stdout], [], [], 0.3)[0]:
                break  # the command waits for us
            if stream.next() is None:
                break
        select.select([], [], [], delay_s)
        return stream.events[0]["session"] if stream.events else None

    def wait_cleaner(self):
        """Until there is another: killed together with all others, nobody is left to clean up."""
        end = time.monotonic() + 10
        while "shelld" in self.pids() and "ithaca-cleaner" not in [name_of(p) for p, _, _ in self.mine()]:
            self.assertLess(time.monotonic(), end, "no cleaner")
            select.select([], [], [], 0.01)

    def strike(self, stream, victim, session, counts):
        if session is None and victim in ("client", "all"):
            victim = "runtime"  # without a session there would be nothing to continue
        if victim == "all":
            self.kill_all()
        elif victim in BELOW:
            victim = victim if self.kill_below(victim) else "none"  # not there at this moment
            if victim == "cleaner":
                self.wait_cleaner()
        elif victim != "client":
            self.kill(victim)
        self.hit.append(victim)
        counts[victim] += 1
        if victim not in ("client", "all"):
            return stream
        if victim == "all":
            self.hit.append("client")
        self.leave(stream)
        return self.stream("--session", session, "--continue")


def claim(e):
    """Which claim a turn broke, in a word."""
    words = {"twice": "doubled", "doubled": "doubled", "silently": "silent"}
    return next((v for k, v in words.items() if k in str(e)), "other")


def main():
    rng, counts, kills, turns, failed = random.Random(SEED), collections.Counter(), 0, 0, 0
    began = time.monotonic()
    while kills < KILLS:
        seed = rng.randrange(1 << 32)
        turn = Turn()
        turn.setUp()
        try:
            turn.attack(random.Random(seed), counts)
        except Exception:
            failed += 1
            counts["turns failed: " + claim(sys.exc_info()[1])] += 1
            print("turn %d (seed %d) after kills of %s:" % (turns, seed, getattr(turn, "hit", [])), flush=True)
            traceback.print_exc(file=sys.stdout)
            turn.show_logs()
        finally:
            turn.tearDown()
        kills += len([v for v in turn.hit if v != "none"])
        turns += 1
    for name in ("effects done", "effects not_done", "effects unknown", "turns failed: doubled", "turns failed: silent"):
        counts[name] += 0  # said also when there were none
    print("soak: %d kills in %d turns, %d turns failed, %.0f s; %s" %
          (kills, turns, failed, time.monotonic() - began, ", ".join("%s %d" % c for c in sorted(counts.items()))))
    return failed != 0


sys.exit(main())
