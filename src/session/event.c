/* SPDX-License-Identifier: MIT
 * Event kinds and the envelope: the one place that turns the table of kinds into names and back,
 * and an event into JSON. Keeps nothing. */
#include "session/log.h"

#include "base/clock.h"

#define EVENT_ROW(name, text, flags) { text, sizeof(text) - 1, flags },
static const struct {
	const char *name;
	size_t len;
	unsigned flags;
} kinds[EVENT_KIND_COUNT] = { EVENT_KINDS(EVENT_ROW) };
#undef EVENT_ROW

const char *
event_kind_name(enum event_kind k)
{
	return kinds[k].name;
}

unsigned
event_kind_flags(enum event_kind k)
{
	return kinds[k].flags;
}

int
event_kind_parse(struct str name, enum event_kind *out)
{
	for (int i = 0; i < EVENT_KIND_COUNT; i++) {
		if (kinds[i].len == name.n && memcmp(kinds[i].name, name.p, name.n) == 0) {
			*out = (enum event_kind)i;
			return 0;
		}
	}
	return -1;
}

void
event_envelope(const struct event *ev, struct json *j)
{
	char time[CLOCK_TEXT_SIZE];

	json_obj(j);
	json_key(j, "seq");
	json_uint(j, ev->seq);
	json_kv_z(j, "id", ev->id.z);
	json_kv_z(j, "session", ev->session);
	json_kv_z(j, "turn", ev->turn);
	json_kv_z(j, "time", clock_text(ev->time_ms, time));
	json_kv_z(j, "kind", event_kind_name(ev->kind));
	json_kv_raw(j, "body", ev->body);
	json_obj_end(j);
}
