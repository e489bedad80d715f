/* SPDX-License-Identifier: MIT
 * Parameters and results of every method, as field tables: the gateway checks calls against them, the command line,
 * completions and the interface description are derived from them. Knows no transport and no handler.
 * A method that takes nothing has no_params: an unknown key is refused there too. */
#include "api/internal.h"
#include "base/limits.h"

#define NAME_MAX_BYTES 128
#define PATH_MAX_BYTES 4096

#define SESSION_REF                                                                               \
	{ .name = "session", .type = FIELD_STR, .flags = FIELD_REQUIRED, .min = 1,                  \
		.max = NAME_MAX_BYTES, .text = "Id of a session, a unique start of it, or its name." }

static const char *const modes[] = { "read_only", "workspace_write", "danger_full_access", NULL };
static const char *const efforts[] = { "auto", "off", "low", "medium", "high", NULL };
static const char *const decisions[] = { "allow_once", "allow_always", "deny", NULL };
static const char *const scopes[] = { "call", "session", "agent", "user", NULL };
static const char *const tiers[] = { "auto", "cell", "container", "microvm", "process", NULL };

/* ---- parameters ---- */

const struct field no_params[] = { { .type = FIELD_END } };

const struct field session_create_params[] = {
	{ .name = "name", .type = FIELD_STR, .max = NAME_MAX_BYTES, .text = "Name to show." },
	{ .name = "agent", .type = FIELD_STR, .max = NAME_MAX_BYTES, .text = "Agent definition." },
	{ .name = "mode", .type = FIELD_ENUM, .choices = modes, .text = "What tools may touch." },
	{ .name = "workspace", .type = FIELD_STR, .max = PATH_MAX_BYTES,
		.text = "\"user\" or an absolute directory: what the cell sees as /shared." },
	{ .type = FIELD_END },
};

const struct field session_list_params[] = {
	{ .name = "limit", .type = FIELD_INT, .min = 1, .max = 1000, .dflt = "50",
		.text = "At most this many sessions." },
	{ .type = FIELD_END },
};

const struct field session_ref_params[] = { SESSION_REF, { .type = FIELD_END } };

const struct field session_rename_params[] = {
	SESSION_REF,
	{ .name = "name", .type = FIELD_STR, .flags = FIELD_REQUIRED, .min = 1,
		.max = NAME_MAX_BYTES, .text = "The new name." },
	{ .type = FIELD_END },
};

const struct field session_events_params[] = {
	SESSION_REF,
	{ .name = "after", .type = FIELD_INT, .min = 0, .max = INT64_MAX, .dflt = "0",
		.text = "Only events with a larger sequence number." },
	{ .name = "limit", .type = FIELD_INT, .min = 1, .max = 10000, .dflt = "1000",
		.text = "At most this many events; not used when following." },
	{ .name = "follow", .type = FIELD_BOOL, .dflt = "false",
		.text = "Answer with a subscription and send what comes." },
	{ .type = FIELD_END },
};

const struct field session_unfollow_params[] = {
	{ .name = "sub", .type = FIELD_INT, .flags = FIELD_REQUIRED, .min = 0, .max = INT64_MAX,
		.text = "What session.events answered on this link." },
	{ .type = FIELD_END },
};

#define BLOB_REF                                                                                  \
	{ .name = "blob", .type = FIELD_STR, .flags = FIELD_REQUIRED, .min = 64, .max = 64,         \
		.text = "SHA-256 of its bytes, 64 lower-case hex digits." }

static const struct field attachment_fields[] = {
	BLOB_REF,
	{ .name = "name", .type = FIELD_STR, .flags = FIELD_REQUIRED, .min = 1, .max = 255,
		.text = "What the model is told it is called; what it is, its bytes tell." },
	{ .type = FIELD_END },
};
static const struct field attachment_item = { .type = FIELD_OBJECT, .sub = attachment_fields };

const struct field session_turn_params[] = {
	{ .name = "session", .type = FIELD_STR, .min = 1, .max = NAME_MAX_BYTES,
		.text = "Id of a session, a unique start of it, or its name; absent: a new session." },
	{ .name = "text", .type = FIELD_STR, .flags = FIELD_REQUIRED | FIELD_NUL, .min = 1,
		.max = USER_TEXT_MAX, .unit = "bytes", .text = "The message." },
	{ .name = "turn", .type = FIELD_STR, .min = 26, .max = 26,
		.text = "Id for the turn, made by the client: when an answer was lost, turn.get tells "
			"whether the message arrived, and sending it again is refused as exists." },
	{ .name = "model", .type = FIELD_STR, .max = NAME_MAX_BYTES, .text = "provider/model." },
	{ .name = "agent", .type = FIELD_STR, .max = NAME_MAX_BYTES, .text = "Agent definition." },
	{ .name = "mode", .type = FIELD_ENUM, .choices = modes, .text = "What tools may touch." },
	{ .name = "workspace", .type = FIELD_STR, .max = PATH_MAX_BYTES,
		.text = "\"user\" or an absolute directory; only for a new session." },
	{ .name = "name", .type = FIELD_STR, .max = NAME_MAX_BYTES,
		.text = "Name of a new session." },
	{ .name = "yes", .type = FIELD_BOOL, .dflt = "false",
		.text = "Allow what would be asked, inside the mode; never what a rule denies." },
	{ .name = "effort", .type = FIELD_ENUM, .choices = efforts,
		.text = "How much the model may think; absent: as configured." },
	{ .name = "schema", .type = FIELD_ANY,
		.text = "JSON Schema, an object: the final answer must be JSON that matches it." },
	{ .name = "attachments", .type = FIELD_LIST, .max = TURN_FILES_MAX, .item = &attachment_item,
		.text = "Files that go with the message, put with blob.put before: images, PDF, audio and "
			"UTF-8 text for the model, anything else for commands; at most 32 MiB together." },
	{ .type = FIELD_END },
};

const struct field session_context_params[] = {
	SESSION_REF,
	{ .name = "text", .type = FIELD_STR, .flags = FIELD_NUL, .max = USER_TEXT_MAX, .unit = "bytes",
		.text = "As if this were sent next; absent: the conversation as it stands." },
	{ .name = "model", .type = FIELD_STR, .max = NAME_MAX_BYTES,
		.text = "provider/model; absent: that of the turn in progress, else as configured." },
	{ .type = FIELD_END },
};

const struct field blob_put_params[] = {
	{ .name = "size", .type = FIELD_INT, .flags = FIELD_REQUIRED, .min = 1, .max = MEDIA_MAX,
		.unit = "bytes", .text = "How many bytes follow." },
	{ .type = FIELD_END },
};

const struct field blob_get_params[] = { BLOB_REF, { .type = FIELD_END } };

const struct field turn_ref_params[] = {
	{ .name = "turn", .type = FIELD_STR, .flags = FIELD_REQUIRED, .min = 26, .max = 26,
		.text = "Id of a turn." },
	{ .type = FIELD_END },
};

const struct field approval_resolve_params[] = {
	{ .name = "id", .type = FIELD_STR, .flags = FIELD_REQUIRED, .min = 1, .max = 64,
		.text = "Id of an approval." },
	{ .name = "decision", .type = FIELD_ENUM, .flags = FIELD_REQUIRED, .choices = decisions,
		.text = "What is decided." },
	{ .name = "scope", .type = FIELD_ENUM, .choices = scopes,
		.text = "How far allow_always reaches." },
	{ .name = "edited", .type = FIELD_ANY,
		.text = "Arguments to run instead of those that were asked for." },
	{ .type = FIELD_END },
};

const struct field config_key_params[] = {
	{ .name = "key", .type = FIELD_STR, .flags = FIELD_REQUIRED, .min = 1, .max = 256,
		.text = "Dotted key, as in limits.turn_steps." },
	{ .type = FIELD_END },
};

const struct field config_set_params[] = {
	{ .name = "key", .type = FIELD_STR, .flags = FIELD_REQUIRED, .min = 1, .max = 256,
		.text = "Dotted key, as in limits.turn_steps." },
	{ .name = "value", .type = FIELD_STR, .flags = FIELD_REQUIRED, .max = 64 * KIB,
		.text = "The value as it would be written in the file." },
	{ .type = FIELD_END },
};

#define SECRET_NAME(f, t)                                                                         \
	{ .name = "name", .type = FIELD_STR, .flags = (f), .min = 1, .max = SECRET_NAME_MAX, .text = (t) }

static const struct field binding_item = { .name = "binding", .type = FIELD_STR, .min = 1, .max = SECRET_HOST_MAX };

const struct field secret_key_params[] = {
	SECRET_NAME(0, "Also tell which hosts the configuration wants to send this secret to."),
	{ .type = FIELD_END },
};
const struct field secret_ref_params[] = { SECRET_NAME(FIELD_REQUIRED, "Name of a secret."), { .type = FIELD_END } };
const struct field secret_set_params[] = {
	SECRET_NAME(FIELD_REQUIRED, "Its name; one that exists is replaced."),
	{ .name = "hosts", .type = FIELD_LIST, .flags = FIELD_REQUIRED, .item = &binding_item, .max = SECRET_HOSTS_MAX,
		.text = "Where it may go: [http://|https://]HOST[:PORT]. What counts is the same list inside of `sealed`." },
	{ .name = "uses", .type = FIELD_LIST, .flags = FIELD_REQUIRED, .item = &binding_item, .max = SECRET_USES_MAX,
		.text = "Where it may stand: header, header:NAME, url." },
	{ .name = "key", .type = FIELD_STR, .flags = FIELD_REQUIRED, .min = 64, .max = 64,
		.text = "The key it was sealed to, from secret.key." },
	{ .name = "sealed", .type = FIELD_STR, .flags = FIELD_REQUIRED, .min = 1, .max = 2 * SECRET_RECORD_MAX,
		.text = "The sealed record in hex (docs/internals/broker.md)." },
	{ .type = FIELD_END },
};

const struct field config_validate_params[] = {
	{ .name = "file", .type = FIELD_STR, .min = 1, .max = PATH_MAX_BYTES,
		.text = "Absolute path; absent: the file in use." },
	{ .name = "text", .type = FIELD_STR, .max = CONFIG_TEXT_MAX,
		.text = "What is in it; absent: it is read, which a daemon in a container can do with the file in use alone." },
	{ .type = FIELD_END },
};

const struct field catalog_show_params[] = {
	{ .name = "name", .type = FIELD_STR, .min = 1, .max = 256,
		.text = "A model (provider/model or its id alone), or a provider; absent: all." },
	{ .type = FIELD_END },
};

const struct field catalog_fetch_params[] = {
	{ .name = "dry_run", .type = FIELD_BOOL, .dflt = "false",
		.text = "Say what would change and keep nothing." },
	{ .type = FIELD_END },
};

const struct field policy_why_params[] = {
	{ .name = "tool", .type = FIELD_STR, .flags = FIELD_REQUIRED, .min = 1,
		.max = NAME_MAX_BYTES, .text = "Name of a tool, as in exec; or path or host, to ask about one alone." },
	{ .name = "args", .type = FIELD_ANY, .text = "Its arguments, an object." },
	{ .name = "text", .type = FIELD_STR, .flags = FIELD_NUL, .max = 64 * KIB,
		.text = "Instead of args: the command, path or host alone." },
	{ .name = "mode", .type = FIELD_ENUM, .choices = modes, .text = "Absent: as configured." },
	{ .type = FIELD_END },
};

const struct field doctor_params[] = {
	{ .name = "tier", .type = FIELD_ENUM, .choices = tiers,
		.text = "Check what this tier needs; absent: the configured one." },
	{ .type = FIELD_END },
};

static const struct field embed_text = { .type = FIELD_STR, .flags = FIELD_NUL, .min = 1, .max = USER_TEXT_MAX };
const struct field model_embed_params[] = {
	{ .name = "texts", .type = FIELD_LIST, .flags = FIELD_REQUIRED, .min = 1, .max = EMBED_TEXTS_MAX,
		.item = &embed_text, .text = "What to make vectors of; none may be empty." },
	{ .name = "model", .type = FIELD_STR, .min = 1, .max = NAME_MAX_BYTES,
		.text = "provider/model; absent: models.embedding." },
	{ .name = "dimensions", .type = FIELD_INT, .min = 1, .max = EMBED_DIMENSIONS_MAX,
		.text = "Length of a vector, where the model can choose it." },
	{ .name = "query", .type = FIELD_BOOL, .dflt = "false",
		.text = "The texts are searched with, not for: some models differ." },
	{ .type = FIELD_END },
};

const struct field budget_get_params[] = {
	{ .name = "session", .type = FIELD_STR, .min = 1, .max = NAME_MAX_BYTES,
		.text = "Also this session with its turns and calls: id, unique start of it, or name." },
	{ .type = FIELD_END },
};

/* ---- results ---- */

#define R_STR(n, t)     { .name = (n), .type = FIELD_STR, .flags = FIELD_REQUIRED, .text = (t) }
#define R_INT(n, u, t)  { .name = (n), .type = FIELD_INT, .flags = FIELD_REQUIRED, .unit = (u), .text = (t) }
#define R_BOOL(n, t)    { .name = (n), .type = FIELD_BOOL, .flags = FIELD_REQUIRED, .text = (t) }
#define R_LIST(n, i, t) { .name = (n), .type = FIELD_LIST, .flags = FIELD_REQUIRED, .item = (i), .text = (t) }
#define R_OPT(n, t)     { .name = (n), .type = FIELD_ANY, .text = (t) } /* may be null or absent */
#define R_END           { .type = FIELD_END }

const struct field no_result[] = { R_END };

const struct field session_result[] = { R_STR("session", "Id of the session."), R_END };

#define SESSION_ROW                                                                               \
	R_STR("session", "Id."), R_OPT("name", "Name, when it has one."),                           \
		R_OPT("agent", "Agent definition."), R_STR("workspace", "\"user\" or a directory."), \
		R_STR("mode", "What its tools may touch."), R_STR("state", "active or archived."),  \
		R_INT("created_at_ms", "ms", "UTC."),                                               \
		R_INT("updated_at_ms", "ms", "UTC, of its last event; 0: none."),                   \
		R_INT("last_seq", NULL, "Sequence number of its last event.")

static const struct field session_row[] = { SESSION_ROW, R_END };
static const struct field session_row_item = { .type = FIELD_OBJECT, .sub = session_row };
const struct field session_list_result[] = {
	R_LIST("sessions", &session_row_item, "Newest first."),
	R_END,
};

#define TURN_ROW                                                                                  \
	R_STR("turn", "Id."), R_STR("session", "Id of its session."),                               \
		R_STR("state", "queued, running, waiting, done, failed or cancelled."),             \
		R_OPT("status", "answered, failed, denied, limit or cancelled, once it has ended."), \
		R_INT("created_at_ms", "ms", "UTC."), R_OPT("ended_at_ms", "UTC."),                 \
		R_INT("cost_microusd", "micro-dollars", "Spent.")

static const struct field turn_row[] = { TURN_ROW, R_END };
static const struct field turn_row_item = { .type = FIELD_OBJECT, .sub = turn_row };
static const struct field attached_row[] = {
	R_STR("turn", "Id of the turn it came with."),
	R_STR("name", "What it is called."),
	R_STR("mime", "What it is, as in image/png."),
	R_INT("size", "bytes", "Its size."),
	R_STR("blob", "SHA-256 of its bytes: for blob.get."),
	R_INT("tokens", NULL, "Estimate of what it takes of a model's window."),
	R_END,
};
static const struct field attached_item = { .type = FIELD_OBJECT, .sub = attached_row };
static const struct field left_row[] = {
	R_STR("turn", "Id of the turn that left it."),
	R_STR("name", "Its path in the outbox."),
	R_STR("type", "What it is, as in image/png, told by its content."),
	R_INT("bytes", "bytes", "Its size."),
	R_STR("blob", "SHA-256 of its bytes: for blob.get."),
	R_END,
};
static const struct field left_item = { .type = FIELD_OBJECT, .sub = left_row };
const struct field session_get_result[] = {
	SESSION_ROW,
	{ .name = "turns", .type = FIELD_LIST, .item = &turn_row_item, .text = "Oldest first." },
	{ .name = "attachments", .type = FIELD_LIST, .item = &attached_item, .text = "Oldest first." },
	{ .name = "files", .type = FIELD_LIST, .item = &left_item, .text = "That its turns left in their outboxes, oldest first." },
	R_END,
};

static const struct field event_row[] = {
	R_OPT("seq", "Number in the session; 0 or null: live only."),
	R_OPT("id", "Id; for live text SEQ/step.attempt.offset."),
	R_STR("session", "Id of the session."),
	R_OPT("turn", "Id of the turn."),
	R_STR("time", "RFC 3339, UTC, to the millisecond."),
	R_STR("kind", "As in model.done."),
	R_OPT("body", "By kind."),
	R_END,
};
static const struct field event_item = { .type = FIELD_OBJECT, .sub = event_row };
const struct field events_result[] = {
	{ .name = "events", .type = FIELD_LIST, .item = &event_item,
		.text = "In order, as many as limit allows and one answer holds. Absent when following." },
	{ .name = "more", .type = FIELD_BOOL, .text = "There may be further ones: ask again after the last of these." },
	{ .name = "sub", .type = FIELD_INT,
		.text = "When following: events come as messages with this number, and one with "
			"caught_up when what was there has been sent." },
	R_END,
};

const struct field turn_result[] = {
	R_STR("session", "Id of the session."),
	R_STR("turn", "Id of the turn."),
	R_INT("seq", NULL, "Follow the session after this number to see the whole turn."),
	R_OPT("notice", "What is not known about the model: its size or its price."),
	R_END,
};

static const struct field context_row[] = {
	R_STR("kind", "system, tool, user, assistant, reasoning, call, result, attachment, note or syntax."),
	R_STR("what", "Its first line, or its name."),
	{ .name = "turn", .type = FIELD_INT, .text = "Turn of the session that it belongs to, from 1." },
	R_INT("bytes", "bytes", "In the request."),
	R_INT("tokens", NULL, "Estimate."),
	R_OPT("share", "Of the model's window, in percent."),
	R_INT("fresh_microusd", "micro-dollars", "Price when it is new to the server."),
	R_INT("cached_microusd", "micro-dollars", "Price when the server has it cached."),
	R_BOOL("stable", "The last call began with it too, so a server may have it cached."),
	{ .name = "drops", .type = FIELD_INT, .text = "Place in the order in which turns are dropped when the window is full; absent: never." },
	R_STR("why", "Why it is there."),
	R_END,
};
static const struct field context_item = { .type = FIELD_OBJECT, .sub = context_row };
const struct field context_result[] = {
	R_STR("session", "Id of the session."),
	R_STR("model", "provider/model."),
	R_STR("api", "As in anthropic."),
	R_INT("window_tokens", NULL, "The model's context window."),
	R_INT("output_tokens", NULL, "Kept free of it for the answer; 0: not known."),
	R_INT("dropped_turns", NULL, "Oldest turns that do not fit."),
	R_LIST("parts", &context_item, "In the order of the request."),
	R_INT("bytes", "bytes", "Of the whole request: the sum of the parts."),
	R_INT("tokens", NULL, "Estimate for the whole."),
	R_INT("fresh_microusd", "micro-dollars", "Price of the whole when nothing is cached."),
	R_INT("cached_microusd", "micro-dollars", "Price when all that is stable is cached."),
	R_INT("stable_bytes", "bytes", "Of the parts that the last call began with too."),
	R_INT("stable_tokens", NULL, "Estimate for those."),
	R_INT("cache_marks", NULL, "Places that the request marks for the server's cache; 0: the server finds them itself."),
	R_OPT("last_call", "What the server counted: input, cached, written and output tokens, and the cost."),
	R_END,
};

const struct field blob_result[] = {
	R_STR("blob", "SHA-256 of its bytes."),
	R_INT("size", "bytes", "Its size."),
	R_END,
};

const struct field turn_get_result[] = {
	TURN_ROW,
	R_OPT("seq", "Follow the session after this number to see the whole turn."),
	R_OPT("files", "What it left in its outbox: a list of {name, bytes, type, blob}."),
	R_OPT("left_out", "What of it was not kept: a list of {name, bytes, why}."),
	R_OPT("left_out_more", "How many more at least."),
	R_OPT("files_error", "Why the outbox could not be looked at: {code, message}."),
	R_END,
};

static const struct field approval_row[] = {
	R_STR("id", "Id."),
	R_STR("session", "Id of the session."),
	R_STR("turn", "Id of the turn that waits."),
	R_STR("tool", "The tool."),
	R_STR("summary", "What it would do, one line."),
	R_STR("hash", "Over everything that was asked."),
	R_INT("created_at_ms", "ms", "UTC."),
	R_INT("expires_at_ms", "ms", "UTC."),
	R_END,
};
static const struct field approval_item = { .type = FIELD_OBJECT, .sub = approval_row };
const struct field approval_list_result[] = {
	R_LIST("approvals", &approval_item, "Pending, oldest first."),
	R_END,
};

#define CONFIG_ROW                                                                                \
	R_STR("key", "Dotted key."), R_OPT("value", "Effective value; null: unset; \"(secret)\": never shown."),     \
		R_STR("layer", "default, system, home, user, environment, flag or workspace."),             \
		R_OPT("file", "Where it is set."), R_OPT("line", "Line in that file.")

static const struct field config_row[] = { CONFIG_ROW, R_END };
static const struct field config_item = { .type = FIELD_OBJECT, .sub = config_row };
const struct field config_list_result[] = { R_LIST("keys", &config_item, "In table order."), R_END };
const struct field config_value_result[] = { CONFIG_ROW, R_END };
const struct field config_set_result[] = {
	R_STR("file", "The file that was written."),
	R_BOOL("restart", "The key is read at start only."),
	R_END,
};
const struct field config_validate_result[] = { R_STR("file", "The file that is valid."), R_END };
const struct field config_schema_result[] = { R_OPT("schema", "JSON Schema."), R_END };
const struct field config_default_result[] = { R_STR("text", "YAML."), R_END };

const struct field secret_key_result[] = {
	R_STR("key", "Public key in hex."),
	R_STR("master", "Where the private one comes from: credential, passphrase or file."),
	R_LIST("hosts", &binding_item, "Where the configuration wants to send the named secret."),
	R_LIST("uses", &binding_item, "As what."),
	R_END,
};
#define SECRET_ROW                                                                                \
	R_STR("name", "Its name."), R_LIST("hosts", &binding_item, "Where it may go."),              \
		R_LIST("uses", &binding_item, "Where it may stand."),                                      \
		R_STR("state", "ready; closed: it cannot be opened; unknown: the broker is not there."),     \
		R_OPT("why", "Why it is closed.")
const struct field secret_set_result[] = { SECRET_ROW, R_END };
static const struct field secret_row[] = { SECRET_ROW, R_INT("set_at_ms", "ms", "UTC."), R_END };
static const struct field secret_item = { .type = FIELD_OBJECT, .sub = secret_row };
const struct field secret_list_result[] = { R_LIST("secrets", &secret_item, "In the order they were set."), R_END };
const struct field secret_remove_result[] = { R_STR("name", "The one that is gone."), R_END };
static const struct field catalog_facts[] = {
	R_INT("models", NULL, "How many it has."),
	R_STR("sha256", "Digest of its canonical rows."),
	R_OPT("date", "Of the snapshot in the executable."),
	R_OPT("fetched_at", "RFC 3339, UTC."),
	R_OPT("url", "Where it came from."),
	R_END,
};
#define CATALOG_FACTS(n, f, t) { .name = (n), .type = FIELD_OBJECT, .flags = (f), .sub = catalog_facts, .text = (t) }

static const struct field modality_item = { .name = "modality", .type = FIELD_STR };
static const struct field catalog_row[] = {
	R_STR("model", "As provider/model."),
	R_STR("api", "The protocol that it is asked by."),
	R_INT("context", "tokens", "Context window."),
	R_INT("max_output", "tokens", "Longest answer; 0: not known."),
	R_LIST("input", &modality_item, "What a message may hold: text, image, pdf, audio."),
	R_BOOL("tools", "It can call tools."),
	R_BOOL("reasoning", "It can reason before it answers."),
	R_BOOL("structured_output", "Its server keeps an answer to a JSON Schema."),
	R_OPT("input_microusd_per_mtok", "Price of input; absent: not known."),
	R_OPT("output_microusd_per_mtok", "Price of output."),
	R_OPT("cached_microusd_per_mtok", "Price of input read from a cache."),
	R_OPT("cache_write_microusd_per_mtok", "Price of input written to a cache."),
	R_OPT("long_prompts", "{over_tokens, input_percent, output_percent}: of all prices of such a request."),
	R_STR("source", "The strongest of those who say something: assumed, snapshot, fetched, config."),
	R_OPT("knowledge", "Where its training data ends, as in 2025-01."),
	R_OPT("status", "As in deprecated."),
	R_END,
};
static const struct field catalog_item = { .type = FIELD_OBJECT, .sub = catalog_row };
const struct field catalog_show_result[] = {
	CATALOG_FACTS("snapshot", FIELD_REQUIRED, "The one in the executable."),
	CATALOG_FACTS("fetched", 0, "The one that was fetched, where there is one."),
	R_LIST("models", &catalog_item, "By provider."),
	R_END,
};

static const struct field change_row[] = {
	R_STR("model", "As vendor/model."),
	R_STR("what", "new, gone, or what differs."),
	R_OPT("from", "Dollars per million tokens, or tokens."),
	R_OPT("to", "The same."),
	R_END,
};
static const struct field change_item = { .type = FIELD_OBJECT, .sub = change_row };
static const struct field skipped_row[] = {
	R_STR("vendor", "In the catalog."),
	R_STR("model", "In the catalog."),
	R_STR("why", "What is wrong with it."),
	R_END,
};
static const struct field skipped_item = { .type = FIELD_OBJECT, .sub = skipped_row };
const struct field catalog_fetch_result[] = {
	R_STR("url", "Where it came from."),
	R_INT("bytes", "bytes", "As it came."),
	R_BOOL("written", "It was kept."),
	R_STR("file", "Where it is kept."),
	CATALOG_FACTS("catalog", FIELD_REQUIRED, "What of it is used."),
	R_LIST("changes", &change_item, "Against the fetched catalog before it, else the snapshot."),
	R_LIST("skipped", &skipped_item, "The first rows that are not usable."),
	R_INT("skipped_models", NULL, "How many these are in all."),
	R_END,
};

static const struct field verified_row[] = {
	R_STR("key", "Configuration key that names it."),
	R_STR("model", "As provider/model."),
	R_BOOL("ok", "It can be used."),
	R_STR("source", "Who says something about it."),
	R_STR("text", "What is wrong or not known."),
	R_END,
};
static const struct field verified_item = { .type = FIELD_OBJECT, .sub = verified_row };
const struct field catalog_verify_result[] = {
	CATALOG_FACTS("snapshot", FIELD_REQUIRED, "The one in the executable."),
	R_STR("file", "Where a fetched one is kept."),
	CATALOG_FACTS("fetched", 0, "The one that is kept there, when it is good."),
	R_OPT("broken", "Why the kept one is not used."),
	R_LIST("models", &verified_item, "Those that the configuration names."),
	R_BOOL("ok", "The kept one is good or absent, and each model can be used."),
	R_END,
};

const struct field why_result[] = {
	R_STR("decision", "allow, ask or deny."),
	R_STR("rule", "The rule that decided."),
	R_STR("origin", "Where it is written."),
	R_STR("reason", "One sentence."),
	R_STR("text", "Every rule that was considered, one per line."),
	R_OPT("withdrawn", "Why the tool is not on offer now, whatever was decided."),
	R_END,
};

static const char *const check_states[] = { "pass", "warn", "fail", "skip", NULL };
static const struct field check_row[] = {
	R_INT("n", NULL, "Number of the check; it stays the same between versions."),
	R_STR("name", "As in user-namespaces."),
	{ .name = "ok", .type = FIELD_ENUM, .flags = FIELD_REQUIRED, .choices = check_states,
		.text = "Outcome." },
	R_STR("text", "What was found."),
	R_OPT("fix", "The command or edit that repairs it."),
	R_END,
};
static const struct field check_item = { .type = FIELD_OBJECT, .sub = check_row };
const struct field doctor_result[] = { R_LIST("checks", &check_item, "By number."), R_END };

static const struct field tool_row[] = {
	R_STR("name", "As in exec."),
	R_STR("text", "What it does."),
	R_BOOL("offered", "Whether models get it."),
	R_OPT("code", "Why it was withdrawn, as in status."),
	R_OPT("reason", "The same in words."),
	R_OPT("class", "pure, keyed, probe or unsafe."),
	R_OPT("args", "JSON Schema of its arguments."),
	R_END,
};
static const struct field tool_item = { .type = FIELD_OBJECT, .sub = tool_row };
const struct field tool_list_result[] = { R_LIST("tools", &tool_item, "By name."), R_END };

#define R_USAGE                                                                                   \
	R_INT("input_tokens", "tokens", "All input."), R_INT("output_tokens", "tokens", "All output."), \
		R_INT("cached_tokens", "tokens", "Of the input, read from a cache."),               \
		R_INT("cache_write_tokens", "tokens", "Of the input, written to a cache."),         \
		R_INT("reasoning_tokens", "tokens", "Of the output, reasoning.")

static const struct field vector_number = { .type = FIELD_ANY };
static const struct field vector_item = { .type = FIELD_LIST, .item = &vector_number };
static const struct field embed_usage[] = { R_INT("input_tokens", "tokens", "All input."), R_END };
const struct field model_embed_result[] = {
	R_STR("model", "That made them."),
	R_INT("dimensions", NULL, "Numbers in a vector."),
	{ .name = "usage", .type = FIELD_OBJECT, .flags = FIELD_REQUIRED, .sub = embed_usage, .text = "Tokens." },
	R_INT("cost_microusd", "micro-dollars", "Spent."),
	R_LIST("vectors", &vector_item, "In the order of the texts."),
	R_END,
};

static const struct field budget_row[] = {
	R_STR("scope", "day, agent (of the day), session or turn."),
	R_STR("name", "Of the user, agent, session or turn."),
	R_INT("spent_microusd", "micro-dollars", "Spent."),
	R_INT("estimated_microusd", "micro-dollars", "Of it: estimated, for calls whose server did not count."),
	R_INT("reserved_microusd", "micro-dollars", "What calls under way may cost at most."),
	R_INT("cap_microusd", "micro-dollars", "Where calls are refused."),
	R_USAGE,
	R_OPT("status", "How a turn ended, or running."),
	R_END,
};
static const struct field budget_item = { .type = FIELD_OBJECT, .sub = budget_row };
static const struct field budget_call_row[] = {
	R_STR("turn", "Id of the turn."),
	R_INT("step", NULL, "Number of the call in it."),
	R_STR("model", "That was asked; empty: of a turn that was stopped."),
	R_INT("cost_microusd", "micro-dollars", "Its price."),
	R_INT("estimated_microusd", "micro-dollars", "Of it: estimated, because no count came."),
	R_USAGE,
	R_END,
};
static const struct field budget_call_item = { .type = FIELD_OBJECT, .sub = budget_call_row };
const struct field budget_result[] = {
	R_INT("call_cap_microusd", "micro-dollars", "What one call may cost."),
	R_LIST("budgets", &budget_item, "The day, its agents, then the session and its turns."),
	R_LIST("calls", &budget_call_item, "Calls of the session, oldest first."),
	R_BOOL("more", "There are more calls than one answer holds."),
	R_END,
};

static const struct field role_row[] = {
	R_STR("name", "As in broker."),
	R_STR("state", "up, starting, restarting, stopping or down."),
	R_OPT("pid", "Its process."),
	R_OPT("container", "The name of the container that it is in."),
	R_INT("restarts", NULL, "How often it was started again."),
	R_INT("since_ms", "ms", "Since when it is in this state, UTC."),
	R_OPT("reason", "Why it is not up."),
	R_END,
};
static const struct field role_item = { .type = FIELD_OBJECT, .sub = role_row };
static const struct field degraded_row[] = {
	R_STR("code", "Reason code."),
	R_STR("text", "What cannot be had or enforced here."),
	R_OPT("fix", "How to get it."),
	R_END,
};
static const struct field degraded_item = { .type = FIELD_OBJECT, .sub = degraded_row };
const struct field status_result[] = {
	R_STR("version", "Of the runtime."),
	R_BOOL("private", "Started by a command; it ends when idle."),
	R_STR("home", "Its home."),
	R_OPT("config_file", "The configuration file in use, absolute; null: none."),
	R_STR("tier", "In force."),
	R_STR("tier_asked", "As configured."),
	R_INT("started_at_ms", "ms", "When the runner started, UTC."),
	R_OPT("sessions", "How many are loaded; absent while the runtime does not answer."),
	R_OPT("turns", "How many run or wait; likewise."),
	R_LIST("roles", &role_item, "Its processes."),
	R_LIST("degraded", &degraded_item, "Empty: everything works."),
	R_END,
};
