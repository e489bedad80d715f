/* SPDX-License-Identifier: MIT
 * The turn machine: every way through the table of edges, and the same state after a replay of the same inputs. */
#include "agent/turn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#define TURN_ID "01jd0000000000000000000000"

struct bench {
	struct arena *a;
	struct turn *t;
	struct turn_out out;
	int64_t now_ms;
	struct err e;
};

static int
setup(void **state)
{
	struct bench *b = test_calloc(1, sizeof *b);

	b->a = arena_new(64u << 20);
	b->t = turn_new(b->a, TURN_ID);
	b->now_ms = 1000;
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bench *b = *state;

	turn_fini(b->t);
	arena_free(b->a);
	test_free(b);
	return 0;
}

static int
feed(struct bench *b, enum event_kind kind, const char *body)
{
	const struct node *n;
	struct turn_input in = { .kind = kind, .time_ms = b->now_ms += 10 };

	assert_int_equal(json_parse(b->a, str_of(body), &n, &b->e), 0);
	in.body = n;
	return turn_step(b->t, &in, &b->out, &b->e);
}

static void
start(struct bench *b, const char *limits)
{
	char body[512];

	snprintf(body, sizeof body, "{\"model\":\"offline/rules\",\"mode\":\"workspace_write\",\"limits\":%s}", limits);
	assert_int_equal(feed(b, EVENT_TURN_STARTED, body), 0);
}

static bool
tells(const struct bench *b, enum event_kind kind)
{
	for (size_t i = 0; i < b->out.events_n; i++)
		if (b->out.events[i].kind == kind)
			return true;
	return false;
}

static size_t
asks(const struct bench *b, enum turn_effect_type type)
{
	size_t n = 0;

	for (size_t i = 0; i < b->out.effects_n; i++)
		n += b->out.effects[i].type == type;
	return n;
}

static const struct node *
finished(struct bench *b)
{
	const struct node *n = NULL;

	for (size_t i = 0; i < b->out.events_n; i++)
		if (b->out.events[i].kind == EVENT_TURN_FINISHED)
			assert_int_equal(json_parse(b->a, b->out.events[i].body, &n, &b->e), 0);
	assert_non_null(n);
	return n;
}

#define ANSWER "{\"blocks\":[{\"type\":\"text\",\"text\":\"hello\"}],\"stop\":\"end\"," \
	"\"usage\":{\"input_tokens\":7,\"output_tokens\":3,\"cached_tokens\":2,\"reasoning_tokens\":1},\"cost_microusd\":42}"
#define CALL(id, tool, args) "{\"type\":\"call\",\"call_id\":\"" id "\",\"tool\":\"" tool "\",\"args\":\"" args "\"}"
#define CALLS(list) "{\"blocks\":[" list "],\"stop\":\"tools\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1},\"cost_microusd\":1}"

static void
admit(struct bench *b, int index, const char *decision, bool parallel)
{
	char body[512];

	snprintf(body, sizeof body,
		"{\"index\":%d,\"decision\":\"%s\",\"parallel\":%s,\"args\":{\"path\":\"x\"},\"hash\":\"h\",\"reason\":\"because\"}",
		index, decision, parallel ? "true" : "false");
	assert_int_equal(feed(b, EVENT_TOOL_REQUESTED, body), 0);
}

static void
intent(struct bench *b, int index)
{
	char body[64];

	snprintf(body, sizeof body, "{\"index\":%d}", index);
	assert_int_equal(feed(b, EVENT_EFFECT_INTENT, body), 0);
}

static void
outcome(struct bench *b, int index, const char *state, const char *text)
{
	char body[256];

	snprintf(body, sizeof body, "{\"index\":%d,\"state\":\"%s\",\"text\":\"%s\",\"ms\":5}", index, state, text);
	assert_int_equal(feed(b, EVENT_EFFECT_OUTCOME, body), 0);
}

static void
test_answer(void **state)
{
	struct bench *b = *state;
	const struct node *f;

	start(b, "{\"turn_steps\":5}");
	assert_true(tells(b, EVENT_MODEL_STARTED));
	assert_int_equal(asks(b, DO_MODEL), 1);
	assert_int_equal(feed(b, EVENT_MODEL_DONE, ANSWER), 0);
	f = finished(b);
	assert_string_equal(node_z(f, "status", ""), "answered");
	assert_string_equal(node_z(f, "text", ""), "hello");
	assert_int_equal(node_int(f, "cost_microusd", 0), 42);
	assert_int_equal(node_int(node_get(f, "usage"), "input_tokens", 0), 7);
	assert_int_equal(node_int(node_get(f, "usage"), "reasoning_tokens", 0), 1);
	assert_int_equal(node_int(f, "steps", 0), 1);
	assert_int_equal(node_int(f, "duration_ms", 0), 10);
	assert_int_equal(asks(b, DO_END), 1);
	assert_int_equal(turn_state(b->t), TURN_END);
}

#define FILES "{\"files\":[{\"name\":\"a\",\"bytes\":1,\"type\":\"text/plain\",\"blob\":\"x\"}],\"left_out\":[]}"

/* What a call left for the user is looked at before the end, whatever the end is; without a word of it nothing is. */
static void
test_files_before_the_end(void **state)
{
	struct bench *b = *state;

	start(b, "{\"turn_steps\":5}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, CALLS(CALL("a", "exec", "{}"))), 0);
	admit(b, 0, "allow", false);
	intent(b, 0);
	assert_int_equal(feed(b, EVENT_EFFECT_OUTCOME, "{\"index\":0,\"state\":\"done\",\"text\":\"x\",\"facts\":{\"exit\":0,\"outbox\":true}}"), 0);
	assert_int_equal(asks(b, DO_COLLECT), 0); /* not before the turn ends */
	assert_int_equal(feed(b, EVENT_MODEL_DONE, ANSWER), 0);
	assert_int_equal(turn_state(b->t), TURN_COLLECT);
	assert_int_equal(asks(b, DO_COLLECT), 1);
	assert_int_equal(asks(b, DO_END), 0);
	assert_false(tells(b, EVENT_TURN_FINISHED));
	assert_int_equal(feed(b, EVENT_MODEL_DONE, ANSWER), ERR_CORRUPT);
	assert_int_equal(feed(b, EVENT_TURN_FILES, FILES), 0);
	assert_string_equal(node_z(finished(b), "status", ""), "answered");
	assert_string_equal(node_z(finished(b), "text", ""), "hello");
	assert_int_equal(asks(b, DO_END), 1);
	assert_int_equal(feed(b, EVENT_TURN_FILES, FILES), ERR_CORRUPT); /* once */
}

static void
test_files_of_a_stopped_turn(void **state)
{
	struct bench *b = *state;

	start(b, "{\"turn_steps\":5}");
	assert_int_equal(feed(b, EVENT_TURN_FILES, FILES), ERR_CORRUPT); /* nobody asked */
	assert_int_equal(feed(b, EVENT_MODEL_DONE, CALLS(CALL("a", "write", "{}"))), 0);
	assert_int_equal(feed(b, EVENT_TOOL_REQUESTED, "{\"index\":0,\"decision\":\"allow\",\"args\":{\"path\":\"../run/work/outbox/x\"}}"), 0);
	intent(b, 0);
	assert_int_equal(feed(b, EVENT_TURN_STOPPING, "{\"why\":\"cancelled\"}"), 0);
	assert_int_equal(asks(b, DO_COLLECT), 0); /* the call still runs */
	outcome(b, 0, "done", "x");
	assert_int_equal(turn_state(b->t), TURN_COLLECT);
	assert_int_equal(asks(b, DO_COLLECT), 1);
	assert_int_equal(feed(b, EVENT_TURN_FILES, FILES), 0);
	assert_string_equal(node_z(finished(b), "status", ""), "cancelled");
}

/* Reading what is in an outbox leaves nothing there. */
static void
test_a_read_leaves_no_files(void **state)
{
	struct bench *b = *state;

	start(b, "{\"turn_steps\":5}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, CALLS(CALL("a", "read", "{}"))), 0);
	assert_int_equal(feed(b, EVENT_TOOL_REQUESTED,
		"{\"index\":0,\"decision\":\"allow\",\"parallel\":true,\"args\":{\"path\":\"/run/work/outbox/x\"}}"), 0);
	intent(b, 0);
	outcome(b, 0, "done", "x");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, ANSWER), 0);
	assert_int_equal(turn_state(b->t), TURN_END);
}

static void
test_serial_and_parallel(void **state)
{
	struct bench *b = *state;

	start(b, "{\"turn_steps\":5}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE,
		CALLS(CALL("a", "read", "{}") "," CALL("b", "read", "{}") "," CALL("c", "exec", "{}") "," CALL("d", "read", "{}"))), 0);
	assert_int_equal(asks(b, DO_ADMIT), 4);
	admit(b, 0, "allow", true);
	admit(b, 1, "allow", true);
	admit(b, 2, "allow", false);
	assert_int_equal(b->out.effects_n, 0); /* nothing starts before all are decided */
	admit(b, 3, "allow", true);
	assert_int_equal(asks(b, DO_PREPARE), 2); /* the two reads, not the exec behind them */
	intent(b, 0);
	assert_int_equal(asks(b, DO_RUN), 1);
	assert_null(turn_call(b->t, 0)->probe); /* a tool tells by it whether there was anything to prepare */
	intent(b, 1);
	outcome(b, 1, "done", "second first");
	assert_int_equal(b->out.effects_n, 0);
	outcome(b, 0, "done", "x");
	assert_int_equal(asks(b, DO_PREPARE), 1);
	assert_int_equal(b->out.effects[0].index, 2); /* the exec alone */
	intent(b, 2);
	outcome(b, 2, "done", "y");
	assert_int_equal(b->out.effects[0].index, 3);
	intent(b, 3);
	outcome(b, 3, "done", "z");
	assert_int_equal(asks(b, DO_MODEL), 1);
	assert_int_equal(turn_step_no(b->t), 2);
}

static void
test_effect_ids_are_stable(void **state)
{
	struct bench *b = *state;

	start(b, "{}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, CALLS(CALL("a", "exec", "{}") "," CALL("b", "exec", "{}"))), 0);
	assert_string_equal(turn_call(b->t, 1)->effect, TURN_ID ".1.1");
}

static void
test_refused_calls_go_back_to_the_model(void **state)
{
	struct bench *b = *state;
	const struct node *f;

	start(b, "{}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, CALLS(CALL("a", "exec", "{}") "," CALL("b", "nope", "{}"))), 0);
	admit(b, 0, "deny", false);
	admit(b, 1, "invalid", false);
	assert_int_equal(asks(b, DO_MODEL), 1);
	assert_int_equal(feed(b, EVENT_MODEL_DONE, ANSWER), 0);
	f = finished(b);
	assert_string_equal(node_z(f, "status", ""), "answered");
	assert_string_equal(node_z(node_at(node_get(f, "effects"), 0), "status", ""), "denied");
	assert_string_equal(node_z(node_at(node_get(f, "effects"), 1), "status", ""), "invalid");
}

static void
test_approval(void **state)
{
	struct bench *b = *state;

	start(b, "{}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, CALLS(CALL("a", "exec", "{}"))), 0);
	admit(b, 0, "ask", false);
	assert_true(tells(b, EVENT_APPROVAL_REQUESTED));
	assert_int_equal(turn_state(b->t), TURN_ASK);
	assert_int_equal(turn_status(b->t), TURN_WAITING);
	assert_int_equal(feed(b, EVENT_APPROVAL_RESOLVED, "{\"index\":0,\"decision\":\"allow_once\"}"), 0);
	assert_int_equal(asks(b, DO_PREPARE), 1);
}

static void
test_denied_by_the_user(void **state)
{
	struct bench *b = *state;

	start(b, "{}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, CALLS(CALL("a", "exec", "{}"))), 0);
	admit(b, 0, "ask", false);
	assert_int_equal(feed(b, EVENT_APPROVAL_RESOLVED, "{\"index\":0,\"decision\":\"deny\"}"), 0);
	assert_string_equal(node_z(finished(b), "status", ""), "denied");
}

static void
test_step_limit(void **state)
{
	struct bench *b = *state;
	const struct node *f;

	start(b, "{\"turn_steps\":1}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, CALLS(CALL("a", "read", "{}"))), 0);
	admit(b, 0, "allow", true);
	intent(b, 0);
	outcome(b, 0, "done", "x");
	f = finished(b);
	assert_string_equal(node_z(f, "status", ""), "limit");
	assert_non_null(strstr(node_z(node_get(f, "error"), "message", ""), "turn_steps"));
}

static void
test_token_limit(void **state)
{
	struct bench *b = *state;

	start(b, "{\"turn_tokens\":2}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, CALLS(CALL("a", "read", "{}"))), 0);
	admit(b, 0, "invalid", true);
	assert_string_equal(node_z(finished(b), "status", ""), "limit");
}

static void
test_cancel_waits_for_what_runs(void **state)
{
	struct bench *b = *state;
	const struct node *f;

	start(b, "{}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, CALLS(CALL("a", "exec", "{}"))), 0);
	admit(b, 0, "allow", false);
	intent(b, 0);
	assert_int_equal(feed(b, EVENT_TURN_STOPPING, "{\"why\":\"cancelled\",\"message\":\"by the user\"}"), 0);
	assert_int_equal(asks(b, DO_CANCEL), 1);
	assert_int_equal(turn_state(b->t), TURN_STOP);
	assert_int_equal(feed(b, EVENT_TURN_STOPPING, "{\"why\":\"cancelled\"}"), 0); /* again: changes nothing */
	assert_int_equal(b->out.effects_n, 0);
	outcome(b, 0, "unknown", "killed");
	f = finished(b);
	assert_string_equal(node_z(f, "status", ""), "cancelled");
	assert_string_equal(node_z(node_at(node_get(f, "effects"), 0), "status", ""), "unknown");
}

static void
test_cancel_of_a_model_call(void **state)
{
	struct bench *b = *state;

	start(b, "{}");
	assert_int_equal(feed(b, EVENT_TURN_STOPPING, "{\"why\":\"limit\",\"code\":\"turn_ms\"}"), 0);
	assert_string_equal(node_z(finished(b), "status", ""), "limit");
}

static void
test_model_failure(void **state)
{
	struct bench *b = *state;
	const struct node *f;

	start(b, "{}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, "{\"error\":{\"code\":\"network\",\"message\":\"refused\"}}"), 0);
	f = finished(b);
	assert_string_equal(node_z(f, "status", ""), "failed");
	assert_string_equal(node_z(node_get(f, "error"), "code", ""), "network");
}

static void
test_empty_answer_is_a_failure(void **state)
{
	struct bench *b = *state;

	start(b, "{}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, "{\"blocks\":[],\"stop\":\"end\"}"), 0);
	assert_string_equal(node_z(finished(b), "status", ""), "failed");
}

/* One step with the same call and the same result; true when the turn is over. */
static bool
spin(struct bench *b, const char *args, const char *result, bool *warned)
{
	char body[512];

	snprintf(body, sizeof body, CALLS(CALL("a", "read", "%s")), args);
	assert_int_equal(feed(b, EVENT_MODEL_DONE, body), 0);
	admit(b, 0, "allow", true);
	intent(b, 0);
	outcome(b, 0, "done", result);
	*warned = *warned || tells(b, EVENT_NOTICE);
	return turn_state(b->t) == TURN_END;
}

/* An answer may hold more calls than a cell runs at once: the rest waits. */
static void
test_many_side_by_side(void **state)
{
	struct bench *b = *state;
	char calls[8192] = CALL("a", "read", "{}"), body[9000];

	start(b, "{}");
	for (int i = 1; i < 80; i++)
		strcat(calls, "," CALL("a", "read", "{}"));
	snprintf(body, sizeof body, CALLS("%s"), calls);
	assert_int_equal(feed(b, EVENT_MODEL_DONE, body), 0);
	for (int i = 0; i < 80; i++)
		admit(b, i, "allow", true);
	for (int from = 0; from < 80; from += 32) {
		char result[16];
		int n = MIN(32, 80 - from);

		assert_int_equal(asks(b, DO_PREPARE), n);
		for (int i = from; i < from + n; i++)
			intent(b, i);
		for (int i = from; i < from + n; i++) {
			assert_int_equal(turn_state(b->t), TURN_TOOLS);
			snprintf(result, sizeof result, "%d", i);
			outcome(b, i, "done", result);
		}
	}
	assert_int_equal(turn_state(b->t), TURN_MODEL);
}

static void
test_guard_stops_a_spinning_model(void **state)
{
	struct bench *b = *state;
	bool warned = false;
	int steps = 1;

	start(b, "{}");
	while (steps < 20 && !spin(b, "{}", "same", &warned))
		steps++;
	assert_int_equal(steps, 5);
	assert_true(warned);
	assert_string_equal(node_z(finished(b), "status", ""), "limit");
	assert_string_equal(node_z(node_get(finished(b), "error"), "code", ""), "loop_guard");
}

static void
test_guard_sees_oscillation(void **state)
{
	struct bench *b = *state;
	bool warned = false;
	int steps = 1;

	start(b, "{}");
	while (steps < 40 && !spin(b, steps % 2 ? "1" : "2", "same", &warned))
		steps++;
	assert_int_equal(steps, 10);
	assert_true(warned);
}

static void
test_guard_sees_a_round_of_three(void **state)
{
	static const char *const args[] = { "1", "2", "3" };
	struct bench *b = *state;
	bool warned = false;
	int steps = 1;

	start(b, "{}");
	while (steps < 40 && !spin(b, args[steps % 3], "same", &warned))
		steps++;
	assert_int_equal(steps, 15);
	assert_true(warned);
}

/* A command never takes the same time twice. That is no progress; how it ended would be. */
static void
test_guard_does_not_look_at_the_clock(void **state)
{
	struct bench *b = *state;

	for (int changes = 0; changes < 4; changes++) {
		int steps = 0;

		if (changes > 0) {
			teardown(state);
			setup(state);
			b = *state;
		}
		start(b, "{}");
		while (steps < 10 && turn_state(b->t) != TURN_END) {
			int exit = changes == 1 ? steps % 9 : 1;
			int ms = changes == 3 ? 60000 + steps : 5 * steps; /* it waits for something */
			char body[512], output[16] = "same";

			steps++;
			if (changes == 2)
				snprintf(output, sizeof output, "%d", steps);
			assert_int_equal(feed(b, EVENT_MODEL_DONE, CALLS(CALL("a", "exec", "{}"))), 0);
			admit(b, 0, "allow", false);
			intent(b, 0);
			snprintf(body, sizeof body,
				"{\"index\":0,\"state\":\"done\",\"is_error\":true,\"text\":\"%s\\n[exit %d, %d ms]\","
				"\"facts\":{\"exit\":%d,\"signal\":0,\"ms\":%d},\"ms\":%d}",
				output, exit, ms, exit, ms, ms);
			assert_int_equal(feed(b, EVENT_EFFECT_OUTCOME, body), 0);
		}
		assert_int_equal(steps, changes == 0 ? 5 : 10);
	}
}

static void
test_guard_lets_polling_go_on(void **state)
{
	struct bench *b = *state;
	bool warned = false;
	char result[16];

	start(b, "{}");
	for (int i = 0; i < 30; i++) {
		snprintf(result, sizeof result, "%d", i);
		assert_false(spin(b, "{}", result, &warned));
	}
	assert_false(warned);
}

static void
test_impossible_inputs_are_refused(void **state)
{
	struct bench *b = *state;

	assert_int_equal(feed(b, EVENT_MODEL_DONE, ANSWER), ERR_CORRUPT);
	start(b, "{}");
	assert_int_equal(feed(b, EVENT_EFFECT_OUTCOME, "{\"index\":0}"), ERR_CORRUPT);
	assert_int_equal(feed(b, EVENT_TOOL_REQUESTED, "{\"index\":7}"), ERR_CORRUPT);
	assert_int_equal(feed(b, EVENT_PLAN_UPDATED, "{}"), ERR_CORRUPT);
	assert_int_equal(turn_state(b->t), TURN_MODEL);
}

/* Two calls ask: the second one's id can be guessed before it was asked for. */
static void
test_only_the_pending_approval_counts(void **state)
{
	struct bench *b = *state;

	start(b, "{}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE,
		"{\"blocks\":[{\"type\":\"call\",\"call_id\":\"a\",\"tool\":\"exec\",\"args\":\"{}\"},"
		"{\"type\":\"call\",\"call_id\":\"b\",\"tool\":\"exec\",\"args\":\"{}\"}],\"stop\":\"tools\"}"), 0);
	admit(b, 0, "ask", false);
	admit(b, 1, "ask", false);
	assert_ptr_equal(turn_asks(b->t), turn_call(b->t, 0));
	assert_int_equal(feed(b, EVENT_APPROVAL_RESOLVED, "{\"index\":1,\"decision\":\"allow_once\"}"), ERR_CORRUPT);
	assert_int_equal(feed(b, EVENT_APPROVAL_EXPIRED, "{\"index\":1}"), ERR_CORRUPT);
	assert_ptr_equal(turn_asks(b->t), turn_call(b->t, 0));
	assert_int_equal(feed(b, EVENT_APPROVAL_RESOLVED, "{\"index\":0,\"decision\":\"allow_once\"}"), 0);
	assert_null(turn_asks(b->t));
}

/* As many steps as limits.turn_steps allows. */
static void
test_a_long_turn_takes_no_more_memory(void **state)
{
	struct bench *b = *state;
	struct arena *own = arena_new(1u << 20);
	struct turn *t = turn_new(own, TURN_ID);
	struct arena *inputs = b->a;
	char result[16];

	turn_fini(b->t);
	b->t = t;
	start(b, "{}");
	for (int i = 0; i < 10000; i++) {
		snprintf(result, sizeof result, "%d", i);
		assert_int_equal(feed(b, EVENT_MODEL_DONE,
			"{\"blocks\":[{\"type\":\"call\",\"call_id\":\"a\",\"tool\":\"exec\",\"args\":\"{}\"}]}"), 0);
		admit(b, 0, "allow", false);
		intent(b, 0);
		outcome(b, 0, "done", result);
		arena_reset(inputs);
	}
	assert_true(arena_used(own) < 64 * 1024);
	turn_fini(t);
	arena_free(own);
	arena_reset(inputs);
	b->t = turn_new(inputs, TURN_ID); /* the reset took the first one's memory */
}

#define TEXT(t) "{\"blocks\":[{\"type\":\"text\",\"text\":\"" t "\"}],\"stop\":\"end\"}"

static const struct node *
told(struct bench *b, enum event_kind kind)
{
	const struct node *n = NULL;

	for (size_t i = 0; i < b->out.events_n; i++)
		if (b->out.events[i].kind == kind)
			assert_int_equal(json_parse(b->a, b->out.events[i].body, &n, &b->e), 0);
	assert_non_null(n);
	return n;
}

/* A fallback answered: the next step begins with it, and it is the turn's model. */
static void
test_the_model_that_answered_stays(void **state)
{
	struct bench *b = *state;

	start(b, "{}");
	assert_string_equal(node_z(told(b, EVENT_MODEL_STARTED), "model", ""), "offline/rules");
	assert_int_equal(feed(b, EVENT_MODEL_DONE,
		"{\"model\":\"other/n\",\"blocks\":[{\"type\":\"call\",\"call_id\":\"a\",\"tool\":\"read\",\"args\":\"{}\"}]}"), 0);
	admit(b, 0, "deny", false);
	assert_string_equal(node_z(told(b, EVENT_MODEL_STARTED), "model", ""), "other/n");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, TEXT("hello")), 0); /* logs of old do not name it */
	assert_string_equal(node_z(finished(b), "model", ""), "other/n");
}

static void
start_schema(struct bench *b, const char *limits)
{
	char body[512];

	snprintf(body, sizeof body,
		"{\"model\":\"m/m\",\"limits\":%s,\"schema\":{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},"
		"\"required\":[\"n\"]}}",
		limits);
	assert_int_equal(feed(b, EVENT_TURN_STARTED, body), 0);
	assert_true(str_find(turn_schema(b->t), STR("\"required\":[\"n\"]")) > 0);
}

static void
test_structured_answer(void **state)
{
	struct bench *b = *state;

	start_schema(b, "{}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, TEXT("```json\\n{\\\"n\\\": 7}\\n```")), 0);
	assert_string_equal(node_z(finished(b), "status", ""), "answered");
	assert_int_equal(node_int(node_get(finished(b), "output"), "n", 0), 7);
}

static void
test_structured_answer_is_repaired_once(void **state)
{
	struct bench *b = *state;
	const struct node *notice;

	start_schema(b, "{}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, TEXT("{\\\"n\\\":\\\"x\\\"}")), 0);
	notice = told(b, EVENT_NOTICE);
	assert_true(node_bool(notice, "to_model", false));
	assert_non_null(strstr(node_z(notice, "text", ""), "/n"));
	assert_int_equal(asks(b, DO_MODEL), 1);
	assert_int_equal(turn_state(b->t), TURN_MODEL);
	assert_int_equal(turn_step_no(b->t), 2);
	assert_int_equal(feed(b, EVENT_MODEL_DONE, TEXT("{\\\"n\\\":1}")), 0);
	assert_string_equal(node_z(finished(b), "status", ""), "answered");
	assert_int_equal(node_int(node_get(finished(b), "output"), "n", 0), 1);
}

static void
test_structured_answer_that_stays_wrong_fails(void **state)
{
	struct bench *b = *state;
	const struct node *f;

	start_schema(b, "{}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, TEXT("no")), 0);
	assert_int_equal(feed(b, EVENT_MODEL_DONE, TEXT("{\\\"m\\\":1}")), 0);
	f = finished(b);
	assert_string_equal(node_z(f, "status", ""), "failed");
	assert_string_equal(node_z(node_get(f, "error"), "code", ""), "output");
	assert_non_null(strstr(node_z(node_get(f, "error"), "message", ""), "n"));
	assert_null(node_get(f, "output"));
	assert_string_equal(node_z(f, "text", ""), "{\"m\":1}");
}

/* Limits hold for the repair too, and a refusal is none of its business. */
static void
test_structured_answer_under_limits(void **state)
{
	struct bench *b = *state;

	start_schema(b, "{\"turn_steps\":1}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE, TEXT("no")), 0);
	assert_string_equal(node_z(finished(b), "status", ""), "limit");
}

static void
test_refusal_is_not_repaired(void **state)
{
	struct bench *b = *state;

	start_schema(b, "{}");
	assert_int_equal(feed(b, EVENT_MODEL_DONE,
		"{\"blocks\":[{\"type\":\"text\",\"text\":\"no\"}],\"stop\":\"refused\"}"), 0);
	assert_string_equal(node_z(node_get(finished(b), "error"), "code", ""), "refused");
}

/* What attempts without an answer cost is part of the turn's cost; an old log does not say it. */
static void
test_lost_attempts_cost(void **state)
{
	struct bench *b = *state;

	start(b, "{\"turn_steps\":5}");
	assert_int_equal(feed(b, EVENT_MODEL_RETRY, "{\"cost_microusd\":10,\"estimated_microusd\":10}"), 0);
	assert_int_equal(b->out.events_n + b->out.effects_n, 0);
	assert_int_equal(turn_state(b->t), TURN_MODEL);
	assert_int_equal(feed(b, EVENT_MODEL_RETRY, "{}"), 0);
	assert_int_equal(feed(b, EVENT_MODEL_DONE, CALLS(CALL("a", "read", "{}"))), 0);
	assert_true(feed(b, EVENT_MODEL_RETRY, "{}") < 0); /* nothing is asked of a model now */
	admit(b, 0, "deny", false);
	assert_int_equal(feed(b, EVENT_TURN_STOPPING, "{\"cost_microusd\":3,\"estimated_microusd\":3}"), 0);
	assert_int_equal(node_int(finished(b), "cost_microusd", 0), 14);
	assert_int_equal(node_int(finished(b), "estimated_microusd", 0), 13);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { T(test_answer), T(test_files_before_the_end), T(test_files_of_a_stopped_turn), T(test_a_read_leaves_no_files),
		T(test_serial_and_parallel), T(test_many_side_by_side), T(test_effect_ids_are_stable),
		T(test_refused_calls_go_back_to_the_model), T(test_approval), T(test_denied_by_the_user), T(test_step_limit),
		T(test_token_limit), T(test_cancel_waits_for_what_runs), T(test_cancel_of_a_model_call), T(test_model_failure),
		T(test_empty_answer_is_a_failure), T(test_guard_stops_a_spinning_model), T(test_guard_sees_oscillation),
		T(test_guard_sees_a_round_of_three), T(test_guard_does_not_look_at_the_clock),
		T(test_guard_lets_polling_go_on), T(test_impossible_inputs_are_refused),
		T(test_only_the_pending_approval_counts), T(test_a_long_turn_takes_no_more_memory),
		T(test_the_model_that_answered_stays), T(test_structured_answer), T(test_structured_answer_is_repaired_once),
		T(test_structured_answer_that_stays_wrong_fails), T(test_structured_answer_under_limits),
		T(test_refusal_is_not_repaired), T(test_lost_attempts_cost) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
