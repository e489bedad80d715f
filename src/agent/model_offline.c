/* SPDX-License-Identifier: MIT
 * A call of the offline model: plays the steps of its answer, with their delays, as a server would. */
#include "agent/model_call.h"

#include "base/mem.h"

static void
offline_end(struct model_call *m)
{
	struct model_answer answer = { .parts = m->parts, .n = m->parts_n, .stop = STOP_END };

	for (size_t i = 0; i < m->parts_n; i++)
		if (m->parts[i].type == PART_CALL)
			answer.stop = STOP_TOOLS;
	answer.usage.input_tokens = (int64_t)(m->input_bytes / 4 + 1);
	answer.usage.output_tokens = (int64_t)(m->output_bytes / 4 + 1);
	call_finish_answer(m, &answer);
}

/* Text pieces that follow each other are one block. They are pieces of one text, or nearly: joining them takes memory for
 * twice the whole, not for every beginning of it. */
static void
offline_text(struct model_call *m, enum part_type type, struct str text)
{
	struct part *last = m->parts_n > 0 ? &m->parts[m->parts_n - 1] : NULL;

	if (last == NULL || last->type != type) {
		last = &m->parts[m->parts_n++];
		*last = (struct part){ .type = type };
		m->room = 0;
	}
	if (last->text.n + text.n > m->room) {
		char *p = arena_alloc(m->a, m->room = 2 * (last->text.n + text.n));

		if (last->text.n > 0)
			memcpy(p, last->text.p, last->text.n);
		last->text.p = p;
	}
	memcpy((char *)last->text.p + last->text.n, text.p, text.n);
	last->text.n += text.n;
	m->output_bytes += text.n;
	call_delta(m, type == PART_TEXT ? DELTA_TEXT : DELTA_REASONING, text);
}

static void
offline_error(struct model_call *m, const struct offline_step *st)
{
	struct failure f;

	failure_from_offline(arena_strdup(m->a, m->info.provider), st, &f);
	call_failed(m, &f);
}

static void
offline_go(void *arg)
{
	struct model_call *m = arg;

	while (m->steps_at < m->steps_n) {
		const struct offline_step *st = &m->steps[m->steps_at++];

		switch (st->type) {
		case OFFLINE_TEXT:
		case OFFLINE_REASONING:
			offline_text(m, st->type == OFFLINE_TEXT ? PART_TEXT : PART_REASONING, st->text);
			break;
		case OFFLINE_CALL:
			m->parts[m->parts_n++] = (struct part){ .type = PART_CALL, .tool = st->tool, .args = st->args };
			m->output_bytes += st->args.n;
			break;
		case OFFLINE_DELAY:
			timer_close(m->timer);
			m->timer = timer_start(m->r->en->parts.loop, st->ms, offline_go, m);
			return;
		case OFFLINE_ERROR:
		case OFFLINE_CUT:
			offline_error(m, st);
			return;
		}
	}
	offline_end(m);
}

void
call_ask_offline(struct model_call *m)
{
	const struct offline *o;
	struct err e = { 0 };

	if (engine_offline(m->r->en, &m->info, &o, &e) != 0 ||
		offline_answer(o, &m->q, m->a, &m->steps, &m->steps_n, &e) != 0) {
		call_finish_error(m, &e);
		return;
	}
	m->parts = arena_alloc(m->a, (m->steps_n + 1) * sizeof *m->parts);
	m->parts_n = m->steps_at = m->output_bytes = 0;
	offline_go(m);
}
