/* SPDX-License-Identifier: MIT
 * All that a container engine can say to a start. Invariant: whatever it says, what is asked of it next is one line of its API,
 * and no container is removed whose label is another's. Each answer: a byte for its status, two for its length, its body. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define local_http fuzz_http
#define nanosleep  fuzz_nanosleep
#include "net/local.h"

static int fuzz_nanosleep(const struct timespec *, struct timespec *);

#include "net/oci.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct {
	const uint8_t *p;
	size_t n;
} script;

static int
fuzz_nanosleep(const struct timespec *want, struct timespec *left)
{
	return 0;
}

int
fuzz_http(const struct local_request *r, int *status, struct buf *body, struct err *e)
{
	static const int known[] = { 200, 201, 204, 304, 404, 409, 500 };

	if (strncmp(r->target, "/v1.40/", 7) != 0 || strlen(r->target) >= FETCH_PATH_MAX)
		abort();
	for (const char *p = r->target; *p != '\0'; p++) {
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			abort();
	}
	if (strcmp(r->method, "DELETE") == 0 && (strncmp(r->target, "/v1.40/containers/", 18) != 0 ||
		strchr(r->target + 18, '/') != NULL))
		abort();
	if (script.n < 3)
		return err_set(e, ERR_NET, ERR_TO_USER, "no more answers");
	size_t which = script.p[0], want = script.p[1] * 256u + script.p[2], take = MIN(want, script.n - 3);
	const char *text = (const char *)script.p + 3;
	script.p += 3 + take;
	script.n -= 3 + take;
	if (which % 16 >= ARRAY_LEN(known))
		return err_set(e, which % 2 ? ERR_TIMEOUT : ERR_NET, ERR_TO_USER, "broken off");
	*status = known[which % 16];
	buf_init(body, r->answer_max);
	buf_add(body, text, take);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char id[OCI_ID_SIZE] = "";
	struct err e, why;
	struct oci g;
	struct buf b;
	struct json j;
	bool is_so;

	script.p = data;
	script.n = n;
	if (oci_open("/engine.sock", &g, &e) != 0)
		return 0;
	(void)!oci_has_image(&g, OCI_HOST_IMAGE, &is_so, &e);
	buf_init(&b, MIB);
	json_init(&j, &b);
	json_arr(&j);
	(void)!oci_images(&g, "localhost/", &j, &e);
	json_arr_end(&j);
	buf_fini(&b);
	(void)!oci_remove_labelled(&g, &(struct oci_label){ "ithaca.home", "/home" }, 1, &e);
	if (oci_create(&g, "ithaca-guest-1", STR("{}"), id, &e) == 0) {
		if (!id_valid(str_of(id)))
			abort();
		(void)!oci_start(&g, id, &e);
		if (oci_is_running(&g, id, &is_so, &why, &e) == 0 && !is_so && why.msg[0] == '\0')
			abort();
		(void)oci_remove(&g, id, &e);
	}
	return 0;
}
