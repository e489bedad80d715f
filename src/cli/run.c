/* SPDX-License-Identifier: MIT
 * The state machine of `ithaca run`: link -> message -> subscription -> events, and from the link on again when it breaks.
 * A message is sent again only after the runtime said that it has no such turn, and events are taken once, by number:
 * whatever breaks, no message is doubled and no text is shown twice. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "base/path.h"
#include "base/utf8.h"
#include "cli/run.h"

#define TICK_MS       80
#define RETRY_MIN_MS  5
#define RETRY_MAX_MS  1000
#define LINKS_MAX     12 /* broken one after the other with nothing received */
#define DAEMON_WAIT_MS 10000 /* a daemon that restarts is waited for before a private runner is started */
#define WHAT_MAX      44 /* bytes of a summary in the message that asks for approval */

static void run_link(void *arg);
static void run_subscribe(struct run *r);
static void run_check_approvals(struct run *r);

static void
run_draw(struct run *r)
{
	struct err e = { 0 };
	int fd = r->output == OUTPUT_LIVE ? r->out_fd : r->err_fd;

	if (r->output == OUTPUT_JSON && !r->cli->verbose)
		buf_reset(&r->screen);
	if (out_flush(fd, &r->screen, &e) != 0 && !r->is_over) {
		fold_stop(&r->fold, TURN_FAILED, &e);
		r->is_over = true;
		loop_stop(r->loop);
	}
}

static void
run_stop(struct run *r, enum turn_status status, const struct err *e)
{
	if (r->is_over)
		return;
	fold_stop(&r->fold, status, e);
	r->is_over = true;
	loop_stop(r->loop);
}

static enum turn_status
status_of(int code)
{
	switch (code) {
	case ERR_LIMIT:
		return TURN_LIMIT;
	case ERR_CANCELLED:
		return TURN_CANCELLED;
	case ERR_DENIED:
	case ERR_APPROVAL:
		return TURN_DENIED;
	default:
		return TURN_FAILED;
	}
}

static void
run_fail(struct run *r, const struct err *e)
{
	run_stop(r, status_of(e->code), e);
}

/* ---- the message ---- */

static void
on_cancelled(void *arg, const struct node *result, const struct err *e)
{
	struct run *r = arg;

	if (e && e->code != ERR_GONE && !r->is_over) {
		live_note(&r->live, str_of(e->msg));
		run_draw(r);
	}
	if (e && e->code == ERR_GONE)
		r->is_cancel_sent = false;
}

static void
run_cancel(struct run *r)
{
	char params[64];

	if (!r->is_accepted || !r->client || r->is_cancel_sent)
		return;
	r->is_cancel_sent = true;
	snprintf(params, sizeof(params), "{\"turn\":\"%s\"}", r->fold.turn);
	client_call(r->client, API_TURN_CANCEL, str_of(params), on_cancelled, r);
}

/* What is not known about the model: on standard error in every form of output. */
static void
tell_notice(struct run *r, struct str text)
{
	struct buf b;

	if (text.n == 0)
		return;
	buf_init(&b, 8 * KIB);
	buf_add_z(&b, "ithaca: ");
	term_clean(&b, text, true);
	buf_add_char(&b, '\n');
	fd_write_all(r->err_fd, b.p, b.n);
	buf_fini(&b);
}

static void
run_accept(struct run *r, const struct node *result)
{
	tell_notice(r, node_str(result, "notice", STR("")));
	snprintf(r->fold.session, sizeof(r->fold.session), "%s", node_z(result, "session", ""));
	snprintf(r->fold.turn, sizeof(r->fold.turn), "%s", node_z(result, "turn", ""));
	r->after = r->is_new_session ? 0 : node_int(result, "seq", 0);
	r->is_accepted = true;
	r->links = 0;
	run_subscribe(r);
	if (r->wants_cancel)
		run_cancel(r);
}

static void
on_answer(void *arg, const struct node *result, const struct err *e)
{
	struct run *r = arg;

	if (r->is_over || (e && e->code == ERR_GONE && !r->client))
		return;
	if (result)
		run_accept(r, result);
	else if (e->code != ERR_GONE)
		run_fail(r, e);
}

static void run_send(struct run *r);

static void
on_uploaded(void *arg, const struct node *result, const struct err *e)
{
	struct run *r = arg;
	struct err le;

	if (r->is_over || (e && e->code == ERR_GONE))
		return; /* the next link goes on with it */
	if (result && !str_is(node_str(result, "blob", STR("")), r->files[r->files_sent].hash)) {
		err_set(&le, ERR_PROTO, ERR_TO_USER, "%.100s did not arrive as it was sent (try again)",
			r->files[r->files_sent].name);
		e = &le;
	}
	if (e) {
		run_fail(r, e);
		return;
	}
	r->links = 0;
	r->files_sent++;
	run_send(r);
}

/* First the files that the message names, one after the other, then the message. */
static void
run_send(struct run *r)
{
	if (r->files_sent < r->files_n) {
		const struct attached *f = &r->files[r->files_sent];

		client_put(r->client, (struct str){ f->bytes, f->n }, on_uploaded, r);
		return;
	}
	r->is_sent = true;
	client_call(r->client, r->method, buf_str(&r->params), on_answer, r);
}

/* After a lost answer: did the message arrive? */
static void
on_found(void *arg, const struct node *result, const struct err *e)
{
	struct run *r = arg;

	if (r->is_over)
		return;
	if (result)
		run_accept(r, result);
	else if (e->code == ERR_NOT_FOUND)
		run_send(r);
	else if (e->code != ERR_GONE)
		run_fail(r, e);
}

static void
run_submit(struct run *r)
{
	char params[64];

	if (!r->is_sent || r->method != API_SESSION_TURN) {
		run_send(r);
		return;
	}
	snprintf(params, sizeof(params), "{\"turn\":\"%s\"}", r->turn);
	client_call(r->client, API_TURN_GET, str_of(params), on_found, r);
}

/* ---- events ---- */

static void
on_subscribed(void *arg, const struct node *result, const struct err *e)
{
	struct run *r = arg;

	if (result)
		r->sub = (uint64_t)node_int(result, "sub", 0);
	else if (e->code != ERR_GONE && !r->is_over)
		run_fail(r, e);
}

static void
run_subscribe(struct run *r)
{
	char params[160];

	r->is_caught_up = false;
	if (!r->ask)
		r->asked[0] = '\0'; /* an answer that was on its way may be lost: ask again if it still waits */
	snprintf(params, sizeof(params), "{\"session\":\"%s\",\"after\":%" PRId64 ",\"follow\":true}",
		r->fold.session, MAX(r->after, r->fold.last_seq));
	client_call(r->client, API_SESSION_EVENTS, str_of(params), on_subscribed, r);
}

/* An envelope is one line unless its writer liked white space. */
static void
run_stream(struct run *r, const struct node *envelope, struct str text)
{
	struct str turn = node_str(envelope, "turn", STR(""));
	struct buf line;
	struct err e = { 0 };

	if (turn.n > 0 && !str_is(turn, r->fold.turn))
		return;
	buf_init(&line, 2 * JSON_TEXT_MAX);
	if (str_find_char(text, '\n') < 0) {
		buf_add_str(&line, text);
	} else {
		struct json j;

		json_init(&j, &line);
		json_node(&j, envelope);
	}
	buf_add_char(&line, '\n');
	if (out_flush(r->out_fd, &line, &e) != 0)
		run_fail(r, &e);
	buf_fini(&line);
}

static void
on_event(void *arg, uint64_t sub, struct str text)
{
	struct run *r = arg;
	struct arena *a;
	const struct node *envelope;
	struct err e = { 0 };
	enum fold_news news;
	int64_t seq;
	bool is_new;
	size_t kept;

	if (r->is_over)
		return;
	r->links = 0;
	if (text.n == 0) {
		r->is_caught_up = true;
		run_check_approvals(r);
		return;
	}
	a = arena_new(JSON_TEXT_MAX);
	if (json_parse(a, text, &envelope, &e) != 0) {
		err_wrap(&e, "an event of the runtime");
		run_fail(r, &e);
		arena_free(a);
		return;
	}
	seq = node_int(envelope, "seq", 0);
	is_new = seq == 0 || seq > r->fold.last_seq;
	news = fold_event(&r->fold, envelope, &kept);
	if (r->output == OUTPUT_STREAM && is_new)
		run_stream(r, envelope, text);
	live_event(&r->live, &r->fold, envelope, news, kept, clock_mono_ms());
	arena_free(a);
	run_draw(r);
	if (r->fold.is_finished)
		run_stop(r, r->fold.status, NULL);
	else if (r->is_caught_up || r->ask)
		run_check_approvals(r);
}

/* ---- approvals ---- */

static void
on_resolved(void *arg, const struct node *result, const struct err *e)
{
	struct run *r = arg;

	if (!e || e->code == ERR_GONE || r->is_over)
		return;
	live_note(&r->live, str_of(e->msg));
	run_draw(r);
	if (e->code == ERR_NOT_FOUND)
		return; /* somebody else answered: the event about it comes */
	r->asked[0] = '\0';
	run_check_approvals(r);
}

static void
on_key(void *arg, char key)
{
	static const struct {
		char key;
		const char *decision, *word;
	} answers[] = { { 'y', "allow_once", "once" }, { 'a', "allow_always", "always" }, { 'n', "deny", "no" } };
	struct run *r = arg;
	char params[160];

	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		if (answers[i].key != key || !r->client)
			continue;
		ask_close(r->ask);
		r->ask = NULL;
		buf_printf(&r->screen, "%s\n", answers[i].word);
		run_draw(r);
		snprintf(params, sizeof(params), "{\"id\":\"%s\",\"decision\":\"%s\"}", r->asked,
			answers[i].decision);
		client_call(r->client, API_APPROVAL_RESOLVE, str_of(params), on_resolved, r);
		return;
	}
}

static void
run_ask(struct run *r, const struct fold_approval *p)
{
	/* First the terminal, which drops what was typed before, then the question. */
	r->ask = ask_open(r->loop, p->may_always ? "yan" : "yn", on_key, r);
	r->may_ask = r->ask != NULL;
	if (!r->ask)
		return;
	snprintf(r->asked, sizeof(r->asked), "%s", p->id);
	live_pause(&r->live);
	buf_add_z(&r->screen, "? ");
	add_cut(&r->screen, str_of(p->tool), 40, r->live.style.utf8);
	buf_add_z(&r->screen, " asks: ");
	term_clean(&r->screen, str_of(p->summary), false);
	buf_printf(&r->screen, "\n  allow it?  y once   %sn no: ", p->may_always ? "a always   " : "");
	run_draw(r);
}

static bool
is_pending(const struct run *r, const char *id)
{
	for (size_t i = 0; i < r->fold.approvals_n; i++)
		if (strcmp(r->fold.approvals[i].id, id) == 0)
			return true;
	return false;
}

static void
run_check_approvals(struct run *r)
{
	struct err e = { 0 };
	const struct fold_approval *p;
	struct str what;

	if (r->ask && !is_pending(r, r->asked)) { /* somebody else answered */
		ask_close(r->ask);
		r->ask = NULL;
	}
	if (r->is_over || r->ask || r->fold.approvals_n == 0 || r->wants_cancel)
		return;
	p = &r->fold.approvals[0];
	if (r->asked[0] && strcmp(p->id, r->asked) == 0)
		return; /* answered; the runtime has yet to say so */
	if (r->may_ask)
		run_ask(r, p);
	if (r->may_ask)
		return;
	what = str_of(p->summary);
	err_set(&e, ERR_APPROVAL, ERR_TO_USER,
		"%.20s needs approval: %.*s%s (ithaca approval allow %.40s, then ithaca run --session %.26s "
		"--continue; or run it with --yes)",
		p->tool, (int)utf8_cut(what, WHAT_MAX), what.p, what.n > WHAT_MAX ? "..." : "", p->id, r->fold.session);
	run_stop(r, TURN_WAITING, &e);
}

/* ---- the link ---- */

/* Again after a while, unless nothing came over many links one after the other. */
static void
run_link_later(struct run *r, const struct err *why)
{
	int64_t ms = RETRY_MIN_MS;

	if (++r->links > LINKS_MAX) {
		run_fail(r, why);
		return;
	}
	for (int i = 1; i < r->links && ms < RETRY_MAX_MS; i++)
		ms *= 2;
	r->down_since_ms = clock_mono_ms();
	timer_again(r->retry, MIN(ms, RETRY_MAX_MS));
}

static void
on_gone(void *arg, const struct err *e)
{
	struct run *r = arg;
	struct err gone = { 0 };

	client_close(r->client);
	r->client = NULL;
	if (r->is_over)
		return;
	err_set(&gone, ERR_GONE, ERR_TO_USER,
		"the runtime keeps stopping (see %s/logs/runner.log; go on with: ithaca run --continue)", r->cli->home);
	run_link_later(r, &gone);
}

static void
on_failed(void *arg, uint64_t sub, const struct err *e)
{
	run_fail(arg, e);
}

static const struct client_handler client_handler = { .on_event = on_event, .on_failed = on_failed,
	.on_gone = on_gone };

static void
run_talk(struct run *r)
{
	if (r->is_accepted)
		run_subscribe(r);
	else
		run_submit(r);
	if (r->wants_cancel)
		run_cancel(r);
}

static void
on_status(void *arg, const struct node *result, const struct err *e)
{
	struct run *r = arg;
	struct err disagrees = { 0 };

	if (r->is_over || (e && e->code == ERR_GONE))
		return;
	if (e)
		run_fail(r, e);
	else if (runtime_agrees(r->cli, result, &disagrees) != 0)
		run_fail(r, &disagrees);
	else
		run_talk(r);
}

static void
run_link(void *arg)
{
	struct run *r = arg;
	const struct cli *c = r->cli;
	bool is_first = r->down_since_ms == 0, is_ours = false;
	bool may_start = r->is_private || clock_mono_ms() - r->down_since_ms > DAEMON_WAIT_MS;
	/* Later on it goes on with the turn, whatever changed meanwhile. */
	enum connect how = is_first ? CONNECT_FRESH : may_start ? CONNECT_START : CONNECT_ONLY;
	struct err e = { 0 };
	int fd = !is_first && was_stopped(c, &e) ? e.code : runtime_connect(c, how, &is_ours, &e);

	if (fd < 0 && e.code == ERR_CANCELLED) {
		run_fail(r, &e);
		return;
	}
	if (fd < 0 && how == CONNECT_ONLY) {
		timer_again(r->retry, 100);
		return;
	}
	if (fd < 0 && e.code == ERR_GONE) { /* the runner was ended before it was ready */
		r->is_private = true;
		run_link_later(r, &e);
		return;
	}
	if (fd < 0) {
		run_fail(r, &e);
		return;
	}
	r->is_private = r->is_private || is_ours;
	r->client = client_new(r->loop, fd, &client_handler, r);
	if (is_first && !is_ours && (c->env_n > 0 || c->config || c->tier))
		client_call(r->client, API_STATUS_GET, STR("{}"), on_status, r);
	else
		run_talk(r);
}

/* ---- signals, the spinner ---- */

static void
on_signal(void *arg)
{
	static const char text[] = "stopping the turn (once more: leave at once)";
	struct run *r = arg;
	struct err e = { 0 };

	if (r->wants_cancel || !r->is_sent) {
		err_set(&e, ERR_CANCELLED, ERR_TO_USER, "interrupted");
		run_stop(r, TURN_CANCELLED, &e);
		return;
	}
	r->wants_cancel = true;
	ask_close(r->ask);
	r->ask = NULL;
	live_note(&r->live, str_of(text));
	run_draw(r);
	run_cancel(r);
}

static void
on_tick(void *arg)
{
	struct run *r = arg;

	live_tick(&r->live, clock_mono_ms());
	run_draw(r);
	timer_again(r->tick, TICK_MS);
}

/* ---- life ---- */

void
run_init(struct run *r, struct cli *c, enum run_output output, struct live_style style)
{
	*r = (struct run){ .cli = c, .output = output, .out_fd = STDOUT_FILENO, .err_fd = STDERR_FILENO,
		.method = API_SESSION_TURN };
	buf_init(&r->params, WIRE_TAIL_MAX);
	buf_init(&r->screen, JSON_TEXT_MAX);
	fold_init(&r->fold);
	live_init(&r->live, style, &r->screen);
}

void
run_fini(struct run *r)
{
	live_fini(&r->live);
	fold_fini(&r->fold);
	attach_free(r->files, r->files_n);
	buf_fini(&r->screen);
	buf_fini(&r->params);
}

static void
run_loop(struct run *r)
{
	r->retry = timer_start(r->loop, 0, run_link, r);
	if (r->live.style.spinner) {
		r->tick = timer_start(r->loop, TICK_MS, on_tick, r);
		timer_unref(r->tick);
	}
	r->sigint = signal_start(r->loop, SIGINT, on_signal, r);
	r->sigterm = signal_start(r->loop, SIGTERM, on_signal, r);
	loop_run(r->loop);
	r->is_over = true;
	ask_close(r->ask);
	r->ask = NULL;
	client_close(r->client);
	r->client = NULL;
	timer_close(r->retry);
	timer_close(r->tick);
	signal_close(r->sigint);
	signal_close(r->sigterm);
}

/* The last words: the answer where it was not streamed, the object, the summary, the error. */
static int
run_finish(struct run *r)
{
	struct err e = { 0 };
	struct buf out;
	struct json j;
	int rc;

	buf_init(&out, JSON_TEXT_MAX);
	live_pause(&r->live);
	if (r->output == OUTPUT_JSON) {
		json_init(&j, &out);
		fold_json(&r->fold, &j);
		buf_add_char(&out, '\n');
	} else if (r->output == OUTPUT_PLAIN && r->fold.json_output.n > 0) {
		buf_add_str(&out, buf_str(&r->fold.json_output)); /* for a program, without a fence */
		buf_add_char(&out, '\n');
	} else if (r->output == OUTPUT_PLAIN && r->fold.answer.n > 0) {
		buf_add_str(&out, buf_str(&r->fold.answer));
		if (out.p[out.n - 1] != '\n')
			buf_add_char(&out, '\n');
	}
	if (r->is_accepted && r->output != OUTPUT_STREAM)
		live_summary(&r->live, &r->fold);
	if (r->output == OUTPUT_STREAM)
		buf_reset(&r->screen);
	run_draw(r);
	rc = out_flush(r->out_fd, &out, &e);
	buf_fini(&out);
	if (r->fold.error_msg.n > 0)
		err_set(&e, err_from_name(buf_z(&r->fold.error_code)), ERR_TO_USER, "%s",
			buf_z(&r->fold.error_msg));
	if (e.code != 0)
		report(&e);
	return rc != 0 && fold_exit(&r->fold) == 0 ? err_exit_status(rc) : fold_exit(&r->fold);
}

int
run_refuse(struct run *r, const struct err *e)
{
	fold_stop(&r->fold, status_of(e->code), e);
	r->is_over = true;
	run_finish(r);
	return err_exit_status(e->code);
}

int
run_turn(struct run *r)
{
	bool is_own = r->loop == NULL;
	struct err e = { 0 };

	if (is_own && loop_open(&r->loop, &e) != 0) {
		fold_stop(&r->fold, TURN_FAILED, &e);
		return run_finish(r);
	}
	run_loop(r);
	if (is_own)
		loop_close(r->loop);
	return run_finish(r);
}
