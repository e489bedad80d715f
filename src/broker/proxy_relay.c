/* SPDX-License-Identifier: MIT
 * The bytes of a connection, both ways, with credit, counted against the session's quota. A tunnel
 * passes them as they are; a request is written anew, so that what the server gets is what was
 * checked. */
#include "broker/proxy_internal.h"

#define ANSWER_LINE_MAX 1024 /* of a status line, or a header of an interim answer */
#define ANSWER_SPARE    (2 * ANSWER_LINE_MAX)
#define REPORT_BYTES    (1 * (int64_t)MIB) /* used, before the runtime is told again */

/* Another connection of the session may have spent it. false: c is gone. */
static bool
has_quota(struct proxied *c)
{
	struct grant *g = c->g;
	char text[96];
	struct err e;

	if (grant_left(g) > 0)
		return true;
	snprintf(text, sizeof(text), "the session's egress.quota_mb of %lld MiB is spent",
		(long long)(g->quota_bytes / (int64_t)MIB));
	proxy_tell_denied(c->x, g, "quota", "egress.quota_mb", text);
	err_set(&e, ERR_LIMIT, ERR_TO_MODEL, "%s", text);
	proxied_cut(c, &e);
	return false;
}

bool
proxied_count(struct proxied *c, size_t n)
{
	struct grant *g = c->g;

	proxied_alive(c);
	g->used_bytes += (int64_t)n;
	if (g->used_bytes - g->reported_bytes >= REPORT_BYTES)
		proxy_tell_use(c->x, g);
	return has_quota(c);
}

static bool
has_more(const struct proxied *c)
{
	return c->r.what == PROXY_CONNECT ? c->in.n > 0 : c->out.n > 0;
}

/* How many bytes of the server the cell can take: the head of an answer grows by a line. */
static size_t
room(struct proxied *c)
{
	size_t credit = stream_credit(c->stream);

	if (c->answer == ANSWER_BODY)
		return credit;
	return credit > ANSWER_SPARE ? credit - ANSWER_SPARE : 0;
}

static void
watch_set(struct proxied *c)
{
	int events = has_more(c) ? LOOP_WRITE : 0;

	if (!c->server_ended && room(c) > 0)
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

	if (bytes.n > 0 && !has_quota(c))
		return -1;
	bytes = str_sub(bytes, 0, grant_left(c->g)); /* proxied_count cuts when that is all */
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

static bool
to_cell(struct proxied *c, struct str bytes)
{
	return stream_write(c->stream, 0, bytes) == bytes.n;
}

/* A line of an answer's head, whole. A connection of the cell serves one request: the program is
 * told, whatever the server says, because one that uses it again finds it closed and may have sent
 * what it cannot send twice. */
static bool
pass_line(struct proxied *c, struct str line)
{
	bool is_interim = str_starts(line, "HTTP/1.") && line.n > 9 && line.p[9] == '1' &&
			  !str_starts(str_sub(line, 9, line.n), "101");

	if (!to_cell(c, line))
		return false;
	if (c->answer == ANSWER_INTERIM) {
		c->answer = str_trim(line).n == 0 ? ANSWER_STATUS : ANSWER_INTERIM;
		return true;
	}
	c->answer = is_interim ? ANSWER_INTERIM : ANSWER_BODY;
	if (is_interim || !str_starts(line, "HTTP/1."))
		return true;
	return to_cell(c, STR("Connection: close\r\n"));
}

static bool
pass_in(struct proxied *c, struct str bytes)
{
	while (bytes.n > 0 && c->answer != ANSWER_BODY) {
		ptrdiff_t at = str_find_char(bytes, '\n');
		size_t n = at < 0 ? bytes.n : (size_t)at + 1;

		if (c->line.n + n > ANSWER_LINE_MAX) { /* no head that we know */
			c->answer = ANSWER_BODY;
			if (!to_cell(c, buf_str(&c->line)))
				return false;
			break;
		}
		buf_add(&c->line, bytes.p, n);
		bytes = str_sub(bytes, n, bytes.n);
		if (at >= 0) {
			bool ok = pass_line(c, buf_str(&c->line));

			buf_reset(&c->line);
			if (!ok)
				return false;
		}
	}
	return to_cell(c, bytes);
}

/* From the server to the cell. false: c is gone. */
static bool
pump_in(struct proxied *c)
{
	while (!c->server_ended && room(c) > 0) {
		if (!has_quota(c))
			return false;
		ssize_t n = recv(c->fd, c->x->chunk,
			MIN(MIN(room(c), PROXY_CHUNK), grant_left(c->g)), MSG_DONTWAIT);

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
			if (c->answer != ANSWER_BODY && !to_cell(c, buf_str(&c->line))) {
				proxied_cut(c, NULL);
				return false;
			}
			if (c->r.what == PROXY_CONNECT)
				stream_eof(c->stream);
			return pass_end(c);
		}
		c->has_answered = true;
		if (!pass_in(c, (struct str){ c->x->chunk, (size_t)n })) {
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

	/* A program of HTTP/1.0 could not read chunks, nor an interim answer. */
	buf_printf(&c->out, "%s %s%.*s HTTP/1.%c\r\n", c->r.method,
		c->r.path.n > 0 && c->r.path.p[0] == '/' ? "" : "/", STR_FMT(c->r.path),
		c->r.is_http10 ? '0' : '1');
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
		c->answer = ANSWER_STATUS;
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
