/* SPDX-License-Identifier: MIT
 * A runtime that lies: shelld drops it, or says why not, and goes on. After every attack an honest runtime finds the same
 * shelld, a command that began before still runs, and shelld has not grown. Attacks are made of a fixed seed. */
#include <sys/resource.h>
#include "rig.h"

#define GROWN_MAX_KIB (32 * 1024)
#define ROUNDS        400
#define REPLAYS       40
#define READERS       150
#define FRAMES        40 /* of one round */

static uint64_t seed = 0x9e3779b97f4a7c15u;

static uint32_t
roll(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 32) % n;
}

static long
pss_kib(const struct rig *r)
{
	char path[64], line[256];
	long kib = -1;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)child_pid(r->guest));
	FILE *f = fopen(path, "r");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		sscanf(line, "Pss: %ld", &kib);
	if (f != NULL)
		fclose(f);
	return kib;
}

/* A link to shelld that nothing of ours reads or writes but the test. */
static int
raw_peer(struct rig *r)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	json_kv_z(wire_begin(r->runner, WIRE_PEER, 0), "role", "runtime");
	assert_int_equal(wire_end(r->runner, STR(""), pair[1]), 0);
	close(pair[1]);
	return pair[0];
}

static void
stop_loop(void *arg)
{
	loop_stop(arg);
}

/* Sends while shelld takes it; reads what it says. False: it hung up. */
static bool
push(int fd, const char *p, size_t n)
{
	char sink[65536];
	int64_t until = clock_mono_ms() + RIG_GUARD_MS * rig_slow();

	while (n > 0) {
		while (recv(fd, sink, sizeof(sink), 0) > 0) { /* whoever lets answers pile up is dropped */
		}
		ssize_t put = send(fd, p, n, MSG_NOSIGNAL);
		if (put > 0) {
			p += put;
			n -= (size_t)put;
			continue;
		}
		if (errno != EAGAIN)
			return false;
		struct pollfd x = { .fd = fd, .events = POLLIN | POLLOUT };
		assert_true(clock_mono_ms() < until);
		assert_true(poll(&x, 1, RIG_GUARD_MS * rig_slow()) > 0);
		ssize_t got = recv(fd, sink, sizeof(sink), 0);
		if (got == 0 || (got < 0 && errno != EAGAIN))
			return false;
	}
	return true;
}

/* Waits until shelld hangs up. */
static void
expect_dropped(int fd)
{
	char sink[65536];
	ssize_t n;

	do {
		struct pollfd x = { .fd = fd, .events = POLLIN };
		assert_int_equal(poll(&x, 1, RIG_GUARD_MS * rig_slow()), 1);
		n = recv(fd, sink, sizeof(sink), 0);
	} while (n > 0 || (n < 0 && errno == EAGAIN));
	close(fd);
}

/* A frame with any head, also a wrong one. */
static void
frame(struct buf *b, const char *head, size_t tail_n)
{
	uint32_t head_n = (uint32_t)strlen(head), total = 4 + head_n + (uint32_t)tail_n;

	buf_add(b, &total, 4);
	buf_add(b, &head_n, 4);
	buf_add_z(b, head);
	for (size_t i = 0; i < tail_n; i++)
		buf_add_char(b, 'x');
}

struct hostile {
	struct rig r;
	struct id background;
	long pss;
	int alive;
};

static int
setup(void **state)
{
	struct hostile *h = xcalloc(1, sizeof(*h));
	struct outcome o;

	rig_start(&h->r);
	h->alive = rig_alive(&h->r);
	h->background = id_new();
	struct exec_request q = rig_request(&h->r, h->background.z, "exec 9>/shared/alive; echo x >&9; exec sleep 1000");
	q.background = true;
	q.timeout_ms = 600000;
	q.cell = "quiet"; /* a runtime may do what it likes with cells it can name: the attacks do not know this one */
	rig_run(&h->r, &q, &o);
	assert_int_equal(o.st.state, EXEC_RUNNING);
	outcome_fini(&o);
	rig_expect_alive(h->alive);
	h->pss = pss_kib(&h->r);
	*state = h;
	return 0;
}

static int
teardown(void **state)
{
	struct hostile *h = *state;
	rig_stop(&h->r);
	rig_expect_dead(h->alive);
	free(h);
	return 0;
}

/* The same shelld, the same command, about the same memory. */
static void
expect_well(struct hostile *h)
{
	struct rig *r = &h->r;
	struct answer x;
	struct outcome o;

	rig_peer(r);
	rig_sh(r, "echo honest", &o);
	assert_string_equal(buf_z(&o.out), "honest\n");
	outcome_fini(&o);
	answer_init(&x, r);
	assert_int_equal(sandbox_job(r->sb, "quiet", h->background.z, rig_reply, &x, &x.e), 0);
	answer_wait(&x);
	assert_string_equal(node_z(x.head, "state", ""), "running");
	answer_fini(&x);
	long pss = pss_kib(r);
	if (h->pss > 0 && pss >= h->pss + GROWN_MAX_KIB)
		fail_msg("shelld has grown from %ld to %ld KiB", h->pss, pss);
}

/* Lets our loop send PEER. */
static int
attack_peer(struct hostile *h)
{
	int fd = raw_peer(&h->r);
	struct timer *t = timer_start(h->r.l, 1, stop_loop, h->r.l);
	while (wire_queued(h->r.runner) > 0)
		loop_run(h->r.l);
	timer_close(t);
	return fd;
}

static const char *const kinds[] = { "spawn", "exec", "input", "resize", "signal", "kill", "spool", "file", "close", "data", "credit",
	"eof", "reset", "hello", "boot", "fetch", "nonsense" };

static void
add_value(struct buf *b)
{
	static const char *const values[] = { "1", "0", "-1", "\"\"", "\"cell-1\"", "\"../x\"", "true", "null", "[]", "{}",
		"9223372036854775807", "\"INT\"", "\"stat\"", "\"a\\u0000b\"", "1e300" };
	buf_add_z(b, values[roll(ARRAY_LEN(values))]);
}

/* Half valid: the right shape, any kind, keys that requests have, any value. */
static void
add_half_valid(struct buf *b, const struct rig *r, uint64_t id)
{
	static const char *const keys[] = { "cell", "effect", "plan", "command_bytes", "timeout_ms", "output_max", "background",
		"only_resume", "input", "live", "rows", "columns", "shell", "cwd", "op", "params_bytes", "offset", "n", "signal",
		"forget", "ch", "code" };
	struct buf head;

	buf_init(&head, 64 * KIB);
	buf_printf(&head, "{\"v\":1,\"kind\":\"%s\",\"id\":%llu", kinds[roll(ARRAY_LEN(kinds))], (unsigned long long)id);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (roll(2) == 0)
			continue;
		buf_printf(&head, ",\"%s\":", keys[i]);
		if (strcmp(keys[i], "plan") == 0 && roll(2) == 0)
			buf_printf(&head, "{\"access\":\"read_only\",\"shared\":\"%s\",\"state\":\"%s\",\"memory_bytes\":100000000,"
				"\"processes\":10,\"cpu_percent\":100,\"file_bytes\":1000,\"tmp_bytes\":8192}", r->shared, r->state);
		else
			add_value(&head);
	}
	buf_add_z(&head, roll(50) == 0 ? "" : "}");
	frame(b, buf_z(&head), roll(3) == 0 ? roll(3000) : 0);
	buf_fini(&head);
}

static void
test_half_valid(void **state)
{
	struct hostile *h = *state;

	for (int i = 0; i < ROUNDS; i++) {
		struct buf b;
		int fd = attack_peer(h);
		buf_init(&b, 4 * MIB);
		for (int n = 0; n < FRAMES; n++)
			add_half_valid(&b, &h->r, (uint64_t)roll(64) * 2 + 1);
		(void)push(fd, b.p, b.n);
		close(fd);
		buf_fini(&b);
	}
	expect_well(h);
}

static void
test_noise(void **state)
{
	struct hostile *h = *state;
	char bytes[4096];

	for (int i = 0; i < ROUNDS; i++) {
		int fd = attack_peer(h);
		for (size_t n = 0; n < sizeof(bytes); n++)
			bytes[n] = (char)roll(256);
		if (roll(2) == 0) { /* a size that is allowed, then noise */
			uint32_t sizes[2] = { 4 + 4000, roll(4000) };
			memcpy(bytes, sizes, sizeof(sizes));
		}
		(void)push(fd, bytes, sizeof(bytes));
		close(fd);
	}
	expect_well(h);
}

/* What an honest runtime says, cut at every byte: half a message is none, and its link is no loss. */
static void
test_cut(void **state)
{
	struct hostile *h = *state;
	struct buf b;
	char head[1024];
	struct id id = id_new();

	buf_init(&b, 64 * KIB);
	snprintf(head, sizeof(head), "{\"v\":1,\"kind\":\"exec\",\"id\":1,\"cell\":\"cut\",\"effect\":\"%s\",\"plan\":{\"access\":"
		"\"read_only\",\"shared\":\"%s\",\"state\":\"%s\",\"memory_bytes\":100000000,\"processes\":10,"
		"\"cpu_percent\":100,\"file_bytes\":1000,\"tmp_bytes\":8192},\"timeout_ms\":20000,\"output_max\":10,"
		"\"command_bytes\":20,\"input\":true}", id.z, h->r.shared, h->r.state);
	frame(&b, head, 20);
	frame(&b, "{\"v\":1,\"kind\":\"input\",\"id\":1}", 5);
	frame(&b, "{\"v\":1,\"kind\":\"spool\",\"id\":3,\"cell\":\"cut\",\"effect\":\"e\",\"offset\":0,\"n\":10}", 0);
	frame(&b, "{\"v\":1,\"kind\":\"close\",\"id\":5,\"cell\":\"cut\",\"forget\":true}", 0);
	for (size_t n = 0; n < b.n; n++) {
		int fd = attack_peer(h);
		(void)push(fd, b.p, n);
		close(fd);
	}
	buf_fini(&b);
	expect_well(h);
}

/* How often a text stands in what it says until it hangs up or has said nothing for a while. */
static size_t
count_said(int fd, const char *text)
{
	static char said[64 * 1024 * 1024];
	size_t n = 0, times = 0;

	for (struct pollfd x = { .fd = fd, .events = POLLIN }; n < sizeof(said) && poll(&x, 1, 500 * rig_slow()) == 1;) {
		ssize_t got = recv(fd, said + n, sizeof(said) - n, 0);
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	for (const char *p = said; (p = memmem(p, n - (size_t)(p - said), text, strlen(text))) != NULL; p++)
		times++;
	return times;
}

/* Results that nobody takes cost a descriptor each: as many are shown at once as there are. */
static void
test_replays(void **state)
{
	struct hostile *h = *state;
	struct rlimit few, before;
	struct buf b;
	size_t busy, shown, first = 0;
	int fd;

	buf_init(&b, MIB);
	rig_peer(&h->r);
	for (int i = 0; i < REPLAYS; i++) {
		struct outcome o;
		char head[200];
		struct id id = id_new();
		struct exec_request q = rig_request(&h->r, id.z, "head -c 400000 /dev/zero | tr '\\0' x");
		rig_run(&h->r, &q, &o);
		assert_int_equal(o.st.kept_bytes, 400000);
		outcome_fini(&o);
		snprintf(head, sizeof(head), "{\"v\":1,\"kind\":\"exec\",\"id\":%d,\"cell\":\"cell-1\",\"effect\":\"%s\",\"timeout_ms\":1,"
			"\"output_max\":0,\"only_resume\":true,\"command_bytes\":0}", 2 * i + 1, id.z);
		frame(&b, head, 0);
		first = first > 0 ? first : b.n;
	}
	assert_int_equal(prlimit(child_pid(h->r.guest), RLIMIT_NOFILE, NULL, &before), 0);
	few = (struct rlimit){ 160, before.rlim_max };
	assert_int_equal(prlimit(child_pid(h->r.guest), RLIMIT_NOFILE, &few, NULL), 0);
	fd = attack_peer(h);
	assert_true(push(fd, b.p, b.n));
	busy = count_said(fd, "\"code\":\"busy\"");
	close(fd);
	rig_peer(&h->r); /* an honest one gets them all the same */
	fd = attack_peer(h);
	assert_true(push(fd, b.p, first));
	shown = count_said(fd, "\"ch\":1");
	close(fd);
	assert_int_equal(prlimit(child_pid(h->r.guest), RLIMIT_NOFILE, &before, NULL), 0);
	buf_fini(&b);
	assert_true(busy > 0 && busy < REPLAYS);
	assert_true(shown > 0);
	expect_well(h);
}

static void
close_cell(struct hostile *h, const char *key)
{
	struct answer x;

	answer_init(&x, &h->r);
	assert_int_equal(sandbox_cell_close(h->r.sb, key, true, rig_reply, &x, &x.e), 0);
	answer_wait(&x);
	answer_fini(&x);
}

/* Input for many commands that read none: what shelld keeps of it has an end for all of them together. */
static void
test_inputs(void **state)
{
	struct hostile *h = *state;
	struct buf b;
	int fd = attack_peer(h);
	char head[1024];

	buf_init(&b, 4 * MIB);
	for (int i = 0; i < READERS; i++) {
		struct id id = id_new();
		int id_n = 2 * i + 1;
		buf_reset(&b);
		snprintf(head, sizeof(head), "{\"v\":1,\"kind\":\"exec\",\"id\":%d,\"cell\":\"in-%d\",\"effect\":\"%s\",\"plan\":{\"access\":"
			"\"read_only\",\"shared\":\"%s\",\"state\":\"%s\",\"memory_bytes\":100000000,\"processes\":100,"
			"\"cpu_percent\":100,\"file_bytes\":1000,\"tmp_bytes\":8192},\"timeout_ms\":60000,\"output_max\":10,"
			"\"command_bytes\":10,\"input\":true}", id_n, i % 3, id.z, h->r.shared, h->r.state);
		uint32_t head_n = (uint32_t)strlen(head), total = 4 + head_n + 10;
		buf_add(&b, &total, 4);
		buf_add(&b, &head_n, 4);
		buf_add_z(&b, head);
		buf_add_z(&b, "sleep 1000");
		snprintf(head, sizeof(head), "{\"v\":1,\"kind\":\"input\",\"id\":%d}", id_n);
		for (int n = 0; n < 16; n++)
			frame(&b, head, 65536);
		assert_true(push(fd, b.p, b.n));
	}
	(void)count_said(fd, "exec"); /* until it has taken everything */
	if (h->pss > 0)
		assert_true(pss_kib(&h->r) < h->pss + INPUT_ALL_MAX / 1024 + GROWN_MAX_KIB);
	close(fd);
	buf_fini(&b);
	rig_peer(&h->r);
	for (int i = 0; i < 3; i++) {
		snprintf(head, sizeof(head), "in-%d", i);
		close_cell(h, head);
	}
	expect_well(h);
}

/* A directory longer than any path is not one. */
static void
test_long_directory(void **state)
{
	struct hostile *h = *state;
	struct outcome o;
	struct id id = id_new();
	struct exec_request q = rig_request(&h->r, id.z, "echo must not run");
	char cwd[PLAN_PATH_MAX + 2];

	memset(cwd, 'x', sizeof(cwd) - 1);
	cwd[0] = '/';
	cwd[sizeof(cwd) - 1] = '\0';
	q.cwd = cwd;
	rig_peer(&h->r);
	rig_run(&h->r, &q, &o);
	assert_int_equal(o.e.code, ERR_INVALID);
	outcome_fini(&o);
	expect_well(h);
}

/* Each of these is a lie about the protocol itself: the peer is dropped. */
static void
test_lies(void **state)
{
	struct hostile *h = *state;
	static const struct {
		const char *first, *head;
		size_t tail_n;
	} lies[] = {
		{ NULL, "{\"v\":1,\"kind\":\"boot\",\"id\":1}", 0 }, /* not for a runtime to send */
		{ NULL, "{\"v\":1,\"kind\":\"hello\",\"id\":1}", 0 },
		{ NULL, "{\"v\":1,\"kind\":\"nonsense\",\"id\":1}", 0 },
		{ NULL, "{\"v\":2,\"kind\":\"kill\",\"id\":1}", 0 },
		{ NULL, "{\"v\":1,\"kind\":\"kill\"}", 0 },
		{ NULL, "{\"v\":1,\"kind\":\"kill\",\"id\":-4}", 0 },
		{ NULL, "{\"v\":1,\"kind\":\"kill\",\"id\":1}", 1 }, /* takes no tail */
		{ NULL, "{\"v\":1,\"kind\":\"input\",\"id\":1}", 65537 },
		{ NULL, "{\"v\":1,\"kind\":\"input\",\"id\":99,\"fd\":true}", 0 },
		{ NULL, "{\"v\":1,\"kind\":\"input\",\"id\":7}", 3 }, /* nothing was ever opened */
		{ NULL, "{\"v\":1,\"kind\":\"resize\",\"id\":7,\"rows\":1,\"columns\":1}", 0 },
		{ NULL, "{\"v\":1,\"kind\":\"data\",\"id\":7,\"ch\":0}", 3 },
		{ NULL, "{\"v\":1,\"kind\":\"credit\",\"id\":7,\"n\":1}", 0 },
		{ "sleep", "again", 0 }, /* an id that is open */
		{ "sleep", "{\"v\":1,\"kind\":\"credit\",\"id\":1,\"n\":1}", 0 }, /* more credit than there is room for */
		{ "sleep", "{\"v\":1,\"kind\":\"credit\",\"id\":1,\"n\":99999999}", 0 },
		{ "sleep", "{\"v\":1,\"kind\":\"data\",\"id\":1,\"ch\":999}", 3 },
		{ "sleep", "{\"v\":1,\"kind\":\"data\",\"id\":1,\"ch\":0}", 0 },
		{ NULL, "[]", 0 },
		{ NULL, "{\"v\":1,", 0 },
		{ NULL, "", 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		int fd = attack_peer(h);
		char open[1024];
		struct id id = id_new();
		struct buf b;
		buf_init(&b, MIB);
		snprintf(open, sizeof(open), "{\"v\":1,\"kind\":\"exec\",\"id\":1,\"cell\":\"liar\",\"effect\":\"%s\",\"plan\":{\"access\":"
			"\"read_only\",\"shared\":\"%s\",\"state\":\"%s\",\"memory_bytes\":100000000,\"processes\":10,"
			"\"cpu_percent\":100,\"file_bytes\":1000,\"tmp_bytes\":8192},\"timeout_ms\":20000,\"output_max\":10,"
			"\"command_bytes\":8}", id.z, h->r.shared, h->r.state);
		if (lies[i].first != NULL) {
			uint32_t head_n = (uint32_t)strlen(open), total = 4 + head_n + 8;
			buf_add(&b, &total, 4);
			buf_add(&b, &head_n, 4);
			buf_add_z(&b, open);
			buf_add_z(&b, "sleep 20");
		}
		if (strcmp(lies[i].head, "again") == 0)
			frame(&b, open, 8);
		else
			frame(&b, lies[i].head, lies[i].tail_n);
		(void)push(fd, b.p, b.n);
		expect_dropped(fd);
		buf_fini(&b);
	}
	expect_well(h);
}

/* A frame that comes byte by byte, or never whole, holds nobody up: the next runtime is served at once. */
static void
test_slow(void **state)
{
	struct hostile *h = *state;
	int fds[64];

	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		struct buf b;
		buf_init(&b, 8 * MIB);
		fds[i] = attack_peer(h);
		frame(&b, "{\"v\":1,\"kind\":\"file\",\"id\":1}", 4000000);
		size_t part = i % 2 == 0 ? 1 + roll(40) : 3000000;
		for (size_t at = 0; at < MIN(part, (size_t)40); at++)
			(void)push(fds[i], b.p + at, 1);
		if (part > 40)
			(void)push(fds[i], b.p + 40, part - 40);
		buf_fini(&b);
	}
	expect_well(h);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	expect_well(h);
}

/* Many requests, and nobody who reads the answers: it is dropped before its queue is large. */
static void
test_flood(void **state)
{
	struct hostile *h = *state;
	struct buf b;
	int fd = attack_peer(h);
	bool is_there = true;

	buf_init(&b, 32 * MIB);
	for (int i = 0; i < 100000; i++) {
		static const char *const rest[] = { "\"kind\":\"exec\",\"timeout_ms\":1,\"output_max\":0,\"only_resume\":true,\"command_bytes\":0",
			"\"kind\":\"spool\",\"offset\":0,\"n\":1000000", "\"kind\":\"kill\"" };
		char head[200];
		snprintf(head, sizeof(head), "{\"v\":1,\"id\":%d,\"cell\":\"c\",\"effect\":\"e-%d\",%s}", 2 * i + 1, i, rest[i % 3]);
		frame(&b, head, 0);
	}
	is_there = push(fd, b.p, b.n); /* reads along */
	assert_true(is_there);
	buf_reset(&b);
	for (int i = 0; i < 100000; i++) {
		char head[160];
		snprintf(head, sizeof(head), "{\"v\":1,\"kind\":\"kill\",\"id\":%d,\"cell\":\"cell-1\",\"effect\":\"e-%d\"}", 2 * i + 1, i);
		frame(&b, head, 0);
	}
	for (size_t at = 0; at < b.n;) { /* reads nothing */
		ssize_t n = send(fd, b.p + at, b.n - at, MSG_NOSIGNAL);
		struct pollfd x = { .fd = fd, .events = POLLOUT };
		if (n > 0)
			at += (size_t)n;
		else if (errno != EAGAIN || poll(&x, 1, 500) == 0)
			break;
	}
	close(fd);
	buf_fini(&b);
	expect_well(h);
}

/* Reads until it says `until`; whether it said `text` as well. */
static bool
says(int fd, const char *until, const char *text)
{
	struct buf b;

	buf_init(&b, 64 * MIB);
	while (b.n == 0 || memmem(b.p, b.n, until, strlen(until)) == NULL) {
		struct pollfd x = { .fd = fd, .events = POLLIN };
		char *room = buf_reserve(&b, 65536);
		assert_non_null(room);
		assert_int_equal(poll(&x, 1, RIG_GUARD_MS * rig_slow()), 1);
		ssize_t n = recv(fd, room, 65536, 0);
		assert_true(n > 0);
		buf_added(&b, (size_t)n);
	}
	bool is_said = memmem(b.p, b.n, text, strlen(text)) != NULL;
	buf_fini(&b);
	return is_said;
}

/* Two that watch the same command: the one before is told, and what it still says of its stream means nothing. */
static void
test_second_watcher(void **state)
{
	static const char *const modes[] = { "true", "false" };
	struct hostile *h = *state;

	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		static const char command[] = "yes";
		struct id id = id_new();
		struct buf b;
		char head[1024];
		int fd = attack_peer(h);

		buf_init(&b, MIB);
		snprintf(head, sizeof(head), "{\"v\":1,\"kind\":\"exec\",\"id\":1,\"cell\":\"two\",\"effect\":\"%s\",\"plan\":{\"access\":"
			"\"read_only\",\"shared\":\"%s\",\"state\":\"%s\",\"memory_bytes\":100000000,\"processes\":10,"
			"\"cpu_percent\":100,\"file_bytes\":1000,\"tmp_bytes\":8192},\"timeout_ms\":20000,\"output_max\":1000000,"
			"\"command_bytes\":3}", id.z, h->r.shared, h->r.state);
		uint32_t head_n = (uint32_t)strlen(head), total = 4 + head_n + 3;
		buf_add(&b, &total, 4);
		buf_add(&b, &head_n, 4);
		buf_add_z(&b, head);
		buf_add_z(&b, command);
		assert_true(push(fd, b.p, b.n));
		do { /* more is kept than there is credit for */
			buf_reset(&b);
			snprintf(head, sizeof(head), "{\"v\":1,\"kind\":\"spool\",\"id\":2,\"cell\":\"two\",\"effect\":\"%s\",\"offset\":0,\"n\":0}", id.z);
			frame(&b, head, 0);
			assert_true(push(fd, b.p, b.n));
		} while (!says(fd, "\"is_end\"", "\"kept_bytes\":1000000"));
		buf_reset(&b);
		snprintf(head, sizeof(head), "{\"v\":1,\"kind\":\"kill\",\"id\":3,\"cell\":\"two\",\"effect\":\"%s\"}", id.z);
		frame(&b, head, 0);
		assert_true(push(fd, b.p, b.n));
		(void)says(fd, "\"kind\":\"spooled\",\"id\":3", ""); /* it ended */
		buf_reset(&b);
		snprintf(head, sizeof(head), "{\"v\":1,\"kind\":\"exec\",\"id\":5,\"effect\":\"%s\",\"timeout_ms\":1,\"output_max\":0,"
			"\"background\":%s,\"command_bytes\":0}", id.z, modes[i]);
		frame(&b, head, 0);
		assert_true(push(fd, b.p, b.n));
		(void)says(fd, "\"kind\":\"reset\",\"id\":1", "");
		buf_reset(&b);
		frame(&b, "{\"v\":1,\"kind\":\"credit\",\"id\":1,\"n\":1000}", 0);
		frame(&b, "{\"v\":1,\"kind\":\"kill\",\"id\":7,\"cell\":\"two\",\"effect\":\"none\"}", 0);
		assert_true(push(fd, b.p, b.n));
		(void)says(fd, "\"id\":7", "");
		close(fd);
		buf_fini(&b);
	}
	rig_peer(&h->r);
	close_cell(h, "two");
	expect_well(h);
}

/* What a cell owns is kept as lines: a name with two of them would have another directory removed with the cell. */
static void
test_two_lines(void **state)
{
	struct hostile *h = *state;
	struct rig *r = &h->r;
	const char *honest = r->plan.state;
	char victim[RIG_PATH], kept[RIG_PATH + 16], both[3 * RIG_PATH];
	struct outcome o;

	snprintf(victim, sizeof(victim), "%s/victim", r->dir);
	snprintf(kept, sizeof(kept), "%s/data", victim);
	assert_int_equal(mkdir(victim, 0700), 0);
	assert_int_equal(mkdir(kept, 0700), 0);
	snprintf(both, sizeof(both), "%s/s\n%s", r->cells, victim);
	rig_peer(r);
	r->plan.state = both;
	struct id id = id_new();
	struct exec_request q = rig_request(r, id.z, "true");
	q.cell = "lines";
	rig_run(r, &q, &o);
	assert_int_equal(o.e.code, ERR_INVALID);
	outcome_fini(&o);
	close_cell(h, "lines");
	assert_int_equal(access(kept, F_OK), 0);
	r->plan.state = honest;
	expect_well(h);
}

/* As many waiters as are allowed on one end, and one that is told. */
static void
test_opens(void **state)
{
	struct hostile *h = *state;
	struct rig *r = &h->r;
	struct outcome o[CELL_EXECS_MAX + 8];
	size_t busy = 0;

	rig_peer(r);
	for (size_t i = 0; i < ARRAY_LEN(o); i++) {
		struct id id = id_new();
		struct exec_request q = rig_request(r, id.z, "exec sleep 1000");
		q.cell = "many";
		rig_begin(r, &q, &o[i]);
	}
	for (size_t i = 0; i < 8; i++) {
		while (!o[CELL_EXECS_MAX + i].is_over)
			rig_wait(r);
		busy += o[CELL_EXECS_MAX + i].e.code == ERR_BUSY;
	}
	assert_int_equal(busy, 8);
	struct answer x;
	answer_init(&x, r);
	assert_int_equal(sandbox_cell_close(r->sb, "many", true, rig_reply, &x, &x.e), 0);
	answer_wait(&x);
	answer_fini(&x);
	for (size_t i = 0; i < ARRAY_LEN(o); i++) {
		rig_finish(&o[i]);
		outcome_fini(&o[i]);
	}
	expect_well(h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_half_valid),
		cmocka_unit_test(test_noise),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_replays),
		cmocka_unit_test(test_inputs),
		cmocka_unit_test(test_long_directory),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_slow),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_opens),
		cmocka_unit_test(test_second_watcher),
		cmocka_unit_test(test_two_lines),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
