/* SPDX-License-Identifier: MIT
 * Ollama: its chat is the OpenAI-compatible one below /v1, its embeddings are the server's own
 * below /api. The base URL has therefore neither. */
#include "provider/internal.h"

#include "base/limits.h"

static int
build(const struct model_request *r, struct http_request *out, struct arena *a, struct err *e)
{
	int rc = provider_openai_chat.build(r, out, a, e);

	out->path = STR("/v1/chat/completions");
	return rc;
}

static int
event(struct parser *p, struct str event, struct str data, struct err *e)
{
	return provider_openai_chat.event(p, event, data, e);
}

const struct provider_api provider_ollama = {
	.name = "ollama",
	.base_url = "http://127.0.0.1:11434",
	.ends_with_body = true,
	.key_header = "Authorization: Bearer ",
	.build = build,
	.event = event,
	.error = error_object,
	.embed_build = embed_build_ollama,
	.embed_parse = embed_parse_ollama,
	.embed_max = EMBED_TEXTS_MAX,
};
