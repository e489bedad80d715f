/* SPDX-License-Identifier: MIT
 * The finder of calls in text: the first byte chooses the mode, the rest is the answer's text.
 * Every call names an offered tool and has an object as arguments; without calls nothing of the
 * text is lost; what is told to a model as text is the same each time. */
#include <stdlib.h>
#include "base/hash.h"
#include "base/limits.h"
#include "provider/provider.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define S(z)                                                                                       \
	{                                                                                          \
		z, sizeof(z) - 1                                                                   \
	}

static const struct tool_schema tools[] = {
	{ "read", "Reads.",
		S("{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\"},\"n\":{"
		  "\"type\":"
		  "\"integer\"}}}") },
	{ "list", "Lists.", S("{}") },
};

static void
check_call(const struct part *p)
{
	struct arena *a = arena_new(MODEL_EVENT_TREE_MAX);
	const struct node *n;

	if (!str_is(p->tool, "read") && !str_is(p->tool, "list"))
		abort();
	if (p->call_id.n == 0 || json_parse(a, p->args, &n, NULL) != 0 || n->type != NODE_MAP)
		abort();
	arena_free(a);
}

/* The answer goes back to the model: as text, and twice the same. */
static void
check_build(const struct model_answer *answer, struct model_request *r)
{
	const struct message m[] = { { MSG_USER, &(struct part){ .text = STR("x") }, 1 },
		{ MSG_ASSISTANT, answer->parts, answer->n } };
	struct buf body[2];

	r->messages = m;
	r->messages_n = 2;
	for (int i = 0; i < 2; i++) {
		struct http_request out = { .body = &body[i] };
		struct arena *a = arena_new(512 * MIB);
		struct err e;

		buf_init(&body[i], REQUEST_BODY_MAX);
		if (provider_api_find(STR("openai-chat"))->build(r, &out, a, &e) != 0)
			abort();
		arena_free(a);
	}
	if (!str_eq(buf_str(&body[0]), buf_str(&body[1])))
		abort();
	buf_fini(&body[0]);
	buf_fini(&body[1]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct part part = { .type = PART_TEXT };
	const struct model_answer answer = { .parts = &part, .n = 1, .stop = STOP_END };
	struct model_request r = { .model = STR("m"), .tools = tools, .tools_n = 2 };
	struct model_answer out;
	struct arena *a;
	size_t calls, seen = 0, most;

	if (size < 1)
		return 0;
	r.tool_mode = (enum tool_mode)(data[0] % 3);
	part.text = (struct str){ (const char *)data + 1, size - 1 };
	/* An answer that is a value is written anew, with control characters as escapes. */
	most = r.tool_mode == TOOLS_SCHEMA ? 6 * size + 64 : size;
	a = arena_new(512 * MIB);
	calls = answer_text_calls(&answer, &r, a, &out);
	for (size_t i = 0; i < out.n; i++) {
		if (out.parts[i].type == PART_CALL) {
			check_call(&out.parts[i]);
			seen++;
		} else if (out.parts[i].type != PART_TEXT || out.parts[i].text.n > most) {
			abort();
		}
	}
	if (seen != calls || (calls > 0) != (out.stop == STOP_TOOLS))
		abort();
	if (calls == 0 && r.tool_mode != TOOLS_SCHEMA &&
		(out.n != 1 || !str_eq(out.parts[0].text, part.text)))
		abort();
	check_build(&out, &r);
	arena_free(a);
	return 0;
}
