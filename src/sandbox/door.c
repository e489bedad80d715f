/* SPDX-License-Identifier: MIT
 * The door of a role in a container or a machine: it reads exactly one frame of each connection, so that nothing of what
 * follows is lost to whoever gets the link. Invariant: without the token of this start a connection reaches nobody. */
#include "sandbox/door.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"

#define NONCE_SIZE DOOR_TOKEN_SIZE
#define ARENA_MAX  (64u * KIB)
#define RETRY_MS   10
#define SKIP_MAX   (16u * MIB) /* of an earlier link's bytes, before the answer */

/* ---- the frames ---- */

void
door_token(char out[DOOR_TOKEN_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char raw[DOOR_TOKEN_BYTES];

	random_bytes(raw, sizeof(raw));
	for (size_t i = 0; i < sizeof(raw); i++) {
		out[2 * i] = digits[raw[i] >> 4];
		out[2 * i + 1] = digits[raw[i] & 15];
	}
	out[2 * sizeof(raw)] = '\0';
	explicit_bzero(raw, sizeof(raw));
}

bool
door_token_valid(struct str s)
{
	if (s.n != DOOR_TOKEN_SIZE - 1)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (memchr("0123456789abcdef", s.p[i], 16) == NULL)
			return false;
	}
	return true;
}

static void
put_end(struct buf *b, struct json *j, size_t start, enum wire_kind k)
{
	struct err e;
	if (wire_put_end(b, j, start, k, STR(""), false, &e) != 0)
		fatal("door: %s", e.msg);
}

void
door_hello_put(struct buf *b, enum role who, const char *token, const char *nonce)
{
	struct json j;
	size_t start = wire_put_begin(b, &j, WIRE_LINK, 0);

	json_kv_z(&j, "role", role_name(who));
	json_kv_z(&j, "token", token);
	json_kv_z(&j, "nonce", nonce);
	put_end(b, &j, start, WIRE_LINK);
}

void
door_answer_put(struct buf *b, struct str nonce)
{
	struct json j;
	size_t start = wire_put_begin(b, &j, WIRE_LINKED, 0);

	json_kv_str(&j, "nonce", nonce);
	put_end(b, &j, start, WIRE_LINKED);
}

ptrdiff_t
door_hello_parse(struct str in, struct arena *a, struct door_hello *out, struct err *e)
{
	static const enum role roles[] = { ROLE_RUNNER, ROLE_RUNTIME, ROLE_BROKER };
	struct wire_frame f;
	ptrdiff_t n = wire_parse(in, ROLE_RUNNER, ROLE_SHELLD, a, &f, e);

	if (n < 0)
		return n;
	if (n == 0)
		return in.n < DOOR_FRAME_MAX ? 0 :
			err_set(e, ERR_PROTO, ERR_TO_LOG, "the first frame is larger than %u bytes", DOOR_FRAME_MAX);
	if (f.m.kind != WIRE_LINK || f.has_fd)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "the first frame is %s, not link", wire_kind_name(f.m.kind));
	struct door_hello h = { .who = ROLE_COUNT, .token = node_str(f.m.head, "token", STR("")),
		.nonce = node_str(f.m.head, "nonce", STR("")) };
	for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
		if (str_is(node_str(f.m.head, "role", STR("")), role_name(roles[i])))
			h.who = roles[i];
	}
	if (h.who == ROLE_COUNT || !door_token_valid(h.token) || !door_token_valid(h.nonce))
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "link without a role, a token or a nonce");
	*out = h;
	return n;
}

/* ---- inside ---- */

struct guest {
	struct door *d;
	struct guest *next;
	int fd;
	struct watch *watch;
	struct timer *timer;
	struct buf in;
};

struct door {
	struct loop *l;
	int listen_fd;
	struct watch *watch;
	char token[DOOR_TOKEN_SIZE];
	door_fn fn;
	void *arg;
	struct guest *guests;
	size_t guests_n;
};

/* Gives the descriptor back. */
static int
guest_end(struct guest *g)
{
	struct guest **p = &g->d->guests;
	int fd = g->fd;

	while (*p != g)
		p = &(*p)->next;
	*p = g->next;
	g->d->guests_n--;
	watch_close(g->watch);
	timer_close(g->timer);
	buf_fini(&g->in);
	free(g);
	return fd;
}

static void
turn_away(struct guest *g, const char *why)
{
	log_warn("a link was turned away", LOG_S("why", why));
	close(guest_end(g));
}

static void
on_late(void *arg)
{
	turn_away(arg, "it did not say who it is in time");
}

/* All bytes are looked at, wherever they differ. */
static bool
token_is(const char *ours, struct str theirs)
{
	unsigned char differs = 0;
	for (size_t i = 0; i < DOOR_TOKEN_SIZE - 1; i++)
		differs |= (unsigned char)(ours[i] ^ theirs.p[i]);
	return differs == 0;
}

static void
guest_says(struct guest *g, const struct door_hello *h)
{
	struct door *d = g->d;
	struct buf answer;

	if (!token_is(d->token, h->token)) {
		turn_away(g, "wrong token");
		return;
	}
	buf_init(&answer, DOOR_FRAME_MAX);
	door_answer_put(&answer, h->nonce);
	ssize_t sent = send(g->fd, answer.p, answer.n, MSG_NOSIGNAL | MSG_DONTWAIT);
	bool is_told = sent == (ssize_t)answer.n;
	buf_fini(&answer);
	if (!is_told) {
		turn_away(g, "it does not take the answer");
		return;
	}
	d->fn(d->arg, h->who, guest_end(g));
}

/* How many bytes may be read without touching what follows the frame. */
static size_t
wanted(const struct guest *g)
{
	uint32_t total;

	if (g->in.n < WIRE_PREFIX)
		return WIRE_PREFIX - g->in.n;
	memcpy(&total, g->in.p, sizeof(total));
	total = le32toh(total);
	return total > DOOR_FRAME_MAX || total + 4 <= g->in.n ? 0 : total + 4 - g->in.n;
}

static void
on_bytes(void *arg, int events)
{
	struct guest *g = arg;
	struct arena *a = arena_new(ARENA_MAX);
	struct door_hello h;
	struct err e = { 0 };
	ptrdiff_t rc = 0;

	for (size_t want = wanted(g); rc == 0 && want > 0; want = wanted(g)) {
		char *p = buf_reserve(&g->in, want);
		ssize_t n = p == NULL ? 0 : recv(g->fd, p, want, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) {
			rc = err_set(&e, ERR_GONE, ERR_TO_LOG, "it closed the link");
			break;
		}
		buf_added(&g->in, (size_t)n);
	}
	if (rc == 0)
		rc = wanted(g) == 0 && g->in.n < WIRE_PREFIX + 1 ?
			err_set(&e, ERR_PROTO, ERR_TO_LOG, "the first frame is larger than %u bytes", DOOR_FRAME_MAX) :
			door_hello_parse(buf_str(&g->in), a, &h, &e);
	if (rc < 0)
		turn_away(g, e.msg);
	else if (rc > 0)
		guest_says(g, &h);
	arena_free(a);
}

static void
on_connect(void *arg, int events)
{
	struct door *d = arg;
	int fd = unix_accept(d->listen_fd);

	if (fd < 0)
		return;
	if (d->guests_n == DOOR_WAITING_MAX) {
		log_warn("a link was turned away", LOG_S("why", "too many wait"));
		close(fd);
		return;
	}
	struct guest *g = xcalloc(1, sizeof(*g));
	*g = (struct guest){ .d = d, .next = d->guests, .fd = fd };
	buf_init(&g->in, DOOR_FRAME_MAX);
	d->guests = g;
	d->guests_n++;
	g->timer = timer_start(d->l, DOOR_HELLO_MS, on_late, g);
	g->watch = watch_start(d->l, fd, LOOP_READ, on_bytes, g);
}

struct door *
door_open(struct loop *l, int listen_fd, const char *token, door_fn fn, void *arg)
{
	struct door *d = xcalloc(1, sizeof(*d));

	*d = (struct door){ .l = l, .listen_fd = listen_fd, .fn = fn, .arg = arg };
	memcpy(d->token, token, sizeof(d->token));
	d->watch = watch_start(l, listen_fd, LOOP_READ, on_connect, d);
	return d;
}

void
door_close(struct door *d)
{
	if (d == NULL)
		return;
	while (d->guests != NULL)
		close(guest_end(d->guests));
	watch_close(d->watch);
	close(d->listen_fd);
	explicit_bzero(d->token, sizeof(d->token));
	free(d);
}

void
door_path(const char *dir, enum role me, char *out, size_t max)
{
	snprintf(out, max, "%s/%s.sock", dir, role_name(me));
}

static int
take_token(const char *dir, char token[DOOR_TOKEN_SIZE], struct err *e)
{
	char path[FILE_PATH_MAX];
	char *text;
	size_t n;

	snprintf(path, sizeof(path), "%s/token", dir);
	if (file_read_no_link(path, DOOR_TOKEN_SIZE, &text, &n, e) != 0)
		return e->code;
	bool is_valid = door_token_valid((struct str){ text, n });
	if (is_valid)
		memcpy(token, text, DOOR_TOKEN_SIZE);
	explicit_bzero(text, n);
	free(text);
	if (!is_valid)
		return err_set(e, ERR_INVALID, ERR_TO_USER, "%s does not hold a token", path);
	return unlink(path) == 0 ? 0 : err_errno(e, errno, ERR_TO_USER, "cannot remove %s", path);
}

int
door_take(const char *dir, enum role me, char token[DOOR_TOKEN_SIZE], struct err *e)
{
	char path[FILE_PATH_MAX];
	int rc = take_token(dir, token, e);

	if (rc != 0)
		return rc;
	door_path(dir, me, path, sizeof(path));
	return unix_listen(path, 0600, e);
}

/* ---- outside ---- */

/* Reads up to and with the bytes of `answer`: looks first, then takes, so that nothing behind it is touched. */
static int
await(int fd, struct str answer, int64_t until_ms, struct err *e)
{
	char seen[16 * 1024];
	size_t skipped = 0;

	while (skipped < SKIP_MAX) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = until_ms - clock_mono_ms();
		if (left <= 0 || poll(&p, 1, (int)left) == 0)
			return err_set(e, ERR_TIMEOUT, ERR_TO_USER, "it did not answer in time");
		ssize_t n = recv(fd, seen, sizeof(seen), MSG_PEEK | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			return err_set(e, ERR_GONE, ERR_TO_USER, "it closed the link");
		const char *at = memmem(seen, (size_t)n, answer.p, answer.n);
		/* Without it: what cannot be its beginning any more. */
		size_t take = at != NULL ? (size_t)(at - seen) + answer.n : (size_t)n > answer.n ? (size_t)n - answer.n : 0;
		if (take == 0) { /* its first bytes are here: the rest is on its way, and poll would not wait for it */
			struct timespec pause = { .tv_nsec = 1000000 };
			nanosleep(&pause, NULL);
			continue;
		}
		if (recv(fd, seen, take, 0) != (ssize_t)take)
			return err_set(e, ERR_GONE, ERR_TO_USER, "it closed the link");
		if (at != NULL)
			return 0;
		skipped += take;
	}
	return err_set(e, ERR_PROTO, ERR_TO_USER, "it sends, but does not answer");
}

int
door_knock(int fd, enum role who, const char *token, int64_t timeout_ms, struct err *e)
{
	int64_t until_ms = clock_mono_ms() + timeout_ms;
	char nonce[NONCE_SIZE];
	struct buf hello, answer;

	door_token(nonce);
	buf_init(&hello, DOOR_FRAME_MAX);
	buf_init(&answer, DOOR_FRAME_MAX);
	door_hello_put(&hello, who, token, nonce);
	door_answer_put(&answer, str_of(nonce));
	int rc = send(fd, hello.p, hello.n, MSG_NOSIGNAL) == (ssize_t)hello.n ? 0 :
		err_errno(e, errno, ERR_TO_USER, "cannot speak to it");
	if (rc == 0)
		rc = await(fd, buf_str(&answer), until_ms, e);
	explicit_bzero(hello.p, hello.n);
	buf_fini(&hello);
	buf_fini(&answer);
	return rc;
}

int
door_reach(const char *path, enum role who, const char *token, int64_t timeout_ms, door_alive_fn is_there, void *arg,
	struct err *e)
{
	int64_t began_ms = clock_mono_ms(), look_ms = began_ms + DOOR_LOOK_MS;
	struct timespec pause = { .tv_nsec = RETRY_MS * 1000000L };

	for (;;) {
		AUTO_CLOSE int fd = unix_connect(path, e);
		int64_t now_ms = clock_mono_ms();

		if (fd >= 0 && door_knock(fd, who, token, began_ms + timeout_ms - now_ms, e) != 0)
			return e->code;
		if (fd >= 0)
			return take_fd(&fd);
		if (now_ms - began_ms > timeout_ms)
			return err_set(e, ERR_TIMEOUT, ERR_TO_USER, "it did not listen within %lld ms", (long long)timeout_ms);
		if (is_there != NULL && now_ms >= look_ms) {
			look_ms = now_ms + DOOR_LOOK_MS;
			if (!is_there(arg, e))
				return e->code;
		}
		nanosleep(&pause, NULL);
	}
}
