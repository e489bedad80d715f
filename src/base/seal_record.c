/* SPDX-License-Identifier: MIT
 * What a sealed record says, and what its bindings mean. No cryptography here. Invariant: a text
 * that parses and passes the check writes back to the same record; no message holds a value. */
#include "base/seal.h"

#include <strings.h>

#define FIRST_LINE "ithaca-secret 1"

static bool
is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool
secret_name_is_valid(struct str name)
{
	if (name.n == 0 || name.n > SECRET_NAME_MAX || !is_word(name.p[0]))
		return false;
	for (size_t i = 0; i < name.n; i++)
		if (!is_word(name.p[i]) && strchr("._-", name.p[i]) == NULL)
			return false;
	return memchr(name.p, 0, name.n) == NULL;
}

/* ---- bindings ---- */

struct binding {
	struct str scheme, host, port; /* port empty: none given */
};

static bool
starts_with_scheme(struct str *rest, const char *scheme, struct str *out)
{
	size_t n = strlen(scheme);

	if (rest->n < n + 3 || strncasecmp(rest->p, scheme, n) != 0 ||
		memcmp(rest->p + n, "://", 3) != 0)
		return false;
	*out = str_sub(*rest, 0, n);
	*rest = str_sub(*rest, n + 3, rest->n);
	return true;
}

static bool
is_host(struct str host)
{
	bool in_brackets = host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
	struct str name = in_brackets ? str_sub(host, 1, host.n - 2) : host;

	if (name.n == 0 || name.n > 253)
		return false;
	for (size_t i = 0; i < name.n; i++)
		if (!is_word(name.p[i]) && name.p[i] != '.' &&
			(in_brackets ? name.p[i] != ':' : name.p[i] != '-' && name.p[i] != '_'))
			return false;
	return true;
}

static bool
split(struct str text, struct binding *b)
{
	uint64_t port;
	ptrdiff_t end;

	*b = (struct binding){ 0 };
	if (!starts_with_scheme(&text, "https", &b->scheme))
		(void)starts_with_scheme(&text, "http", &b->scheme);
	end = text.n > 0 && text.p[0] == '[' ? str_find_char(text, ']') + 1
					     : str_find_char(text, ':');
	b->host = str_sub(text, 0, end < 0 ? text.n : (size_t)end);
	text = str_sub(text, b->host.n, text.n);
	if (!is_host(b->host))
		return false;
	if (text.n == 0)
		return true;
	b->port = str_sub(text, 1, text.n);
	return text.p[0] == ':' && str_u64(b->port, &port) == 0 && port > 0 && port < 65536;
}

int
binding_check(struct str binding, struct err *e)
{
	struct binding b;

	if (binding.n <= SECRET_HOST_MAX && split(binding, &b))
		return 0;
	return err_set(e, ERR_INVALID, ERR_TO_USER,
		"%.*s is no host (write api.example.com, api.example.com:8443 or "
		"http://127.0.0.1:8080)",
		STR_FMT(str_sub(binding, 0, 80)));
}

static bool
is_this_machine(struct str host)
{
	struct str rest = host, part;
	uint64_t v;
	int n = 0;

	if ((host.n == 9 && strncasecmp(host.p, "localhost", 9) == 0) || str_is(host, "[::1]"))
		return true;
	if (!str_starts(host, "127."))
		return false;
	while (str_next(&rest, '.', &part)) /* an address, not a name such as 127.example.com */
		if (str_u64(part, &v) != 0 || v > 255 || ++n > 4)
			return false;
	return n == 4;
}

bool
binding_allows(struct str binding, bool is_tls, struct str host, uint64_t port)
{
	struct binding b;
	uint64_t want = 0;
	bool is_local;

	if (!split(binding, &b) || b.host.n != host.n || strncasecmp(b.host.p, host.p, host.n) != 0)
		return false;
	is_local = is_this_machine(b.host);
	if (b.scheme.n == 0 ? !is_tls && !is_local : is_tls != (b.scheme.n == 5))
		return false;
	if (b.port.n > 0)
		return str_u64(b.port, &want) == 0 && want == port;
	return (is_local && b.scheme.n == 0) || port == (is_tls ? 443 : 80);
}

/* ---- uses ---- */

static int
check_use(struct str use, struct err *e)
{
	struct str name = str_sub(use, 7, use.n);
	bool ok = str_is(use, "header") || str_is(use, "url");

	if (!ok && str_starts(use, "header:") && name.n > 0 && use.n <= SECRET_HOST_MAX) {
		ok = true;
		for (size_t i = 0; i < name.n; i++)
			ok = ok && (is_word(name.p[i]) || name.p[i] == '-' || name.p[i] == '_');
	}
	return ok ? 0
		  : err_set(e, ERR_INVALID, ERR_TO_USER,
			    "a secret cannot be used as \"%.*s\" (header, header:NAME or url)",
			    STR_FMT(str_sub(use, 0, 80)));
}

bool
use_allows(struct str declared, struct str use)
{
	if (str_is(declared, "header"))
		return str_starts(use, "header:");
	return declared.n == use.n && strncasecmp(declared.p, use.p, use.n) == 0;
}

/* ---- records ---- */

static int
check_value(struct str value, struct err *e)
{
	if (value.n == 0)
		return err_set(e, ERR_INVALID, ERR_TO_USER, "the secret is empty (type it where it is asked for, or pipe it in)");
	if (value.n > SECRET_VALUE_MAX)
		return err_set(e, ERR_LIMIT, ERR_TO_USER, "the secret is longer than %u bytes",
			SECRET_VALUE_MAX);
	for (size_t i = 0; i < value.n; i++)
		if ((unsigned char)value.p[i] < 0x20 || value.p[i] == 0x7f)
			return err_set(e, ERR_INVALID, ERR_TO_USER,
				"the secret has a control character at %zu (one line of text is "
				"expected)",
				i);
	return 0;
}

int
seal_record_check(const struct seal_record *r, struct err *e)
{
	int rc = 0;

	if (!secret_name_is_valid(r->name))
		return err_set(e, ERR_INVALID, ERR_TO_USER,
			"\"%.*s\" is no name of a secret (letters, digits, . _ - and at most %u)",
			STR_FMT(str_sub(r->name, 0, 64)), SECRET_NAME_MAX);
	if (r->hosts_n == 0)
		return err_set(e, ERR_INVALID, ERR_TO_USER,
			"the secret is bound to no host (say --host HOST)");
	if (r->uses_n == 0)
		return err_set(e, ERR_INVALID, ERR_TO_USER,
			"the secret has no use (header, header:NAME or url)");
	for (size_t i = 0; rc == 0 && i < r->hosts_n; i++)
		rc = binding_check(r->hosts[i], e);
	for (size_t i = 0; rc == 0 && i < r->uses_n; i++)
		rc = check_use(r->uses[i], e);
	return rc != 0 || r->value.p == NULL ? rc : check_value(r->value, e);
}

static bool
add(struct str *list, size_t *n, size_t max, struct str s)
{
	if (*n == max)
		return false;
	list[(*n)++] = s;
	return true;
}

int
seal_record_parse(struct str plain, struct seal_record *out, struct err *e)
{
	struct seal_record r = { 0 };
	struct str line;

	if (!str_next(&plain, '\n', &line) || !str_is(line, FIRST_LINE))
		return err_set(
			e, ERR_UNSUPPORTED, ERR_TO_USER, "a sealed record of another version");
	while (str_next(&plain, '\n', &line) && line.n > 0) {
		bool ok = false;

		if (str_starts(line, "name ") && r.name.n == 0) {
			r.name = str_sub(line, 5, line.n);
			ok = true;
		} else if (str_starts(line, "host ")) {
			ok = add(r.hosts, &r.hosts_n, SECRET_HOSTS_MAX, str_sub(line, 5, line.n));
		} else if (str_starts(line, "use ")) {
			ok = add(r.uses, &r.uses_n, SECRET_USES_MAX, str_sub(line, 4, line.n));
		}
		if (!ok)
			return err_set(e, ERR_CORRUPT, ERR_TO_USER,
				"a sealed record with an unknown line");
	}
	r.value = plain.p != NULL ? plain : STR("");
	if (seal_record_check(&r, e) != 0)
		return err_wrap(e, "a sealed record");
	*out = r;
	return 0;
}
