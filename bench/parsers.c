/* SPDX-License-Identifier: MIT
 * parsers ROUNDS: how fast the answers of each model API are parsed, in megabytes of the stream per
 * second of CPU time, as arrays of one JSON object: ours from bytes to the finished answer (lines, events,
 * JSON, limits, parts, live deltas), and beside it json-c parsing the JSON of each data line alone,
 * found beforehand. Each round has one of each. The stream is what servers send: hundreds of small
 * events with reasoning, text and two calls. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "base/limits.h"
#include "floor_json_c.h"
#include "provider/provider.h"

#define ROUNDS_MAX   1000
#define ROUND_MS     100 /* of CPU time, of each way in each round */
#define TEXT_EVENTS  900
#define OTHER_EVENTS 150 /* of reasoning, and of the arguments of each call */
#define WORD         "the words of an answer \\u00e9 "
#define PIECE        "{\\\"path\\\":\\\"src\\\" "

enum way { WAY_OURS, WAY_JSON_C, WAY_COUNT };

static const char *const apis[] = { "openai-chat", "openai-responses", "anthropic", "gemini" };

/* One event of a stream. %s: a piece of text, as JSON writes it. */
struct events {
	const char *begin, *reasoning, *text_begin, *text;
	const char *call_begin[2], *args[2];
	const char *end;
};

#define D(json) "data: " json "\n\n"
#define CHAT(delta)                                                                                \
	D("{\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion."       \
	  "chunk\",\"created\":1741569952,"                                                        \
	  "\"model\":\"model-1-2026-01-01\",\"service_tier\":\"default\",\"system_fingerprint\":"  \
	  "\"fp_44709d6fcb\","                                                                     \
	  "\"choices\":[{\"index\":0,\"delta\":" delta                                             \
	  ",\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}")
#define RESPONSES(type, rest)                                                                      \
	"event: " type                                                                             \
	"\n" D("{\"type\":\"" type                                                                 \
	       "\",\"sequence_number\":17,\"item_id\":\"item_67c9fdcf37fc8190ba82116e33\"," rest   \
	       "}")
#define ANTHROPIC(type, rest) "event: " type "\n" D("{\"type\":\"" type "\"," rest "}")
#define GEMINI(part)                                                                               \
	D("{\"candidates\":[{\"content\":{\"parts\":[" part                                        \
	  "],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{"                                \
	  "\"promptTokenCount\":1024,\"candidatesTokenCount\":17,\"totalTokenCount\":1041,"        \
	  "\"promptTokensDetails\":["                                                              \
	  "{\"modality\":\"TEXT\",\"tokenCount\":1024}]},\"modelVersion\":\"model-1\","            \
	  "\"responseId\":\"tuiUaO2LKqCe\"}")

static const struct events streams[] = {
	{
		.begin = CHAT("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}"),
		.reasoning = CHAT("{\"reasoning_content\":\"%s\"}"),
		.text_begin = "",
		.text = CHAT("{\"content\":\"%s\"}"),
		.call_begin = { CHAT("{\"tool_calls\":[{\"index\":0,\"id\":\"call_1\",\"type\":"
				     "\"function\",\"function\":{\"name\":"
				     "\"read\",\"arguments\":\"\"}}]}"),
			CHAT("{\"tool_calls\":[{\"index\":1,\"id\":\"call_2\",\"type\":"
			     "\"function\",\"function\":{\"name\":"
			     "\"grep\",\"arguments\":\"\"}}]}") },
		.args = { CHAT("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"%s\"}}]"
			       "}"),
			CHAT("{\"tool_calls\":[{\"index\":1,\"function\":{\"arguments\":\"%s\"}}]"
			     "}") },
		.end = D("[DONE]"),
	},
	{
		.begin = RESPONSES("response.output_item.added",
			"\"output_index\":0,\"item\":{\"id\":\"rs_"
			"1\",\"type\":\"reasoning\",\"summary\":[]}"),
		.reasoning = RESPONSES("response.reasoning_summary_text.delta",
			"\"output_index\":0,\"summary_index\":0,\"delta\":\"%s\",\"obfuscation\":"
			"\"nS3tEFpV\""),
		.text_begin = RESPONSES("response.output_item.added",
			"\"output_index\":1,\"item\":{\"id\":\"msg_"
			"1\",\"type\":\"message\",\"content\":[]}"),
		.text = RESPONSES("response.output_text.delta",
			"\"output_index\":1,\"content_index\":0,\"delta\":\"%s\",\"logprobs\":[],"
			"\"obfuscation\":\"nS3tEFpV\""),
		.call_begin = { RESPONSES("response.output_item.added",
					"\"output_index\":2,\"item\":{\"id\":\"fc_1\",\"type\":"
					"\"function_call\",\"call_id\":\"c1\",\"name\":\"read\","
					"\"arguments\":\"\"}"),
			RESPONSES("response.output_item.added",
				"\"output_index\":3,\"item\":{\"id\":\"fc_2\",\"type\":"
				"\"function_call\",\"call_id\":\"c2\",\"name\":\"grep\","
				"\"arguments\":\"\"}") },
		.args = { RESPONSES("response.function_call_arguments.delta",
				  "\"output_index\":2,\"delta\":\"%s\""),
			RESPONSES("response.function_call_arguments.delta",
				"\"output_index\":3,\"delta\":\"%s\"") },
		.end = RESPONSES("response.completed",
			"\"response\":{\"usage\":{\"input_tokens\":1024,\"output_tokens\":17}}"),
	},
	{
		.begin = ANTHROPIC("content_block_start",
			"\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\","
			"\"signature\":\"\"}"),
		.reasoning = ANTHROPIC("content_block_delta",
			"\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"%s\"}"),
		.text_begin = ANTHROPIC("content_block_start",
			"\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"),
		.text = ANTHROPIC("content_block_delta",
			"\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"%s\"}"),
		.call_begin = { ANTHROPIC("content_block_start",
					"\"index\":2,\"content_block\":{\"type\":\"tool_use\","
					"\"id\":\"t1\","
					"\"name\":\"read\",\"input\":{}}"),
			ANTHROPIC("content_block_start", "\"index\":3,\"content_block\":{\"type\":"
							 "\"tool_use\",\"id\":\"t2\","
							 "\"name\":\"grep\",\"input\":{}}") },
		.args = { ANTHROPIC("content_block_delta",
				  "\"index\":2,\"delta\":{\"type\":\"input_"
				  "json_delta\",\"partial_json\":\"%s\"}"),
			ANTHROPIC("content_block_delta", "\"index\":3,\"delta\":{\"type\":\"input_"
							 "json_delta\",\"partial_json\":\"%s\"}") },
		.end = ANTHROPIC("message_stop", "\"x\":null"),
	},
	{
		.begin = "",
		.reasoning = GEMINI("{\"text\":\"%s\",\"thought\":true}"),
		.text_begin = "",
		.text = GEMINI("{\"text\":\"%s\"}"),
		.call_begin = { GEMINI("{\"functionCall\":{\"name\":\"read\",\"args\":{\"path\":"
				       "\"src\",\"limit\":100}},"
				       "\"thoughtSignature\":\"CiQBVKhc7vB+vaaq6rA=\"}"),
			GEMINI("{\"functionCall\":{\"name\":\"grep\",\"args\":{\"pattern\":\"x\","
			       "\"path\":\"src\"}}}") },
		.args = { "", "" }, /* calls come whole */
		.end = D("{\"candidates\":[{\"content\":{\"parts\":[]},\"finishReason\":\"STOP\","
			 "\"index\":0}]}"),
	},
};

/* ---- the stream ---- */

/* The event with the piece in the place of %s. */
static void
add(struct buf *b, const char *event, const char *piece)
{
	const char *at = strstr(event, "%s");

	if (at == NULL) {
		buf_add_z(b, event);
		return;
	}
	buf_add(b, event, (size_t)(at - event));
	buf_add_z(b, piece);
	buf_add_z(b, at + 2);
}

static void
make_stream(struct buf *b, const struct events *v)
{
	add(b, v->begin, "");
	for (int i = 0; i < OTHER_EVENTS; i++)
		add(b, v->reasoning, WORD);
	add(b, v->text_begin, "");
	for (int i = 0; i < TEXT_EVENTS; i++)
		add(b, v->text, WORD);
	for (int c = 0; c < 2; c++) {
		add(b, v->call_begin[c], "");
		for (int i = 0; i < OTHER_EVENTS; i++)
			add(b, v->args[c], PIECE);
	}
	add(b, v->end, "");
}

/* ---- the two ways ---- */

static void
on_delta(void *arg, enum delta_type type, struct str text)
{
	*(size_t *)arg += text.n;
}

static void
run_ours(const char *name, struct str stream)
{
	size_t shown = 0;
	struct parser *p = parser_new(provider_api_find(str_of(name)), on_delta, &shown);
	const struct model_answer *answer;
	struct err e = { 0 };

	/* In pieces of the size in which a socket gives them. */
	for (size_t at = 0; at < stream.n; at += 16 * KIB) {
		if (parser_feed(p, str_sub(stream, at, 16 * KIB), &e) != 0) {
			fprintf(stderr, "parsers: %s: %s\n", name, e.msg);
			exit(1);
		}
	}
	if (parser_end(p, &answer, &e) != 0 || answer->n != 4 ||
		shown < TEXT_EVENTS * strlen("words")) {
		fprintf(stderr, "parsers: %s: the answer is not the one that was sent: %s\n", name,
			e.msg);
		exit(1);
	}
	parser_free(p);
}

static size_t
find_lines(struct str stream, struct str **out)
{
	struct str rest = stream, line;
	size_t n = 0;

	*out = calloc(2 * (TEXT_EVENTS + 4 * OTHER_EVENTS), sizeof(**out));
	while (*out != NULL && str_next(&rest, '\n', &line))
		if (str_starts(line, "data: {"))
			(*out)[n++] = str_sub(line, 6, line.n);
	return n;
}

/* Of this thread: whatever else the machine does takes none of it. */
static int64_t
cpu_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Megabytes of the stream per second of CPU time. */
static double
speed(enum way way, const char *name, struct str stream, const struct str *lines, size_t n)
{
	int64_t begin = cpu_us(), end = begin;
	size_t bytes = 0;

	while (end - begin < ROUND_MS * 1000) {
		if (way == WAY_OURS)
			run_ours(name, stream);
		else if (floor_json_c(lines, n) != 0)
			exit(1);
		bytes += stream.n;
		end = cpu_us();
	}
	return (double)bytes / (double)(end - begin);
}

static void
print_row(const char *name, const char *way, const double *v, int64_t n, bool is_first)
{
	printf("%s\"%s%s\":[", is_first ? "{" : ",", name, way);
	for (int64_t i = 0; i < n; i++)
		printf("%s%.1f", i > 0 ? "," : "", v[i]);
	printf("]");
}

int
main(int argc, char **argv)
{
	static double speeds[WAY_COUNT][ROUNDS_MAX];
	static const char *const ways[] = { "", " json-c" };
	int64_t rounds = 0;

	if (argc != 2 || str_i64(str_of(argv[1]), &rounds) != 0 || rounds < 1 ||
		rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: parsers ROUNDS\n");
		return 2;
	}
	for (size_t i = 0; i < ARRAY_LEN(apis); i++) {
		struct buf b;
		struct str *lines;
		size_t n;

		buf_init(&b, MODEL_TEXT_MAX);
		make_stream(&b, &streams[i]);
		n = find_lines(buf_str(&b), &lines);
		for (int64_t round = 0; round < rounds; round++)
			for (int way = 0; way < WAY_COUNT; way++)
				speeds[way][round] =
					speed((enum way)way, apis[i], buf_str(&b), lines, n);
		for (int way = 0; way < WAY_COUNT; way++)
			print_row(apis[i], ways[way], speeds[way], rounds, i == 0 && way == 0);
		free(lines);
		buf_fini(&b);
	}
	printf("}\n");
	return 0;
}
