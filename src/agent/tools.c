/* SPDX-License-Identifier: MIT
 * The tools as requests offer them, made once from the tables of arguments: all of them with everything that the tables say,
 * and for models with a small window the few that most work needs, with short descriptions. */
#include "agent/internal.h"

#include "base/limits.h"

static const char *const small_tools[] = { "read", "write", "edit", "list", "grep", "exec" };

static void
set_init(struct toolset *set, size_t n, struct arena *a)
{
	*set = (struct toolset){ .schemas = arena_alloc(a, MAX(n, 1) * sizeof *set->schemas),
		.tools = arena_alloc(a, MAX(n, 1) * sizeof *set->tools) };
}

static void
set_add(struct toolset *set, const struct tool *tool, const char *text, struct str schema)
{
	set->tools[set->n] = tool;
	set->schemas[set->n++] = (struct tool_schema){ tool->name, text, schema };
	set->bytes += schema.n + strlen(tool->name) + strlen(text);
}

static void
make_full(const struct registry *registry, struct toolset *set, struct arena *a)
{
	struct buf b;
	struct json j;

	set_init(set, registry_len(registry), a);
	buf_init(&b, 1 * MIB);
	for (size_t i = 0; i < registry_len(registry); i++) {
		const struct tool *tool = registry_at(registry, i);

		buf_reset(&b);
		json_init(&j, &b);
		field_schema(tool->args, &j);
		set_add(set, tool, tool->text, arena_str(a, buf_str(&b)));
	}
	buf_fini(&b);
}

/* ---- small ---- */

static struct str
first_sentence(const char *text)
{
	const char *end = strstr(text, ". ");

	return end != NULL ? (struct str){ text, (size_t)(end - text) + 1 } : str_of(text);
}

static void
small_arg(const struct field *f, struct json *j)
{
	json_kv_obj(j, f->name);
	json_kv_z(j, "type", f->type == FIELD_INT ? "integer" : f->type == FIELD_BOOL ? "boolean" : "string");
	if (f->type == FIELD_ENUM) {
		json_kv_arr(j, "enum");
		for (size_t i = 0; f->choices[i] != NULL; i++)
			json_z(j, f->choices[i]);
		json_arr_end(j);
	}
	if (f->flags & FIELD_REQUIRED)
		json_kv_str(j, "description", first_sentence(f->text));
	json_obj_end(j);
}

/* What a call needs to be right, without ranges and defaults: those are checked when it comes. */
static void
small_schema(const struct field *args, struct json *j)
{
	json_obj(j);
	json_kv_z(j, "type", "object");
	json_kv_obj(j, "properties");
	for (const struct field *f = args; f->type != FIELD_END; f++)
		small_arg(f, j);
	json_obj_end(j);
	json_kv_arr(j, "required");
	for (const struct field *f = args; f->type != FIELD_END; f++)
		if (f->flags & FIELD_REQUIRED)
			json_z(j, f->name);
	json_arr_end(j);
	json_obj_end(j);
}

static void
make_small(const struct registry *registry, struct toolset *set, struct arena *a)
{
	struct buf b;
	struct json j;

	set_init(set, ARRAY_LEN(small_tools), a);
	buf_init(&b, 64 * KIB);
	for (size_t i = 0; i < ARRAY_LEN(small_tools); i++) {
		const struct tool *tool = registry_find(registry, str_of(small_tools[i]));

		if (tool == NULL)
			continue;
		buf_reset(&b);
		json_init(&j, &b);
		small_schema(tool->args, &j);
		set_add(set, tool, arena_strdup(a, first_sentence(tool->text)), arena_str(a, buf_str(&b)));
	}
	buf_fini(&b);
}

void
toolsets_make(struct engine *en)
{
	make_full(en->parts.registry, &en->toolsets[0], en->a);
	make_small(en->parts.registry, &en->toolsets[1], en->a);
}

const char *
tool_withdrawn(const struct run *r, const struct tool *tool, const char **code)
{
	const char *unused, *why;

	if (code == NULL)
		code = &unused;
	why = sandbox_withdrawn(r->en->parts.sandbox, tool->effects & TOOL_EXECS, code);
	/* On the host itself no cell is needed. */
	return why != NULL && r->env.mode == MODE_DANGER_FULL_ACCESS && strcmp(*code, "cell_none") == 0 ? NULL : why;
}
