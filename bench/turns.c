/* SPDX-License-Identifier: MIT
 * turns SOCKET SESSIONS SECONDS TURNS: load on a running daemon, as a client on one link. Each session follows its events
 * and sends the next message when it sees `turn.finished`, which is told after it is durable; after TURNS turns another
 * session takes its place, as conversations end. Prints one JSON object; the first fifth of the time is not counted. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/wire.h"

#define SESSIONS_MAX 4096
#define SAMPLES_MAX  (1u << 20)

struct load;
struct session {
	struct load *load;
	char id[40];
	uint64_t call, sub; /* the call that is not answered yet, the subscription */
	bool is_subscribing;
	int64_t turns, sent_us;
};

struct load {
	struct loop *l;
	struct wire *w;
	struct session *sessions;
	size_t n;
	int64_t turns_each, from_us, until_us;
	int64_t all, counted, begun; /* turns in all, in the counted time, sessions begun */
	uint32_t *times;
	size_t times_n;
};

static void
call(struct session *s, const char *method, const char *params)
{
	s->call = wire_next_id(s->load->w);
	json_kv_z(wire_begin(s->load->w, WIRE_CALL, s->call), "method", method);
	wire_end(s->load->w, str_of(params), -1);
}

static void
send_turn(struct session *s)
{
	char params[200];

	s->sent_us = clock_mono_us();
	if (s->id[0] == '\0') {
		s->load->begun++;
		call(s, "session.turn", "{\"text\":\"Good morning, what can you do?\"}");
		return;
	}
	snprintf(params, sizeof(params), "{\"session\":\"%s\",\"text\":\"Good morning, what can you do?\"}", s->id);
	call(s, "session.turn", params);
}

static void
subscribe(struct session *s)
{
	char params[200];

	s->is_subscribing = true;
	snprintf(params, sizeof(params), "{\"session\":\"%s\",\"after\":0,\"follow\":true}", s->id);
	call(s, "session.events", params);
}

/* The conversation is over; the answer matters to nobody. */
static void
unfollow(struct session *s)
{
	char params[64];

	snprintf(params, sizeof(params), "{\"sub\":%" PRIu64 "}", s->sub);
	call(s, "session.unfollow", params);
}

static void
on_result(struct session *s, const struct wire_msg *m)
{
	struct arena *a = arena_new(JSON_TEXT_MAX);
	const struct node *result;
	struct err e = { 0 };

	if (json_parse(a, m->tail, &result, &e) != 0)
		fatal("turns: %s", e.msg);
	s->call = 0;
	if (s->is_subscribing) {
		s->sub = (uint64_t)node_int(result, "sub", 0);
		s->is_subscribing = false;
	} else if (s->id[0] == '\0') {
		snprintf(s->id, sizeof(s->id), "%s", node_z(result, "session", ""));
		subscribe(s);
	}
	arena_free(a);
}

static void
on_finished(struct session *s)
{
	struct load *k = s->load;
	int64_t now = clock_mono_us();

	k->all++;
	if (now >= k->from_us && now < k->until_us) {
		k->counted++;
		if (k->times_n < SAMPLES_MAX)
			k->times[k->times_n++] = (uint32_t)(now - s->sent_us);
	}
	if (now >= k->until_us) {
		loop_stop(k->l);
		return;
	}
	if (++s->turns == k->turns_each) {
		unfollow(s);
		s->turns = 0;
		s->sub = 0;
		s->id[0] = '\0';
	}
	send_turn(s);
}

/* The event's kind is looked for in its bytes: the answer of the model has no such text. */
static void
on_event(struct load *k, const struct wire_msg *m)
{
	uint64_t sub = (uint64_t)node_int(m->head, "sub", 0);

	if (str_find(m->tail, STR("\"kind\":\"turn.finished\"")) < 0)
		return;
	for (size_t i = 0; i < k->n; i++)
		if (k->sessions[i].sub == sub) {
			on_finished(&k->sessions[i]);
			return;
		}
}

static int
on_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct load *k = arg;
	struct err why = { 0 };

	if (m->kind == WIRE_EVENT)
		on_event(k, m);
	for (size_t i = 0; i < k->n && m->kind == WIRE_RESULT; i++)
		if (k->sessions[i].call == m->id) {
			on_result(&k->sessions[i], m);
			return 0;
		}
	if (m->kind == WIRE_ERROR) {
		wire_err(m->head, &why);
		fatal("turns: %s", why.msg);
	}
	return 0;
}

static void
on_gone(void *arg, struct wire *w, const struct err *e)
{
	fatal("turns: the daemon left: %s", e->msg);
}

static const struct wire_handler handler = { on_msg, on_gone };

static int
compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static uint32_t
quantile(const struct load *k, size_t percent)
{
	return k->times_n > 0 ? k->times[(k->times_n - 1) * percent / 100] : 0;
}

static void
print(struct load *k, double seconds)
{
	qsort(k->times, k->times_n, sizeof(*k->times), compare);
	printf("{\"sessions\":%zu,\"turns\":%" PRId64 ",\"counted\":%" PRId64 ",\"begun\":%" PRId64
	       ",\"per_second\":%.1f,\"ms_p50\":%.3f,\"ms_p99\":%.3f}\n",
		k->n, k->all, k->counted, k->begun, (double)k->counted / seconds, quantile(k, 50) / 1000.0,
		quantile(k, 99) / 1000.0);
}

int
main(int argc, char **argv)
{
	struct load k = { 0 };
	int64_t sessions = 0, seconds = 0, start;
	struct err e = { 0 };
	int fd;

	if (argc != 5 || str_i64(str_of(argv[2]), &sessions) != 0 || str_i64(str_of(argv[3]), &seconds) != 0 ||
		str_i64(str_of(argv[4]), &k.turns_each) != 0 || sessions < 1 || sessions > SESSIONS_MAX || seconds < 1) {
		fputs("usage: turns SOCKET SESSIONS SECONDS TURNS\n", stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	log_open("turns", 2, LOG_WARN, LOG_LOGFMT);
	if (loop_open(&k.l, &e) != 0 || (fd = unix_connect(argv[1], &e)) < 0)
		fatal("turns: %s", e.msg);
	k.w = wire_open(k.l, fd, ROLE_CLIENT, ROLE_RUNTIME, &handler, &k);
	k.n = (size_t)sessions;
	k.sessions = xcalloc(k.n, sizeof(*k.sessions));
	k.times = xcalloc(SAMPLES_MAX, sizeof(*k.times));
	start = clock_mono_us();
	k.from_us = start + seconds * 200000;
	k.until_us = start + seconds * 1000000;
	for (size_t i = 0; i < k.n; i++) {
		k.sessions[i].load = &k;
		send_turn(&k.sessions[i]);
	}
	loop_run(k.l);
	print(&k, (double)(k.until_us - k.from_us) / 1e6);
	wire_close(k.w);
	loop_close(k.l);
	free(k.sessions);
	free(k.times);
	return 0;
}
