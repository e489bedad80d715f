/* SPDX-License-Identifier: MIT
 * Where a connection may be asked to go: "host:port" as people, configuration and requests write
 * it, and rules about it. One spelling for each place: names in lower case without a final dot,
 * addresses only as the usual dotted quad or [IPv6]; what a resolver would read as an address in
 * disguise (decimal, octal, hexadecimal, mapped) is refused. */
#ifndef NET_ENDPOINT_H
#define NET_ENDPOINT_H

#include <sys/socket.h>
#include "base/err.h"
#include "base/str.h"

#define ENDPOINT_HOST_MAX  253
#define ENDPOINT_TEXT_SIZE (ENDPOINT_HOST_MAX + 10)

enum endpoint_form { ENDPOINT_NAME, ENDPOINT_V4, ENDPOINT_V6 };

struct endpoint {
	enum endpoint_form form;
	uint16_t port;
	char host[ENDPOINT_HOST_MAX +
		  1]; /* without brackets; an IPv6 address in its shortest form */
};

/* "host", "host:port", "1.2.3.4:port", "[::1]:port". port: where the text has none; 0: it must have
 * one. */
int endpoint_parse(struct str text, uint16_t port, struct endpoint *out, struct err *e) MUST_USE;
/* An address with or without a port (then 0). */
int endpoint_host_parse(struct str text, struct endpoint *out, struct err *e) MUST_USE;
const char *endpoint_text(const struct endpoint *p, char out[ENDPOINT_TEXT_SIZE]); /* returns out */
/* Of an endpoint that is an address; its length, or 0 for a name. */
socklen_t endpoint_address(const struct endpoint *p, struct sockaddr_storage *out);

/* A rule: "host:port", "*.example.org:443", "host:*", "*". Without a port it means 80 and 443 where
 * it allows, and every port where it denies. A name with a * never allows an address: that is named
 * in full. */
struct endpoint_rule {
	enum endpoint_form form;
	bool any_port, web_ports;
	uint16_t port;
	char host[ENDPOINT_HOST_MAX + 1]; /* of a name: * is any run of characters */
};
/* is_exact: a * may only stand alone or be the whole first label, which is how configuration is
 * written. */
int endpoint_rule_parse(
	struct str text, bool is_exact, struct endpoint_rule *out, struct err *e) MUST_USE;
bool endpoint_rule_allows(const struct endpoint_rule *r, const struct endpoint *p);
bool endpoint_rule_denies(const struct endpoint_rule *r, const struct endpoint *p);

/* Addresses of the public Internet. NULL: it is one; else what it is instead ("loopback", ...),
 * static. Addresses that carry an IPv4 address (mapped, NAT64, 6to4, Teredo) are none. */
const char *address_is_special(const struct sockaddr *sa);

#endif
