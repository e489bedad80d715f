/* SPDX-License-Identifier: MIT
 * The opened secrets. They are opened with the master keys of the envelope from the file that the
 * runtime passes on, and given out for one use toward one server only: a declared one. Invariant: a
 * value leaves through vault_use alone, and no message holds one. */
#include "broker/internal.h"

#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/seal.h"

#include <stdlib.h>

#define MASTERS_MAX 3

struct entry {
	char *name;
	struct secret *plain; /* NULL: cannot be opened */
	struct seal_record r; /* views into plain */
	struct err why;
	const char *master; /* kind */
};

struct vault {
	struct seal_key *keys[MASTERS_MAX];
	char kinds[MASTERS_MAX][16];
	size_t keys_n;
	struct err no_master; /* code set: nothing can be sealed, and why */
	struct entry *v;
	size_t n;
	struct err bad_file;
};

struct vault *
vault_new(const struct node *envelope)
{
	struct vault *v = xcalloc(1, sizeof(*v));
	const struct node *masters = node_get(envelope, "masters");
	struct str why = node_str(envelope, "master_error", STR(""));
	unsigned char seed[SEAL_SEED_SIZE];

	for (size_t i = 0; i < node_len(masters) && v->keys_n < MASTERS_MAX; i++) {
		struct str kind = node_str(node_at(masters, i), "kind", STR(""));

		if (hex_decode(node_str(node_at(masters, i), "seed", STR("")), seed,
			    sizeof(seed)) != 0)
			continue;
		snprintf(v->kinds[v->keys_n], sizeof(v->kinds[0]), "%.*s", STR_FMT(kind));
		v->keys[v->keys_n++] = seal_key_new(seed);
	}
	wipe(seed, sizeof(seed));
	if (why.n > 0)
		err_set(&v->no_master, ERR_AUTH, ERR_TO_USER, "%.*s", STR_FMT(why));
	else if (v->keys_n == 0)
		err_set(&v->no_master, ERR_AUTH, ERR_TO_USER, "there is no master key");
	return v;
}

static void
drop_entries(struct vault *v)
{
	for (size_t i = 0; i < v->n; i++) {
		secret_free(v->v[i].plain);
		free(v->v[i].name);
	}
	free(v->v);
	v->v = NULL;
	v->n = 0;
	v->bad_file = (struct err){ 0 };
}

void
vault_free(struct vault *v)
{
	if (v == NULL)
		return;
	drop_entries(v);
	for (size_t i = 0; i < v->keys_n; i++)
		seal_key_free(v->keys[i]);
	free(v);
}

/* ---- opening ---- */

static int
open_entry(const struct vault *v, struct entry *x, struct str key, struct str sealed)
{
	size_t k = 0;

	while (k < v->keys_n && !str_is(key, seal_key_public(v->keys[k])))
		k++;
	if (k == v->keys_n)
		return v->no_master.code != 0
			       ? err_copy(&x->why, &v->no_master)
			       : err_set(&x->why, ERR_AUTH, ERR_TO_USER,
					 "it was sealed to another master key (bring that one "
					 "back, or set the secret again)");
	x->master = v->kinds[k];
	x->plain = seal_open(v->keys[k], sealed, &x->why);
	if (x->plain == NULL || seal_record_parse(secret_peek(x->plain), &x->r, &x->why) != 0)
		return x->why.code;
	if (!str_is(x->r.name, x->name))
		return err_set(&x->why, ERR_CORRUPT, ERR_TO_USER,
			"its entry in the file was exchanged (set the secret again)");
	return 0;
}

void
vault_load(struct vault *v, struct str file)
{
	struct arena *a = arena_new(WIRE_NODES_MAX);
	const struct node *list;

	drop_entries(v);
	if (sealed_parse(a, file, &list, &v->bad_file) == 0) {
		v->v = xcalloc(MAX(node_len(list), 1), sizeof(*v->v));
		v->n = node_len(list);
	} else {
		log_error("the sealed secrets cannot be read", LOG_E(&v->bad_file));
	}
	for (size_t i = 0; i < v->n; i++) {
		const struct node *n = node_at(list, i);
		struct entry *x = &v->v[i];

		x->name = str_dup(node_str(n, "name", STR("")));
		if (open_entry(v, x, node_str(n, "key", STR("")), node_str(n, "sealed", STR(""))) ==
			0)
			continue;
		secret_free(x->plain);
		x->plain = NULL;
		log_warn(
			"a sealed secret cannot be opened", LOG_S("name", x->name), LOG_E(&x->why));
	}
	arena_free(a);
}

/* ---- using ---- */

static const struct entry *
find(const struct vault *v, struct str name)
{
	for (size_t i = 0; i < v->n; i++)
		if (str_is(name, v->v[i].name))
			return &v->v[i];
	return NULL;
}

static int
check_bound(const struct entry *x, const char *use, const struct destination *d, struct err *e)
{
	bool may_go = false, may_stand = false;

	for (size_t i = 0; i < x->r.hosts_n; i++)
		may_go = may_go || binding_allows(x->r.hosts[i], d->is_tls, d->host, d->port);
	for (size_t i = 0; i < x->r.uses_n; i++)
		may_stand = may_stand || use_allows(x->r.uses[i], str_of(use));
	if (!may_go)
		return err_set(e, ERR_DENIED, ERR_TO_USER,
			"secret %s is not bound to %s://%.*s:%llu (set it again with --host to "
			"allow that)",
			x->name, d->is_tls ? "https" : "http", STR_FMT(d->host),
			(unsigned long long)d->port);
	if (!may_stand)
		return err_set(e, ERR_DENIED, ERR_TO_USER,
			"secret %s may not be used as %s (set it again to allow that)", x->name,
			use);
	return 0;
}

int
vault_use(const struct vault *v, struct str name, const char *use, const struct destination *d,
	struct str *value, struct err *e)
{
	const struct entry *x = find(v, name);

	if (x == NULL && v->bad_file.code != 0) {
		err_copy(e, &v->bad_file);
		return err_wrap(e, "secret %.*s: the secrets file cannot be read", STR_FMT(name));
	}
	if (x == NULL)
		return err_set(e, ERR_AUTH, ERR_TO_USER,
			"there is no secret %.*s (ithaca secret set %.*s)", STR_FMT(name),
			STR_FMT(name));
	if (x->plain == NULL) {
		err_copy(e, &x->why);
		return err_wrap(e, "secret %s", x->name);
	}
	if (check_bound(x, use, d, e) != 0)
		return e->code;
	*value = x->r.value;
	return 0;
}

/* ---- telling ---- */

static void
write_entry(const struct entry *x, struct json *j)
{
	json_obj(j);
	json_kv_z(j, "name", x->name);
	json_kv_z(j, "state", x->plain != NULL ? "ready" : "closed");
	if (x->plain == NULL)
		json_kv_z(j, "why", x->why.msg);
	if (x->master != NULL)
		json_kv_z(j, "master", x->master);
	json_obj_end(j);
}

void
vault_report(const struct vault *v, struct json *j)
{
	bool can_seal = v->no_master.code == 0;

	json_kv_z(j, "master", can_seal ? v->kinds[0] : NULL);
	json_kv_z(j, "key", can_seal ? seal_key_public(v->keys[0]) : NULL);
	if (!can_seal)
		json_kv_z(j, "why", v->no_master.msg);
	if (v->bad_file.code != 0)
		json_kv_z(j, "bad_file", v->bad_file.msg);
	json_kv_arr(j, "secrets");
	for (size_t i = 0; i < v->n; i++)
		write_entry(&v->v[i], j);
	json_arr_end(j);
}
