#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the product sends is accepted by the types of the vendors' own SDKs: bodies of real turns, as the scripted model
server logged them, become literals of the SDK's request type, where a property too many is an error too. Bodies that were
made wrong on purpose must be refused, or the check says nothing."""
import copy
import json
import os
import shutil
import subprocess
import tempfile
import unittest

from peers import HERE, NODE, package
from harness import DEADLINE, Case, main

# api -> (type of a body, import that brings it).
TYPES = {
    "openai-chat": ("ChatBody", None),
    "openai-responses": ("ResponseCreateParamsStreaming", "openai/resources/responses/responses"),
    "anthropic": ("MessageCreateParamsStreaming", "@anthropic-ai/sdk/resources/messages"),
    "gemini": ("GeminiBody", None),
}
# Servers of one's own that stream `reasoning_content` get it back with the calls that followed; the vendor has no such.
CHAT = """
import type { ChatCompletionAssistantMessageParam, ChatCompletionCreateParamsStreaming, ChatCompletionMessageParam }
  from "openai/resources/chat/completions";
type Answer = ChatCompletionAssistantMessageParam & { reasoning_content?: string };
type ChatBody = Omit<ChatCompletionCreateParamsStreaming, "messages"> & { messages: (ChatCompletionMessageParam | Answer)[] };
"""
# The SDK of Gemini has no type for the body itself, only for its parts; its enums are what the wire has as strings.
GEMINI = """
import type { Content, GenerationConfig, SafetySetting, Tool, ToolConfig } from "@google/genai";
type Wire<T> = T extends string ? `${T}` : T extends (infer U)[] ? Wire<U>[] : T extends object ? { [K in keyof T]: Wire<T[K]> } : T;
interface GeminiBody {
  contents: Wire<Content>[]; systemInstruction?: Wire<Content>; tools?: Wire<Tool>[]; toolConfig?: Wire<ToolConfig>;
  generationConfig?: Wire<GenerationConfig>; safetySettings?: Wire<SafetySetting>[]; cachedContent?: string;
}
"""
SCRIPT = """
by: sequence
repeat: true
steps:
  - answer:
      - { reasoning: "I think", signature: U0lH }
      - { text: "I look." }
      - { call: { tool: list, args: { path: . } } }
      - { call: { tool: read, args: { path: a.txt } } }
      - { call: { tool: read, args: { path: nothere } } }
  - answer: [ { redacted: UkVE }, { call: { tool: exec, args: { command: "echo hi; exit 3" }, id: own-1 } } ]
  - answer: [ { call: { tool: nosuch, args: {} } }, { call: { tool: read, args: "{oops" } } ]
  - answer: [ { text: "Done." } ]
"""


def wrongs(api, body):
    """Bodies that the service would refuse, each by one change."""
    def change(how):
        b = copy.deepcopy(body)
        how(b)
        return b

    def messages(b):
        return b["contents" if api == "gemini" else "input" if api == "openai-responses" else "messages"]

    def tool(b):
        return b["tools"][0]["functionDeclarations"][0] if api == "gemini" else \
            b["tools"][0]["function"] if api == "openai-chat" else b["tools"][0]

    yield change(lambda b: b.update(no_such_key=1))
    yield change(lambda b: messages(b).append("text"))
    yield change(lambda b: messages(b).append({"role": 7, "content": "x", "parts": 7}))
    yield change(lambda b: tool(b).update(name=7))
    yield change(lambda b: tool(b).update(no_such_key=1))
    yield change(lambda b: b.update(contents=None) if api == "gemini" else b.update(model=7))


class Types(Case):
    def bodies(self, api):
        """Requests of two turns in one session: tools, results good and bad, reasoning, an answer with history."""
        self.serve(SCRIPT, api)
        self.write("a.txt", "alpha")
        first = self.run_json("look around")
        self.run_json("--session", first["session"], "and again")
        self.stop()
        self.server.close()
        found = [r["body"] for r in self.server.requests()]
        os.unlink(self.server.log)
        self.server = None
        shutil.rmtree(self.home)
        os.makedirs(self.home, mode=0o700)
        return found

    def source(self):
        lines = ["import type { %s } from \"%s\";" % t for t in TYPES.values() if t[1]] + [CHAT, GEMINI]
        count = 0
        for api, (name, _) in TYPES.items():
            bodies = self.bodies(api)
            self.assertEqual(len(bodies), 5, api)
            for body in bodies:
                count += 1
                lines.append("export const v%d: %s = %s; // %s" % (count, name, json.dumps(body), api))
            for body in wrongs(api, bodies[-1]):
                count += 1
                lines.append("// @ts-expect-error %s\nexport const v%d: %s = %s;" % (api, count, name, json.dumps(body)))
        return "\n".join(lines) + "\n"

    def test_requests(self):
        dir = tempfile.mkdtemp(prefix="types.", dir=package())
        self.addCleanup(shutil.rmtree, dir)
        with open(os.path.join(dir, "requests.ts"), "w") as f:
            f.write(self.source())
        with open(os.path.join(dir, "tsconfig.json"), "w") as f:
            json.dump({"files": ["requests.ts"], "compilerOptions": {
                "noEmit": True, "strict": True, "skipLibCheck": True, "target": "es2022", "module": "nodenext", "types": [],
                "lib": ["es2022", "dom", "dom.asynciterable"]}}, f)
        p = subprocess.run([NODE, package("typescript", "bin", "tsc"), "-p", dir], capture_output=True, text=True,
                           timeout=4 * DEADLINE)
        self.assertEqual((p.returncode, p.stdout[:4000]), (0, ""))


if __name__ == "__main__":
    main()
