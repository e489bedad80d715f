/* SPDX-License-Identifier: MIT
 * A link: order and batching, descriptors, closing, slow peers, and every way in which a peer can
 * break the protocol. */
#include "pair.h"

static void
test_messages_both_ways_in_order(void **in)
{
	struct pair *p = pair_new(ROLE_RUNTIME, ROLE_CLIENT);
	for (int i = 1; i <= 3; i++) {
		char text[16];
		snprintf(text, sizeof(text), "%d", i);
		send_text(p->b.w, WIRE_CALL, (uint64_t)i, text);
		send_text(p->a.w, WIRE_RESULT, (uint64_t)i, text);
	}
	pair_settle(p);
	assert_trace(&p->a, "call:1:1 call:2:2 call:3:3 ");
	assert_trace(&p->b, "result:1:1 result:2:2 result:3:3 ");
	pair_free(p);
}

static void
test_one_write_per_pass(void **in)
{
	struct pair *p = pair_new_raw(ROLE_RUNTIME, ROLE_CLIENT);
	char bytes[4096];
	send_text(p->a.w, WIRE_EVENT, 1, "one");
	send_text(p->a.w, WIRE_EVENT, 2, "two");
	assert_true(recv(p->raw, bytes, sizeof(bytes), MSG_DONTWAIT) <
		    0); /* nothing leaves within the pass */
	size_t queued = wire_queued(p->a.w);
	pair_settle(p);
	assert_int_equal(wire_queued(p->a.w), 0);
	assert_int_equal(recv(p->raw, bytes, sizeof(bytes), MSG_DONTWAIT), queued);
	pair_free(p);
}

static void
test_ids_of_two_sides_differ(void **in)
{
	struct pair *p = pair_new(ROLE_RUNTIME, ROLE_BROKER);
	for (int i = 0; i < 4; i++)
		assert_int_not_equal(wire_next_id(p->a.w) & 1, wire_next_id(p->b.w) & 1);
	pair_free(p);
}

static void
test_large_message_and_back_pressure(void **in)
{
	struct pair *p = pair_new(ROLE_RUNTIME, ROLE_CLIENT);
	char *large = xcalloc(1, 4 * MIB);
	memset(large, 'L', 4 * MIB);
	for (int i = 0; i < 5; i++) { /* 20 MiB through a socket buffer of a few hundred KiB */
		wire_begin(p->a.w, WIRE_EVENT, (uint64_t)i);
		wire_end(p->a.w, (struct str){ large, 4 * MIB }, -1);
	}
	for (int i = 0; i < 1000 && wire_queued(p->a.w) > 0; i++)
		pair_settle(p);
	pair_settle(p);
	assert_trace(&p->b, "event:0:LLLLLLLLLLLLLLLLLLLL event:1:LLLLLLLLLLLLLLLLLLLL "
			    "event:2:LLLLLLLLLLLLLLLLLLLL "
			    "event:3:LLLLLLLLLLLLLLLLLLLL event:4:LLLLLLLLLLLLLLLLLLLL ");
	free(large);
	pair_free(p);
}

static void
on_drain(void *arg)
{
	struct end *end = arg;
	buf_printf(&end->trace, "drained:%d ", wire_queued(end->w) <= 1000);
}

static void
test_drain(void **in)
{
	struct pair *p = pair_new(ROLE_RUNTIME, ROLE_CLIENT);
	char *large = xcalloc(1, 4 * MIB);
	wire_begin(p->a.w, WIRE_EVENT, 1);
	wire_end(p->a.w, (struct str){ large, 4 * MIB }, -1);
	wire_on_drain(p->a.w, 1000, on_drain, &p->a);
	for (int i = 0; i < 1000 && p->a.trace.n == 0; i++)
		pair_settle(p);
	assert_trace(&p->a, "drained:1 ");
	wire_on_drain(p->a.w, 1000, on_drain, &p->a); /* already so: at the end of this pass */
	pair_settle(p);
	assert_trace(&p->a, "drained:1 drained:1 ");
	free(large);
	pair_free(p);
}

static void
test_slow_peer_is_dropped(void **in)
{
	struct pair *p = pair_new_raw(ROLE_RUNTIME, ROLE_CLIENT);
	char *large = xcalloc(1, 4 * MIB);
	for (int i = 0; i < 9; i++) {
		wire_begin(p->a.w, WIRE_EVENT, 1);
		wire_end(p->a.w, (struct str){ large, 4 * MIB }, -1);
		assert_int_equal(p->a.gone, 0); /* never from inside a send */
	}
	pair_settle(p);
	assert_int_equal(p->a.gone, 1);
	assert_int_equal(p->a.err.code, ERR_LIMIT);
	assert_non_null(strstr(p->a.err.msg, "the client does not read"));
	free(large);
	pair_free(p);
}

static void
test_too_large_answer_becomes_an_error(void **in)
{
	struct pair *p = pair_new(ROLE_RUNTIME, ROLE_CLIENT);
	char *large = xcalloc(1, 4 * MIB + 1);
	wire_begin(p->a.w, WIRE_RESULT, 5);
	assert_int_equal(wire_end(p->a.w, (struct str){ large, 4 * MIB + 1 }, -1), ERR_LIMIT);
	wire_begin(p->b.w, WIRE_CALL, 6); /* a request has nobody to tell but its caller */
	assert_int_equal(wire_end(p->b.w, (struct str){ large, 4 * MIB + 1 }, -1), ERR_LIMIT);
	pair_settle(p);
	assert_trace(&p->b, "error:5: ");
	assert_trace(&p->a, "");
	free(large);
	pair_free(p);
}

static void
keep_error(struct end *end, struct wire_msg *m)
{
	wire_err(m->head, &end->err);
}

static void
test_error_message(void **in)
{
	struct pair *p = pair_new(ROLE_RUNTIME, ROLE_CLIENT);
	struct err e;
	err_set(&e, ERR_DENIED, ERR_TO_MODEL, "not %s", "you");
	p->b.on_msg = keep_error;
	wire_error(p->a.w, 9, &e);
	pair_settle(p);
	assert_trace(&p->b, "error:9: ");
	assert_int_equal(p->b.err.code, ERR_DENIED);
	assert_int_equal(p->b.err.to, ERR_TO_MODEL);
	assert_string_equal(p->b.err.msg, "not you");
	pair_free(p);
}

/* ---- descriptors ---- */

static void
take(struct end *end, struct wire_msg *m)
{
	if (m->kind == WIRE_PEER && end->fd < 0)
		end->fd = take_fd(&m->fd);
}

static int
open_fds(void)
{
	int n = 0;
	for (int fd = 0; fd < 200; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

static void
test_descriptor_travels(void **in)
{
	struct pair *p = pair_new(ROLE_RUNNER, ROLE_BROKER);
	int fds[2];
	char c = 0;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	p->b.on_msg = take;
	int before = open_fds();
	send_text(p->a.w, WIRE_BOOT, 1, "first");
	wire_begin(p->a.w, WIRE_PEER, 2);
	wire_end(p->a.w, STR(""), fds[0]);
	send_text(p->a.w, WIRE_BOOT, 3, "third");
	wire_begin(p->a.w, WIRE_PEER, 4); /* not taken: closed */
	wire_end(p->a.w, STR(""), fds[1]);
	wire_begin(p->a.w, WIRE_PEER, 5); /* none */
	wire_end(p->a.w, STR(""), -1);
	pair_settle(p);
	assert_trace(&p->b, "boot:1:first peer:2: boot:3:third peer:4: peer:5: ");
	assert_true(p->b.fd >= 0);
	assert_int_equal(open_fds(), before + 1);
	assert_int_not_equal(fcntl(p->b.fd, F_GETFD) & FD_CLOEXEC, 0);
	assert_int_equal(write(fds[1], "y", 1), 1);
	assert_int_equal(read(p->b.fd, &c, 1), 1);
	assert_int_equal(c, 'y');
	close(fds[0]);
	close(fds[1]);
	pair_free(p);
}

static void
raw_send_fds(struct pair *p, const char *bytes, size_t n, int fd, size_t fds_n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(16 * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (char *)bytes, n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
		.msg_controllen = CMSG_SPACE(fds_n * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(fds_n * sizeof(int));
	for (size_t i = 0; i < fds_n; i++)
		memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(int));
	assert_int_equal(sendmsg(p->raw, &msg, 0), n);
}

static size_t
frame_bytes(char *out, const char *head)
{
	uint32_t head_n = (uint32_t)strlen(head), total = 4 + head_n;
	memcpy(out, &total, 4);
	memcpy(out + 4, &head_n, 4);
	memcpy(out + 8, head, head_n);
	return 8 + head_n;
}

static void
test_unasked_descriptor_drops(void **in)
{
	struct pair *p = pair_new_raw(ROLE_BROKER, ROLE_RUNNER);
	char bytes[128];
	int before = open_fds();
	size_t n = frame_bytes(bytes, "{\"v\":1,\"kind\":\"stop\",\"id\":1}");
	raw_send_fds(p, bytes, n, 0, 1);
	assert_dropped(p, "a descriptor came without a message that carries one");
	assert_int_equal(open_fds(), before - 1); /* the socket and nothing left behind */
	pair_free(p);
}

static void
test_too_many_descriptors_drop(void **in)
{
	struct pair *p = pair_new_raw(ROLE_BROKER, ROLE_RUNNER);
	char bytes[128];
	int before = open_fds();
	size_t n = frame_bytes(bytes, "{\"v\":1,\"kind\":\"peer\",\"id\":1,\"fd\":true}");
	raw_send_fds(p, bytes, n, 0, 16);
	assert_dropped(p, "more than 4 descriptors");
	assert_int_equal(open_fds(), before - 1);
	pair_free(p);
}

static void
test_missing_descriptor_drops(void **in)
{
	struct pair *p = pair_new_raw(ROLE_BROKER, ROLE_RUNNER);
	raw_send(p, "\"kind\":\"peer\",\"id\":1,\"fd\":true", NULL, 0);
	assert_dropped(p, "peer came without its descriptor");
	pair_free(p);
}

/* ---- peers that break the protocol ---- */

static void
test_bad_peers(void **in)
{
	static const struct {
		enum role me, peer;
		const char *keys;
		size_t tail;
		const char *why;
	} bad[] = {
		{ ROLE_RUNTIME, ROLE_CLIENT, "\"kind\":\"nonsense\",\"id\":1", 0, "unknown kind" },
		{ ROLE_RUNTIME, ROLE_CLIENT, "\"kind\":\"stop\",\"id\":1", 0,
			"a client may not send stop to a runtime" },
		{ ROLE_RUNTIME, ROLE_RUNNER, "\"kind\":\"data\",\"id\":1", 1, "may not send data" },
		{ ROLE_BROKER, ROLE_RUNTIME, "\"kind\":\"boot\",\"id\":1", 2, "may not send boot" },
		{ ROLE_SHELLD, ROLE_RUNTIME, "\"kind\":\"fetch\",\"id\":1", 0,
			"may not send fetch" },
		{ ROLE_RUNTIME, ROLE_SHELLD, "\"kind\":\"exec\",\"id\":1", 0, "may not send exec" },
		{ ROLE_RUNTIME, ROLE_BROKER, "\"kind\":\"call\",\"id\":1", 0, "may not send call" },
		{ ROLE_RUNTIME, ROLE_CLIENT, "\"kind\":\"call\"", 0, "no id" },
		{ ROLE_BROKER, ROLE_RUNTIME, "\"kind\":\"fetch\",\"id\":1", 1, "tail of 1 bytes" },
		{ ROLE_BROKER, ROLE_RUNTIME, "\"kind\":\"data\",\"id\":1", 1, "never opened" },
		{ ROLE_BROKER, ROLE_RUNTIME, "\"kind\":\"eof\",\"id\":1", 0, "never opened" },
		{ ROLE_BROKER, ROLE_RUNTIME, "\"kind\":\"reset\",\"id\":7", 0, "never opened" },
		{ ROLE_BROKER, ROLE_RUNTIME, "\"kind\":\"credit\",\"id\":7,\"n\":1", 0,
			"never opened" },
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct pair *p = pair_new_raw(bad[i].me, bad[i].peer);
		char tail[16] = { 0 };
		raw_send(p, bad[i].keys, tail, bad[i].tail);
		assert_dropped(p, bad[i].why);
		assert_int_equal(p->a.err.code, ERR_PROTO);
		assert_trace(&p->a, "gone "); /* the message itself never arrived */
		pair_free(p);
	}
}

/* Every edge that does not exist, over a real link. */
static void
test_every_wrong_sender_is_dropped(void **in)
{
	int dropped = 0;
	for (enum role me = 0; me < ROLE_COUNT; me++)
		for (enum role peer = 0; peer < ROLE_COUNT; peer++)
			for (enum wire_kind k = 0; me != peer && k < WIRE_KIND_COUNT; k++) {
				char keys[64];
				if (wire_may_send(peer, me, k))
					continue;
				struct pair *p = pair_new_raw(me, peer);
				snprintf(keys, sizeof(keys), "\"kind\":\"%s\",\"id\":1",
					wire_kind_name(k));
				raw_send(p, keys, NULL, 0);
				assert_dropped(p, "may not send");
				assert_trace(&p->a, "gone ");
				pair_free(p);
				dropped++;
			}
	assert_true(dropped > 16 * WIRE_KIND_COUNT); /* which edges there are, test_wire.c says */
}

static void
test_garbage_drops(void **in)
{
	struct pair *p = pair_new_raw(ROLE_RUNTIME, ROLE_CLIENT);
	assert_int_equal(send(p->raw, "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
	assert_dropped(p, "frame of");
	pair_free(p);
}

static void
test_handler_refusal_drops(void **in)
{
	struct pair *p = pair_new_raw(ROLE_RUNTIME, ROLE_CLIENT);
	p->a.refuse = ERR_PROTO;
	raw_send(p, "\"kind\":\"call\",\"id\":1", NULL, 0);
	raw_send(p, "\"kind\":\"call\",\"id\":2", NULL, 0);
	assert_dropped(p, "refused by the handler");
	assert_trace(&p->a, "call:1: gone "); /* nothing after the refusal */
	pair_free(p);
}

static void
test_opening_an_id_in_use_drops(void **in)
{
	struct pair *p = pair_new_raw(ROLE_BROKER, ROLE_RUNTIME);
	raw_send(p, "\"kind\":\"fetch\",\"id\":3", NULL, 0);
	pair_settle(p);
	p->a.stream = stream_open(p->a.w, 3, &end_stream, &p->a);
	raw_send(p, "\"kind\":\"fetch\",\"id\":3", NULL, 0);
	assert_dropped(p, "a stream in use");
	assert_trace(&p->a, "fetch:3: reset gone ");
	pair_free(p);
}

/* ---- ends ---- */

static void
test_peer_closes(void **in)
{
	struct pair *p = pair_new(ROLE_RUNTIME, ROLE_CLIENT);
	send_text(p->b.w, WIRE_CALL, 1, "last word");
	wire_close(p->b.w);
	p->b.w = NULL;
	send_text(p->a.w, WIRE_EVENT, 1, "into the void");
	pair_settle(p);
	assert_trace(&p->a, "call:1:last word gone "); /* heard although our own write fails */
	assert_int_equal(p->a.err.code, ERR_GONE);
	assert_non_null(strstr(p->a.err.msg, "the client closed the link"));
	assert_trace(&p->b, ""); /* no callback after wire_close */
	pair_free(p);
}

static void
test_peer_dies_within_a_message(void **in)
{
	struct pair *p = pair_new_raw(ROLE_RUNTIME, ROLE_CLIENT);
	assert_int_equal(send(p->raw, "\x40\0\0\0\x20\0\0\0{", 9, 0), 9);
	close(p->raw);
	p->raw = -1;
	pair_settle(p);
	assert_int_equal(p->a.err.code, ERR_GONE);
	assert_non_null(strstr(p->a.err.msg, "in the middle of a message"));
	pair_free(p);
}

static void
close_it(struct end *end, struct wire_msg *m)
{
	wire_close(end->w);
	end->w = NULL;
	assert_true(str_is(m->tail, "x")); /* still readable */
}

static void
test_close_from_its_own_message(void **in)
{
	struct pair *p = pair_new(ROLE_RUNTIME, ROLE_CLIENT);
	p->a.on_msg = close_it;
	send_text(p->b.w, WIRE_CALL, 1, "x");
	send_text(p->b.w, WIRE_CALL, 2, "x");
	pair_settle(p);
	assert_trace(&p->a, "call:1:x ");
	assert_int_equal(p->b.gone, 1);
	pair_free(p);
}

static void
test_flushed_close_sends_everything(void **in)
{
	struct pair *p = pair_new(ROLE_RUNTIME, ROLE_CLIENT);
	char *large = xcalloc(1, 4 * MIB);
	for (int i = 0; i < 3; i++) {
		wire_begin(p->a.w, WIRE_EVENT, (uint64_t)i);
		wire_end(p->a.w, (struct str){ large, 4 * MIB }, -1);
	}
	wire_close_flushed(p->a.w);
	p->a.w = NULL;
	for (int i = 0; i < 1000 && p->b.gone == 0; i++)
		pair_settle(p);
	assert_trace(&p->b, "event:0: event:1: event:2: gone ");
	free(large);
	pair_free(p);
}

static void
test_flushed_close_lingers_only_so_long(void **in)
{
	struct pair *p = pair_new_raw(ROLE_RUNTIME, ROLE_CLIENT);
	char *large = xcalloc(1, 4 * MIB);
	wire_begin(p->a.w, WIRE_EVENT, 1);
	wire_end(p->a.w, (struct str){ large, 4 * MIB }, -1);
	wire_close_flushed(p->a.w);
	p->a.w = NULL;
	close(p->raw); /* the peer goes: the loop has nothing left and ends by itself */
	p->raw = -1;
	loop_run(p->l);
	free(large);
	pair_free(p);
}

#define T(f) cmocka_unit_test(f)
int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_messages_both_ways_in_order),
		T(test_one_write_per_pass),
		T(test_ids_of_two_sides_differ),
		T(test_large_message_and_back_pressure),
		T(test_drain),
		T(test_slow_peer_is_dropped),
		T(test_too_large_answer_becomes_an_error),
		T(test_error_message),
		T(test_descriptor_travels),
		T(test_unasked_descriptor_drops),
		T(test_too_many_descriptors_drop),
		T(test_missing_descriptor_drops),
		T(test_bad_peers),
		T(test_every_wrong_sender_is_dropped),
		T(test_garbage_drops),
		T(test_handler_refusal_drops),
		T(test_opening_an_id_in_use_drops),
		T(test_peer_closes),
		T(test_peer_dies_within_a_message),
		T(test_close_from_its_own_message),
		T(test_flushed_close_sends_everything),
		T(test_flushed_close_lingers_only_so_long),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
