/* SPDX-License-Identifier: MIT
 * Layered configuration from the key table: defaults, /etc, home, user, environment, flags; later wins. Maps merge key
 * by key, lists and scalars are replaced. A workspace's file can only narrow what the layers above it allow. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "base/field.h"
#include "loop/hostfiles.h"

/* The key table: docs/config.md, `config schema` and the default file come from it. */
extern const struct field config_keys[];

enum config_layer {
	LAYER_DEFAULT,
	LAYER_SYSTEM, /* /etc/ithaca/config.yaml */
	LAYER_HOME, /* $ITHACA_HOME/config.yaml, or the file of --config */
	LAYER_USER, /* $ITHACA_HOME/users/NAME.yaml, the keys it shares with the table */
	LAYER_ENV, /* ITHACA__SECTION__KEY */
	LAYER_FLAG,
	LAYER_WORKSPACE,
	LAYER_COUNT
};
const char *config_layer_name(enum config_layer l);

#define CONFIG_SYSTEM_FILE "/etc/ithaca/config.yaml"

struct config_sources {
	const char *system_file; /* NULL: CONFIG_SYSTEM_FILE; missing is fine */
	const char *home_file; /* missing is fine unless required */
	bool home_file_required; /* --config named it */
	struct str home_text; /* of home_file, for who has it already; p NULL: it is read */
	struct hostfiles *files; /* that read them; NULL: the file system */
	const char *user_file; /* NULL: none */
	char *const *env; /* NULL-terminated NAME=VALUE list; others than ITHACA__ are ignored */
	const char *const *flags; /* NULL-terminated "key=value" list */
};

struct config; /* immutable; reference-counted */

int config_load(const struct config_sources *src, struct config **out, struct err *e) MUST_USE;
struct config *config_ref(struct config *c);
void config_unref(struct config *c); /* NULL is fine */
/* From the JSON that config_envelope wrote: how a role gets it from the runner. */
int config_from_envelope(struct str json, struct config **out, struct err *e) MUST_USE;
/* The whole effective tree with the origin of each key. Secrets (inline keys, header values) stand as "(secret)",
 * references to them ({secret: NAME}) as they are. */
void config_envelope(const struct config *c, struct json *j);

/* Readers by dotted key. The key must be in the table: anything else is a broken invariant (fatal). Defaults of the
 * table are filled in, so a scalar with a default is always there. Borrowed for the life of c. */
const struct node *config_get(const struct config *c, const char *key); /* NULL when unset without default */
int64_t config_int(const struct config *c, const char *key);
bool config_bool(const struct config *c, const char *key);
const char *config_z(const struct config *c, const char *key); /* NULL when unset without default */
int64_t config_microusd(const struct config *c, const char *key);

/* Looks a key up as a person wrote it: &node_null when it is in the table but unset, NULL and an error with the nearest
 * name when it is not. */
const struct node *config_lookup(const struct config *c, struct str dotted, struct err *e);
/* Where an effective value comes from. */
struct config_origin {
	enum config_layer layer;
	const char *file; /* NULL for default, env and flag */
	uint32_t line;
};
struct config_origin config_origin(const struct config *c, struct str dotted);
/* Whether nothing in this version reads the key (FIELD_RESERVED). */
bool config_is_reserved(struct str dotted);
/* Whether its value is a secret, or a reference to one (FIELD_SECRET). */
bool config_is_secret(struct str dotted);
/* Calls fn for every set or defaulted scalar or list key, in table order. Secret values are given as "(secret)". */
typedef void (*config_each_fn)(void *arg, const char *dotted, const struct node *value,
	struct config_origin origin);
void config_each(const struct config *c, config_each_fn fn, void *arg);

/* The configuration of a session in a workspace whose .ithaca.yaml holds `text` (file is for messages). Keys that may
 * narrow (FIELD_NARROWS) are applied when they are stricter; every other key, and a value that would widen, is left
 * out and told through on_refused. A syntax or type error fails. */
typedef void (*config_refused_fn)(void *arg, const char *dotted, uint32_t line, const char *why);
int config_narrow(struct config *base, const char *file, struct str text, config_refused_fn on_refused,
	void *arg, struct config **out, struct err *e) MUST_USE;

/* `config set`: splices the value into the YAML text at the marks of its key (or adds the key), keeping comments and
 * layout; the result is parsed and checked before it is returned. Refuses with the line to edit where it cannot. */
int config_set_text(struct str yaml, struct str dotted, struct str value, struct buf *out,
	struct err *e) MUST_USE;

/* One object that is shared by c and every configuration narrowed from it, before and after: what was found out about
 * the world that is no setting (a fetched model catalog). Replaces the one before, which is freed; the last reference frees it. */
void config_attach(struct config *c, void *object, void (*free_fn)(void *object));
const void *config_attached(const struct config *c); /* NULL: none */

/* A commented configuration file with every default. */
void config_default_file(struct buf *b);
/* docs/config.md from the table. */
void config_doc(struct buf *b);

#endif
