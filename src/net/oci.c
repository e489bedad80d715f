/* SPDX-License-Identifier: MIT
 * The few calls of the Docker Engine API that sidecars and images take, in a version that docker (from 20.10) and podman
 * (from 4) both serve. */
#include "net/oci.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"

#define API        "/v1.40"
#define CALL_MS    30000
#define IMPORT_MS  1800000 /* of a whole distribution */
#define PING_MS    10000 /* an engine without root on a busy machine takes seconds */
#define ANSWER_MAX (4u * MIB)
#define REMOVE_MS       15000 /* a stop waits for it */
#define REMOVE_TRIES    10
#define REMOVE_PAUSE_MS 100
#define LOG_MAX    (64u * KIB)
#define WHY_MAX    170 /* of what an engine says, in a message */
#define STATUS_OK(s) ((s) >= 200 && (s) < 300)

/* ---- one call ---- */

struct call {
	const char *method, *what; /* what: for messages */
	int64_t timeout_ms;
	const char *type;
	struct str body;
	int body_fd;
	int absent; /* a status that is as good as success, 0: none */
};

/* Engines say what they were about first and the reason last; between them is what can be left out. */
static void
shorten(struct str why, char out[WHY_MAX])
{
	static const char gap[] = " ... ";
	size_t head, tail;

	why = str_trim(why);
	if (why.n < WHY_MAX) {
		snprintf(out, WHY_MAX, "%.*s", (int)why.n, why.p);
		return;
	}
	head = utf8_cut(why, WHY_MAX / 3);
	tail = utf8_start(why, why.n - (WHY_MAX - sizeof(gap) - head));
	snprintf(out, WHY_MAX, "%.*s%s%.*s", (int)head, why.p, gap, (int)(why.n - tail), why.p + tail);
}

/* *out (may be NULL) is in a, or node_null where the answer is no JSON. */
static int
oci_call(const struct oci *g, const struct call *c, struct arena *a, const struct node **out, struct err *e,
	const char *format, ...) PRINTF_LIKE(6, 7);

static int
oci_call(const struct oci *g, const struct call *c, struct arena *a, const struct node **out, struct err *e,
	const char *format, ...)
{
	const struct node *n = &node_null;
	struct err ignored;
	struct buf target, body;
	int status = 0;
	va_list ap;

	buf_init(&target, FETCH_PATH_MAX);
	buf_add_z(&target, API);
	va_start(ap, format);
	buf_vprintf(&target, format, ap);
	va_end(ap);
	struct local_request r = { .socket = g->socket, .method = c->method, .target = buf_z(&target), .type = c->type,
		.body = c->body, .body_fd = c->body_fd, .timeout_ms = c->timeout_ms > 0 ? c->timeout_ms : CALL_MS,
		.answer_max = ANSWER_MAX };
	int rc = local_http(&r, &status, &body, e);
	buf_fini(&target);
	if (rc != 0)
		return rc;
	if (json_parse(a, buf_str(&body), &n, &ignored) != 0)
		n = &node_null;
	if (!STATUS_OK(status) && status != c->absent) {
		char why[WHY_MAX];
		shorten(node_str(n, "message", buf_str(&body)), why);
		rc = err_set(e, status == 404 ? ERR_NOT_FOUND : ERR_FAILED, ERR_TO_USER, "the container engine cannot %s: %s (%d)",
			c->what, why, status);
	}
	buf_fini(&body);
	if (rc == 0 && out != NULL)
		*out = n;
	return rc;
}

/* ---- finding it ---- */

static bool
says(const struct node *info, const char *word)
{
	const struct node *list = node_get(info, "SecurityOptions");
	for (size_t i = 0; i < node_len(list); i++) {
		const struct node *x = node_at(list, i);
		if (node_is(x, NODE_STR) && str_find(x->s, str_of(word)) >= 0)
			return true;
	}
	return false;
}

static int
ask(const char *socket, struct oci *out, struct err *e)
{
	struct oci g = { 0 };
	struct arena *a = arena_new(ANSWER_MAX * 4);
	const struct node *version, *info;
	struct call c = { .method = "GET", .what = "say what it is", .timeout_ms = PING_MS };

	if (strlen(socket) >= sizeof(g.socket)) {
		arena_free(a);
		return err_set(e, ERR_INVALID, ERR_TO_USER, "socket path is too long: %s", socket);
	}
	memcpy(g.socket, socket, strlen(socket) + 1);
	int rc = oci_call(&g, &c, a, &version, e, "/version");
	if (rc == 0 && node_str(version, "Version", STR("")).n == 0)
		rc = err_set(e, ERR_PROTO, ERR_TO_USER, "%s does not say what it is, as a container engine does", socket);
	if (rc == 0)
		rc = oci_call(&g, &c, a, &info, e, "/info");
	if (rc == 0) {
		const struct node *parts = node_get(version, "Components");
		struct str v = node_str(version, "Version", STR(""));
		for (size_t i = 0; i < node_len(parts); i++) {
			if (str_find(node_str(node_at(parts, i), "Name", STR("")), STR("Podman")) >= 0)
				g.kind = OCI_PODMAN;
		}
		snprintf(g.version, sizeof(g.version), "%.*s", (int)MIN(v.n, sizeof(g.version) - 1), v.p);
		g.is_rootless = says(info, "rootless") || node_bool(info, "Rootless", false);
		g.has_apparmor = says(info, "apparmor");
		g.has_selinux = says(info, "selinux");
		*out = g;
	}
	arena_free(a);
	return rc;
}

static int
ask_named(const char *socket, const char *by, struct oci *out, struct err *e)
{
	struct err why;

	if (strncmp(socket, "unix://", 7) == 0)
		socket += 7;
	if (ask(socket, out, &why) == 0)
		return 0;
	return err_set(e, ERR_NOT_FOUND, ERR_TO_USER, "%s (start docker or podman there, or change %s)", why.msg, by);
}

int
oci_open(const char *socket, struct oci *out, struct err *e)
{
	static const char *const fixed[] = { "/run/podman/podman.sock", "/run/docker.sock", "/var/run/docker.sock" };
	const char *host = getenv("DOCKER_HOST"), *runtime = getenv("XDG_RUNTIME_DIR");
	char own[512] = "";
	struct err why, first = { 0 }; /* of those that are there and do not answer */

	if (socket != NULL && socket[0] != '\0')
		return ask_named(socket, "container.socket", out, e);
	if (host != NULL && strncmp(host, "unix://", 7) == 0)
		return ask_named(host, "DOCKER_HOST", out, e);
	if (host != NULL && host[0] != '\0')
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER, "DOCKER_HOST=%.100s is not on this machine (use a Unix socket, or set "
			"container.socket)", host);
	if (runtime != NULL)
		snprintf(own, sizeof(own), "%s/podman/podman.sock", runtime);
	for (size_t i = 0; i <= ARRAY_LEN(fixed); i++) {
		const char *at = i == 0 ? own : fixed[i - 1];

		if (at[0] == '\0' || access(at, F_OK) != 0)
			continue;
		if (ask(at, out, &why) == 0)
			return 0;
		if (first.code == 0)
			first = why;
	}
	if (first.code != 0)
		return err_set(e, ERR_NOT_FOUND, ERR_TO_USER, "%s (start docker or podman there, or set container.socket)", first.msg);
	return err_set(e, ERR_NOT_FOUND, ERR_TO_USER, "no container engine answers (systemctl --user enable --now podman.socket, or set "
		"container.socket)");
}

/* ---- images ---- */

int
oci_has_image(const struct oci *g, const char *image, bool *out, struct err *e)
{
	struct arena *a = arena_new(ANSWER_MAX * 4);
	struct call c = { .method = "GET", .what = "look for an image", .absent = 404 };
	const struct node *n;
	int rc = oci_call(g, &c, a, &n, e, "/images/%s/json", image);

	if (rc == 0)
		*out = node_get(n, "Id") != NULL;
	arena_free(a);
	return rc;
}

/* Podman 4 answers 200 and puts a failure into the stream of progress messages, as docker does. */
int
oci_import(const struct oci *g, const char *name, struct str tar, int tar_fd, struct err *e)
{
	struct arena *a = arena_new(ANSWER_MAX * 4);
	struct call c = { .method = "POST", .what = "import an image", .type = "application/x-tar", .body = tar, .body_fd = tar_fd,
		.timeout_ms = IMPORT_MS };
	struct buf repo;
	bool is_there = false;

	buf_init(&repo, FETCH_PATH_MAX);
	local_escape(&repo, str_of(name));
	int rc = oci_call(g, &c, a, NULL, e, "/images/create?fromSrc=-&repo=%s", buf_z(&repo));
	if (rc == 0)
		rc = oci_has_image(g, name, &is_there, e);
	if (rc == 0 && !is_there)
		rc = err_set(e, ERR_FAILED, ERR_TO_USER, "the container engine took the archive, but has no image %s", name);
	buf_fini(&repo);
	arena_free(a);
	return rc;
}

int
oci_image_remove(const struct oci *g, const char *image, struct err *e)
{
	struct arena *a = arena_new(ANSWER_MAX * 4);
	struct call c = { .method = "DELETE", .what = "remove an image", .absent = 404 };
	int rc = oci_call(g, &c, a, NULL, e, "/images/%s?force=1", image);

	arena_free(a);
	return rc;
}

int
oci_images(const struct oci *g, const char *prefix, struct json *j, struct err *e)
{
	struct arena *a = arena_new(ANSWER_MAX * 4);
	struct call c = { .method = "GET", .what = "list images" };
	const struct node *list;
	int rc = oci_call(g, &c, a, &list, e, "/images/json");

	for (size_t i = 0; rc == 0 && i < node_len(list); i++) {
		const struct node *image = node_at(list, i), *tags = node_get(image, "RepoTags");
		for (size_t k = 0; k < node_len(tags); k++) {
			struct str tag = node_is(node_at(tags, k), NODE_STR) ? node_at(tags, k)->s : STR("");
			if (!str_starts(tag, prefix))
				continue;
			json_obj(j);
			json_kv_str(j, "name", tag);
			json_kv_str(j, "id", node_str(image, "Id", STR("")));
			json_kv_int(j, "bytes", node_int(image, "Size", 0));
			json_kv_int(j, "created_at_ms", node_int(image, "Created", 0) * 1000);
			json_obj_end(j);
		}
	}
	arena_free(a);
	return rc;
}

/* ---- containers ---- */

/* It becomes part of a path: an engine that lies shall not choose what else is asked of it. */
static bool
id_valid(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z')))
			return false;
	}
	return s.n > 0 && s.n < OCI_ID_SIZE;
}

int
oci_create(const struct oci *g, const char *name, struct str spec, char id[OCI_ID_SIZE], struct err *e)
{
	struct arena *a = arena_new(ANSWER_MAX * 4);
	struct call c = { .method = "POST", .what = "make a container", .type = "application/json", .body = spec };
	const struct node *n;
	struct err ignored;
	int rc = oci_call(g, &c, a, &n, e, "/containers/create?name=%s", name);

	if (rc == 0) {
		struct str s = node_str(n, "Id", STR(""));
		if (!id_valid(s))
			rc = err_set(e, ERR_PROTO, ERR_TO_USER, "the container engine gave a container without an id");
		else
			snprintf(id, OCI_ID_SIZE, "%.*s", (int)s.n, s.p);
	}
	if (rc != 0 && rc != ERR_FAILED && rc != ERR_NOT_FOUND) /* not refused: it may be there, and nobody knows its id */
		(void)oci_remove(g, name, &ignored);
	arena_free(a);
	return rc;
}

int
oci_start(const struct oci *g, const char *id, struct err *e)
{
	struct arena *a = arena_new(ANSWER_MAX * 4);
	struct call c = { .method = "POST", .what = "start a container", .absent = 304 };
	int rc = oci_call(g, &c, a, NULL, e, "/containers/%s/start", id);

	arena_free(a);
	return rc;
}

/* One that ends at this very moment cannot be removed by podman: by the next try it has ended. */
int
oci_remove(const struct oci *g, const char *id, struct err *e)
{
	struct timespec pause = { .tv_nsec = REMOVE_PAUSE_MS * 1000000L };
	int rc = ERR_FAILED;

	for (int i = 0; i < REMOVE_TRIES && rc == ERR_FAILED; i++) {
		struct arena *a = arena_new(ANSWER_MAX * 4);
		struct call c = { .method = "DELETE", .what = "remove a container", .absent = 404, .timeout_ms = REMOVE_MS };

		if (i > 0)
			nanosleep(&pause, NULL);
		rc = oci_call(g, &c, a, NULL, e, "/containers/%s?force=1&v=1", id);
		arena_free(a);
	}
	return rc;
}

/* Looked at again: a list that was not filtered must not cost anybody his containers. */
static const char *
labelled_id(const struct node *container, const struct oci_label *labels, size_t n)
{
	struct str id = node_str(container, "Id", STR(""));

	for (size_t i = 0; i < n; i++) {
		if (strcmp(node_z(node_get(container, "Labels"), labels[i].name, ""), labels[i].value) != 0)
			return NULL;
	}
	return id_valid(id) ? id.p : NULL;
}

/* The engine's words for a list of containers. */
static void
write_filter(struct buf *out, const struct oci_label *labels, size_t n)
{
	struct buf label, filter;
	struct json j;

	buf_init(&label, FETCH_PATH_MAX);
	buf_init(&filter, FETCH_PATH_MAX);
	json_init(&j, &filter);
	json_obj(&j);
	json_kv_arr(&j, "label");
	for (size_t i = 0; i < n; i++) {
		buf_reset(&label);
		buf_printf(&label, "%s=%s", labels[i].name, labels[i].value);
		json_z(&j, buf_z(&label));
	}
	json_arr_end(&j);
	json_obj_end(&j);
	local_escape(out, buf_str(&filter));
	buf_fini(&filter);
	buf_fini(&label);
}

int
oci_remove_labelled(const struct oci *g, const struct oci_label *labels, size_t n, struct err *e)
{
	struct arena *a = arena_new(ANSWER_MAX * 4);
	struct call c = { .method = "GET", .what = "list containers" };
	const struct node *list;
	struct buf filter;

	buf_init(&filter, FETCH_PATH_MAX);
	write_filter(&filter, labels, n);
	int rc = oci_call(g, &c, a, &list, e, "/containers/json?all=1&filters=%s", buf_z(&filter));
	for (size_t i = 0; rc == 0 && i < node_len(list); i++) {
		const char *id = labelled_id(node_at(list, i), labels, n);
		if (id != NULL)
			rc = oci_remove(g, id, e);
	}
	buf_fini(&filter);
	arena_free(a);
	return rc;
}

/* The last line that it wrote. Each piece of a log comes behind 8 bytes of which the last four are its length. */
static void
last_words(const struct oci *g, const char *id, char out[160])
{
	struct buf target, body;
	struct err ignored;
	int status = 0;

	out[0] = '\0';
	buf_init(&target, FETCH_PATH_MAX);
	buf_printf(&target, API "/containers/%s/logs?stdout=1&stderr=1&tail=1", id);
	struct local_request r = { .socket = g->socket, .method = "GET", .target = buf_z(&target), .timeout_ms = PING_MS,
		.answer_max = LOG_MAX };
	if (local_http(&r, &status, &body, &ignored) == 0) {
		struct str s = buf_str(&body);
		s = str_trim(s.n > 8 && s.p[0] <= 2 ? str_sub(s, 8, s.n) : s);
		if (STATUS_OK(status))
			snprintf(out, 160, "%.*s", (int)MIN(s.n, 159), s.p);
		buf_fini(&body);
	}
	buf_fini(&target);
}

int
oci_is_running(const struct oci *g, const char *id, bool *out, struct err *why, struct err *e)
{
	struct arena *a = arena_new(ANSWER_MAX * 4);
	struct call c = { .method = "GET", .what = "look at a container" };
	const struct node *n;
	char words[160];
	int rc = oci_call(g, &c, a, &n, e, "/containers/%s/json", id);

	if (rc == 0) {
		const struct node *state = node_get(n, "State");
		*out = node_bool(state, "Running", false);
		if (!*out) {
			last_words(g, id, words);
			err_set(why, ERR_FAILED, ERR_TO_USER, "the container ended with status %lld%s%s%s",
				(long long)node_int(state, "ExitCode", -1), node_bool(state, "OOMKilled", false) ? ", out of memory" : "",
				words[0] != '\0' ? ": " : "", words);
		}
	}
	arena_free(a);
	return rc;
}
