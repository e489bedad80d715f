/* SPDX-License-Identifier: MIT
 * What the commands of a session may reach: its grant goes to the broker before a turn can run one, what the broker
 * refused comes back as egress.denied and stands at the end of the command's result, and bytes count against the quota.
 * Invariant: the broker is never asked by the model's words, only by the session's rules. */
#include "agent/internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"

#include <stdlib.h>

#define GRANT_MAX (256 * KIB)
#define NOTES_MAX (4 * KIB) /* of one result */

void
egress_grant(struct active *s)
{
	struct broker *b = s->en->parts.broker;
	struct buf text;
	struct json j;

	if (b == NULL || !policy_egress_is_open(s->policy, s->config)) {
		egress_withdraw(s);
		return;
	}
	buf_init(&text, GRANT_MAX);
	json_init(&j, &text);
	policy_egress_write(s->policy, s->config, (const char *const *)s->always, s->always_n, s->egress_bytes, &j);
	s->has_grant = !text.overflow;
	broker_grant(b, s->cell, text.overflow ? STR("") : buf_str(&text));
	buf_fini(&text);
}

void
egress_withdraw(struct active *s)
{
	if (!s->has_grant)
		return;
	s->has_grant = false;
	broker_grant(s->en->parts.broker, s->cell, STR(""));
}

void
egress_broker_up(struct engine *en, struct active *s)
{
	if (s->has_grant)
		egress_grant(s);
}

static void
write_denied(struct json *j, struct str target, struct str rule, struct str why)
{
	json_obj(j);
	json_kv_str(j, "target", target);
	json_kv_str(j, "rule", rule);
	json_kv_str(j, "why", why);
	json_obj_end(j);
}

/* As text and as a row, or, where there are too many, as neither. */
static void
note_denied(struct active *s, struct str target, struct str rule, struct str why)
{
	struct buf row;
	struct json j;

	if (s->egress_notes.max == 0) {
		buf_init(&s->egress_notes, NOTES_MAX);
		buf_init(&s->egress_facts, NOTES_MAX);
	}
	buf_init(&row, NOTES_MAX);
	json_init(&j, &row);
	write_denied(&j, target, rule, why);
	if (!row.overflow && s->egress_notes.n + target.n + rule.n + why.n + 64 <= NOTES_MAX &&
		s->egress_facts.n + row.n + 1 <= NOTES_MAX) {
		if (s->egress_facts.n > 0)
			buf_add_char(&s->egress_facts, ',');
		buf_add_str(&s->egress_facts, buf_str(&row));
		buf_printf(&s->egress_notes, "\negress denied: %.*s: %.*s", STR_FMT(target), STR_FMT(why));
		if (rule.n > 0)
			buf_printf(&s->egress_notes, " (rule to allow: %.*s)", STR_FMT(rule));
	}
	buf_fini(&row);
}

static void
log_denied(struct active *s, struct str target, struct str rule, struct str why)
{
	struct event_draft d = { .kind = EVENT_EGRESS_DENIED, .turn = s->run != NULL ? s->run->turn : NULL,
		.time_ms = clock_wall_ms() };
	struct buf b;
	struct json j;

	buf_init(&b, EVENT_BODY_MAX);
	json_init(&j, &b);
	write_denied(&j, target, rule, why);
	d.body = buf_str(&b);
	events_append(s->en->parts.events, s->id, &d, 1, NULL, NULL, NULL);
	buf_fini(&b);
}

/* A cell is named after its session. */
void
egress_told(void *arg, const struct node *head)
{
	struct engine *en = arg;

	if (head == NULL) {
		engine_egress_lost(en);
		return;
	}
	struct active *s = active_find(en, node_z(head, "cell", ""));
	struct str target = node_str(head, "denied", STR("")), rule = node_str(head, "rule", STR("")),
		   why = node_str(head, "why", STR(""));
	int64_t bytes = node_int(head, "bytes", 0);

	if (s == NULL || s->loading != NULL)
		return;
	if (bytes > 0) {
		s->egress_bytes += bytes;
		s->egress_unlogged += bytes;
	}
	if (node_get(head, "mark") != NULL) {
		if (s->run != NULL)
			effects_told(s->run, node_z(head, "mark", ""));
		return;
	}
	if (target.n == 0)
		return;
	note_denied(s, target, rule, why);
	log_denied(s, target, rule, why);
}

struct str
egress_facts(struct active *s, bool met_it, struct str facts, struct arena *a)
{
	const struct node *had = &node_null;
	struct buf b;
	struct json j;
	struct err e;

	if (s->egress_facts.n == 0 || (facts.n > 0 && json_parse(a, facts, &had, &e) != 0))
		return facts;
	buf_init(&b, facts.n * 2 + 2 * NOTES_MAX);
	json_init(&j, &b);
	json_obj(&j);
	for (size_t i = 0; i < node_len(had); i++) {
		json_key_str(&j, had->map.pairs[i].key);
		json_node(&j, &had->map.pairs[i].value);
	}
	json_key(&j, "egress_denied");
	json_arr(&j);
	json_raw(&j, buf_str(&s->egress_facts));
	json_arr_end(&j);
	if (met_it && node_get(had, "wall") == NULL)
		json_kv_z(&j, "wall", "egress");
	json_obj_end(&j);
	facts = b.overflow ? facts : arena_str(a, buf_str(&b));
	buf_fini(&b);
	buf_reset(&s->egress_facts);
	return facts;
}

/* For the prompt: byte-stable for a configuration. */
const char *
egress_text(const struct active *s, struct arena *a)
{
	const struct node *services = config_get(s->config, "egress.services");
	struct buf b;
	const char *z;

	buf_init(&b, NOTES_MAX);
	buf_add_z(&b, " There is no network but the proxy in http_proxy and https_proxy, which lets through what the user "
		      "allowed; a refusal names the rule that the user would have to add.");
	for (size_t i = 0; i < node_len(services); i++)
		buf_printf(&b, "%s http://127.0.0.1:3128/svc/%.*s/", i == 0 ? " Servers whose key is added for you:" : ",",
			STR_FMT(services->map.pairs[i].key));
	if (node_len(services) > 0)
		buf_add_char(&b, '.');
	z = arena_strdup(a, buf_str(&b));
	buf_fini(&b);
	return z;
}
