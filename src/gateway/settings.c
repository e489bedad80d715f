/* SPDX-License-Identifier: MIT
 * Handlers of config.*: what is configured, and what it means. */
#include "gateway/internal.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/path.h"
#include "ithaca-version.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- config.* ---- */

static void
write_key(struct json *j, const char *dotted, const struct node *value, struct config_origin origin)
{
	json_kv_z(j, "key", dotted);
	json_kv_node(j, "value", value);
	json_kv_z(j, "layer", config_layer_name(origin.layer));
	if (origin.file != NULL) {
		json_kv_z(j, "file", origin.file);
		json_kv_int(j, "line", origin.line);
	}
}

static void
each_key(void *arg, const char *dotted, const struct node *value, struct config_origin origin)
{
	json_obj(arg);
	write_key(arg, dotted, value, origin);
	json_obj_end(arg);
}

void
handle_config_list(struct request *q)
{
	struct json *j = reply_begin(q);

	json_kv_arr(j, "keys");
	config_each(q->g->parts.config, each_key, j);
	json_arr_end(j);
	reply_end(q);
}

void
handle_config_get(struct request *q)
{
	struct str key = node_str(q->params, "key", STR(""));
	const struct node *value;
	struct json *j;
	struct err e = { 0 };

	value = config_lookup(q->g->parts.config, key, &e);
	if (value == NULL && e.code != 0) {
		reply_error(q, &e);
		return;
	}
	j = reply_begin(q);
	write_key(j, arena_strdup(q->a, key), value, config_origin(q->g->parts.config, key));
	reply_end(q);
}

static const char *
config_path(struct request *q)
{
	if (q->g->parts.config_file != NULL)
		return q->g->parts.config_file;
	return path_join(q->a, q->g->parts.home, "config.yaml");
}

/* The file as it is; a missing one is empty. */
static int
read_config(struct request *q, const char *path, char **text, size_t *n, struct err *e)
{
	int rc = hostfiles_read(q->g->parts.files, path, CONFIG_TEXT_MAX, text, n, e);

	if (rc != ERR_NOT_FOUND)
		return rc;
	*text = xstrdup("");
	*n = 0;
	return 0;
}

static void
keep_attached(void *object)
{
}

/* Models that a file names are looked up where this runtime looks them up; key: only when it is one of these. */
static int
check_models(struct request *q, struct config *c, struct str key, struct err *e)
{
	const struct node *value = config_lookup(c, key, NULL);
	struct model_info m;
	int rc = 0;

	if (!str_is(key, "model") && !str_starts(key, "models."))
		return 0;
	config_attach(c, (void *)config_attached(q->g->parts.config), keep_attached);
	if (node_is(value, NODE_STR))
		rc = model_resolve(c, value->s, q->a, &m, e);
	for (size_t i = 0; rc == 0 && node_is(value, NODE_LIST) && i < node_len(value); i++)
		if (node_is(node_at(value, i), NODE_STR))
			rc = model_resolve(c, node_at(value, i)->s, q->a, &m, e);
	config_attach(c, NULL, NULL);
	return rc;
}

/* A file as a runner would read it (text: what is in it, or nothing), rules included; set (may be NULL): with this key=value
 * on top of it. */
static int
check_config(struct request *q, const char *path, bool is_required, struct str text, const char *set, struct str key,
	struct err *e)
{
	const char *flags[] = { set, NULL };
	struct config_sources src = { .home_file = path, .home_file_required = is_required, .home_text = text, .flags = flags,
		.files = q->g->parts.files };
	struct config *c;
	struct policy *p;
	int rc = config_load(&src, &c, e);

	if (rc != 0)
		return rc;
	rc = policy_new(c, &p, e);
	if (rc == 0) {
		policy_free(p);
		rc = check_models(q, c, key, e);
	}
	config_unref(c);
	return rc;
}

/* A command line can be read by every user of the machine, and what comes here is in the runtime's memory: of a secret only
 * where it is kept may be set. */
static int
check_no_secret(struct request *q, struct str key, struct str value, struct err *e)
{
	const struct node *n;

	if (!config_is_secret(key))
		return 0;
	if (yaml_parse(q->a, "value", value, &n, NULL) == 0 && field_secret_name(n).n > 0)
		return 0;
	return err_set(e, ERR_INVALID, ERR_TO_USER, "%.*s: a secret is not given like this (ithaca secret set NAME, then set "
		"it to '{secret: NAME}')", STR_FMT(str_sub(key, 0, 80)));
}

void
handle_config_set(struct request *q)
{
	struct str key = node_str(q->params, "key", STR(""));
	struct str value = node_str(q->params, "value", STR(""));
	const char *path = config_path(q), *set = arena_printf(q->a, "%.*s=%.*s", STR_FMT(key), STR_FMT(value));
	AUTO_FREE char *text = NULL;
	struct err e = { 0 };
	struct json *j;
	struct buf out;
	size_t n = 0;

	buf_init(&out, CONFIG_TEXT_MAX);
	if (check_no_secret(q, key, value, &e) != 0 || read_config(q, path, &text, &n, &e) != 0 ||
		config_set_text((struct str){ text, n }, key, value, &out, &e) != 0 ||
		check_config(q, path, false, (struct str){ 0 }, set, key, &e) != 0 || hostfiles_write(q->g->parts.files, path, buf_str(&out), &e) != 0) {
		buf_fini(&out);
		reply_error(q, &e);
		return;
	}
	buf_fini(&out);
	j = reply_begin(q);
	json_kv_z(j, "file", path);
	json_kv_bool(j, "restart", !q->g->parts.is_private); /* a private one is replaced by the next command */
	reply_end(q);
}

void
handle_config_schema(struct request *q)
{
	struct json *j = reply_begin(q);

	json_key(j, "schema");
	field_schema(config_keys, j);
	reply_end(q);
}

void
handle_config_validate(struct request *q)
{
	const char *file = node_z(q->params, "file", config_path(q));
	struct err e = { 0 };
	struct json *j;

	if (check_config(q, file, node_get(q->params, "file") != NULL, node_str(q->params, "text", (struct str){ 0 }), NULL, STR(""),
		&e) != 0) {
		reply_error(q, &e);
		return;
	}
	j = reply_begin(q);
	json_kv_z(j, "file", file);
	reply_end(q);
}

void
handle_config_default(struct request *q)
{
	struct json *j = reply_begin(q);
	struct buf b;

	buf_init(&b, CONFIG_TEXT_MAX);
	config_default_file(&b);
	json_kv_str(j, "text", buf_str(&b));
	buf_fini(&b);
	reply_end(q);
}
