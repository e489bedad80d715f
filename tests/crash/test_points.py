#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kill -9 of each role at each journal point of one turn. The client stays connected, and must end by itself with the
whole answer; then the log, the stream, the workspace and the processes are checked."""
import os
import signal
import subprocess
import time
import unittest

from crash import ANSWER, BIN, ROLES, CrashCase, main, wait_ends


def on(kind, nth=1, **match):
    """When the stream shows the nth event of a kind."""
    def point(test, stream):
        for _ in range(nth):
            stream.until(kind, **match)
    return point


def mid_text(test, stream):
    stream.until("model.partial")


def while_running(test, stream):
    test.began.wait()


def right_after(test, stream):
    test.began.wait()
    test.go.go()
    test.ended.wait()


# name, how it is reached, whether the command must not end before the kill
POINTS = {
    "session_created": (on("session.created"), False),
    "user_message": (on("user.message"), False),
    "turn_started": (on("turn.started"), False),
    "model_started": (on("model.started"), False),
    "mid_text": (mid_text, False),
    "model_done": (on("model.done"), False),
    "tool_requested": (on("tool.requested"), False),
    "write_intent": (on("effect.intent", tool="write"), False),
    "exec_intent": (on("effect.intent", tool="exec"), False),
    "while_running": (while_running, True),
    "mid_output": (on("tool.partial"), True),
    "right_after": (right_after, True),
    "exec_outcome": (on("effect.outcome", tool="exec"), False),
    "move_intent": (on("effect.intent", tool="move"), False),
    "delete_outcome": (on("effect.outcome", tool="delete"), False),
    "last_model": (on("model.started", step=6), False),
    "turn_finished": (on("turn.finished"), False),
}


class Points(CrashCase):
    """One test for each point and role, made below."""

    def check_point(self, point, role, network=False):
        reach, holds = POINTS[point]
        self.prepare(network, pace=30 if point == "mid_text" else 2)
        stream = self.stream("go")
        if not holds:
            self.go.go()
        reach(self, stream)
        self.kill(role)
        if holds:
            self.go.go()
        self.finish(stream)
        session = stream.events[0]["session"]
        events, state = self.check_answered(session, stream)
        if point == "mid_text":
            self.assertTrue([e for e in events if e["kind"] == "model.partial" and e["body"]["text"]], "partial text is lost")
        if role != "shelld":
            self.assertEqual(set(state.values()), {"done"}, self.told)
        elif point in ("while_running", "mid_output"):
            self.assertEqual(state["exec"], "unknown")
        self.stop()
        self.check_stopped()


def add_points():
    for point in POINTS:
        for role in ROLES:
            def test(self, point=point, role=role):
                self.check_point(point, role, network=role == "broker")
            setattr(Points, "test_%s_%s" % (point, role), test)
    for point in ("mid_text", "model_started", "last_model"):
        for role in ("runner", "runtime"):
            def test(self, point=point, role=role):
                self.check_point(point, role, network=True)
            setattr(Points, "test_%s_%s_network" % (point, role), test)


add_points()

if __name__ == "__main__":
    main()
