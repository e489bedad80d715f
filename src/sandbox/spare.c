/* SPDX-License-Identifier: MIT
 * The spare: a cell made ahead for whoever needs the next one, in the groups, namespaces and root that it will have; only its
 * plan is missing. It is for the user that the last cell had, since namespaces and files belong to a user, and for the host
 * as it was: when the host's /etc or what is mounted over the system has changed it is dropped, so that no new cell shows an old
 * host. Without a spare that fits a cell is made from nothing. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/hash.h"
#include "base/log.h"
#include "base/path.h"
#include "sandbox/shelld.h"

#define SPARE_MS   10 /* after a cell was made, whose first command then has the machine to itself */
#define MOUNTS_MAX (4u * MIB) /* of the host's mounts, as text */

void
spare_init(struct shelld *d)
{
	d->spare = (struct spare){ .mounts = -1 };
}

static struct timespec
etc_changed_at(void)
{
	struct stat st;

	return stat("/etc", &st) == 0 ? st.st_mtim : (struct timespec){ 0 };
}

/* Of what a mount is told by: its identity, where it is, its options. The root of a spare has nothing else of the host. */
static bool
is_of_system(struct str mount)
{
	static const char *const tops[] = { "/usr", "/etc", "/dev" };
	struct str point = { 0 };

	for (int i = 0; i < 5; i++) /* the fifth word is where it is */
		if (!str_next(&mount, ' ', &point))
			return false;
	for (size_t i = 0; i < ARRAY_LEN(tops); i++)
		if (str_starts(point, tops[i]) && (point.n == strlen(tops[i]) || point.p[strlen(tops[i])] == '/'))
			return true;
	return str_is(point, "/");
}

/* 0: nobody knows, which is no two times the same. */
static uint64_t
system_mounts(void)
{
	AUTO_FREE char *text = NULL;
	uint64_t digest = 1;
	struct str rest, line;
	struct err e;
	size_t n;

	if (file_read("/proc/self/mountinfo", MOUNTS_MAX, &text, &n, &e) != 0)
		return 0;
	rest = (struct str){ text, n };
	while (str_next(&rest, '\n', &line))
		if (is_of_system(line))
			digest = digest * 31 + hash64(line);
	return digest;
}

/* Whether there was news of the host's mounts since it was asked last. */
static bool
mounts_told(struct spare *s)
{
	struct pollfd p = { .fd = s->mounts, .events = POLLPRI };

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLPRI | POLLERR)) != 0;
}

static bool
host_changed(struct spare *s)
{
	struct timespec now = etc_changed_at();

	if (mounts_told(s) && (s->system == 0 || system_mounts() != s->system))
		return true;
	return now.tv_sec != s->etc.tv_sec || now.tv_nsec != s->etc.tv_nsec;
}

static void
on_spare(void *arg)
{
	struct shelld *d = arg;
	struct spare *s = &d->spare;
	struct order o = { .kind = ORDER_SPARE };
	struct err e = { 0 };
	struct cell *c;

	if (s->cell != NULL || d->is_stopping || d->facts.level != CELL_FULL)
		return;
	if (s->mounts < 0)
		s->mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	(void)mounts_told(s); /* what is noted from here on is news to the spare */
	s->system = system_mounts();
	s->etc = etc_changed_at();
	c = cell_new(d, STR(""));
	c->kind = KIND_FULL;
	c->uid = s->uid;
	c->gid = s->gid;
	c->has_trees = s->has_trees;
	o.id = c->id;
	o.num[CELL_NUM_KIND] = KIND_FULL;
	o.num[CELL_NUM_UID] = c->uid;
	o.num[CELL_NUM_GID] = c->gid;
	o.num[CELL_NUM_TREES] = c->has_trees;
	if (cell_open(c, &o, &e) != 0) {
		log_warn("no spare cell", LOG_E(&e));
		arena_free(c->arena);
		free(c);
		return;
	}
	cell_link(c);
	s->cell = c;
	outbox_post(&d->zygote, &o);
}

void
spare_want(struct shelld *d)
{
	struct spare *s = &d->spare;

	if (s->cell != NULL || d->is_stopping)
		return;
	if (s->timer == NULL) {
		s->uid = geteuid();
		s->gid = getegid();
		s->has_trees = geteuid() == 0;
		s->timer = timer_start(d->l, SPARE_MS, on_spare, d);
	} else {
		timer_again(s->timer, SPARE_MS);
	}
}

/* A spare has said its one word already: what there is to read now is its end. */
static bool
waits(const struct cell *c)
{
	struct pollfd p = { .fd = c->sock, .events = POLLIN };

	return c->was_ready && poll(&p, 1, 0) == 0;
}

struct cell *
spare_take(struct cell *c)
{
	struct spare *s = &c->d->spare;
	struct cell *x = s->cell;
	struct err e;

	if (c->kind != KIND_FULL || c->is_probe)
		return NULL;
	s->uid = c->uid;
	s->gid = c->gid;
	s->has_trees = c->has_trees;
	if (x == NULL)
		return NULL;
	if (x->uid != c->uid || x->gid != c->gid || x->has_trees != c->has_trees || host_changed(s)) {
		cell_kill(x);
		return NULL;
	}
	if (!waits(x) || (x->has_group && cgroup_limit(&x->group, &c->plan, &e) != 0))
		return NULL;
	s->cell = NULL;
	return x;
}
