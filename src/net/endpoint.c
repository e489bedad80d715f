/* SPDX-License-Identifier: MIT
 * Parses and matches "host:port" and tells public addresses from others. Pure. Invariant: an
 * endpoint that was parsed and looks like a name cannot be read as an address by any resolver. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include "net/endpoint.h"

static bool
is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

static int
bad(struct err *e, struct str text, const char *why)
{
	return err_set(
		e, ERR_INVALID, ERR_TO_USER, "\"%.*s\": %s", STR_FMT(str_sub(text, 0, 80)), why);
}

/* As the URL standard has it: such a host is an address or nothing. */
static bool
ends_in_number(struct str host)
{
	struct str last = host;
	bool digits = true;

	for (size_t i = host.n; i > 0; i--) {
		if (host.p[i - 1] == '.') {
			last = str_sub(host, i, host.n);
			break;
		}
	}
	for (size_t i = 0; i < last.n; i++)
		digits = digits && last.p[i] >= '0' && last.p[i] <= '9';
	return digits || str_starts(last, "0x");
}

static int
parse_v6(struct str text, struct str inside, char host[ENDPOINT_HOST_MAX + 1], struct err *e)
{
	char z[INET6_ADDRSTRLEN + 1];
	struct in6_addr a;

	if (inside.n == 0 || inside.n > INET6_ADDRSTRLEN)
		return bad(e, text, "no IPv6 address stands between the brackets");
	memcpy(z, inside.p, inside.n);
	z[inside.n] = '\0';
	if (strlen(z) != inside.n || inet_pton(AF_INET6, z, &a) != 1)
		return bad(e, text, "no IPv6 address stands between the brackets");
	if (IN6_IS_ADDR_V4MAPPED(&a) || IN6_IS_ADDR_V4COMPAT(&a))
		if (!IN6_IS_ADDR_LOOPBACK(&a) && !IN6_IS_ADDR_UNSPECIFIED(&a))
			return bad(e, text,
				"an IPv4 address inside an IPv6 address (write it as IPv4)");
	inet_ntop(AF_INET6, &a, host, ENDPOINT_HOST_MAX + 1);
	return 0;
}

/* A name in lower case. wild: * may be part of it. */
static int
parse_name(struct str text, struct str name, bool wild, char host[ENDPOINT_HOST_MAX + 1],
	struct err *e)
{
	size_t label = 0;

	if (name.n > 1 && name.p[name.n - 1] == '.')
		name.n--;
	if (name.n == 0)
		return bad(e, text, "has no host");
	if (name.n > ENDPOINT_HOST_MAX)
		return bad(e, text, "its host is longer than 253 bytes");
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c + 32);
		if (!is_name_char(c) && !(wild && c == '*'))
			return bad(e, text,
				"a host has letters, digits, - . and _ only (other alphabets as "
				"xn--...)");
		if (c == '.' && label == 0)
			return bad(e, text, "an empty label in the host");
		label = c == '.' ? 0 : label + 1;
		if (label > 63)
			return bad(e, text, "a label of more than 63 bytes in the host");
		host[i] = c;
	}
	host[name.n] = '\0';
	return 0;
}

/* Splits off the port. *port is empty when there is none. */
static int
split(struct str text, struct str *host, struct str *port, bool *is_v6, struct err *e)
{
	ptrdiff_t end;

	*is_v6 = text.n > 0 && text.p[0] == '[';
	end = str_find_char(text, *is_v6 ? ']' : ':');
	if (*is_v6 && end < 0)
		return bad(e, text, "the ] is missing");
	*host = *is_v6    ? str_sub(text, 1, (size_t)end - 1)
		: end < 0 ? text
			  : str_sub(text, 0, (size_t)end);
	*port = str_sub(text, *is_v6 ? (size_t)end + 1 : host->n, text.n);
	if (port->n == 0)
		return 0;
	if (port->p[0] != ':' || port->n == 1)
		return bad(e, text,
			"a port is expected behind the host (host:port; an IPv6 address in "
			"brackets)");
	*port = str_sub(*port, 1, port->n);
	return 0;
}

static int
parse_port(struct str text, struct str port, uint16_t *out, struct err *e)
{
	uint64_t n;

	if (port.n > 5 || str_u64(port, &n) != 0 || n < 1 || n > 65535 || port.p[0] == '0')
		return bad(e, text, "its port is not 1..65535");
	*out = (uint16_t)n;
	return 0;
}

static int
parse_host(struct str text, struct str host, bool is_v6, bool wild, enum endpoint_form *form,
	char out[ENDPOINT_HOST_MAX + 1], struct err *e)
{
	struct in_addr a;

	*form = is_v6 ? ENDPOINT_V6 : ENDPOINT_NAME;
	if (is_v6)
		return parse_v6(text, host, out, e);
	if (parse_name(text, host, wild, out, e) != 0)
		return e->code;
	if (!ends_in_number(str_of(out)))
		return 0;
	if (inet_pton(AF_INET, out, &a) != 1)
		return bad(e, text, "an IPv4 address is written as four decimal numbers");
	*form = ENDPOINT_V4;
	inet_ntop(AF_INET, &a, out, ENDPOINT_HOST_MAX + 1);
	return 0;
}

int
endpoint_parse(struct str text, uint16_t port, struct endpoint *out, struct err *e)
{
	struct endpoint got = { .port = port };
	struct str host, port_text;
	bool is_v6;

	if (split(text, &host, &port_text, &is_v6, e) != 0 ||
		parse_host(text, host, is_v6, false, &got.form, got.host, e) != 0)
		return e->code;
	if (port_text.n > 0 && parse_port(text, port_text, &got.port, e) != 0)
		return e->code;
	if (got.port == 0)
		return bad(e, text, "has no port (write host:port)");
	*out = got;
	return 0;
}

int
endpoint_host_parse(struct str text, struct endpoint *out, struct err *e)
{
	struct endpoint got;
	struct str host, port;
	bool is_v6;

	if (split(text, &host, &port, &is_v6, e) != 0 || endpoint_parse(text, 1, &got, e) != 0)
		return e->code;
	if (got.form == ENDPOINT_NAME)
		return bad(e, text, "is not an address (ADDRESS or ADDRESS:port)");
	if (port.n == 0)
		got.port = 0;
	*out = got;
	return 0;
}

const char *
endpoint_text(const struct endpoint *p, char out[ENDPOINT_TEXT_SIZE])
{
	snprintf(out, ENDPOINT_TEXT_SIZE, p->form == ENDPOINT_V6 ? "[%s]:%u" : "%s:%u", p->host,
		p->port);
	return out;
}

socklen_t
endpoint_address(const struct endpoint *p, struct sockaddr_storage *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	if (p->form == ENDPOINT_V4) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(p->port);
		return inet_pton(AF_INET, p->host, &v4->sin_addr) == 1 ? sizeof(*v4) : 0;
	}
	if (p->form == ENDPOINT_V6) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(p->port);
		return inet_pton(AF_INET6, p->host, &v6->sin6_addr) == 1 ? sizeof(*v6) : 0;
	}
	return 0;
}

/* ---- rules ---- */

/* "*" or "*.rest", or no star at all. */
static bool
star_is_exact(const char *host)
{
	const char *rest = host[0] == '*' ? host + 1 : host;

	return strchr(rest, '*') == NULL && (rest == host || rest[0] == '\0' || rest[0] == '.');
}

int
endpoint_rule_parse(struct str text, bool is_exact, struct endpoint_rule *out, struct err *e)
{
	struct endpoint_rule got = { 0 };
	struct str host, port;
	bool is_v6;

	if (split(text, &host, &port, &is_v6, e) != 0 ||
		parse_host(text, host, is_v6, true, &got.form, got.host, e) != 0)
		return e->code;
	if (is_exact && !star_is_exact(got.host))
		return bad(
			e, text, "a * stands alone or for the first labels, as in *.example.org");
	if (port.n == 0)
		got.web_ports = true;
	else if (str_is(port, "*"))
		got.any_port = true;
	else if (parse_port(text, port, &got.port, e) != 0)
		return e->code;
	*out = got;
	return 0;
}

/* * is any run of characters; remembers the last one only. */
static bool
glob(const char *p, const char *s)
{
	const char *star = NULL, *resume = s;

	while (*s != '\0') {
		if (*p == '*') {
			star = ++p;
			resume = s;
		} else if (*p == *s) {
			p++;
			s++;
		} else if (star != NULL) {
			p = star;
			s = ++resume;
		} else {
			return false;
		}
	}
	while (*p == '*')
		p++;
	return *p == '\0';
}

bool
endpoint_rule_allows(const struct endpoint_rule *r, const struct endpoint *p)
{
	bool port = r->any_port ||
		    (r->web_ports ? p->port == 443 || p->port == 80 : p->port == r->port);

	if (!port || r->form != p->form)
		return false;
	return r->form == ENDPOINT_NAME ? glob(r->host, p->host) : strcmp(r->host, p->host) == 0;
}

bool
endpoint_rule_denies(const struct endpoint_rule *r, const struct endpoint *p)
{
	if (!r->any_port && !r->web_ports && p->port != r->port)
		return false;
	return r->form == ENDPOINT_NAME ? glob(r->host, p->host) : strcmp(r->host, p->host) == 0;
}

/* ---- addresses ---- */

struct range {
	uint8_t prefix[16];
	uint8_t bits;
	const char *what;
};

static const struct range ranges4[] = {
	{ { 0 }, 8, "this network" },
	{ { 10 }, 8, "private" },
	{ { 100, 64 }, 10, "shared by a provider" },
	{ { 127 }, 8, "loopback" },
	{ { 169, 254 }, 16, "link-local" },
	{ { 172, 16 }, 12, "private" },
	{ { 192, 0, 0 }, 24, "reserved for protocols" },
	{ { 192, 0, 2 }, 24, "for documentation" },
	{ { 192, 88, 99 }, 24, "a 6to4 relay" },
	{ { 192, 168 }, 16, "private" },
	{ { 198, 18 }, 15, "for benchmarks" },
	{ { 198, 51, 100 }, 24, "for documentation" },
	{ { 203, 0, 113 }, 24, "for documentation" },
	{ { 224 }, 4, "multicast" },
	{ { 240 }, 4, "reserved" },
};

/* Within 2000::/3, which is all that is public; the rest has its names first. */
static const struct range ranges6[] = {
	{ { [15] = 1 }, 128, "loopback" },
	{ { 0 }, 128, "unspecified" },
	{ { [10] = 0xff, [11] = 0xff }, 96, "IPv4 inside IPv6" },
	{ { 0 }, 96, "IPv4 inside IPv6" },
	{ { 0x00, 0x64, 0xff, 0x9b }, 32, "IPv4 behind NAT64" },
	{ { 0xfc }, 7, "private" },
	{ { 0xfe, 0x80 }, 10, "link-local" },
	{ { 0xfe, 0xc0 }, 10, "site-local" },
	{ { 0xff }, 8, "multicast" },
	{ { 0x20, 0x01, 0x00, 0x00 }, 23, "reserved for protocols" },
	{ { 0x20, 0x01, 0x0d, 0xb8 }, 32, "for documentation" },
	{ { 0x20, 0x02 }, 16, "IPv4 inside IPv6" },
	{ { 0x3f, 0xff }, 20, "for documentation" },
};

static bool
is_within(const struct range *r, const uint8_t *a)
{
	size_t whole = r->bits / 8, rest = r->bits % 8;
	uint8_t mask = (uint8_t)(0xff00 >> rest);

	return memcmp(a, r->prefix, whole) == 0 &&
	       (rest == 0 || (a[whole] & mask) == (r->prefix[whole] & mask));
}

const char *
address_is_special(const struct sockaddr *sa)
{
	const bool is_v4 = sa->sa_family == AF_INET;
	const struct range *rows = is_v4 ? ranges4 : ranges6;
	size_t n = is_v4 ? ARRAY_LEN(ranges4) : ARRAY_LEN(ranges6);
	const uint8_t *a;

	if (!is_v4 && sa->sa_family != AF_INET6)
		return "neither IPv4 nor IPv6";
	a = is_v4 ? (const uint8_t *)&((const struct sockaddr_in *)sa)->sin_addr
		  : ((const struct sockaddr_in6 *)sa)->sin6_addr.s6_addr;
	for (size_t i = 0; i < n; i++)
		if (is_within(&rows[i], a))
			return rows[i].what;
	return is_v4 || (a[0] & 0xe0) == 0x20 ? NULL : "not public";
}
