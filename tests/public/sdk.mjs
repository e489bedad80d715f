// SPDX-License-Identifier: MIT
// One call of a vendor's SDK against the scripted model server; prints what the SDK understood, in one form for all of
// them: `sdk.mjs API PORT ask|errors|retry`, API also `embed-openai` and `embed-gemini`.
const [api, port, what] = process.argv.slice(2);
const root = `http://127.0.0.1:${port}`;
const question = "say hello";
const parameters = { type: "object", properties: { path: { type: "string" } } };
const maxRetries = what === "retry" ? 1 : 0;

// Each is loaded when it is needed: they are large.
const openai = async () => new (await import("openai")).default({ baseURL: `${root}/v1`, apiKey: "k", maxRetries });
const anthropic = async () => new (await import("@anthropic-ai/sdk")).default({ baseURL: root, apiKey: "k", maxRetries });
const gemini = async () => new (await import("@google/genai")).GoogleGenAI({ apiKey: "k", httpOptions: { baseUrl: root } });

const ask = {
  async "openai-chat"() {
    let reasoning = "";
    const stream = (await openai()).chat.completions.stream({
      model: "m", messages: [{ role: "user", content: question }], stream_options: { include_usage: true },
      tools: [{ type: "function", function: { name: "read", parameters } }],
    });
    stream.on("chunk", (c) => (reasoning += c.choices[0]?.delta.reasoning_content ?? ""));
    const whole = await stream.finalChatCompletion();
    const { message, finish_reason } = whole.choices[0];
    return {
      text: message.content ?? "", refusal: message.refusal ?? "", reasoning, finish: finish_reason,
      calls: (message.tool_calls ?? []).map((c) => [c.id, c.function.name, JSON.parse(c.function.arguments)]),
      usage: [whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.prompt_tokens_details.cached_tokens,
        whole.usage.completion_tokens_details.reasoning_tokens],
    };
  },
  async "openai-responses"() {
    const numbers = [];
    const stream = (await openai()).responses.stream({
      model: "m", input: [{ role: "user", content: question }], include: ["reasoning.encrypted_content"], store: false,
      tools: [{ type: "function", name: "read", parameters, strict: false }],
    });
    stream.on("event", (e) => numbers.push(e.sequence_number));
    const whole = await stream.finalResponse();
    const of = (type) => whole.output.filter((o) => o.type === type);
    const parts = of("message").flatMap((m) => m.content);
    return {
      text: whole.output_text, refusal: parts.map((p) => p.refusal ?? "").join(""),
      reasoning: of("reasoning").flatMap((r) => r.summary.map((s) => s.text)).join(""),
      signatures: of("reasoning").map((r) => r.encrypted_content),
      finish: whole.incomplete_details?.reason ?? whole.status,
      calls: of("function_call").map((c) => [c.call_id, c.name, JSON.parse(c.arguments)]),
      usage: [whole.usage.input_tokens, whole.usage.output_tokens, whole.usage.input_tokens_details.cached_tokens,
        whole.usage.output_tokens_details.reasoning_tokens],
      numbered: numbers.every((n, i) => n === i),
      ids: new Set(whole.output.map((o) => o.id)).size === whole.output.length,
    };
  },
  async anthropic() {
    const whole = await (await anthropic()).messages.stream({
      model: "m", max_tokens: 100, messages: [{ role: "user", content: question }],
      tools: [{ name: "read", input_schema: parameters }],
    }).finalMessage();
    const of = (type) => whole.content.filter((b) => b.type === type);
    return {
      text: of("text").map((b) => b.text).join(""), reasoning: of("thinking").map((b) => b.thinking).join(""),
      signatures: [...of("thinking").map((b) => b.signature), ...of("redacted_thinking").map((b) => b.data)],
      finish: whole.stop_reason, calls: of("tool_use").map((c) => [c.id, c.name, c.input]),
      usage: [whole.usage.input_tokens + whole.usage.cache_read_input_tokens + whole.usage.cache_creation_input_tokens,
        whole.usage.output_tokens, whole.usage.cache_read_input_tokens],
    };
  },
  async gemini() {
    const chunks = [];
    for await (const c of await (await gemini()).models.generateContentStream({
      model: "m", contents: question, config: { tools: [{ functionDeclarations: [{ name: "read", parametersJsonSchema: parameters }] }] },
    })) chunks.push(c);
    const parts = chunks.flatMap((c) => c.candidates?.[0]?.content?.parts ?? []);
    const last = chunks[chunks.length - 1];
    return {
      text: parts.filter((p) => !p.thought).map((p) => p.text ?? "").join(""),
      reasoning: parts.filter((p) => p.thought).map((p) => p.text).join(""),
      signatures: parts.map((p) => p.thoughtSignature).filter(Boolean),
      finish: last.promptFeedback?.blockReason ?? last.candidates[0].finishReason,
      calls: parts.filter((p) => p.functionCall).map((p) => [p.functionCall.id, p.functionCall.name, p.functionCall.args]),
      together: Math.max(0, ...chunks.map((c) => c.functionCalls?.length ?? 0)),
      usage: [last.usageMetadata.promptTokenCount,
        (last.usageMetadata.candidatesTokenCount ?? 0) + (last.usageMetadata.thoughtsTokenCount ?? 0),
        last.usageMetadata.cachedContentTokenCount ?? 0, last.usageMetadata.thoughtsTokenCount ?? 0],
    };
  },
  async "embed-openai"() {
    const input = ["red apple", "a red apple", "war"];
    const coded = await (await openai()).embeddings.create({ model: "e", input, dimensions: 16 }); // base64 inside
    const plain = await (await openai()).embeddings.create({ model: "e", input, dimensions: 16, encoding_format: "float" });
    const near = (a, b) => a.every((x, i) => Math.abs(x - b[i]) < 1e-6);
    return {
      dims: coded.data.map((d) => d.embedding.length), same: coded.data.every((d, i) => near(d.embedding, plain.data[i].embedding)),
      order: coded.data.map((d) => d.index), usage: coded.usage.total_tokens > 0, vectors: plain.data.map((d) => d.embedding),
    };
  },
  async "embed-gemini"() {
    const { embeddings } = await (await gemini()).models.embedContent({
      model: "e", contents: ["red apple", "a red apple", "war"], config: { outputDimensionality: 16 } });
    return { dims: embeddings.map((e) => e.values.length), vectors: embeddings.map((e) => e.values) };
  },
};

try {
  console.log(JSON.stringify(await ask[api]()));
} catch (e) {
  const header = (name) => e.headers?.get?.(name) ?? null;
  console.log(JSON.stringify({
    error: e.constructor.name, status: e.status ?? null, message: e.message, request: e.requestID ?? null,
    remaining: header("x-ratelimit-remaining-requests"), wait: header("retry-after"),
  }));
}
