/* SPDX-License-Identifier: MIT
 * Recorded events for the tests of this room: a turn that reads, edits and runs, with a retry half-way. */
#ifndef TESTS_CLI_EVENTS_H
#define TESTS_CLI_EVENTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "cli/live.h"

#define SESSION "01jd0000000000000000000001"
#define TURN    "01jd0000000000000000000002"
#define EV(seq, time, kind, body)                                                                 \
	"{\"seq\":" seq ",\"id\":\"x\",\"session\":\"" SESSION "\",\"turn\":\"" TURN                \
	"\",\"time\":" time ",\"kind\":\"" kind "\",\"body\":" body "}"

static const char *const recorded[] UNUSED = {
	EV("2", "1000", "turn.started", "{\"model\":\"test/x\",\"mode\":\"workspace_write\",\"cell\":\"cell\"}"),
	EV("3", "1001", "model.started", "{\"step\":1,\"attempt\":1}"),
	EV("0", "1002", "model.delta", "{\"step\":1,\"attempt\":1,\"offset\":0,\"text\":\"Let me \"}"),
	EV("0", "1003", "model.delta", "{\"step\":1,\"attempt\":1,\"offset\":7,\"text\":\"look.\"}"),
	EV("4", "1004", "model.partial", "{\"step\":1,\"attempt\":1,\"offset\":0,\"text\":\"Let me look.\"}"),
	EV("5", "1005", "model.done",
		"{\"step\":1,\"blocks\":[{\"type\":\"text\",\"text\":\"Let me look.\"},{\"type\":\"call\","
		"\"call_id\":\"c1\",\"tool\":\"exec\",\"args\":{\"command\":\"ls -la\"}}],\"stop\":\"tool_calls\","
		"\"usage\":{\"input_tokens\":100,\"output_tokens\":20},\"cost_microusd\":600}"),
	EV("6", "1006", "tool.requested",
		"{\"call\":\"c1\",\"tool\":\"exec\",\"args\":{\"command\":\"ls -la\"},\"decision\":\"allow\",\"rule\":\"mode\"}"),
	EV("7", "1007", "effect.intent",
		"{\"effect\":\"e1\",\"call\":\"c1\",\"tool\":\"exec\",\"args\":{\"command\":\"ls -la\"},\"class\":\"keyed\"}"),
	EV("0", "1010", "tool.progress", "{\"effect\":\"e1\",\"ch\":1,\"offset\":0,\"text\":\"a.txt\\nb.txt\\n\"}"),
	EV("8", "1107", "effect.outcome",
		"{\"effect\":\"e1\",\"call\":\"c1\",\"tool\":\"exec\",\"state\":\"done\",\"is_error\":false,"
		"\"text\":\"a.txt\\nb.txt\\u001b[31m\",\"facts\":{\"exit\":0},\"ms\":100}"),
	EV("9", "1108", "model.started", "{\"step\":2,\"attempt\":1}"),
	EV("0", "1109", "model.delta", "{\"step\":2,\"attempt\":1,\"offset\":0,\"text\":\"There are tw\"}"),
	EV("10", "1110", "model.retry",
		"{\"step\":2,\"attempt\":1,\"after_ms\":500,\"error\":{\"code\":\"network\",\"message\":\"the stream was cut\"}}"),
	EV("11", "1111", "model.reset", "{\"step\":2,\"attempt\":2,\"offset\":0,\"text\":\"\",\"why\":\"retry\"}"),
	EV("0", "1112", "model.delta", "{\"step\":2,\"attempt\":2,\"offset\":0,\"text\":\"Two \"}"),
	EV("0", "1113", "model.delta", "{\"step\":2,\"attempt\":2,\"offset\":4,\"text\":\"files.\"}"),
	EV("12", "1114", "model.done",
		"{\"step\":2,\"attempt\":2,\"blocks\":[{\"type\":\"text\",\"text\":\"Two files.\"}],\"stop\":\"end\","
		"\"usage\":{\"input_tokens\":150,\"output_tokens\":10,\"cached_tokens\":90},\"cost_microusd\":600}"),
	EV("13", "1200", "turn.finished",
		"{\"status\":\"answered\",\"text\":\"Two files.\",\"model\":\"test/x\",\"usage\":{\"input_tokens\":250,"
		"\"output_tokens\":30,\"cached_tokens\":90,\"reasoning_tokens\":0},\"cost_microusd\":1200,\"steps\":2,"
		"\"effects\":[{\"tool\":\"exec\",\"status\":\"done\",\"ms\":100}],\"duration_ms\":200}"),
};

/* One event into fold and, when given, view. */
static inline enum fold_news
feed(struct fold *f, struct live *v, const char *json, size_t *kept)
{
	struct arena *a = arena_new(1 << 20);
	const struct node *n;
	struct err e = { 0 };
	enum fold_news news;

	if (json_parse(a, str_of(json), &n, &e) != 0)
		fail_msg("%s: %s", e.msg, json);
	news = fold_event(f, n, kept);
	if (v)
		live_event(v, f, n, news, *kept, 5000);
	arena_free(a);
	return news;
}

#endif
