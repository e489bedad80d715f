#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the product sends is accepted by the types of the vendors' own SDKs: bodies of real turns, as the scripted model
server logged them, become literals of the SDK's request type, where a property too many is an error too. Bodies that were
made wrong on purpose must be refused, or the check says nothing."""
import base64
import copy
import json
import os
import shutil
import subprocess
import tempfile
import unittest

from peers import HERE, NODE, package
from harness import DEADLINE, Case, main
from test_attach import PDF, WAV, png

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


# Files. Sound has a form in two of the APIs only.
FILES = {"a.png": png(64, 64), "a.pdf": PDF, "a.txt": b"alpha\n"}
SOUND = {"a.wav": WAV}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


class Types(Case):
    def put(self, files):
        """The arguments that attach them."""
        for name, data in files.items():
            with open(os.path.join(self.work, name), "wb") as f:
                f.write(data)
        return [arg for name in files for arg in ("--attach", name)]

    def over(self):
        """Ends the runner and the server; gives the requests, and leaves an empty home."""
        self.stop()
        self.server.close()
        found = [r["body"] for r in self.server.requests()]
        os.unlink(self.server.log)
        self.server = None
        shutil.rmtree(self.home)
        os.makedirs(self.home, mode=0o700)
        return found

    def own(self, api):
        """Two turns in one session: tools, results good and bad, reasoning, an answer with history."""
        self.serve(SCRIPT, api)
        self.write("a.txt", "alpha")
        first = self.run_json("look around")
        self.run_json("--session", first["session"], "and again")
        found = self.over()
        self.assertEqual(len(found), 5, api)
        return found

    def moved(self, api):
        """A session that began on another API goes on here, with files and a schema; the answer does not match, so what it
        was told about that is there too."""
        other = "anthropic" if api != "anthropic" else "openai-responses"
        self.serve(SCRIPT, api)
        rows = "  other: { api: %s, base_url: \"http://127.0.0.1:%d%s\" }\n" % \
            (other, self.server.port, "/v1" if other.startswith("openai") else "")
        with open(os.path.join(self.home, "config.yaml"), "a") as f:
            f.write(rows + "catalog: { models: { test/m: { input: [image, pdf, audio], structured_output: true, reasoning: true } } }\n")
        first = self.run_json("--model", "other/m", "look around")
        sent = dict(FILES, **(SOUND if api in ("openai-chat", "gemini") else {}))
        files = self.put(sent)
        with open(os.path.join(self.dir, "schema.json"), "w") as f:
            json.dump(SCHEMA, f)
        self.run_json("--session", first["session"], "--schema", os.path.join(self.dir, "schema.json"), *files, "and again", check=1)
        found = self.over()
        self.assertEqual(len(found), 6, api)
        text = json.dumps(found[4:])
        for data in sent.values():
            self.assertIn("alpha" if data == FILES["a.txt"] else base64.b64encode(data).decode(), text)
        self.assertEqual(text.count("I look."), 2)
        self.assertIn('"integer"', text)
        return found[4:]

    def bodies(self, api):
        return self.own(api) + self.moved(api)

    def source(self):
        lines = ["import type { %s } from \"%s\";" % t for t in TYPES.values() if t[1]] + [CHAT, GEMINI]
        count = 0
        for api, (name, _) in TYPES.items():
            bodies = self.bodies(api)
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
