/* SPDX-License-Identifier: MIT
 * See fixture.h. */
#include "fixture.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/path.h"
#include "base/utf8.h"

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

int
fix_setup(void **state)
{
	struct fix *f = test_calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");

	snprintf(f->dir, sizeof(f->dir), "%s/tool-XXXXXX", tmp ? tmp : "/tmp");
	if (mkdtemp(f->dir) == NULL)
		return -1;
	f->sb = fake_new(f->dir);
	f->a = arena_new(256 * MIB);
	f->tools = registry_new();
	registry_add(f->tools, file_tools);
	registry_add(f->tools, exec_tools);
	f->env = (struct tool_env){ .sandbox = f->sb,
		.exec_timeout_ms = 120000,
		.exec_job_timeout_ms = 3600000,
		.exec_timeout_max_ms = 86400000,
		.exec_output_max = TOOL_OUTPUT_MAX,
		.cell = "s1",
		.cwd = "/shared",
		.mode = MODE_WORKSPACE_WRITE,
		.plan = { .access = CELL_WORKSPACE_WRITE, .shared = f->dir } };
	*state = f;
	return 0;
}

int
fix_teardown(void **state)
{
	struct fix *f = *state;

	nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	fake_free(f->sb);
	registry_free(f->tools);
	arena_free(f->a);
	test_free(f);
	return 0;
}

static void
on_prepared(void *arg, struct str probe, const struct err *e)
{
	struct fix *f = arg;

	f->prepared++;
	f->prepare_err = e ? *e : (struct err){ 0 };
	f->probe = arena_str(f->a, probe);
}

static void
on_output(void *arg, int ch, int64_t offset, struct str bytes)
{
	struct fix *f = arg;

	assert_int_equal(offset, f->live_bytes);
	f->live_bytes += (int64_t)bytes.n;
}

static void
on_done(void *arg, const struct tool_result *r)
{
	struct fix *f = arg;
	struct err e;

	f->done++;
	f->r = *r;
	f->facts = NULL;
	if (r->is_gone)
		return;
	assert_true(r->text.n <= (size_t)f->call.tool->result_max);
	assert_true(utf8_valid(r->text));
	f->r.text = arena_str(f->a, r->text);
	f->r.facts = arena_str(f->a, r->facts);
	assert_int_equal(json_parse(f->a, f->r.facts, &f->facts, &e), 0);
	assert_int_equal(f->facts->type, NODE_MAP);
}

static const struct tool_handler handler = { on_prepared, on_output, on_done };

void
fix_call(struct fix *f, const char *tool, const char *args)
{
	struct err e = { 0 };
	const struct node *n = NULL;
	const struct tool *t = registry_find(f->tools, str_of(tool));

	assert_non_null(t);
	if (tool_args(t, str_of(args), f->a, &n, &e) != 0)
		fail_msg("%s", e.msg);
	snprintf(f->effect, sizeof(f->effect), "effect-%d", ++f->next_effect);
	f->call = (struct tool_call){ .tool = t,
		.env = &f->env,
		.effect = f->effect,
		.args = n,
		.a = f->a,
		.h = &handler,
		.arg = f };
	f->prepared = f->done = 0;
	f->live_bytes = 0;
	f->probe = STR("");
}

void
fix_prepare(struct fix *f)
{
	struct err e = { 0 };

	if (f->call.tool->prepare == NULL)
		return;
	assert_int_equal(f->call.tool->prepare(&f->call, &e), 0);
	assert_int_equal(f->prepared, 0); /* never from within */
	fake_pump(f->sb);
	assert_int_equal(f->prepared, 1);
	if (f->probe.n > 0)
		assert_int_equal(json_parse(f->a, f->probe, &f->call.probe, &e), 0);
}

static void
finish(struct fix *f, int rc, const struct err *e)
{
	if (rc != 0)
		fail_msg("%s", e->msg);
	assert_int_equal(f->done, 0);
	fake_pump(f->sb);
	assert_int_equal(f->done, 1);
}

void
fix_start(struct fix *f)
{
	struct err e = { 0 };

	f->live_bytes = 0;
	f->done = 0;
	finish(f, f->call.tool->start(&f->call, &e), &e);
}

void
fix_recover(struct fix *f)
{
	struct err e = { 0 };

	f->live_bytes = 0;
	f->done = 0;
	finish(f, f->call.tool->recover(&f->call, &e), &e);
}

const char *
fix_run(struct fix *f, const char *tool, const char *args)
{
	fix_call(f, tool, args);
	fix_prepare(f);
	if (f->prepare_err.code != 0 && f->prepared > 0) {
		f->r = (struct tool_result){ .is_error = true, .text = str_of(f->prepare_err.msg) };
		return f->prepare_err.msg;
	}
	fix_start(f);
	return f->r.is_gone ? "" : f->r.text.p;
}

void
fix_put(struct fix *f, const char *name, struct str content)
{
	char path[512];
	struct err e;

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	if (file_write(path, content, 0644, &e) != 0)
		fail_msg("%s", e.msg);
}

char *
fix_get(struct fix *f, const char *name)
{
	char path[512], *p;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	if (file_read(path, MIB, &p, &n, NULL) != 0)
		return NULL;
	char *copy = arena_strdup(f->a, (struct str){ p, n });
	free(p);
	return copy;
}

void
assert_has(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("\"%s\" does not have \"%s\"", text, part);
}
