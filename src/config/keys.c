/* SPDX-License-Identifier: MIT
 * The key table: every configuration key with its type, range, unit, default and one sentence. Checks, documentation,
 * the default file and the JSON Schema are readings of it. Nothing here parses or stores a value. */
#include "config/config.h"

#include "base/limits.h"
#include "config/internal.h"

#define USD       INT64_C(1000000) /* FIELD_MONEY counts micro-dollars */
#define DAY_MS    86400000
#define NAME_MAX_ 256
#define PATH_MAX_ 4096

const char *const config_tiers[] = { "auto", "process", "cell", "container", "microvm", "micro_vm", NULL };
static const char *const tiers_min[] = { "process", "cell", "container", "microvm", "micro_vm", NULL };
static const char *const modes[] = { "read_only", "workspace_write", "danger_full_access", NULL };
static const char *const apis[] = { "openai-chat", "openai-responses", "anthropic", "gemini", "ollama", "offline", NULL };
static const char *const efforts[] = { "auto", "off", "low", "medium", "high", NULL };
static const char *const tool_modes[] = { "auto", "native", "text", "schema", NULL };
static const char *const profiles[] = { "auto", "full", "small", NULL };
static const char *const log_levels[] = { "debug", "info", "warn", "error", "off", NULL };
static const char *const log_formats[] = { "logfmt", "json", NULL };

static const struct field nothing[] = { { .type = FIELD_END } };

static const struct field model_item = {
	.name = "model", .type = FIELD_STR, .min = 1, .max = NAME_MAX_, .text = "A model as provider/model.",
};
static const struct field rule_item = {
	.name = "rule", .type = FIELD_STR, .min = 1, .max = RULE_TEXT_MAX, .text = "A rule as Tool(pattern).",
};
static const struct field header_item = {
	.name = "value", .type = FIELD_STR, .flags = FIELD_SECRET, .max = 8192, .text = "The value of a header.",
};

static const struct field model_keys[] = {
	{ .name = "fast", .type = FIELD_STR, .min = 1, .max = NAME_MAX_,
	  .text = "Model for titles, summaries and other small work." },
	{ .name = "judge", .type = FIELD_STR, .min = 1, .max = NAME_MAX_,
	  .text = "Model that evaluates the work of another one." },
	{ .name = "embedding", .type = FIELD_STR, .min = 1, .max = NAME_MAX_,
	  .text = "Model that turns text into vectors; unset: there is none." },
	{ .name = "fallback", .type = FIELD_LIST, .max = FALLBACKS_MAX, .item = &model_item, .dflt = "[]",
	  .text = "Models to try, in order, when the main one fails for good." },
	{ .type = FIELD_END },
};

static const struct field provider_keys[] = {
	{ .name = "api", .type = FIELD_ENUM, .choices = apis, .text = "The protocol that the server speaks." },
	{ .name = "base_url", .type = FIELD_STR, .min = 1, .max = 2048,
	  .text = "Start of every URL; a missing version (/v1) is added. Unset: the provider's own server. Its path may hold "
		  "{secret:NAME}." },
	{ .name = "api_key_env", .type = FIELD_STR, .min = 1, .max = NAME_MAX_,
	  .text = "Environment variable that holds the key." },
	{ .name = "api_key", .type = FIELD_STR, .flags = FIELD_SECRET, .min = 1, .max = 8192,
	  .text = "{secret: NAME}, or the key itself; it wins over api_key_file, then api_key_cmd, then api_key_env." },
	{ .name = "api_key_file", .type = FIELD_STR, .min = 1, .max = PATH_MAX_,
	  .text = "File whose first line is the key, closed to other users; relative: below ITHACA_HOME." },
	{ .name = "api_key_cmd", .type = FIELD_STR, .min = 1, .max = PATH_MAX_,
	  .text = "Command whose first line of output is the key; it has 30 s." },
	{ .name = "headers", .type = FIELD_MAP, .flags = FIELD_SECRET, .max = 32, .item = &header_item,
	  .text = "Further HTTP headers of every request; a value may be {secret: NAME}." },
	{ .name = "ca_file", .type = FIELD_STR, .min = 1, .max = PATH_MAX_,
	  .text = "Certificates of the only authorities to trust here, instead of the system's; relative: below ITHACA_HOME." },
	{ .name = "connect_ms", .type = FIELD_INT, .min = 1, .max = 600000, .dflt = "10000", .unit = "ms",
	  .text = "Longest wait for a connection." },
	{ .name = "idle_ms", .type = FIELD_INT, .min = 1, .max = DAY_MS, .dflt = "120000", .unit = "ms",
	  .text = "Longest silence of the server inside an answer." },
	{ .name = "total_ms", .type = FIELD_INT, .min = 0, .max = DAY_MS, .dflt = "0", .unit = "ms",
	  .text = "Longest duration of one request, waiting for a free connection left out; 0: no limit." },
	{ .name = "connections", .type = FIELD_INT, .min = 1, .max = FETCH_CONNECTIONS_MAX, .dflt = "256",
	  .text = "Connections to the server at the same time; further requests wait, or share one by HTTP/2." },
	{ .name = "retries", .type = FIELD_INT, .min = 0, .max = 20, .dflt = "4",
	  .text = "Further attempts after a failure that may pass." },
	{ .name = "catalog", .type = FIELD_STR, .min = 1, .max = NAME_MAX_,
	  .text = "Vendor in the model catalog whose models and prices this server has; unset: by the server." },
	{ .name = "tools", .type = FIELD_ENUM, .choices = tool_modes, .dflt = "auto",
	  .text = "How calls of tools travel: native in the API's own fields, text in the answer's text, schema as text that "
		  "the server holds to the schema of a call; auto: native where the model can." },
	{ .name = "profile", .type = FIELD_ENUM, .choices = profiles, .dflt = "auto",
	  .text = "small: a short prompt, fewer tools and shorter results, for weak models; auto: small where the window is "
		  "under 16000 tokens." },
	{ .name = "script", .type = FIELD_STR, .min = 1, .max = PATH_MAX_,
	  .text = "api offline: file with the answers; unset: built-in rules." },
	{ .type = FIELD_END },
};

static const struct field permission_keys[] = {
	{ .name = "allow", .type = FIELD_LIST, .max = PERMISSION_RULES_MAX, .item = &rule_item, .dflt = "[]",
	  .text = "What needs no question." },
	{ .name = "ask", .type = FIELD_LIST, .flags = FIELD_NARROWS, .max = PERMISSION_RULES_MAX, .item = &rule_item,
	  .dflt = "[]", .text = "What needs a person's yes; wins over allow." },
	{ .name = "deny", .type = FIELD_LIST, .flags = FIELD_NARROWS, .max = PERMISSION_RULES_MAX, .item = &rule_item,
	  .dflt = "[]", .text = "What is refused; wins over ask and allow." },
	{ .type = FIELD_END },
};

static const struct field limit_keys[] = {
	{ .name = "turn_steps", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 1, .max = 10000, .dflt = "100",
	  .text = "Calls of the model in one turn." },
	{ .name = "turn_ms", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 1, .max = 7 * DAY_MS,
	  .dflt = "1800000", .unit = "ms", .text = "Duration of one turn, waiting for a person left out." },
	{ .name = "turn_tokens", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 1, .max = 1000000000000,
	  .dflt = "20000000", .unit = "tokens", .text = "Tokens, in and out, of one turn." },
	{ .name = "turn_cost_usd", .type = FIELD_MONEY, .flags = FIELD_NARROWS, .min = 0, .max = 1000000 * USD,
	  .dflt = "5", .unit = "USD", .text = "Money that one turn may cost." },
	{ .name = "call_cost_usd", .type = FIELD_MONEY, .flags = FIELD_NARROWS, .min = 0, .max = 1000000 * USD,
	  .dflt = "1000000", .unit = "USD", .text = "Money that one call of a model may cost." },
	{ .name = "session_cost_usd", .type = FIELD_MONEY, .flags = FIELD_NARROWS, .min = 0, .max = 1000000 * USD,
	  .dflt = "1000000", .unit = "USD", .text = "Money that all turns of one session may cost." },
	{ .name = "agent_cost_usd", .type = FIELD_MONEY, .flags = FIELD_NARROWS, .min = 0, .max = 1000000 * USD,
	  .dflt = "1000000", .unit = "USD", .text = "Money that one agent may cost a user in one day (UTC)." },
	{ .name = "day_cost_usd", .type = FIELD_MONEY, .flags = FIELD_NARROWS, .min = 0, .max = 1000000 * USD,
	  .dflt = "50", .unit = "USD", .text = "Money that all turns of a user may cost in one day (UTC)." },
	{ .name = "agents", .type = FIELD_INT, .flags = FIELD_NARROWS | FIELD_RESERVED, .min = 1, .max = 1000, .dflt = "32",
	  .text = "Agents of one session that exist at the same time." },
	{ .name = "depth", .type = FIELD_INT, .flags = FIELD_NARROWS | FIELD_RESERVED, .min = 0, .max = 16, .dflt = "3",
	  .text = "How deep agents may start agents." },
	{ .type = FIELD_END },
};

static const struct field cell_keys[] = {
	{ .name = "require_limits", .type = FIELD_BOOL, .flags = FIELD_NARROWS, .dflt = "false",
	  .text = "Refuse to run commands where no cgroup can enforce memory and processes." },
	{ .name = "allow_basic", .type = FIELD_BOOL, .flags = FIELD_NARROWS, .dflt = "false",
	  .text = "Where user namespaces are refused: run in a weaker cell made of Landlock and seccomp." },
	{ .name = "memory_mb", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 16, .max = 16777216,
	  .dflt = "2048", .unit = "MiB", .text = "Memory of one cell." },
	{ .name = "processes", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 4, .max = 1000000,
	  .dflt = "512", .text = "Processes and threads of one cell." },
	{ .name = "cpu_percent", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 1, .max = 100000,
	  .dflt = "400", .unit = "percent of one core", .text = "Processor time of one cell." },
	{ .name = "file_mb", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 1, .max = 16777216,
	  .dflt = "4096", .unit = "MiB", .text = "Largest file that a command may write." },
	{ .name = "tmp_mb", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 1, .max = 1048576, .dflt = "512",
	  .unit = "MiB", .text = "Size of /tmp in a cell." },
	{ .name = "disk_mb", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 16, .max = 16777216, .dflt = "8192",
	  .unit = "MiB", .text = "What a session may have in /home/agent and /run/work; and /scratch, that all sessions of a user share." },
	{ .name = "cpu_ms", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 1000, .max = INT64_C(30) * DAY_MS,
	  .dflt = "86400000", .unit = "ms", .text = "Processor time of one command with all its children. Does not count in a session." },
	{ .name = "open_files", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 32, .max = 65536, .dflt = "65536",
	  .text = "Files that one process of a command may have open." },
	{ .name = "orphan_ms", .type = FIELD_INT, .min = 100, .max = DAY_MS, .dflt = "60000", .unit = "ms",
	  .text = "How long commands go on and results are kept when the runtime is gone; then everything ends." },
	{ .type = FIELD_END },
};

static const struct field mount_item = { .name = "directory", .type = FIELD_STR, .min = 1, .max = PATH_MAX_,
	.text = "Absolute path." };

static const struct field container_keys[] = {
	{ .name = "socket", .type = FIELD_STR, .flags = FIELD_RESTART, .max = 500, .dflt = "",
	  .text = "Socket of docker or podman; empty: DOCKER_HOST, then the user's podman, the system's podman, docker." },
	{ .name = "image", .type = FIELD_STR, .flags = FIELD_RESTART, .max = NAME_MAX_, .dflt = "",
	  .text = "Image with the programs that commands find; empty: those of the host, read-only." },
	{ .name = "mounts", .type = FIELD_LIST, .flags = FIELD_RESTART, .max = 60, .item = &mount_item, .dflt = "[]",
	  .text = "Directories that may be workspaces, beside workspace_root and the one in which Ithaca was started." },
	{ .name = "memory_mb", .type = FIELD_INT, .flags = FIELD_RESTART, .min = 64, .max = 16777216, .dflt = "4096",
	  .unit = "MiB", .text = "Memory of all cells in the sidecar together." },
	{ .name = "processes", .type = FIELD_INT, .flags = FIELD_RESTART, .min = 32, .max = 1000000, .dflt = "2048",
	  .text = "Processes and threads of all of them." },
	{ .name = "cpu_percent", .type = FIELD_INT, .flags = FIELD_RESTART, .min = 1, .max = 100000, .dflt = "400",
	  .unit = "percent of one core", .text = "Processor time of all of them." },
	{ .type = FIELD_END },
};

static const struct field microvm_keys[] = {
	{ .name = "kernel", .type = FIELD_STR, .flags = FIELD_RESTART, .max = 1024, .dflt = "",
	  .text = "A vmlinuz-VERSION with its modules in ../lib/modules/VERSION; empty: the newest of /boot." },
	{ .name = "qemu", .type = FIELD_STR, .flags = FIELD_RESTART, .max = 1024, .dflt = "",
	  .text = "The program qemu-system-x86_64; empty: found." },
	{ .name = "virtiofsd", .type = FIELD_STR, .flags = FIELD_RESTART, .max = 1024, .dflt = "",
	  .text = "The program that shares directories with the machine; empty: found." },
	{ .name = "allow_emulation", .type = FIELD_BOOL, .flags = FIELD_RESTART, .dflt = "false",
	  .text = "Where KVM does not work: emulate the processor, which is slow." },
	{ .name = "mounts", .type = FIELD_LIST, .flags = FIELD_RESTART, .max = 60, .item = &mount_item, .dflt = "[]",
	  .text = "Directories that may be workspaces, beside workspace_root and the one in which Ithaca was started." },
	{ .name = "memory_mb", .type = FIELD_INT, .flags = FIELD_RESTART, .min = 128, .max = 16777216, .dflt = "1024",
	  .unit = "MiB", .text = "Memory of the machine." },
	{ .name = "keep_booted", .type = FIELD_BOOL, .flags = FIELD_RESTART, .dflt = "true",
	  .text = "Save a machine that has booted (about 100 MB in state/machine), so that the next start does not boot." },
	{ .type = FIELD_END },
};

static const struct field exec_keys[] = {
	{ .name = "timeout_ms", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 1, .max = DAY_MS,
	  .dflt = "120000", .unit = "ms", .text = "Kill a command after this long unless the call says otherwise." },
	{ .name = "job_timeout_ms", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 1, .max = DAY_MS,
	  .dflt = "3600000", .unit = "ms", .text = "Kill a background job after this long unless the call says otherwise." },
	{ .name = "timeout_max_ms", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 1, .max = DAY_MS,
	  .dflt = "86400000", .unit = "ms", .text = "Longest time that a command gets, whatever the call says." },
	{ .name = "output_max_bytes", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 4096,
	  .max = TOOL_OUTPUT_MAX, .dflt = "67108864", .unit = "bytes",
	  .text = "Output kept of one command; the rest is counted and dropped." },
	{ .type = FIELD_END },
};

static const struct field target_item = {
	.name = "target", .type = FIELD_STR, .min = 1, .max = 264, .text = "host:port, *.example.org:443, host:* or host (its ports 80 and 443).",
};
static const struct field address_item = {
	.name = "address", .type = FIELD_STR, .min = 1, .max = 64, .text = "ADDRESS or ADDRESS:port.",
};
static const struct field service_keys[] = {
	{ .name = "url", .type = FIELD_STR, .min = 1, .max = 2048,
	  .text = "Start of every URL of the service; its path may hold {secret:NAME}." },
	{ .name = "header", .type = FIELD_STR, .min = 1, .max = NAME_MAX_, .dflt = "Authorization: Bearer ",
	  .text = "Header that carries the key, with what stands before the key in it." },
	{ .name = "key", .type = FIELD_STR, .flags = FIELD_SECRET, .min = 1, .max = 8192,
	  .text = "{secret: NAME}, or the key itself; unset: none is sent." },
	{ .name = "ca_file", .type = FIELD_STR, .min = 1, .max = PATH_MAX_,
	  .text = "Certificates of the only authorities to trust here, instead of the system's; relative: below ITHACA_HOME." },
	{ .type = FIELD_END },
};
static const struct field egress_keys[] = {
	{ .name = "allow", .type = FIELD_LIST, .max = EGRESS_RULES_MAX, .item = &target_item, .dflt = "[]",
	  .text = "Where commands may connect to; Fetch(host:port) among permissions says the same. Addresses that are not of the "
		  "Internet only in full." },
	{ .name = "deny", .type = FIELD_LIST, .flags = FIELD_NARROWS, .max = EGRESS_RULES_MAX, .item = &target_item, .dflt = "[]",
	  .text = "Where they may not; wins over allow and services, and without a port means every port." },
	{ .name = "hosts", .type = FIELD_MAP, .max = EGRESS_RULES_MAX, .item = &address_item,
	  .text = "Names with a fixed address, which may be one of a private network; they need a rule as well." },
	{ .name = "quota_mb", .type = FIELD_INT, .flags = FIELD_NARROWS, .min = 1, .max = 16777216, .dflt = "10240", .unit = "MiB",
	  .text = "Bytes, both ways, of all commands of one session; then every connection is cut." },
	{ .name = "services", .type = FIELD_MAP, .max = EGRESS_SERVICES_MAX, .sub = service_keys,
	  .text = "Servers behind http://127.0.0.1:3128/svc/NAME/ in a cell: the key is added outside of it." },
	{ .type = FIELD_END },
};

static const struct field tls_keys[] = {
	{ .name = "cert", .type = FIELD_STR, .flags = FIELD_RESERVED, .min = 1, .max = PATH_MAX_, .text = "File with the certificate chain." },
	{ .name = "key", .type = FIELD_STR, .flags = FIELD_RESERVED, .min = 1, .max = PATH_MAX_, .text = "File with the private key." },
	{ .type = FIELD_END },
};

static const struct field gateway_keys[] = {
	{ .name = "host", .type = FIELD_STR, .flags = FIELD_RESTART | FIELD_RESERVED, .min = 1, .max = NAME_MAX_,
	  .dflt = "127.0.0.1", .text = "Address that the HTTP server listens on." },
	{ .name = "port", .type = FIELD_INT, .flags = FIELD_RESTART | FIELD_RESERVED, .min = 1, .max = 65535, .dflt = "4200",
	  .text = "Port that the HTTP server listens on." },
	{ .name = "tls", .type = FIELD_OBJECT, .flags = FIELD_RESTART, .sub = tls_keys, .text = "TLS of the HTTP server." },
	{ .type = FIELD_END },
};

static const struct field store_keys[] = {
	{ .name = "url", .type = FIELD_STR, .flags = FIELD_RESTART, .min = 1, .max = 2048,
	  .dflt = "sqlite:state/ithaca.db", .text = "The database; a relative path is below ITHACA_HOME." },
	{ .type = FIELD_END },
};

static const struct field log_keys[] = {
	{ .name = "level", .type = FIELD_ENUM, .choices = log_levels, .dflt = "info",
	  .text = "The least important record that is written." },
	{ .name = "format", .type = FIELD_ENUM, .choices = log_formats, .dflt = "logfmt",
	  .text = "The form of a record." },
	{ .name = "file_kb", .type = FIELD_INT, .flags = FIELD_RESTART, .min = 64, .max = 1024 * 1024, .dflt = "8192",
	  .unit = "KiB", .text = "Size at which a file in logs/ is put aside and a new one begun." },
	{ .name = "keep", .type = FIELD_INT, .flags = FIELD_RESTART, .min = 0, .max = 100, .dflt = "4",
	  .unit = "files", .text = "How many that were put aside are kept of each role." },
	{ .type = FIELD_END },
};

static const char *const modalities[] = { "text", "image", "pdf", "audio", NULL };
static const struct field modality_item = { .name = "modality", .type = FIELD_ENUM, .choices = modalities,
	.text = "What a message may hold." };

static const struct field price_keys[] = {
	{ .name = "input_usd_per_mtok", .type = FIELD_MONEY, .min = 0, .max = 1000000 * USD,
	  .unit = "USD per million tokens", .text = "Price of input." },
	{ .name = "output_usd_per_mtok", .type = FIELD_MONEY, .min = 0, .max = 1000000 * USD,
	  .unit = "USD per million tokens", .text = "Price of output." },
	{ .name = "cached_usd_per_mtok", .type = FIELD_MONEY, .min = 0, .max = 1000000 * USD,
	  .unit = "USD per million tokens", .text = "Price of input read from a cache." },
	{ .name = "cache_write_usd_per_mtok", .type = FIELD_MONEY, .min = 0, .max = 1000000 * USD,
	  .unit = "USD per million tokens", .text = "Price of input written to a cache." },
	{ .name = "context", .type = FIELD_INT, .min = 256, .max = 1000000000, .unit = "tokens",
	  .text = "Size of the context window." },
	{ .name = "max_output", .type = FIELD_INT, .min = 1, .max = 1000000000, .unit = "tokens",
	  .text = "Longest answer." },
	{ .name = "input", .type = FIELD_LIST, .max = 8, .item = &modality_item,
	  .text = "What the model takes besides text, as in [image, pdf, audio]." },
	{ .name = "tools", .type = FIELD_BOOL, .text = "Whether the model can call tools." },
	{ .name = "reasoning", .type = FIELD_BOOL, .text = "Whether the model can reason before it answers." },
	{ .name = "structured_output", .type = FIELD_BOOL, .text = "Whether its server keeps an answer to a JSON Schema." },
	{ .type = FIELD_END },
};

static const struct field catalog_keys[] = {
	{ .name = "models", .type = FIELD_MAP, .sub = price_keys,
	  .text = "Prices, sizes and abilities by provider/model; they win over every catalog." },
	{ .name = "url", .type = FIELD_STR, .min = 1, .max = 2048, .dflt = "https://models.dev/api.json",
	  .text = "Where `ithaca catalog fetch` gets a newer catalog; nothing else asks there." },
	{ .name = "allow_unknown", .type = FIELD_BOOL, .dflt = "false",
	  .text = "Use models that no catalog knows, with an assumed context and without a price." },
	{ .type = FIELD_END },
};

static const struct field runner_keys[] = {
	{ .name = "idle_ms", .type = FIELD_INT, .min = 0, .max = DAY_MS, .dflt = "5000", .unit = "ms",
	  .text = "How long a runner that a command started for itself waits for the next one before it exits." },
	{ .type = FIELD_END },
};

/* Sections whose parts do not exist yet: they are accepted empty, and a key below them is an unknown one. */
static const struct field mcp_keys[] = {
	{ .name = "servers", .type = FIELD_OBJECT, .sub = nothing, .text = "Reserved: must be empty in this version." },
	{ .type = FIELD_END },
};
static const struct field channel_keys[] = {
	{ .name = "telegram", .type = FIELD_OBJECT, .sub = nothing, .text = "Reserved: must be empty in this version." },
	{ .name = "discord", .type = FIELD_OBJECT, .sub = nothing, .text = "Reserved: must be empty in this version." },
	{ .type = FIELD_END },
};

const struct field config_keys[] = {
	{ .name = "model", .type = FIELD_STR, .min = 3, .max = NAME_MAX_, .dflt = "offline/rules",
	  .text = "The model that agents use, as provider/model." },
	{ .name = "models", .type = FIELD_OBJECT, .sub = model_keys,
	  .text = "Models for other roles; an unset one is the main model." },
	{ .name = "reasoning", .type = FIELD_ENUM, .choices = efforts, .dflt = "auto",
	  .text = "How much a model may think before it answers; auto: as its server does by itself." },
	{ .name = "providers", .type = FIELD_MAP, .sub = provider_keys,
	  .dflt = "{ anthropic: { api: anthropic, api_key_env: ANTHROPIC_API_KEY }, "
		  "openai: { api: openai-chat, api_key_env: OPENAI_API_KEY }, "
		  "google: { api: gemini, api_key_env: GEMINI_API_KEY }, ollama: { api: ollama }, "
		  "openrouter: { api: openai-chat, base_url: \"https://openrouter.ai/api/v1\", api_key_env: OPENROUTER_API_KEY }, "
		  "offline: { api: offline } }",
	  .text = "Where models are served, by a name of your choice." },
	{ .name = "tier", .type = FIELD_ENUM, .flags = FIELD_RESTART, .choices = config_tiers, .dflt = "auto",
	  .text = "Where commands run; auto is cell, else container; micro_vm is another spelling of microvm." },
	{ .name = "tier_min", .type = FIELD_ENUM, .flags = FIELD_RESTART | FIELD_NARROWS, .choices = tiers_min,
	  .dflt = "process", .text = "Refuse anything weaker than this tier." },
	{ .name = "mode", .type = FIELD_ENUM, .flags = FIELD_NARROWS, .choices = modes, .dflt = "workspace_write",
	  .text = "What tools may touch." },
	{ .name = "mode_max", .type = FIELD_ENUM, .flags = FIELD_RESTART, .choices = modes, .dflt = "danger_full_access",
	  .text = "No session gets more than this, whoever asks: shelld refuses it." },
	{ .name = "permissions", .type = FIELD_OBJECT, .sub = permission_keys,
	  .text = "Rules on top of the mode's defaults." },
	{ .name = "limits", .type = FIELD_OBJECT, .sub = limit_keys, .text = "Where a turn stops." },
	{ .name = "cell", .type = FIELD_OBJECT, .sub = cell_keys, .text = "What a cell may use." },
	{ .name = "container", .type = FIELD_OBJECT, .sub = container_keys, .text = "The sidecar of tier container." },
	{ .name = "microvm", .type = FIELD_OBJECT, .sub = microvm_keys, .text = "The machine of tier microvm." },
	{ .name = "exec", .type = FIELD_OBJECT, .sub = exec_keys, .text = "Commands." },
	{ .name = "egress", .type = FIELD_OBJECT, .sub = egress_keys,
	  .text = "What commands in a cell may reach; by default nothing." },
	{ .name = "gateway", .type = FIELD_OBJECT, .sub = gateway_keys, .text = "The HTTP server." },
	{ .name = "store", .type = FIELD_OBJECT, .sub = store_keys, .text = "Where everything is kept." },
	{ .name = "workspace_root", .type = FIELD_STR, .flags = FIELD_RESTART, .min = 1, .max = PATH_MAX_,
	  .dflt = "workspaces", .text = "Directory of the users' workspaces; relative: below ITHACA_HOME." },
	{ .name = "catalog", .type = FIELD_OBJECT, .sub = catalog_keys, .text = "What is known about models." },
	{ .name = "runner", .type = FIELD_OBJECT, .sub = runner_keys, .text = "The process that starts the others." },
	{ .name = "log", .type = FIELD_OBJECT, .sub = log_keys, .text = "Log records." },
	{ .name = "memory", .type = FIELD_OBJECT, .sub = nothing, .text = "Reserved: must be empty in this version." },
	{ .name = "scheduler", .type = FIELD_OBJECT, .sub = nothing, .text = "Reserved: must be empty in this version." },
	{ .name = "mcp", .type = FIELD_OBJECT, .sub = mcp_keys, .text = "Reserved: must be empty in this version." },
	{ .name = "channels", .type = FIELD_OBJECT, .sub = channel_keys, .text = "Reserved: must be empty in this version." },
	{ .name = "browser", .type = FIELD_OBJECT, .sub = nothing, .text = "Reserved: must be empty in this version." },
	{ .name = "audit", .type = FIELD_OBJECT, .sub = nothing, .text = "Reserved: must be empty in this version." },
	{ .type = FIELD_END },
};

const struct field config_root = { .name = "configuration", .type = FIELD_OBJECT, .sub = config_keys };
