/* SPDX-License-Identifier: MIT
 * `session events`: the log of a session, one line per event, and what comes after it with --follow. Goes on by number
 * when the link breaks. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/media.h"
#include "base/utf8.h"
#include "cli/fold.h"
#include "cli/internal.h"
#include "cli/live.h"

#define PAGE       500
#define LINKS_MAX  20
#define RETRY_MS   250
#define DETAIL_MAX 100

/* The part of a body that says most, in one line. */
static void
add_detail(struct buf *b, const struct node *body)
{
	static const char *const keys[] = { "tool", "model", "status", "decision", "state", "code", "reason",
		"why", "name", "text", "summary" };
	struct buf text;
	char size[32];

	buf_init(&text, 64 * KIB);
	for (size_t i = 0; i < ARRAY_LEN(keys) && text.n < DETAIL_MAX; i++) {
		const struct node *v = node_get(body, keys[i]);

		if (!node_is(v, NODE_STR) || v->s.n == 0)
			continue;
		if (text.n > 0)
			buf_add_char(&text, ' ');
		buf_add(&text, v->s.p, utf8_cut(v->s, 4 * DETAIL_MAX));
	}
	for (size_t i = 0; i < node_len(node_get(body, "attachments")); i++) {
		buf_add_z(&text, text.n > 0 ? " [" : "[");
		add_attachment(&text, node_at(node_get(body, "attachments"), i));
		buf_add_char(&text, ']');
	}
	for (size_t i = 0; i < node_len(node_get(body, "files")); i++) {
		const struct node *file = node_at(node_get(body, "files"), i);

		buf_add_z(&text, text.n > 0 ? " [" : "[");
		add_cut(&text, node_str(file, "name", STR("?")), 60, true);
		buf_printf(&text, " %s]", media_size_text((size_t)MAX(node_int(file, "bytes", 0), 0), size));
	}
	if (node_get(body, "args")) {
		buf_add_char(&text, ' ');
		call_summary(&text, node_get(body, "args"));
	}
	add_cut(b, buf_str(&text), DETAIL_MAX, true);
	buf_fini(&text);
}

static int
print_event(struct cli *c, const struct node *event, struct err *e)
{
	struct str kind = node_str(event, "kind", STR("?"));
	struct buf out;
	struct json j;
	int rc;

	buf_init(&out, JSON_TEXT_MAX);
	if (c->json) {
		json_init(&j, &out);
		json_node(&j, event);
	} else {
		buf_printf(&out, "%6" PRId64 "  ", node_int(event, "seq", 0));
		/* 2026-11-21T02:04:05.678Z: the time of day of it */
		term_clean(&out, str_sub(node_str(event, "time", STR("")), 11, 12), true);
		buf_add_z(&out, "  ");
		term_clean(&out, str_sub(kind, 0, 40), true);
		buf_printf(&out, "%*s", kind.n < 20 ? (int)(20 - kind.n) : 1, "");
		add_detail(&out, node_get(event, "body"));
	}
	buf_add_char(&out, '\n');
	rc = out_flush(STDOUT_FILENO, &out, e);
	buf_fini(&out);
	return rc;
}

static void
event_params(struct cli *c, struct buf *b, int64_t after, bool is_follow)
{
	struct json j;

	buf_reset(b);
	json_init(&j, b);
	json_obj(&j);
	json_kv_node(&j, "session", node_get(c->options, "session"));
	json_kv_int(&j, "after", after);
	if (is_follow)
		json_kv_bool(&j, "follow", true);
	else
		json_kv_int(&j, "limit", PAGE);
	json_obj_end(&j);
}

static int
print_pages(struct cli *c, struct buf *params, int64_t after, struct err *e)
{
	for (;;) {
		const struct node *result, *events;

		event_params(c, params, after, false);
		if (call_once(c, API_SESSION_EVENTS, buf_str(params), CONNECT_START, &result, e) != 0)
			return e->code;
		events = node_get(result, "events");
		for (size_t i = 0; i < node_len(events); i++) {
			if (print_event(c, node_at(events, i), e) != 0)
				return e->code;
			after = MAX(after, node_int(node_at(events, i), "seq", 0));
		}
		if (!node_bool(result, "more", false))
			return 0;
	}
}

/* ---- following ---- */

struct follow {
	struct cli *cli;
	struct loop *loop;
	struct client *client;
	int64_t after;
	int links;
	struct err e;
};

static void
follow_event(void *arg, uint64_t sub, struct str text)
{
	struct follow *f = arg;
	struct arena *a;
	const struct node *event;
	int64_t seq;

	f->links = 0;
	if (text.n == 0 || f->e.code != 0)
		return;
	a = arena_new(JSON_TEXT_MAX);
	if (json_parse(a, text, &event, &f->e) == 0) {
		seq = node_int(event, "seq", 0);
		if (seq == 0 || seq > f->after)
			(void)!print_event(f->cli, event, &f->e);
		f->after = MAX(f->after, seq);
	}
	arena_free(a);
	if (f->e.code != 0)
		loop_stop(f->loop);
}

static void
follow_gone(void *arg, const struct err *e)
{
	struct follow *f = arg;

	client_close(f->client);
	f->client = NULL;
	if (f->e.code == 0)
		err_copy(&f->e, e);
	loop_stop(f->loop);
}

static void
follow_answer(void *arg, const struct node *result, const struct err *e)
{
	struct follow *f = arg;

	if (!e || e->code == ERR_GONE)
		return;
	err_copy(&f->e, e);
	loop_stop(f->loop);
}

static void
follow_failed(void *arg, uint64_t sub, const struct err *e)
{
	follow_answer(arg, NULL, e);
}

static const struct client_handler follow_handler = { .on_event = follow_event, .on_failed = follow_failed,
	.on_gone = follow_gone };

static int
follow(struct cli *c, struct buf *params, int64_t after, struct err *e)
{
	struct follow f = { .cli = c, .after = after };

	if (loop_open(&f.loop, e) != 0)
		return e->code;
	for (;;) {
		int fd = f.links > 0 && was_stopped(c, &f.e) ? f.e.code : runtime_connect(c, CONNECT_START, NULL, &f.e);

		if (fd < 0)
			break;
		f.e.code = 0;
		event_params(c, params, f.after, true);
		f.client = client_new(f.loop, fd, &follow_handler, &f);
		client_call(f.client, API_SESSION_EVENTS, buf_str(params), follow_answer, &f);
		loop_run(f.loop);
		client_close(f.client);
		f.client = NULL;
		if (f.e.code != ERR_GONE || ++f.links > LINKS_MAX)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = RETRY_MS * 1000000L }, NULL);
	}
	loop_close(f.loop);
	return err_copy(e, &f.e);
}

int
cmd_events(struct cli *c, struct err *e)
{
	int64_t after = node_int(c->options, "after", 0);
	struct buf params;
	int rc;

	buf_init(&params, 4 * KIB);
	rc = node_bool(c->options, "follow", false) ? follow(c, &params, after, e) :
						      print_pages(c, &params, after, e);
	buf_fini(&params);
	return rc;
}
