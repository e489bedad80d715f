/* SPDX-License-Identifier: MIT
 * The role: takes the keys from the runner, then requests from the runtime. Runs no command, reads
 * no body. Invariant: without the runner it ends at once, and nothing but the runner can make it
 * talk to a runtime. */
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "broker/proxy.h"

struct role_state {
	struct loop *l;
	struct wire *runner, *runtime;
	struct curl_api api;
	struct egress *egress;
	struct upstreams *upstreams; /* NULL: not booted */
	struct upstreams *services;  /* behind /svc of the proxy */
	struct proxy *proxy;
	struct vault *vault;
};

/* ---- the link to the runtime ---- */

/* What there is, never what it is. */
static void
tell_keyring(struct role_state *r, uint64_t id)
{
	struct buf b;
	struct json j;

	buf_init(&b, MIB);
	json_init(&j, &b);
	json_obj(&j);
	vault_report(r->vault, &j);
	json_key(&j, "providers");
	upstreams_report(r->upstreams, r->vault, &j);
	json_obj_end(&j);
	wire_begin(r->runtime, WIRE_KEYRING, id);
	wire_end(r->runtime, buf_str(&b), -1);
	buf_fini(&b);
}

static int
runtime_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct role_state *r = arg;

	if (m->kind == WIRE_SECRETS) {
		vault_load(r->vault, m->tail);
		tell_keyring(r, m->id);
		return 0;
	}
	if (m->kind == WIRE_GRANT) {
		proxy_grant(r->proxy, m);
		return 0;
	}
	if (m->kind == WIRE_EGRESS) {
		proxy_tell_mark(r->proxy, m);
		return 0;
	}
	transfer_start(r->egress, r->upstreams, r->vault, w,
		m); /* FETCH: the other kind that has this edge */
	return 0;
}

static void
runtime_gone(void *arg, struct wire *w, const struct err *e)
{
	struct role_state *r = arg;
	if (e->code != ERR_GONE)
		log_error("runtime dropped", LOG_E(e));
	if (r->runtime != w)
		return;
	r->runtime = NULL;
	proxy_runtime(r->proxy, NULL);
}

static const struct wire_handler runtime_handler = {
	.on_msg = runtime_msg,
	.on_gone = runtime_gone,
};

/* ---- the link to the runner ---- */

static void
wipe_tree(const struct node *n)
{
	if (n->type == NODE_STR && n->s.p != NULL)
		wipe((char *)n->s.p, n->s.n);
	for (size_t i = 0; n->type == NODE_MAP && i < n->map.n; i++)
		wipe_tree(&n->map.pairs[i].value);
	for (size_t i = 0; n->type == NODE_LIST && i < n->list.n; i++)
		wipe_tree(&n->list.items[i]);
}

static void
open_log(const struct node *settings)
{
	enum log_level level;
	if (log_level_parse(node_str(settings, "level", STR("info")), &level) != 0)
		level = LOG_INFO;
	log_open("broker", STDERR_FILENO, level,
		str_is(node_str(settings, "format", STR("")), "json") ? LOG_JSON : LOG_LOGFMT);
}

static void
tell_ready(struct role_state *r)
{
	const curl_version_info_data *v = r->api.version_info(CURLVERSION_NOW);
	struct json *j = wire_begin(r->runner, WIRE_READY, 0);
	json_kv_z(j, "libcurl", v->version);
	json_kv_z(j, "tls", v->ssl_version);
	json_kv_bool(j, "http2", (v->features & CURL_VERSION_HTTP2) != 0);
	json_key(j, "providers"); /* which have a key; those with a reference are not known yet */
	upstreams_report(r->upstreams, r->vault, j);
	wire_end(r->runner, STR(""), -1);
}

/* The keys are now in the envelope's frame and in its tree; both are wiped once the keys are in
 * their own pages. */
static int
take_envelope(struct role_state *r, struct wire_msg *m, struct err *e)
{
	const struct node *root;

	if (r->upstreams != NULL)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "second boot");
	struct arena *a = arena_new(WIRE_NODES_MAX);
	int rc = json_parse(a, m->tail, &root, e);
	if (rc == 0) {
		open_log(node_get(root, "log"));
		r->vault = vault_new(root);
		r->upstreams = upstreams_new(node_get(root, "providers"));
		r->services = upstreams_new(node_get(root, "services"));
		r->proxy = proxy_new(r->l, r->egress, r->services, r->vault);
		wipe_tree(root);
	}
	wipe((char *)m->tail.p, m->tail.n);
	arena_free(a);
	if (rc != 0)
		return err_wrap(e, "envelope");
	tell_ready(r);
	return 0;
}

static int
take_peer(struct role_state *r, struct wire_msg *m, struct err *e)
{
	struct str role = node_str(m->head, "role", STR(""));

	if (r->upstreams == NULL || m->fd < 0)
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "peer %s",
			m->fd < 0 ? "without a descriptor" : "before boot");
	if (str_is(role, role_name(ROLE_SHELLD))) {
		proxy_shelld(r->proxy, take_fd(&m->fd));
		return 0;
	}
	if (!str_is(role, role_name(ROLE_RUNTIME)))
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "a peer that is neither the runtime nor shelld: %.*s",
			(int)MIN(role.n, 40), role.p);
	/* A former runtime is gone or about to go: its requests are cancelled. */
	proxy_runtime(r->proxy, NULL);
	wire_close(r->runtime);
	int fd = take_fd(&m->fd);
	r->runtime = wire_open(r->l, fd, ROLE_BROKER, ROLE_RUNTIME, &runtime_handler, r);
	proxy_runtime(r->proxy, r->runtime);
	return 0;
}

static int
runner_msg(void *arg, struct wire *w, struct wire_msg *m, struct err *e)
{
	struct role_state *r = arg;

	switch (m->kind) {
	case WIRE_BOOT:
		return take_envelope(r, m, e);
	case WIRE_PEER:
		return take_peer(r, m, e);
	case WIRE_STOP:
		loop_stop(r->l);
		return 0;
	default:
		return err_set(e, ERR_PROTO, ERR_TO_LOG, "the broker has no use for %s",
			wire_kind_name(m->kind));
	}
}

static void
runner_gone(void *arg, struct wire *w, const struct err *e)
{
	struct role_state *r = arg;
	if (e->code != ERR_GONE)
		log_error("runner dropped", LOG_E(e));
	r->runner = NULL;
	loop_stop(r->l);
}

static const struct wire_handler runner_handler = { .on_msg = runner_msg, .on_gone = runner_gone };

/* ---- main ---- */

static int
fault(struct role_state *r, const struct err *e)
{
	struct json *j = wire_begin(r->runner, WIRE_FAULT, 0);
	json_kv_err(j, e);
	wire_end(r->runner, STR(""), -1);
	wire_close_flushed(r->runner);
	loop_run(r->l);
	loop_close(r->l);
	return err_exit_status(e->code);
}

/* No core file, no ptrace, no way to gain privileges. The terminal's interrupt is for the runner,
 * which stops its roles; SIGPIPE would come from TLS, which writes without MSG_NOSIGNAL. */
static void
confine(void)
{
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	fd_limit_raise(); /* one for each stream */
}

int
broker_main(int runner_fd)
{
	struct role_state r = { 0 };
	struct err e = { 0 };

	confine();
	setenv("UV_THREADPOOL_SIZE", "16", 0); /* names are resolved there: one cell must not make all others wait */
	if (loop_open(&r.l, &e) != 0) {
		log_error("broker cannot start", LOG_E(&e));
		return err_exit_status(e.code);
	}
	r.runner = wire_open(r.l, runner_fd, ROLE_BROKER, ROLE_RUNNER, &runner_handler, &r);
	/* Before the envelope is read: loading takes longer than the runner needs to write it. */
	if (curl_api_load(&r.api, &e) != 0)
		return fault(&r, &e);
	r.egress = egress_new(r.l, &r.api);
	loop_run(r.l);
	proxy_free(r.proxy);
	wire_close(r.runtime);
	wire_close(r.runner);
	egress_free(r.egress);
	upstreams_free(r.services);
	upstreams_free(r.upstreams);
	vault_free(r.vault);
	loop_close(r.l);
	curl_api_unload(&r.api);
	return 0;
}
