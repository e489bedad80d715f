/* SPDX-License-Identifier: MIT
 * Closing a key: its cells end with all that runs in them, then, if asked, what they kept goes. Invariant: the answer comes when
 * nothing of it is left, to who asked. */
#include <stdlib.h>
#include "base/mem.h"
#include "sandbox/shelld.h"

/* A CLOSE that waits until no cell of its key is left, and then for the removal of its files. */
struct closing {
	struct closing *next;
	struct shelld *d;
	char key[CELL_KEY_MAX + 1];
	bool forget, is_removing;
	uint64_t id;
	const struct wire *asked_by; /* compared, never followed */
	struct spool spool;
};

static void
remove_line(void *arg, const char *line, bool is_state)
{
	const struct closing *x = arg;
	if (is_state)
		state_remove(line);
	else
		spool_forget(&x->spool, line);
}

/* On a pool thread: only descriptors and paths. */
static void
closing_work(void *arg)
{
	struct closing *x = arg;
	(void)spool_cell_read(&x->spool, x->key, remove_line, x);
	spool_cell_forget(&x->spool, x->key);
}

static void
closing_done(void *arg)
{
	struct closing *x = arg, **p = &x->d->closings;
	while (*p != x)
		p = &(*p)->next;
	*p = x->next;
	if (x->d->runtime != NULL && x->d->runtime == x->asked_by) {
		wire_begin(x->d->runtime, WIRE_CLOSED, x->id);
		(void)wire_end(x->d->runtime, STR(""), -1);
	}
	free(x);
}

void
closings_check(struct shelld *d)
{
	for (struct closing *x = d->closings, *next; x != NULL; x = next) {
		bool is_alive = false;
		next = x->next;
		for (struct cell *c = d->cells; c != NULL; c = c->next)
			is_alive = is_alive || strcmp(c->key, x->key) == 0;
		if (is_alive || x->is_removing)
			continue;
		x->is_removing = true;
		if (x->forget)
			loop_work(d->l, closing_work, closing_done, x);
		else
			loop_defer(d->l, closing_done, x);
	}
}

int
cell_close(struct shelld *d, struct str key, bool forget, uint64_t id, struct err *e)
{
	size_t n = 0;
	for (const struct closing *o = d->closings; o != NULL; o = o->next)
		n++;
	if (n >= CLOSINGS_MAX)
		return err_set(e, ERR_BUSY, ERR_TO_LOG, "%u cells are being closed (try again later)", CLOSINGS_MAX);
	struct closing *x = xcalloc(1, sizeof(*x));
	*x = (struct closing){ .d = d, .forget = forget, .id = id, .asked_by = d->runtime, .spool = d->spool,
		.next = d->closings };
	memcpy(x->key, key.p, key.n);
	d->closings = x;
	for (struct cell *c = d->cells; c != NULL; c = c->next) {
		if (strcmp(c->key, x->key) == 0) {
			jobs_kill_cell(c, KILL_ASKED);
			cell_kill(c);
		}
	}
	closings_check(d);
	return 0;
}
