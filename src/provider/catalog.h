/* SPDX-License-Identifier: MIT
 * Inside of the catalog: one row form for what is known about a model, whoever says it. The
 * snapshot (catalog_rows.c), a fetched catalog (catalog_json.c) and the configuration are three
 * lists of such rows; catalog.c lays them over each other. */
#ifndef PROVIDER_CATALOG_H
#define PROVIDER_CATALOG_H

#include "provider/internal.h"

/* Beside INPUT_*, in `able`. */
#define ABLE_TOOLS     16u
#define ABLE_REASONING 32u
#define ABLE_SCHEMA    64u
/* Not an ability: the model is served by the Responses API alone. */
#define NEEDS_RESPONSES 128u

/* Which fields a row gives; the abilities have a bit each, because a catalog may be silent on one.
 */
enum {
	HAS_CONTEXT = 1 << 0,
	HAS_OUTPUT_MAX = 1 << 1,
	HAS_INPUT = 1 << 2,
	HAS_OUTPUT = 1 << 3,
	HAS_CACHED = 1 << 4,
	HAS_CACHE_WRITE = 1 << 5,
	HAS_LONG = 1 << 6,
	HAS_MODALITIES = 1 << 7,
	HAS_TOOLS = 1 << 8,
	HAS_REASONING = 1 << 9,
	HAS_SCHEMA = 1 << 10,
	HAS_PRICES = HAS_INPUT | HAS_OUTPUT | HAS_CACHED | HAS_CACHE_WRITE | HAS_LONG,
	HAS_ABILITIES = HAS_MODALITIES | HAS_TOOLS | HAS_REASONING | HAS_SCHEMA,
	HAS_ALL = HAS_CONTEXT | HAS_OUTPUT_MAX | HAS_PRICES | HAS_ABILITIES,
};

struct catalog_row {
	const char *vendor, *model;
	int64_t context_tokens, max_output_tokens;
	int64_t input, output, cached, cache_write; /* micro-dollars per million tokens */
	/* Requests with more input than this pay these percentages of all prices; 0: no such rule.
	 */
	int64_t long_tokens, long_input_percent, long_output_percent;
	unsigned able;
	const char *knowledge; /* "2025-01": what it was trained on ends there; NULL: not known */
	const char *status;    /* "deprecated", "beta", ...; NULL: nothing said */
	unsigned has;
};

/* The snapshot: rows of vendors, each with HAS_ALL, and families of open models, whose row is for
 * all of their sizes and servers and has no price. */
extern const struct catalog_row catalog_rows[], catalog_families[];
extern const size_t catalog_rows_n, catalog_families_n;

struct catalog {
	struct arena *a;
	const struct catalog_row *rows; /* by vendor, then as fetched */
	size_t n;
	const char *url, *fetched_at; /* of the kept file */
	char digest[65];              /* SHA-256 of the canonical rows */
};

/* Rows of the snapshot as a catalog; a is for its list. */
void catalog_snapshot(struct catalog *out, struct arena *a);
/* The row of a vendor's model, also for its dated names; NULL: none. */
const struct catalog_row *rows_find(
	const struct catalog_row *rows, size_t n, const char *vendor, struct str model);
const struct catalog_row *family_find(struct str model);
/* INPUT_* from names as in ["text", "image"], and back. */
unsigned input_from_names(const struct node *list);
void input_write_names(unsigned input, struct json *j);
/* What a row of `catalog.models` says. */
void row_from_config(const struct node *settings, struct catalog_row *out);
/* {vendor: {models: {...}}} in the form of models.dev, known fields only. */
void rows_write(const struct catalog_row *rows, size_t n, struct json *j);

#endif
