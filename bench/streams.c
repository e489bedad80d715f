/* SPDX-License-Identifier: MIT
 * streams SOCKET SESSIONS LINKS SECONDS TEXT [TURNS]: many answers at once from a running daemon. It begins SESSIONS sessions,
 * one each millisecond so that their streams do not keep step, sends TEXT as the turn of each, and follows the events of all
 * on LINKS links. When every session has shown text and SETTLE_MS passed it prints {"steady"}, and SECONDS later what came
 * meanwhile: between the two lines the daemon is measured. With TURNS each session sends that many, one after the other,
 * and the times of all of them are printed at the end. The text that arrives is checked: no piece may be missing. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/wire.h"

#define SESSIONS_MAX 4096
#define TURNS_MAX    1000
#define SETTLE_MS    1000

struct load;
struct link;

struct session {
	struct link *link;
	char id[40];
	bool is_subscribing, has_text;
	int64_t turns, sent_us, shown; /* turns that ended; bytes of the step that are known */
};

struct link {
	struct load *load;
	struct wire *w;
	struct session **calls; /* that wait for an answer, by half their number */
	size_t calls_cap;
};

struct load {
	struct loop *l;
	struct link *links;
	size_t links_n;
	struct session *sessions;
	size_t n, begun, alive;
	struct session **subs; /* by number of the subscription */
	size_t subs_cap;
	struct arena *a;
	const char *text;
	struct timer *timer;
	int64_t seconds, turns_each;
	bool is_counting;
	int64_t deltas, logged, repaired; /* model.delta, stored events; deltas whose beginning was missed */
	uint32_t *times;
	size_t times_n;
};

static void
slot_set(struct session ***slots, size_t *cap, uint64_t at, struct session *s)
{
	while (at >= *cap) {
		size_t old = *cap;

		*slots = vec_grow(*slots, cap, (size_t)at + 1, sizeof(**slots));
		memset(*slots + old, 0, (*cap - old) * sizeof(**slots));
	}
	(*slots)[at] = s;
}

static void
call(struct session *s, const char *method, struct str params)
{
	struct link *k = s->link;
	uint64_t id = wire_next_id(k->w);

	slot_set(&k->calls, &k->calls_cap, id / 2, s);
	json_kv_z(wire_begin(k->w, WIRE_CALL, id), "method", method);
	wire_end(k->w, params, -1);
}

static void
send_turn(struct session *s)
{
	struct json j;
	struct buf b;

	buf_init(&b, 64 * KIB);
	json_init(&j, &b);
	json_obj(&j);
	if (s->id[0] != '\0')
		json_kv_z(&j, "session", s->id);
	json_kv_z(&j, "text", s->link->load->text);
	json_obj_end(&j);
	s->sent_us = clock_mono_us();
	s->shown = 0;
	call(s, "session.turn", buf_str(&b));
	buf_fini(&b);
}

static void
subscribe(struct session *s)
{
	char params[200];

	s->is_subscribing = true;
	snprintf(params, sizeof(params), "{\"session\":\"%s\",\"after\":0,\"follow\":true}", s->id);
	call(s, "session.events", str_of(params));
}

static void
on_result(struct link *k, const struct wire_msg *m)
{
	struct session *s = m->id / 2 < k->calls_cap ? k->calls[m->id / 2] : NULL;
	struct load *load = k->load;
	const struct node *result;
	struct err e = { 0 };

	if (s == NULL)
		fatal("streams: an answer to nothing");
	if (json_parse(load->a, m->tail, &result, &e) != 0)
		fatal("streams: %s", e.msg);
	if (s->is_subscribing) {
		s->is_subscribing = false;
		slot_set(&load->subs, &load->subs_cap, (uint64_t)node_int(result, "sub", 0), s);
	} else if (s->id[0] == '\0') {
		snprintf(s->id, sizeof(s->id), "%s", node_z(result, "session", ""));
		subscribe(s);
	}
	arena_reset(load->a);
}

/* ---- the end ---- */

static int
compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static double
quantile_ms(const struct load *k, size_t percent)
{
	return k->times_n > 0 ? k->times[(k->times_n - 1) * percent / 100] / 1000.0 : 0;
}

static void
print(struct load *k)
{
	qsort(k->times, k->times_n, sizeof(*k->times), compare);
	printf("{\"deltas\":%" PRId64 ",\"logged\":%" PRId64 ",\"repaired\":%" PRId64
	       ",\"turns\":%zu,\"ms_p50\":%.3f,\"ms_p99\":%.3f,\"ms_max\":%.3f}\n",
		k->deltas, k->logged, k->repaired, k->times_n, quantile_ms(k, 50), quantile_ms(k, 99), quantile_ms(k, 100));
	fflush(stdout);
	loop_stop(k->l);
}

static void
on_window(void *arg)
{
	print(arg);
}

static void
on_settled(void *arg)
{
	struct load *k = arg;

	k->is_counting = true;
	k->deltas = k->logged = k->repaired = 0;
	puts("{\"steady\":true}");
	fflush(stdout);
	timer_close(k->timer);
	k->timer = timer_start(k->l, k->seconds * 1000, on_window, k);
}

/* ---- events ---- */

/* Text [offset, offset + n) of the step arrived, live or logged. What a subscription missed before it was level comes with
 * the next model.partial, so a hole is only bad when it is still there at the end of the answer. */
static void
fold(struct session *s, const struct node *body, bool is_live)
{
	struct load *k = s->link->load;
	int64_t offset = node_int(body, "offset", 0), n = (int64_t)node_str(body, "text", STR("")).n;

	if (offset > s->shown) {
		k->repaired++;
		return;
	}
	s->shown = MAX(s->shown, offset + n);
	if (is_live && !s->has_text && s->shown > 0) {
		s->has_text = true;
		k->alive++;
	}
	if (k->alive == k->n && k->timer == NULL && k->turns_each == 0)
		k->timer = timer_start(k->l, SETTLE_MS, on_settled, k);
}

static void
check_answer(struct session *s, const struct node *body)
{
	const struct node *blocks = node_get(body, "blocks"), *why = node_get(body, "error");
	int64_t n = 0;

	if (why != NULL)
		fatal("streams: session %s after %" PRId64 " bytes: %s", s->id, s->shown, node_z(why, "message", "?"));

	for (size_t i = 0; i < node_len(blocks); i++)
		n += (int64_t)node_str(node_at(blocks, i), "text", STR("")).n;
	/* The last piece may be in model.done alone, for who was not level yet. */
	if (n == 0 || s->shown != n)
		fatal("streams: session %s has shown %" PRId64 " of %" PRId64 " bytes", s->id, s->shown, n);
}

static void
on_finished(struct session *s, const struct node *body)
{
	struct load *k = s->link->load;

	if (!str_is(node_str(body, "status", STR("")), "answered"))
		fatal("streams: a turn ended as %s", node_z(body, "status", "?"));
	if (k->turns_each == 0)
		fatal("streams: an answer ended before the measure did");
	k->times[k->times_n++] = (uint32_t)(clock_mono_us() - s->sent_us);
	if (++s->turns < k->turns_each)
		send_turn(s);
	else if (k->times_n == k->n * (size_t)k->turns_each)
		print(k);
}

static void
on_event(struct load *k, const struct wire_msg *m)
{
	uint64_t sub = (uint64_t)node_int(m->head, "sub", 0);
	struct session *s = sub < k->subs_cap ? k->subs[sub] : NULL;
	const struct node *ev, *body;
	struct err e = { 0 };
	struct str kind;

	if (s == NULL || m->tail.n == 0)
		return;
	if (json_parse(k->a, m->tail, &ev, &e) != 0)
		fatal("streams: %s", e.msg);
	kind = node_str(ev, "kind", STR(""));
	body = node_get(ev, "body");
	if (str_is(kind, "model.delta"))
		k->deltas++;
	else
		k->logged++;
	if (str_is(kind, "model.delta") || str_is(kind, "model.partial"))
		fold(s, body, str_is(kind, "model.delta"));
	else if (str_is(kind, "model.done"))
		check_answer(s, body);
	else if (str_is(kind, "turn.finished"))
		on_finished(s, body);
	arena_reset(k->a);
}

static int
on_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct link *k = arg;
	struct err why = { 0 };

	if (m->kind == WIRE_EVENT) {
		on_event(k->load, m);
	} else if (m->kind == WIRE_RESULT) {
		on_result(k, m);
	} else {
		wire_err(m->head, &why);
		fatal("streams: %s", why.msg);
	}
	return 0;
}

static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	fatal("streams: the daemon left: %s", e->msg);
}

static const struct wire_handler handler = { on_msg, on_gone };

static void
on_begin(void *arg)
{
	struct load *k = arg;
	struct session *s = &k->sessions[k->begun];

	s->link = &k->links[k->begun++ % k->links_n];
	send_turn(s);
	timer_close(k->timer);
	k->timer = k->begun < k->n ? timer_start(k->l, 1, on_begin, k) : NULL;
}

static void
open_links(struct load *k, const char *path)
{
	struct rlimit files;
	struct err e = { 0 };

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	for (size_t i = 0; i < k->links_n; i++) {
		int fd = unix_connect(path, &e);

		if (fd < 0)
			fatal("streams: %s", e.msg);
		k->links[i].load = k;
		k->links[i].w = wire_open(k->l, fd, ROLE_CLIENT, ROLE_RUNTIME, &handler, &k->links[i]);
	}
}

static bool
number(const char *text, int64_t max, int64_t *out)
{
	return str_i64(str_of(text), out) == 0 && *out >= 1 && *out <= max;
}

int
main(int argc, char **argv)
{
	struct load k = { 0 };
	int64_t sessions = 0, links = 0;
	struct err e = { 0 };

	if ((argc != 6 && argc != 7) || !number(argv[2], SESSIONS_MAX, &sessions) || !number(argv[3], sessions, &links) ||
		!number(argv[4], 600, &k.seconds) || (argc == 7 && !number(argv[6], TURNS_MAX, &k.turns_each))) {
		fputs("usage: streams SOCKET SESSIONS LINKS SECONDS TEXT [TURNS]\n", stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	log_open("streams", 2, LOG_WARN, LOG_LOGFMT);
	if (loop_open(&k.l, &e) != 0)
		fatal("streams: %s", e.msg);
	k.text = argv[5];
	k.a = arena_new(JSON_TEXT_MAX);
	k.n = (size_t)sessions;
	k.links_n = (size_t)links;
	k.sessions = xcalloc(k.n, sizeof(*k.sessions));
	k.links = xcalloc(k.links_n, sizeof(*k.links));
	k.times = xcalloc(k.n * (size_t)MAX(k.turns_each, 1), sizeof(*k.times));
	open_links(&k, argv[1]);
	on_begin(&k);
	loop_run(k.l);
	_Exit(0); /* what is still streaming is the daemon's to end */
}
