/* SPDX-License-Identifier: MIT
 * The key table as documentation: docs/config.md and a commented file with every default. Nothing is written by hand
 * that the table knows. */
#include "config/internal.h"

#include "base/limits.h"

static void
add_range(struct buf *b, const struct field *f)
{
	const char *unit = f->unit != NULL ? f->unit : "";

	switch (f->type) {
	case FIELD_BOOL:
		buf_add_z(b, "true or false");
		break;
	case FIELD_INT:
		buf_printf(b, "%lld..%lld%s%s", (long long)f->min, (long long)f->max, f->unit ? " " : "", unit);
		break;
	case FIELD_MONEY:
		buf_printf(b, "%lld..%lld %s", (long long)(f->min / 1000000), (long long)(f->max / 1000000), unit);
		break;
	case FIELD_ENUM:
		for (size_t i = 0; f->choices[i] != NULL; i++)
			buf_printf(b, "%s%s", i > 0 ? ", " : "", f->choices[i]);
		break;
	case FIELD_LIST:
		buf_printf(b, "list, at most %lld", (long long)f->max);
		break;
	case FIELD_MAP:
		buf_add_z(b, "map");
		break;
	case FIELD_OBJECT:
		buf_add_z(b, f->sub->type == FIELD_END ? "must be empty" : "section");
		break;
	default:
		buf_printf(b, "text, at most %lld bytes", (long long)f->max);
	}
}

static void
add_notes(struct buf *b, const struct field *f)
{
	if (f->flags & FIELD_NARROWS)
		buf_add_z(b, " A workspace may make it stricter.");
	if (f->flags & FIELD_RESTART)
		buf_add_z(b, " Read at start.");
	if (f->flags & FIELD_SECRET)
		buf_add_z(b, " Never shown.");
}

static bool
has_keys(const struct field *f)
{
	return (f->type == FIELD_OBJECT || f->type == FIELD_MAP) && f->sub != NULL && f->sub->type != FIELD_END;
}

static void
doc_table(struct buf *b, const char *prefix, const struct field *table)
{
	buf_printf(b, "\n| key | values | default | meaning |\n|---|---|---|---|\n");
	for (const struct field *f = table; f->type != FIELD_END; f++) {
		if (has_keys(f) && f->type == FIELD_OBJECT)
			continue;
		buf_printf(b, "| `%s%s` | ", prefix, f->name);
		add_range(b, f);
		buf_add_z(b, " | ");
		if (f->dflt != NULL)
			buf_printf(b, "`%s`", f->dflt);
		buf_printf(b, " | %s", f->text);
		add_notes(b, f);
		buf_add_z(b, " |\n");
	}
}

/* A section for every table below, each with its whole dotted prefix. */
static void
doc_sections(struct buf *b, const char *prefix, const struct field *table)
{
	for (const struct field *f = table; f->type != FIELD_END; f++) {
		struct buf below;

		if (!has_keys(f))
			continue;
		buf_init(&below, 1024);
		buf_printf(&below, "%s%s.%s", prefix, f->name, f->type == FIELD_MAP ? "NAME." : "");
		buf_printf(b, "\n## `%s%s`\n\n%s\n", prefix, f->name, f->text);
		doc_table(b, buf_z(&below), f->sub);
		doc_sections(b, buf_z(&below), f->sub);
		buf_fini(&below);
	}
}

static const char doc_head[] =
	"# Configuration\n\n"
	"This page is written from the key table (`src/config/keys.c`).\n\n"
	"A configuration file is YAML 1.2: `true` and `false` are the only spellings of a switch, `yes` is a text. A key\n"
	"without a value counts as absent. A key that is not on this page is an error that names file, line and the\n"
	"nearest key.\n\n"
	"## Layers\n\n"
	"Later layers win. Maps merge key by key; lists and single values are replaced as a whole.\n\n"
	"1. the defaults on this page\n"
	"2. `/etc/ithaca/config.yaml`\n"
	"3. `$ITHACA_HOME/config.yaml`, or the file of `--config`\n"
	"4. `$ITHACA_HOME/users/NAME.yaml`: only `model models tier_min mode permissions limits`\n"
	"5. the environment: `ITHACA__LIMITS__TURN_STEPS=50` is `limits.turn_steps: 50`. Two underscores separate the\n"
	"   parts, case does not matter. The name of a map's entry (a provider, a model) is compared with those that\n"
	"   exist, `_` standing for `-`, `.`, `/` and `:` too; if there is none, the lower-case name makes a new entry.\n"
	"   Lists and maps are written as in YAML: `ITHACA__PERMISSIONS__DENY='[\"Exec(git push *)\"]'`\n"
	"6. the command line\n\n"
	"A part of a key that holds a dot is written in double quotes: `catalog.models.\"test/x-1.5\".context`.\n\n"
	"A workspace's `.ithaca.yaml` is input from strangers: of the keys marked *a workspace may make it stricter* it may\n"
	"lower a limit, choose a narrower mode, raise `tier_min` and add rules to `permissions.ask` and\n"
	"`permissions.deny`. Everything else in it is left out and reported until `ithaca trust DIR` accepts the file.\n\n"
	"## Providers\n\n"
	"`anthropic`, `openai`, `google`, `ollama`, `openrouter` and `offline` exist by default, so that `--model anthropic/NAME` needs nothing but the key\n"
	"in the environment. A further entry needs at least `api`. A key is taken from `api_key`, else `api_key_file`, else\n"
	"`api_key_cmd`, else `api_key_env`; `docs/secrets.md` says which to choose.\n"
	"A `base_url` of your own does not get the key of a built-in provider unless its source is named beside it.\n\n"
	"## Keys\n";

void
config_doc(struct buf *b)
{
	buf_add_z(b, doc_head);
	doc_table(b, "", config_keys);
	doc_sections(b, "", config_keys);
}

static void
indent(struct buf *b, const char *mark, size_t depth)
{
	buf_add_z(b, mark);
	for (size_t i = 0; i < depth; i++)
		buf_add_z(b, "  ");
}

static void
default_rows(struct buf *b, const struct field *table, size_t depth)
{
	for (const struct field *f = table; f->type != FIELD_END; f++) {
		indent(b, "## ", depth);
		if (f->dflt == NULL && f->type != FIELD_OBJECT)
			buf_printf(b, "%s (no default): ", f->name);
		buf_printf(b, "%s [", f->text);
		add_range(b, f);
		buf_add_z(b, "]\n");
		if (f->dflt == NULL && f->type != FIELD_OBJECT)
			continue;
		indent(b, "#", depth);
		buf_printf(b, "%s:%s%s\n", f->name, f->dflt != NULL ? " " : "", f->dflt != NULL ? f->dflt : "");
		if (f->type == FIELD_OBJECT)
			default_rows(b, f->sub, depth + 1);
	}
}

void
config_default_file(struct buf *b)
{
	buf_add_z(b,
		"# Ithaca configuration (YAML 1.2). Every key is shown with its default behind one '#': take the '#' away and\n"
		"# change the value to set it, together with the '#' of the section above it. docs/config.md explains layers.\n\n");
	default_rows(b, config_keys, 0);
}
