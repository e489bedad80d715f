/* SPDX-License-Identifier: MIT
 * `ithaca secret set`: reads a value from the terminal without echo, or from standard input, and
 * seals it to the broker's key before it leaves this process. Invariant: the value is in locked
 * pages only, never in an argument or a message. */
#include <errno.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>
#include "base/path.h"
#include "base/seal.h"
#include "cli/internal.h"

/* ---- the value ---- */

static struct termios echo_was;

/* An interrupt at the prompt must not leave the terminal without echo. */
static void
on_interrupt(int signo)
{
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &echo_was);
	(void)signal(signo, SIG_DFL);
	(void)raise(signo);
}

static bool
hide_echo(const char *name)
{
	struct termios quiet;
	struct buf b;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &echo_was) != 0)
		return false;
	quiet = echo_was;
	quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
	(void)signal(SIGINT, on_interrupt);
	(void)signal(SIGTERM, on_interrupt);
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
	buf_init(&b, 1024);
	buf_printf(&b, "Value of %s (not shown): ", name);
	(void)fd_write_all(STDERR_FILENO, b.p, b.n);
	buf_fini(&b);
	return true;
}

/* One line of a terminal, or all of a pipe; without the end of the line. */
static int
read_value(const char *name, struct secret **out, struct str *value, struct err *e)
{
	bool is_hidden = hide_echo(name);
	ssize_t got = 1;
	size_t n = 0;
	char *room;

	*out = secret_room(SECRET_VALUE_MAX + 2, &room);
	while (n < SECRET_VALUE_MAX + 2 && got > 0 &&
		!(is_hidden && n > 0 && room[n - 1] == '\n')) {
		got = read(STDIN_FILENO, room + n, SECRET_VALUE_MAX + 2 - n);
		if (got < 0 && errno == EINTR)
			got = 1;
		else if (got > 0)
			n += (size_t)got;
	}
	if (is_hidden) {
		(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &echo_was);
		(void)fd_write_all(STDERR_FILENO, "\n", 1);
		(void)signal(SIGINT, SIG_DFL);
		(void)signal(SIGTERM, SIG_DFL);
	}
	if (got < 0)
		return err_errno(e, errno, ERR_TO_USER, "standard input");
	if (n > 0 && room[n - 1] == '\n')
		n--;
	if (n > 0 && room[n - 1] == '\r')
		n--;
	*value = (struct str){ room, n };
	return 0;
}

/* ---- its record ---- */

static size_t
add_texts(struct str *out, size_t n, size_t max, const struct node *list)
{
	for (size_t i = 0; i < node_len(list) && n < max; i++)
		out[n++] = node_at(list, i)->s;
	return n;
}

/* What the options say; where they say nothing, what the configuration wants. */
static int
bind_record(struct cli *c, const struct node *wanted, struct seal_record *r, struct err *e)
{
	const struct node *headers = node_get(c->options, "header");
	bool in_url = node_bool(c->options, "url", false);

	r->hosts_n = add_texts(r->hosts, 0, SECRET_HOSTS_MAX, node_get(c->options, "host"));
	if (r->hosts_n == 0)
		r->hosts_n = add_texts(r->hosts, 0, SECRET_HOSTS_MAX, node_get(wanted, "hosts"));
	if (r->hosts_n == 0)
		return err_set(e, ERR_USAGE, ERR_TO_USER,
			"no provider in the configuration refers to {secret: %.*s}, so say where "
			"it may go (--host api.example.com)",
			STR_FMT(r->name));
	for (size_t i = 0; i < node_len(headers) && r->uses_n < SECRET_USES_MAX - 1; i++)
		r->uses[r->uses_n++] =
			str_of(arena_printf(c->a, "header:%.*s", STR_FMT(node_at(headers, i)->s)));
	if (in_url)
		r->uses[r->uses_n++] = STR("url");
	if (r->uses_n == 0)
		r->uses_n = add_texts(r->uses, 0, SECRET_USES_MAX, node_get(wanted, "uses"));
	return seal_record_check(r, e);
}

static void
write_list(struct json *j, const char *key, const struct str *v, size_t n)
{
	json_kv_arr(j, key);
	for (size_t i = 0; i < n; i++)
		json_str(j, v[i]);
	json_arr_end(j);
}

static int
store(struct cli *c, const struct seal_record *r, const char *key, const struct node **result,
	struct err *e)
{
	struct buf sealed, params;
	struct json j;
	int rc;

	buf_init(&sealed, 2 * SECRET_RECORD_MAX);
	buf_init(&params, 4 * SECRET_RECORD_MAX);
	rc = seal_record_close(r, key, &sealed, e);
	json_init(&j, &params);
	json_obj(&j);
	json_kv_str(&j, "name", r->name);
	write_list(&j, "hosts", r->hosts, r->hosts_n);
	write_list(&j, "uses", r->uses, r->uses_n);
	json_kv_z(&j, "key", key);
	json_kv_str(&j, "sealed", buf_str(&sealed));
	json_obj_end(&j);
	if (rc == 0)
		rc = call_once(c, API_SECRET_SET, buf_str(&params), CONNECT_START, result, e);
	buf_fini(&sealed);
	buf_fini(&params);
	return rc;
}

static int
ask_key(struct cli *c, const struct node **wanted, struct err *e)
{
	struct buf params;
	struct json j;
	int rc;

	buf_init(&params, 4 * KIB);
	json_init(&j, &params);
	json_obj(&j);
	json_kv_node(&j, "name", node_get(c->options, "name"));
	json_obj_end(&j);
	rc = call_once(c, API_SECRET_KEY, buf_str(&params), CONNECT_FRESH, wanted, e);
	buf_fini(&params);
	return rc;
}

/* is_used: the configuration refers to it. */
static void
print_bound(const struct seal_record *r, bool is_used, struct buf *out)
{
	buf_printf(out, "secret %.*s is kept; it goes to", STR_FMT(r->name));
	for (size_t i = 0; i < r->hosts_n; i++)
		buf_printf(out, "%s %.*s", i > 0 ? "," : "", STR_FMT(r->hosts[i]));
	buf_add_z(out, " only, as");
	for (size_t i = 0; i < r->uses_n; i++)
		buf_printf(out, "%s %.*s", i > 0 ? "," : "", STR_FMT(r->uses[i]));
	buf_add_char(out, '\n');
	if (!is_used)
		buf_printf(out,
			"nothing in the configuration uses it yet (for a model: ithaca config set "
			"providers.NAME.api_key '{secret: %.*s}')\n",
			STR_FMT(r->name));
}

int
cmd_secret_set(struct cli *c, struct err *e)
{
	struct seal_record r = { .name = node_str(c->options, "name", STR("")) };
	const struct node *wanted, *result;
	struct secret *page = NULL;
	struct buf out;
	int rc;

	if (!secret_name_is_valid(r.name))
		return err_set(e, ERR_USAGE, ERR_TO_USER,
			"\"%.*s\" is no name of a secret (letters, digits, . _ -)",
			STR_FMT(str_sub(r.name, 0, 64)));
	if (ask_key(c, &wanted, e) != 0 || bind_record(c, wanted, &r, e) != 0)
		return e->code;
	rc = read_value(node_z(c->options, "name", ""), &page, &r.value, e);
	if (rc == 0)
		rc = store(c, &r, node_z(wanted, "key", ""), &result, e);
	secret_free(page);
	if (rc != 0)
		return rc;
	if (str_is(node_str(result, "state", STR("")), "closed"))
		return err_set(e, ERR_CORRUPT, ERR_TO_USER,
			"the broker cannot open secret %.*s: %.*s", STR_FMT(r.name),
			STR_FMT(node_str(result, "why", STR(""))));
	if (c->json)
		return out_node(result, true, e);
	buf_init(&out, 16 * KIB);
	print_bound(&r, node_len(node_get(wanted, "hosts")) > 0, &out);
	return out_take(&out, e);
}
