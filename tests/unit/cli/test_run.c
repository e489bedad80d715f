/* SPDX-License-Identifier: MIT
 * `run` against a runtime of our own on a real socket: links that break at every point, answers that get lost, errors,
 * approvals, cancelling. The fake keeps a log of events and counts what reaches it. */
#include <fcntl.h>
#include <ftw.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cli/run.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "events.h"

struct fake {
	struct loop *loop;
	char home[64], socket[96];
	int listen_fd;
	struct watch *watch;
	struct wire *wire;
	const struct wire_handler *handler;
	/* What it does. */
	const char *const *log;
	size_t log_n;
	size_t cut_after; /* events sent in all before the link is cut; SIZE_MAX: never */
	bool lose_message; /* cut at session.turn, before it is stored */
	bool lose_answer; /* cut at session.turn, after it is stored */
	const char *refuse; /* code of the error that answers session.turn */
	bool interrupts; /* raises SIGINT when the events were sent */
	bool dies; /* ends altogether where it would cut */
	bool has_files; /* the message names two */
	size_t cut_upload; /* bytes after which the link is cut, once; 0: never */
	const char *refuse_upload; /* code of the error that answers blob.put */
	const char *refuse_decision; /* code of the error that answers the first approval.resolve */
	/* What it saw. */
	size_t uploads, upload_bytes;
	struct stream *upload;
	uint64_t upload_id;
	struct buf uploaded;
	size_t sent, links, turns, stored, gets, cancels, subscriptions;
	char decision[32];
};

static void
fake_answer(struct wire *w, uint64_t id, const char *json)
{
	wire_begin(w, WIRE_RESULT, id);
	wire_end(w, str_of(json), -1);
}

static void
fake_error(struct wire *w, uint64_t id, const char *code)
{
	struct err e;

	err_set(&e, err_from_name(code), ERR_TO_USER, "the fake says %s", code);
	wire_error(w, id, &e);
}

/* Closing inside the handler of a message: at the end of the pass. */
static void
fake_cut(void *arg)
{
	struct fake *k = arg;

	wire_close(k->wire);
	k->wire = NULL;
	if (k->dies)
		loop_stop(k->loop);
}

static void
fake_event(struct fake *k, const char *json)
{
	struct json *head = wire_begin(k->wire, WIRE_EVENT, wire_next_id(k->wire));

	json_kv_int(head, "sub", 7);
	if (!json)
		json_kv_bool(head, "caught_up", true);
	wire_end(k->wire, str_of(json), -1);
}

static int64_t
seq_of(const char *json)
{
	return strtoll(json + strlen("{\"seq\":"), NULL, 10);
}

static void
fake_events(struct fake *k, int64_t after)
{
	for (size_t i = 0; i < k->log_n; i++) {
		int64_t seq = seq_of(k->log[i]);

		/* Live text is sent on the first link alone: later ones have what was logged. */
		if ((seq == 0 && k->subscriptions > 1) || (seq > 0 && seq <= after))
			continue;
		if (k->sent++ == k->cut_after) {
			loop_defer(k->loop, fake_cut, k);
			return;
		}
		fake_event(k, k->log[i]);
	}
	fake_event(k, NULL);
	if (k->interrupts)
		raise(SIGINT);
}

static void
fake_upload_data(void *arg, int ch, struct str bytes)
{
	struct fake *k = arg;

	buf_add_str(&k->uploaded, bytes);
	k->upload_bytes += bytes.n;
	stream_consume(k->upload, bytes.n);
	if (k->cut_upload > 0 && k->upload_bytes >= k->cut_upload) {
		k->cut_upload = 0;
		loop_defer(k->loop, fake_cut, k);
	}
}

static void
fake_upload_eof(void *arg)
{
	struct fake *k = arg;
	char hash[SHA256_HEX], json[160];

	sha256_hex(buf_str(&k->uploaded), hash);
	snprintf(json, sizeof(json), "{\"blob\":\"%s\",\"size\":%zu}", hash, k->uploaded.n);
	stream_eof(k->upload);
	stream_close(k->upload, NULL);
	k->uploads++;
	fake_answer(k->wire, k->upload_id, json);
}

static void
fake_upload_reset(void *arg, const struct err *e)
{
}

static const struct stream_handler fake_upload_handler = { .on_data = fake_upload_data, .on_eof = fake_upload_eof,
	.on_reset = fake_upload_reset };

static void
fake_put(struct fake *k, struct wire *w, uint64_t id)
{
	if (k->refuse_upload) {
		fake_error(w, id, k->refuse_upload);
		return;
	}
	buf_reset(&k->uploaded);
	k->upload_id = id;
	k->upload = stream_open(w, id, &fake_upload_handler, k);
}

static int
fake_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	static const char accepted[] = "{\"session\":\"" SESSION "\",\"turn\":\"" TURN "\",\"seq\":1}";
	struct fake *k = arg;
	const char *method = node_z(m->head, "method", "");
	struct arena *a = arena_new(1 << 20);
	const struct node *params = NULL;

	assert_int_equal(m->kind, WIRE_CALL);
	assert_non_null(api_find(str_of(method)));
	assert_int_equal(json_parse(a, m->tail, &params, e), 0);
	if (field_check(api_find(str_of(method))->params, params, method, ERR_TO_USER, e) != 0)
		fail_msg("%s", e->msg);
	if (strcmp(method, "session.turn") == 0) {
		k->turns++;
		assert_int_equal(k->uploads, k->has_files ? 2 : 0);
		if (k->refuse) {
			fake_error(w, m->id, k->refuse);
		} else if (k->lose_message || k->lose_answer) {
			k->stored += k->lose_answer;
			k->lose_message = k->lose_answer = false;
			loop_defer(k->loop, fake_cut, k);
		} else {
			k->stored++;
			fake_answer(w, m->id, accepted);
		}
	} else if (strcmp(method, "blob.put") == 0) {
		fake_put(k, w, m->id);
	} else if (strcmp(method, "session.continue") == 0) {
		fake_answer(w, m->id, accepted);
	} else if (strcmp(method, "turn.get") == 0) {
		k->gets++;
		assert_string_equal(node_z(params, "turn", ""), TURN);
		if (k->stored > 0)
			fake_answer(w, m->id, accepted);
		else
			fake_error(w, m->id, "not_found");
	} else if (strcmp(method, "session.events") == 0) {
		k->subscriptions++;
		assert_true(node_bool(params, "follow", false));
		assert_string_equal(node_z(params, "session", ""), SESSION);
		fake_answer(w, m->id, "{\"sub\":7}");
		fake_events(k, node_int(params, "after", -1));
	} else if (strcmp(method, "turn.cancel") == 0) {
		k->cancels++;
		fake_answer(w, m->id, "{}");
		fake_event(k, EV("90", "2000", "turn.finished", "{\"status\":\"cancelled\",\"text\":\"\",\"steps\":1}"));
	} else if (strcmp(method, "approval.resolve") == 0) {
		if (k->refuse_decision) {
			fake_error(w, m->id, k->refuse_decision);
			k->refuse_decision = NULL;
			arena_free(a);
			return 0;
		}
		snprintf(k->decision, sizeof(k->decision), "%s", node_z(params, "decision", ""));
		fake_answer(w, m->id, "{}");
		fake_event(k, EV("91", "2000", "approval.resolved", "{\"id\":\"01jd0000000000000000000042\",\"by\":\"you\"}"));
		fake_event(k, EV("92", "2000", "turn.finished", "{\"status\":\"answered\",\"text\":\"Pushed.\",\"steps\":1}"));
	} else {
		fail_msg("unexpected %s", method);
	}
	arena_free(a);
	return 0;
}

static void
fake_gone(void *arg, struct wire *w, const struct err *e)
{
	struct fake *k = arg;

	if (k->wire == w)
		k->wire = NULL;
}

static const struct wire_handler fake_handler = { .on_msg = fake_msg, .on_gone = fake_gone };

static void
fake_accept(void *arg, int events)
{
	struct fake *k = arg;
	int fd = unix_accept(k->listen_fd);

	if (fd < 0)
		return;
	k->links++;
	if (k->wire)
		wire_close(k->wire);
	k->wire = wire_open(k->loop, fd, ROLE_RUNTIME, ROLE_CLIENT, k->handler, k);
}

static void
fake_open(struct fake *k)
{
	struct err e = { 0 };
	char run[96];

	*k = (struct fake){ .handler = &fake_handler, .log = recorded, .log_n = ARRAY_LEN(recorded),
		.cut_after = SIZE_MAX };
	buf_init(&k->uploaded, 4 * MIB);
	snprintf(k->home, sizeof(k->home), "/tmp/ithaca-run-XXXXXX");
	assert_non_null(mkdtemp(k->home));
	snprintf(run, sizeof(run), "%.60s/run", k->home);
	assert_int_equal(mkdir(run, 0700), 0);
	snprintf(k->socket, sizeof(k->socket), "%.60s/run/rpc.sock", k->home);
	assert_int_equal(loop_open(&k->loop, &e), 0);
	k->listen_fd = unix_listen(k->socket, 0600, &e);
	assert_true(k->listen_fd >= 0);
	k->watch = watch_start(k->loop, k->listen_fd, LOOP_READ, fake_accept, k);
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void
fake_close(struct fake *k)
{
	watch_close(k->watch);
	wire_close(k->wire);
	close(k->listen_fd);
	loop_close(k->loop);
	buf_fini(&k->uploaded);
	nftw(k->home, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

struct outcome {
	int exit;
	char *out, *err;
};

static char *
read_back(int fd)
{
	off_t n = lseek(fd, 0, SEEK_END);
	char *text = calloc(1, (size_t)n + 1);

	assert_int_equal(pread(fd, text, (size_t)n, 0), n);
	close(fd);
	return text;
}

/* More than a window, and next to nothing. */
static void
add_files(struct run *r)
{
	static const size_t sizes[] = { 900 * KIB, 1 };

	r->files = xcalloc(ARRAY_LEN(sizes), sizeof(*r->files));
	r->files_n = ARRAY_LEN(sizes);
	for (size_t i = 0; i < r->files_n; i++) {
		struct attached *f = &r->files[i];

		f->name = xstrdup("file");
		f->n = sizes[i];
		f->bytes = xmalloc(f->n);
		for (size_t k = 0; k < f->n; k++)
			f->bytes[k] = (char)(k * 7 + i);
		sha256_hex((struct str){ f->bytes, f->n }, f->hash);
	}
}

static struct outcome
run_against(struct fake *k, enum run_output output)
{
	static char *const env[] = { "TEST=1", "TEST=2", NULL };
	bool is_private = getenv("ITHACA_BIN_DIR") != NULL;
	struct cli c = { .a = arena_new(1 << 20), .home = k->home, .env = env, .env_n = is_private ? 2 : 0 };
	struct live_style style = { .text = output == OUTPUT_LIVE, .columns = 120, .rows = 24 };
	struct outcome o;
	struct run r;
	int out = memfd_create("out", MFD_CLOEXEC), err = memfd_create("err", MFD_CLOEXEC);

	run_init(&r, &c, output, style);
	r.loop = k->loop;
	r.out_fd = out;
	r.err_fd = err;
	memcpy(r.turn, TURN, sizeof(r.turn));
	r.is_new_session = true;
	buf_add_z(&r.params, "{\"text\":\"hello\",\"turn\":\"" TURN "\"}");
	if (k->has_files)
		add_files(&r);
	o.exit = run_turn(&r);
	run_fini(&r);
	arena_free(c.a);
	o.out = read_back(out);
	o.err = read_back(err);
	return o;
}

static void
outcome_free(struct outcome *o)
{
	free(o->out);
	free(o->err);
}

static const char whole[] =
	"{\"session\":\"" SESSION "\",\"turn\":\"" TURN "\",\"status\":\"answered\",\"text\":\"Two files.\","
	"\"model\":\"test/x\",\"usage\":{\"input_tokens\":250,\"output_tokens\":30,\"cached_tokens\":90,"
	"\"reasoning_tokens\":0},\"cost_microusd\":1200,\"steps\":2,\"effects\":[{\"tool\":\"exec\","
	"\"status\":\"done\",\"ms\":100}],\"duration_ms\":200}\n";

static void
test_plain(void **state)
{
	struct fake k;
	struct outcome o;

	fake_open(&k);
	o = run_against(&k, OUTPUT_PLAIN);
	assert_int_equal(o.exit, 0);
	assert_string_equal(o.out, "Two files.\n");
	assert_non_null(strstr(o.err, "exec ls -la"));
	assert_int_equal(k.turns, 1);
	assert_int_equal(k.links, 1);
	outcome_free(&o);
	fake_close(&k);
}

/* The link breaks after each number of events: one turn, one text, one object. */
static void
test_cut_anywhere(void **state)
{
	for (size_t cut = 0; cut < ARRAY_LEN(recorded); cut++) {
		for (int output = OUTPUT_LIVE; output <= OUTPUT_STREAM; output++) {
			struct fake k;
			struct outcome o;

			fake_open(&k);
			k.cut_after = cut;
			o = run_against(&k, (enum run_output)output);
			assert_int_equal(o.exit, 0);
			assert_int_equal(k.turns, 1);
			assert_int_equal(k.links, 2);
			if (output == OUTPUT_JSON)
				assert_string_equal(o.out, whole);
			if (output == OUTPUT_PLAIN)
				assert_string_equal(o.out, "Two files.\n");
			if (output == OUTPUT_STREAM) {
				const char *done = strstr(o.out, "\"kind\":\"turn.finished\"");

				assert_non_null(done);
				assert_null(strstr(done + 1, "\"kind\":\"turn.finished\""));
			}
			outcome_free(&o);
			fake_close(&k);
		}
	}
}

/* The files are there before the message is, wherever the link breaks while they are sent. */
static void
test_files_go_first(void **state)
{
	static const size_t cuts[] = { 0, 1, 300 * KIB, 900 * KIB };

	for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
		struct fake k;
		struct outcome o;

		fake_open(&k);
		k.has_files = true;
		k.cut_upload = cuts[i];
		o = run_against(&k, OUTPUT_PLAIN);
		assert_int_equal(o.exit, 0);
		assert_string_equal(o.out, "Two files.\n");
		assert_int_equal(k.uploads, 2);
		assert_int_equal(k.turns, 1);
		assert_int_equal(k.links, cuts[i] > 0 ? 2 : 1);
		assert_int_equal(k.gets, 0);
		outcome_free(&o);
		fake_close(&k);
	}
}

static void
test_a_file_that_is_refused(void **state)
{
	struct fake k;
	struct outcome o;

	fake_open(&k);
	k.has_files = true;
	k.refuse_upload = "full";
	o = run_against(&k, OUTPUT_JSON);
	assert_int_equal(o.exit, 1);
	assert_non_null(strstr(o.out, "the fake says full"));
	assert_int_equal(k.turns, 0);
	outcome_free(&o);
	fake_close(&k);
}

/* The message is lost on its way, or its answer is: it is stored once. */
static void
test_lost(void **state)
{
	for (int message = 0; message < 2; message++) {
		struct fake k;
		struct outcome o;

		fake_open(&k);
		k.lose_message = message;
		k.lose_answer = !message;
		o = run_against(&k, OUTPUT_JSON);
		assert_int_equal(o.exit, 0);
		assert_string_equal(o.out, whole);
		assert_int_equal(k.turns, message ? 2 : 1);
		assert_int_equal(k.stored, 1);
		assert_int_equal(k.gets, 1);
		outcome_free(&o);
		fake_close(&k);
	}
}

static void
test_refused(void **state)
{
	static const struct {
		const char *code, *status;
		int exit;
	} rows[] = { { "config", "failed", 2 }, { "auth", "failed", 2 }, { "network", "failed", 1 },
		{ "limit", "limit", 4 }, { "denied", "denied", 3 } };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct fake k;
		struct outcome o;
		char want[64];

		fake_open(&k);
		k.refuse = rows[i].code;
		o = run_against(&k, OUTPUT_JSON);
		assert_int_equal(o.exit, rows[i].exit);
		snprintf(want, sizeof(want), "\"status\":\"%s\"", rows[i].status);
		assert_non_null(strstr(o.out, want));
		snprintf(want, sizeof(want), "\"code\":\"%s\"", rows[i].code);
		assert_non_null(strstr(o.out, want));
		outcome_free(&o);
		fake_close(&k);
	}
}

static void
test_stream(void **state)
{
	static const char *const wordy[] = {
		"{\"seq\":2,\n \"turn\":\"" TURN "\",\n \"time\":1, \"kind\":\"turn.finished\",\n \"body\":{\"status\":\"answered\"}}",
	};
	struct fake k;
	struct outcome o;
	struct buf want;

	fake_open(&k);
	buf_init(&want, 1 << 20);
	for (size_t i = 0; i < ARRAY_LEN(recorded); i++)
		buf_printf(&want, "%s\n", recorded[i]);
	o = run_against(&k, OUTPUT_STREAM);
	assert_string_equal(o.out, buf_z(&want));
	outcome_free(&o);
	fake_close(&k);

	fake_open(&k);
	k.log = wordy;
	k.log_n = 1;
	o = run_against(&k, OUTPUT_STREAM);
	assert_int_equal(strchr(o.out, '\n') - o.out, (ptrdiff_t)strlen(o.out) - 1);
	outcome_free(&o);
	buf_fini(&want);
	fake_close(&k);
}

static const char *const waiting[] = {
	EV("2", "1000", "turn.started", "{\"model\":\"test/x\"}"),
	EV("3", "1001", "approval.requested",
		"{\"id\":\"01jd0000000000000000000042\",\"call\":\"c\",\"tool\":\"exec\",\"summary\":\"git push\","
		"\"always\":\"Exec(git push)\"}"),
};

/* No rule would cover calls like it. */
static const char *const waiting_once[] = {
	EV("2", "1000", "turn.started", "{\"model\":\"test/x\"}"),
	EV("3", "1001", "approval.requested",
		"{\"id\":\"01jd0000000000000000000042\",\"call\":\"c\",\"tool\":\"exec\",\"summary\":\"git push\",\"always\":\"\"}"),
};

static void
test_approval_needed(void **state)
{
	struct fake k;
	struct outcome o;

	fake_open(&k);
	k.log = waiting;
	k.log_n = ARRAY_LEN(waiting);
	o = run_against(&k, OUTPUT_JSON);
	assert_int_equal(o.exit, 3);
	assert_non_null(strstr(o.out, "\"status\":\"waiting\""));
	assert_non_null(strstr(o.out, "approval_needed"));
	assert_non_null(strstr(o.out, "ithaca approval allow 01jd0000000000000000000042"));
	assert_non_null(strstr(o.out, "--session " SESSION " --continue"));
	assert_int_equal(k.cancels, 0);
	outcome_free(&o);
	fake_close(&k);
}

/* Asked and answered long ago: nothing waits. */
static void
test_approval_in_the_past(void **state)
{
	static const char *const past[] = {
		EV("2", "1", "approval.requested", "{\"id\":\"a\",\"tool\":\"exec\",\"summary\":\"x\"}"),
		EV("3", "2", "approval.resolved", "{\"id\":\"a\",\"decision\":\"allow_once\"}"),
		EV("4", "3", "turn.finished", "{\"status\":\"answered\",\"text\":\"ok\"}"),
	};
	struct fake k;
	struct outcome o;

	fake_open(&k);
	k.log = past;
	k.log_n = ARRAY_LEN(past);
	o = run_against(&k, OUTPUT_PLAIN);
	assert_int_equal(o.exit, 0);
	assert_string_equal(o.out, "ok\n");
	outcome_free(&o);
	fake_close(&k);
}

/* On a terminal: a process of its own whose terminal we hold. A key that is no answer is ignored. */
static const char *
asked_of(const char *const *log, const char *refuse, const char *keys, const char *decision)
{
	static char seen[65536];
	size_t n = 0, from = 0;
	ssize_t got;
	int master, status;
	pid_t pid = forkpty(&master, NULL, NULL, NULL);

	assert_true(pid >= 0);
	if (pid == 0) {
		struct fake k;
		struct cli c = { .a = arena_new(1 << 20) };
		struct live_style style = { .text = true, .spinner = true, .color = true, .columns = 80, .rows = 24 };
		struct run r;

		fake_open(&k);
		k.log = log;
		k.log_n = ARRAY_LEN(waiting);
		k.refuse_decision = refuse;
		c.home = k.home;
		run_init(&r, &c, OUTPUT_LIVE, style);
		r.loop = k.loop;
		r.may_ask = ask_possible();
		memcpy(r.turn, TURN, sizeof(r.turn));
		buf_add_z(&r.params, "{\"text\":\"push\"}");
		status = run_turn(&r);
		run_fini(&r);
		fake_close(&k);
		_exit(status == 0 && strcmp(k.decision, decision) == 0 ? 0 : 1);
	}
	while (n < sizeof(seen) - 1 && (got = read(master, seen + n, sizeof(seen) - 1 - n)) > 0) {
		n += (size_t)got;
		seen[n] = '\0';
		if (!strstr(seen + from, "n no: ")) /* each question gets the answer */
			continue;
		from = n;
		assert_int_equal(write(master, keys, strlen(keys)), strlen(keys));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(master);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("status %x after: %s", status, seen);
	assert_non_null(strstr(seen, "exec asks: git push"));
	assert_non_null(strstr(seen, "Pushed."));
	return seen;
}

static void
asked(const char *keys, const char *decision)
{
	asked_of(waiting, NULL, keys, decision);
}

static void
test_asked(void **state)
{
	asked("xy", "allow_once");
	asked("A", "allow_always");
	asked("n", "deny");
	asked("\x1b", "deny");
}

/* "always" is no answer where no rule could say it, and it is not offered. */
static void
test_asked_once_only(void **state)
{
	const char *seen = asked_of(waiting_once, NULL, "ay", "allow_once");

	assert_null(strstr(seen, "always"));
}

/* An answer that the runtime refuses is no answer: the question comes again. */
static void
test_asked_again(void **state)
{
	const char *seen = asked_of(waiting, "invalid", "y", "allow_once");

	assert_non_null(strstr(seen, "the fake says invalid"));
	assert_non_null(strstr(strstr(seen, "exec asks: ") + 1, "exec asks: "));
}

static void
test_cancel(void **state)
{
	struct fake k;
	struct outcome o;

	fake_open(&k);
	k.log_n = 5;
	k.interrupts = true;
	o = run_against(&k, OUTPUT_JSON);
	assert_int_equal(o.exit, 5);
	assert_non_null(strstr(o.out, "\"status\":\"cancelled\""));
	assert_int_equal(k.cancels, 1);
	outcome_free(&o);
	fake_close(&k);
}

static void
test_no_ithacad(void **state)
{
	struct fake k;
	struct outcome o;

	fake_open(&k);
	unlink(k.socket);
	assert_int_equal(setenv("ITHACA_BIN_DIR", k.home, 1), 0);
	o = run_against(&k, OUTPUT_JSON);
	assert_int_equal(o.exit, 1);
	assert_non_null(strstr(o.out, "ithacad is not in"));
	unsetenv("ITHACA_BIN_DIR");
	outcome_free(&o);
	fake_close(&k);
}

/* A runner that says why it cannot start: FAULT, {code, message}. It is a script that writes the frame. */
static void
test_runner_fault(void **state)
{
	static const char head[] = "{\"v\":1,\"kind\":\"fault\",\"id\":1,\"code\":\"config\",\"message\":\"config.yaml line 3: no\"}";
	struct fake k;
	struct outcome o;
	struct buf script;
	struct err e = { 0 };
	char path[96];

	fake_open(&k);
	unlink(k.socket);
	buf_init(&script, 4096);
	buf_printf(&script, "#!/bin/sh\nprintf '\\%03o\\0\\0\\0\\%03o\\0\\0\\0%s' >&3\n", (unsigned)sizeof(head) - 1 + 4,
		(unsigned)sizeof(head) - 1, head);
	snprintf(path, sizeof(path), "%s/ithacad", k.home);
	assert_int_equal(file_write(path, buf_str(&script), 0755, &e), 0);
	buf_fini(&script);
	assert_int_equal(setenv("ITHACA_BIN_DIR", k.home, 1), 0);
	o = run_against(&k, OUTPUT_JSON);
	assert_int_equal(o.exit, 2);
	assert_non_null(strstr(o.out, "\"message\":\"config.yaml line 3: no\""));
	assert_non_null(strstr(o.out, "\"code\":\"config\""));
	unsetenv("ITHACA_BIN_DIR");
	outcome_free(&o);
	fake_close(&k);
}

/* A runner that ends without a word. */
static void
test_runner_dies(void **state)
{
	struct fake k;
	struct outcome o;
	struct err e = { 0 };
	char path[96];

	fake_open(&k);
	unlink(k.socket);
	snprintf(path, sizeof(path), "%s/ithacad", k.home);
	assert_int_equal(file_write(path, STR("#!/bin/sh\nexit 7\n"), 0755, &e), 0);
	assert_int_equal(setenv("ITHACA_BIN_DIR", k.home, 1), 0);
	o = run_against(&k, OUTPUT_JSON);
	assert_int_equal(o.exit, 1);
	assert_non_null(strstr(o.out, "ended before it was ready"));
	unsetenv("ITHACA_BIN_DIR");
	outcome_free(&o);
	fake_close(&k);
}

/* ---- a private runner: this program itself, as ithacad in the home ---- */

enum { RUNNER_LINK = 3, RUNNER_LOCK = 4 };

static int
runner_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	return 0;
}

static void
runner_gone(void *arg, struct wire *w, const struct err *e)
{
}

/* The client is gone: a private runner ends when idle. */
static void
served(void *arg, struct wire *w, const struct err *e)
{
	struct fake *k = arg;

	k->wire = NULL;
	loop_stop(k->loop);
}

/* Appends a line to a file of the home, for the test to read; gives how many there are. */
static size_t
note(const char *home, const char *line)
{
	char path[128];
	AUTO_FREE char *text = NULL;
	struct err e;
	size_t n, lines = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%.60s/notes", home);
	f = fopen(path, "a");
	if (!f)
		_exit(99);
	fprintf(f, "%s\n", line);
	fclose(f);
	if (file_read(path, 65536, &text, &n, &e) != 0)
		_exit(98);
	for (size_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	return lines;
}

static int
runner_main(int argc, char **argv)
{
	static const struct wire_handler link = { .on_msg = runner_msg, .on_gone = runner_gone };
	static const struct wire_handler serving = { .on_msg = fake_msg, .on_gone = served };
	struct fake k = { .log = recorded, .log_n = ARRAY_LEN(recorded), .cut_after = SIZE_MAX, .stored = 1, .dies = true };
	struct buf line;
	struct err e = { 0 };
	struct wire *w;
	char lock[96];
	int other;

	/* -x runner --private --home DIR ... */
	snprintf(k.home, sizeof(k.home), "%s", argv[5]);
	snprintf(k.socket, sizeof(k.socket), "%.60s/run/rpc.sock", k.home);
	snprintf(lock, sizeof(lock), "%.60s/run/lock", k.home);
	other = open(lock, O_RDWR | O_CLOEXEC);
	buf_init(&line, 4096);
	for (int i = 1; i < argc; i++)
		buf_printf(&line, "%s ", argv[i]);
	buf_printf(&line, "lock=%s ours=%s sid=%d TEST=%s", flock(other, LOCK_EX | LOCK_NB) == 0 ? "free" : "held",
		flock(RUNNER_LOCK, LOCK_EX | LOCK_NB) == 0 ? "yes" : "no", getsid(0) == getpid(), getenv("TEST"));
	if (note(k.home, buf_z(&line)) == 1)
		k.cut_after = 5; /* the first one dies there */
	else
		k.subscriptions = 1; /* the others have what was logged */
	buf_fini(&line);
	if (loop_open(&k.loop, &e) != 0 || (k.listen_fd = unix_listen(k.socket, 0600, &e)) < 0)
		return 97;
	w = wire_open(k.loop, RUNNER_LINK, ROLE_RUNNER, ROLE_CLIENT, &link, NULL);
	(void)wire_begin(w, WIRE_READY, 0);
	wire_end(w, STR(""), -1);
	wire_close_flushed(w);
	k.handler = &serving;
	k.watch = watch_start(k.loop, k.listen_fd, LOOP_READ, fake_accept, &k);
	loop_run(k.loop);
	/* The socket file stays behind, as after a kill. */
	return 0;
}

/* Nobody listens: a runner is started with the lock, dies half-way, and another one is started. */
static void
test_private_runner(void **state)
{
	struct fake k;
	struct outcome o;
	struct err e = { 0 };
	char path[128], self[256];
	AUTO_FREE char *notes = NULL;
	ssize_t self_n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *want;
	size_t n;

	assert_true(self_n > 0);
	self[self_n] = '\0';
	fake_open(&k);
	unlink(k.socket);
	snprintf(path, sizeof(path), "%.60s/ithacad", k.home);
	assert_int_equal(symlink(self, path), 0);
	assert_int_equal(setenv("ITHACA_BIN_DIR", k.home, 1), 0);
	o = run_against(&k, OUTPUT_JSON);
	assert_int_equal(o.exit, 0);
	assert_string_equal(o.out, whole);
	snprintf(path, sizeof(path), "%.60s/notes", k.home);
	assert_int_equal(file_read(path, 65536, &notes, &n, &e), 0);
	want = xasprintf("-x runner --private --home %s lock=held ours=yes sid=1 TEST=2\n"
			 "-x runner --private --home %s lock=held ours=yes sid=1 TEST=2\n", k.home, k.home);
	assert_string_equal(notes, want);
	free(want);
	unsetenv("ITHACA_BIN_DIR");
	outcome_free(&o);
	fake_close(&k);
}

int
main(int argc, char **argv)
{
	if (argc > 5 && strcmp(argv[1], "-x") == 0)
		return runner_main(argc, argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_cut_anywhere),
		cmocka_unit_test(test_files_go_first),
		cmocka_unit_test(test_a_file_that_is_refused),
		cmocka_unit_test(test_lost),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_approval_needed),
		cmocka_unit_test(test_approval_in_the_past),
		cmocka_unit_test(test_asked),
		cmocka_unit_test(test_asked_once_only),
		cmocka_unit_test(test_asked_again),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_no_ithacad),
		cmocka_unit_test(test_runner_fault),
		cmocka_unit_test(test_runner_dies),
		cmocka_unit_test(test_private_runner),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
