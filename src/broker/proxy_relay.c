/* SPDX-License-Identifier: MIT
 * The bytes of a connection, both ways, with credit, counted against the session's quota. A tunnel
 * passes them as they are; a request is written anew, so that what the server gets is what was
 * checked. */
#include "broker/proxy_internal.h"

#define REPORT_BYTES (1 * (int64_t)MIB) /* used, before the runtime is told again */

bool
proxied_count(struct proxied *c, size_t n)
{
	struct grant *g = c->g;
	char text[96];
	struct err e;

	proxied_alive(c);
	g->used_bytes += (int64_t)n;
	if (g->used_bytes - g->reported_bytes >= REPORT_BYTES)
		proxy_tell_use(c->x, g);
	if (!grant_is_spent(g))
		return true;
	snprintf(text, sizeof(text), "the session's egress.quota_mb of %lld MiB is spent",
		(long long)(g->quota_bytes / (int64_t)MIB));
	proxy_tell_denied(c->x, g, "quota", "egress.quota_mb", text);
	err_set(&e, ERR_LIMIT, ERR_TO_MODEL, "%s", text);
	proxied_cut(c, &e);
	return false;
}

static bool
has_more(const struct proxied *c)
{
	return c->r.what == PROXY_CONNECT ? c->in.n > 0 : c->out.n > 0;
}

static void
watch_set(struct proxied *c)
{
	int events = has_more(c) ? LOOP_WRITE : 0;

	if (!c->server_ended && stream_credit(c->stream) > 0)
		events |= LOOP_READ;
	watch_update(c->watch, events);
}

/* Turns what the cell sent of its body into what the server gets. false: c is gone. */
static bool
encode(struct proxied *c)
{
	struct err e;

	while (c->in.n > 0 && !c->body.is_done && c->out.n < PROXY_CHUNK) {
		struct str payload;
		ptrdiff_t n = proxy_body_take(
			&c->body, str_sub(buf_str(&c->in), 0, PROXY_CHUNK), &payload, &e);

		if (n < 0) {
			proxied_refuse_err(c, 400, "Bad request", &e);
			return false;
		}
		if (payload.n > 0 && c->body.is_chunked)
			buf_printf(&c->out, "%zx\r\n", payload.n);
		buf_add_str(&c->out, payload);
		if (payload.n > 0 && c->body.is_chunked)
			buf_add_z(&c->out, "\r\n");
		if (c->body.is_done && c->body.is_chunked)
			buf_add_z(&c->out, "0\r\n\r\n");
		proxied_consume(c, (size_t)n);
	}
	if (c->body.is_done && c->in.n > 0) /* a second request: it is not answered here */
		proxied_consume(c, c->in.n);
	return true;
}

/* How much of it the server took; -1: c is gone. */
static ssize_t
send_some(struct proxied *c, struct str bytes)
{
	size_t taken = 0;

	while (taken < bytes.n) {
		ssize_t n =
			send(c->fd, bytes.p + taken, bytes.n - taken, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0 && c->r.what == PROXY_FORWARD &&
			(errno == EPIPE || errno == ECONNRESET)) {
			taken = bytes.n; /* it may have answered before it closed: what it says is
					    still read */
			break;
		}
		if (n < 0) {
			proxied_cut(c, NULL);
			return -1;
		}
		taken += (size_t)n;
	}
	return taken > 0 && !proxied_count(c, taken) ? -1 : (ssize_t)taken;
}

/* Once all of the cell's bytes are out, its end is passed on. false: c is gone. */
static bool
pass_end(struct proxied *c)
{
	if (c->r.what == PROXY_CONNECT && c->cell_ended && c->in.n == 0 && !c->has_shut) {
		c->has_shut = true;
		(void)shutdown(c->fd, SHUT_WR);
	}
	if (c->r.what == PROXY_FORWARD && c->cell_ended && c->in.n == 0 && !c->body.is_done) {
		proxied_cut(c, NULL); /* the rest of the request never comes */
		return false;
	}
	if (c->server_ended && (c->r.what == PROXY_FORWARD || (c->cell_ended && c->in.n == 0))) {
		proxied_finish(c);
		return false;
	}
	return true;
}

/* From the cell to the server. false: c is gone. */
static bool
pump_out(struct proxied *c)
{
	ssize_t n;

	if (c->r.what == PROXY_CONNECT) {
		n = send_some(c, buf_str(&c->in));
		if (n < 0)
			return false;
		proxied_consume(c, (size_t)n);
		return pass_end(c);
	}
	do {
		if (!encode(c))
			return false;
		n = send_some(c, buf_str(&c->out));
		if (n < 0)
			return false;
		buf_consume(&c->out, (size_t)n);
	} while (c->out.n == 0 && c->in.n > 0);
	return pass_end(c);
}

/* From the server to the cell. false: c is gone. */
static bool
pump_in(struct proxied *c)
{
	while (!c->server_ended && stream_credit(c->stream) > 0) {
		ssize_t n = recv(c->fd, c->x->chunk, MIN(stream_credit(c->stream), PROXY_CHUNK),
			MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0) {
			proxied_cut(c, NULL);
			return false;
		}
		if (n == 0) {
			c->server_ended = true;
			if (c->r.what == PROXY_CONNECT)
				stream_eof(c->stream);
			return pass_end(c);
		}
		c->has_answered = true;
		if (stream_write(c->stream, 0, (struct str){ c->x->chunk, (size_t)n }) !=
			(size_t)n) {
			proxied_cut(c, NULL);
			return false;
		}
		if (!proxied_count(c, (size_t)n))
			return false;
		if ((size_t)n < PROXY_CHUNK)
			return true;
	}
	return true;
}

static void
on_server(void *arg, int events)
{
	struct proxied *c = arg;

	if ((events & LOOP_READ) != 0 && !pump_in(c))
		return;
	if ((events & LOOP_WRITE) != 0 && !pump_out(c))
		return;
	if ((events & LOOP_HANGUP) != 0 && c->server_ended) /* it would be reported without end */
		proxied_cut(c, NULL);
	else
		watch_set(c);
}

static void
write_head(struct proxied *c)
{
	struct str lines = buf_str(&c->headers), line;
	char to[ENDPOINT_TEXT_SIZE];
	struct endpoint host = c->r.to;

	buf_printf(&c->out, "%s %s%.*s HTTP/1.1\r\n", c->r.method,
		c->r.path.n > 0 && c->r.path.p[0] == '/' ? "" : "/", STR_FMT(c->r.path));
	endpoint_text(&host, to);
	if (host.port == 80)
		to[strlen(to) - 3] = '\0';
	buf_printf(&c->out, "Host: %s\r\n", to);
	while (str_next(&lines, '\n', &line)) {
		if (line.n > 0) {
			buf_add_str(&c->out, line);
			buf_add_z(&c->out, "\r\n");
		}
	}
	if (c->r.is_chunked)
		buf_add_z(&c->out, "Transfer-Encoding: chunked\r\n");
	else if (c->r.length >= 0)
		buf_printf(&c->out, "Content-Length: %lld\r\n", (long long)c->r.length);
	if (c->r.expects_continue)
		buf_add_z(&c->out, "Expect: 100-continue\r\n");
	buf_add_z(&c->out, "Connection: close\r\n\r\n");
}

void
proxied_relay(struct proxied *c)
{
	c->state = ST_RELAY;
	c->watch = watch_start(c->x->l, c->fd, LOOP_READ, on_server, c);
	proxied_alive(c);
	timer_again(c->timer, EGRESS_IDLE_MS);
	if (c->r.what == PROXY_CONNECT) {
		c->has_answered = true;
		if (stream_write(c->stream, 0,
			    STR("HTTP/1.1 200 Connection established\r\n\r\n")) == 0) {
			proxied_cut(c, NULL);
			return;
		}
	} else {
		proxy_body_init(&c->body, &c->r);
		write_head(c);
	}
	proxied_relay_out(c);
}

void
proxied_relay_out(struct proxied *c)
{
	if (pump_out(c))
		watch_set(c);
}

void
proxied_relay_credit(struct proxied *c)
{
	watch_set(c);
}
