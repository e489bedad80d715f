/* SPDX-License-Identifier: MIT
 * Files that came with messages, on their way into a request: which of them the model gets, their
 * bytes from the store, and a line in place of each that it does not get. A session holds the bytes
 * of one request while a turn works; what is missing is read before the request is made, so making
 * it never waits.
 *
 *   not taken by this model   in the newest turn: an error; in an older one: a line
 *   lost in the store         likewise
 *   past TURN_MEDIA_MAX       a line, the oldest first */
#include "agent/media.h"

#include "base/limits.h"
#include "base/mem.h"
#include "store/blob.h"

#include <stdlib.h>
#include <stdio.h>

struct item {
	char hash[SHA256_HEX];
	enum { ITEM_WANTED, ITEM_READ, ITEM_LOST } state;
	bool is_used; /* by the newest request */
	char *bytes;
	size_t n;
	struct err e;
};

struct media_held {
	struct item *items;
	size_t n, cap;
};

/* ---- what a session holds ---- */

static void
item_fini(struct item *it)
{
	free(it->bytes);
}

void
media_forget(struct active *s)
{
	struct media_held *h = s->media;

	for (size_t i = 0; h != NULL && i < h->n; i++)
		item_fini(&h->items[i]);
	if (h != NULL)
		free(h->items);
	free(h);
	s->media = NULL;
}

static struct item *
item_find(const struct active *s, struct str hash)
{
	for (size_t i = 0; s->media != NULL && i < s->media->n; i++)
		if (str_is(hash, s->media->items[i].hash))
			return &s->media->items[i];
	return NULL;
}

static struct item *
item_need(struct active *s, struct str hash)
{
	struct item *it = item_find(s, hash);
	struct media_held *h;

	if (it == NULL) {
		if (s->media == NULL)
			s->media = xcalloc(1, sizeof *s->media);
		h = s->media;
		h->items = vec_grow(h->items, &h->cap, h->n + 1, sizeof *h->items);
		it = &h->items[h->n++];
		*it = (struct item){ .state = ITEM_WANTED };
		snprintf(it->hash, sizeof it->hash, "%.*s", STR_FMT(hash));
	}
	it->is_used = true;
	return it;
}

/* ---- what the model takes ---- */

#define OTHERS_SHOWN 3

/* Models that take it, for the way out of an error: of the same provider first, then of the others
 * that are configured. */
struct others {
	const struct config *config;
	struct arena *a;
	unsigned input;
	const char *text;
	int n;
};

static void
on_model(void *arg, const char *provider, const char *model)
{
	struct others *o = arg;
	const char *name = arena_printf(o->a, "%.40s/%.60s", provider, model);
	struct model_info m;

	if (o->n >= OTHERS_SHOWN || strstr(o->text, name) != NULL ||
		model_resolve(o->config, str_of(name), o->a, &m, NULL) != 0 ||
		(m.input & o->input) == 0)
		return;
	o->text = arena_printf(o->a, "%s%s%s", o->text, o->n++ > 0 ? ", " : "", name);
}

static const char *
models_that_take(const struct config *c, struct str provider, unsigned input, struct arena *a)
{
	const struct node *rows = config_get(c, "providers");
	struct others o = { .config = c, .a = a, .input = input, .text = "" };

	catalog_each_model(c, provider, on_model, &o);
	for (size_t i = 0; node_is(rows, NODE_MAP) && i < rows->map.n; i++)
		if (!str_eq(rows->map.pairs[i].key, provider))
			catalog_each_model(c, rows->map.pairs[i].key, on_model, &o);
	return o.text;
}

static const char *
inputs_text(unsigned input, struct arena *a)
{
	const char *z = "";

	for (int c = 0; c < MEDIA_CLASS_COUNT; c++)
		if (input & 1u << c)
			z = arena_printf(a, "%s%s%s", z, z[0] != '\0' ? ", " : "",
				media_class_name((enum media_class)c));
	return z;
}

int
engine_model_takes(struct engine *en, const struct model_info *m, struct str name,
	const struct media *md, struct err *e)
{
	struct arena *a;
	const char *others, *why;
	int rc;

	if (md->class == MEDIA_FILE) {
		why = sandbox_withdrawn(en->parts.sandbox, true, NULL);
		return why == NULL ? 0 : err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
			"%.*s: is %s; it could only go along for commands, and there are none: %.80s", (int)MIN(name.n, 60),
			name.p, md->what, why);
	}
	if (m->input & 1u << md->class)
		return 0;
	a = arena_new(64 * MIB);
	others = models_that_take(en->parts.config, m->provider, 1u << md->class, a);
	rc = err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
		"%.*s is %s, and model %.*s/%.*s takes %s only (%s%s)", (int)MIN(name.n, 60),
		name.p, media_class_noun(md->class), (int)MIN(m->provider.n, 30), m->provider.p,
		(int)MIN(m->model.n, 50), m->model.p, inputs_text(m->input, a),
		others[0] != '\0' ? "choose one that does: " : "no model that is known here does",
		others);
	arena_free(a);
	return rc;
}

/* ---- into the request ---- */

struct filling {
	struct active *s;
	const struct model_info *m;
	struct arena *a;
	size_t left; /* bytes that the request may still take */
};

static void
put_note(struct filling *f, struct part *p, const char *why)
{
	const char *z = arena_printf(f->a, "[%.*s %s]", STR_FMT(p->text), why);

	*p = (struct part){ .type = PART_TEXT, .text = str_of(z), .blob = p->blob };
}

static void
put_bytes(struct filling *f, struct part *p, const struct item *it, enum media_class class)
{
	struct str source;
	struct buf b;

	p->data = (struct str){ it->bytes, it->n };
	if (class != MEDIA_TEXT)
		return;
	source = str_of(arena_printf(f->a, "file %.*s", STR_FMT(p->name)));
	buf_init(&b, 4 * TEXT_FILE_MAX);
	media_add_block(&b, source, p->data);
	*p = (struct part){
		.type = PART_TEXT, .text = arena_str(f->a, buf_str(&b)), .blob = p->blob
	};
	buf_fini(&b);
}

static int
fill_part(struct filling *f, struct part *p, bool is_newest, struct err *e)
{
	struct media md = { .class = media_class_of(p->mime, p->data.n) };
	enum media_class class = md.class;
	struct item *it;

	if (class == MEDIA_FILE) {
		put_note(f, p, "is not shown: no model takes such a file");
		return 0;
	}
	if ((f->m->input & 1u << class) == 0) {
		if (is_newest)
			return engine_model_takes(f->s->en, f->m, p->name, &md, e);
		put_note(f, p,
			arena_printf(f->a, "is not shown: this model does not take %s",
				media_class_name(class)));
		return 0;
	}
	if (p->data.n > f->left) {
		f->left = 0; /* and all older ones: what was left out stays so */
		put_note(f, p,
			"is left out: the files of this conversation are too large for one "
			"request");
		return 0;
	}
	f->left -= p->data.n;
	it = item_need(f->s, p->blob);
	if (it->state == ITEM_LOST && is_newest)
		return err_copy(e, &it->e);
	if (it->state == ITEM_READ)
		put_bytes(f, p, it, class);
	else
		put_note(f, p, "is lost: it could not be read");
	return 0;
}

/* They stand first. */
static size_t
media_parts(const struct message *m)
{
	size_t n = 0;

	while (n < m->n && m->parts[n].type == PART_MEDIA)
		n++;
	return n;
}

/* The paths of a message's files, behind them: what a model cannot see, and what it sees but has to work on, its tools
 * can reach. */
static void
put_paths(struct filling *f, const char *work, const struct message *from, struct part *line)
{
	const char *z = "";

	for (size_t i = 0; i < from->n; i++)
		if (from->parts[i].type == PART_MEDIA)
			z = arena_printf(f->a, "%s%s%.*s", z, z[0] != '\0' ? ", " : "", STR_FMT(from->parts[i].file));
	z = arena_printf(f->a, "[Your tools find it in %s/inbox: %s]", work, z);
	*line = (struct part){ .type = PART_TEXT, .text = str_of(z), .blob = from->parts[0].blob };
}

int
media_fill(struct active *s, const struct model_info *m, const char *work, const struct transcript_view *v,
	struct arena *a, const struct message **out, struct err *e)
{
	struct filling f = { .s = s, .m = m, .a = a, .left = TURN_MEDIA_MAX };
	struct message *messages;

	*out = v->messages;
	if (!transcript_has_media(s->tr))
		return 0;
	for (size_t i = 0; s->media != NULL && i < s->media->n; i++)
		s->media->items[i].is_used = false;
	*out = messages = arena_alloc(a, MAX(v->n, 1) * sizeof *messages);
	for (size_t i = v->n; i-- > 0;) { /* the newest first: they are kept */
		size_t files = media_parts(&v->messages[i]);
		bool has_line = files > 0 && work != NULL;
		struct part *parts = arena_alloc(a, (v->messages[i].n + 1) * sizeof *parts);

		messages[i] = v->messages[i];
		if (messages[i].n > 0) {
			memcpy(parts, messages[i].parts, files * sizeof *parts);
			memcpy(parts + files + has_line, messages[i].parts + files, (messages[i].n - files) * sizeof *parts);
		}
		if (has_line)
			put_paths(&f, work, &v->messages[i], &parts[files]);
		messages[i].n += has_line;
		for (size_t k = messages[i].n; k-- > 0;)
			if (parts[k].type == PART_MEDIA &&
				fill_part(&f, &parts[k], v->turns[i] == v->turns[v->n - 1], e) != 0)
				return e->code;
		messages[i].parts = parts;
	}
	return 0;
}

bool
media_is_wanted(const struct active *s)
{
	for (size_t i = 0; s->media != NULL && i < s->media->n; i++)
		if (s->media->items[i].state == ITEM_WANTED)
			return true;
	return false;
}

/* ---- reading ---- */

struct reading {
	struct engine *en;
	char session[ID_SIZE];
	size_t waits;
	loop_fn done;
	void *arg;
};

struct blob_read {
	struct reading *r;
	char hash[SHA256_HEX];
};

static void
on_blob(void *arg, char *bytes, size_t n, const struct err *e)
{
	struct blob_read *br = arg;
	struct reading *r = br->r;
	struct active *s = active_find(r->en, r->session);
	struct item *it = s != NULL ? item_find(s, str_of(br->hash)) : NULL;

	if (it != NULL && it->state != ITEM_READ) {
		it->state = e == NULL ? ITEM_READ : ITEM_LOST;
		it->bytes = take_ptr(&bytes);
		it->n = n;
		err_copy(&it->e, e);
	}
	free(bytes);
	free(br);
	if (--r->waits > 0)
		return;
	r->done(r->arg);
	free(r);
}

/* What the newest request does not use makes room. */
static void
drop_unused(struct media_held *h)
{
	size_t n = 0;

	for (size_t i = 0; i < h->n; i++) {
		if (h->items[i].is_used)
			h->items[n++] = h->items[i];
		else
			item_fini(&h->items[i]);
	}
	h->n = n;
}

void
media_read(struct active *s, loop_fn done, void *arg)
{
	struct reading *r = xcalloc(1, sizeof *r);

	*r = (struct reading){ .en = s->en, .done = done, .arg = arg };
	snprintf(r->session, sizeof r->session, "%s", s->id);
	drop_unused(s->media);
	for (size_t i = 0; i < s->media->n; i++) {
		struct blob_read *br;

		if (s->media->items[i].state != ITEM_WANTED)
			continue;
		br = xcalloc(1, sizeof *br);
		br->r = r;
		memcpy(br->hash, s->media->items[i].hash, sizeof br->hash);
		r->waits++;
		blob_get(s->en->parts.blobs, br->hash, on_blob, br);
	}
}

/* ---- a model call that waits for them ---- */

static void
on_media(void *arg)
{
	struct model_call *m = arg;

	m->is_awaited = false;
	if (m->r->model != m) /* cancelled meanwhile */
		call_free(m);
	else if (!m->r->en->is_stopping)
		call_begin(m);
}

bool
call_media_waits(struct model_call *m)
{
	struct err e;

	if (!transcript_has_media(m->r->s->tr) || call_request(m, &e) != 0 ||
		!media_is_wanted(m->r->s))
		return false;
	m->is_awaited = true;
	media_read(m->r->s, on_media, m);
	return true;
}

/* ---- the log ---- */

void
media_keep(struct batch *batch, const struct active *s, const char *attachments)
{
	struct arena *a;
	const struct node *list;
	struct err e;

	if (attachments == NULL)
		return;
	a = arena_new(2 * EVENT_BODY_MAX);
	if (json_parse(a, str_of(attachments), &list, &e) == 0)
		for (size_t i = 0; i < node_len(list); i++)
			blob_keep(batch, s->owner, node_str(node_at(list, i), "blob", STR("")),
				s->id);
	arena_free(a);
}
