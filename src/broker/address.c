/* SPDX-License-Identifier: MIT
 * Which addresses a connection may go to, checked on the address that is about to be connected,
 * after name resolution. Servers that the operator named may be loopback or private; what is never
 * a server is refused, above all the link-local range in which clouds serve machine credentials. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include "broker/internal.h"

/* First matching row decides; all v4 rows are also applied to v4 addresses inside v6. */
static const struct range {
	uint8_t prefix[16];
	uint8_t bits;
	const char *why;
} ranges4[] = {
	{ { 0 }, 8, "\"this network\" is not a destination" },
	{ { 169, 254 }, 16, "link-local: machine credentials are served there" },
	{ { 192, 0, 0 }, 24, "reserved for protocols" },
	{ { 224 }, 4, "multicast" },
	{ { 240 }, 4, "reserved" },
}, ranges6[] = {
	{ { 0 }, 128, "the unspecified address is not a destination" },
	{ { 0xfe, 0x80 }, 10, "link-local" },
	{ { 0xfd, 0x00, 0x0e, 0xc2 }, 32, "machine credentials are served there" },
	{ { 0xff }, 8, "multicast" },
	{ { 0x01, 0x00 }, 64, "discard only" },
};

static const uint8_t v4_mapped[12] = { [10] = 0xff, [11] = 0xff };
static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };

static const char *
match(const struct range *rows, size_t n, const uint8_t *a)
{
	for (size_t i = 0; i < n; i++) {
		size_t whole = rows[i].bits / 8, rest = rows[i].bits % 8;
		uint8_t mask = (uint8_t)(0xff00 >> rest);
		if (memcmp(a, rows[i].prefix, whole) == 0 &&
			(rest == 0 || (a[whole] & mask) == (rows[i].prefix[whole] & mask)))
			return rows[i].why;
	}
	return NULL;
}

const char *
address_refusal(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
		return match(ranges4, ARRAY_LEN(ranges4), (const uint8_t *)&in->sin_addr);
	}
	if (sa->sa_family != AF_INET6)
		return "neither IPv4 nor IPv6";
	const uint8_t *a = ((const struct sockaddr_in6 *)sa)->sin6_addr.s6_addr;
	if (memcmp(a, v4_mapped, sizeof(v4_mapped)) == 0 || memcmp(a, nat64, sizeof(nat64)) == 0)
		return match(ranges4, ARRAY_LEN(ranges4), a + 12);
	return match(ranges6, ARRAY_LEN(ranges6), a);
}

const char *
address_text(const struct sockaddr *sa, char out[ADDRESS_TEXT_SIZE])
{
	char host[INET6_ADDRSTRLEN] = "?";

	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		(void)snprintf(out, ADDRESS_TEXT_SIZE, "%s:%u", host, ntohs(in->sin_port));
	} else if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)sa;
		inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof(host));
		(void)snprintf(out, ADDRESS_TEXT_SIZE, "[%s]:%u", host, ntohs(in->sin6_port));
	} else {
		(void)snprintf(out, ADDRESS_TEXT_SIZE, "family %d", sa->sa_family);
	}
	return out;
}
