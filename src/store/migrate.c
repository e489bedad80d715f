/* SPDX-License-Identifier: MIT
 * The schema: reads the table of steps in migrations.def and brings a database to this program's
 * version in one transaction. Refuses a file of another program and a schema that is too new for
 * us. Invariant: a database has all steps up to its version or none; its header names this program.
 */
#include "store/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How this backend spells what the table of steps leaves open. Clustered rows live in the primary
 * key's tree: one page less is written per insert. */
#define TEXT      " TEXT "
#define INT       " BIGINT "
#define BYTES     " BLOB "
#define CLUSTERED " WITHOUT ROWID"

#define MIGRATION(version, min_reader, ...) { version, min_reader, __VA_ARGS__ },
static const struct {
	int version, min_reader;
	const char *sql;
} steps[] = {
#include "store/migrations.def"
};
#undef MIGRATION

/* "Itha": marks the file as ours (the header's application id). */
#define APPLICATION_ID "1232365665"

int
store_schema_version(void)
{
	return steps[ARRAY_LEN(steps) - 1].version;
}

/* What the file holds: *version is 0 when it is empty. */
static int
schema_read(struct conn *c, int64_t *version, int64_t *min_reader, struct err *e)
{
	int64_t id, tables;
	int rc = conn_int(c, "PRAGMA application_id", &id, e);

	if (rc == 0)
		rc = conn_int(c, "SELECT COUNT(*) FROM sqlite_schema", &tables, e);
	if (rc != 0)
		return rc;
	*version = *min_reader = 0;
	if (id == 0 && tables == 0)
		return 0;
	if (id != strtoll(APPLICATION_ID, NULL, 10))
		return err_set(e, ERR_INVALID, ERR_TO_USER,
			"database %.90s belongs to another program (choose another file in "
			"store.url)",
			c->path);
	rc = conn_int(
		c, "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'schema'", version, e);
	if (rc == 0)
		rc = conn_int(c,
			"SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'min_reader'",
			min_reader, e);
	if (rc == 0 && *version <= 0)
		return err_set(e, ERR_CORRUPT, ERR_TO_USER,
			"database %.90s does not say its schema version (restore the last backup)",
			c->path);
	return rc;
}

static int
write_version(struct conn *c, int version, int min_reader, struct err *e)
{
	char sql[256];

	snprintf(sql, sizeof(sql),
		"DELETE FROM meta; INSERT INTO meta (name, value) VALUES ('schema', '%d'),"
		" ('min_reader', '%d')",
		version, min_reader);
	return conn_exec(c, sql, e);
}

static int
apply_steps(struct conn *c, int64_t from, struct err *e)
{
	int rc = 0;
	int min_reader = 1;

	if (from == 0)
		rc = conn_exec(c,
			"PRAGMA application_id=" APPLICATION_ID ";"
			"CREATE TABLE meta (name" TEXT "NOT NULL PRIMARY KEY, value" TEXT
			"NOT NULL)" CLUSTERED,
			e);
	for (size_t i = 0; i < ARRAY_LEN(steps) && rc == 0; i++) {
		min_reader = MAX(min_reader, steps[i].min_reader);
		if (steps[i].version > from)
			rc = conn_exec(c, steps[i].sql, e);
	}
	return rc == 0 ? write_version(c, store_schema_version(), min_reader, e) : rc;
}

/* WAL needs shared memory beside the file, which some network file systems cannot give. */
static int
enter_wal(struct conn *c, struct err *e)
{
	sqlite3_stmt *q;
	int rc = sqlite3_prepare_v2(c->db, "PRAGMA journal_mode=WAL", -1, &q, NULL);
	bool is_wal = false;

	if (rc == SQLITE_OK)
		rc = sqlite3_step(q);
	if (rc == SQLITE_ROW)
		is_wal = strcmp((const char *)sqlite3_column_text(q, 0), "wal") == 0;
	if (rc != SQLITE_ROW) {
		rc = conn_err(c, rc, "journal_mode", e);
		sqlite3_finalize(q);
		return rc;
	}
	sqlite3_finalize(q);
	if (is_wal)
		return 0;
	return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
		"database %.90s is on a file system without shared memory (put the home on a local "
		"disk)",
		c->path);
}

int
store_migrate(struct conn *c, struct err *e)
{
	int64_t version, min_reader;
	int rc = schema_read(c, &version, &min_reader, e);

	if (rc != 0)
		return rc;
	if (version > store_schema_version() && min_reader > store_schema_version())
		return err_set(e, ERR_UNSUPPORTED, ERR_TO_USER,
			"database %.90s has schema %d, this program knows %d (upgrade ithaca, or "
			"restore the"
			" backup made before the upgrade)",
			c->path, (int)version, store_schema_version());
	rc = enter_wal(c, e);
	if (rc != 0 || version >= store_schema_version())
		return rc;
	rc = conn_step(c, STEP_BEGIN, e);
	if (rc != 0)
		return rc;
	/* Another process may have done it while we waited for the lock. */
	rc = schema_read(c, &version, &min_reader, e);
	if (rc == 0 && version < store_schema_version())
		rc = apply_steps(c, version, e);
	if (rc == 0)
		rc = conn_step(c, STEP_COMMIT, e);
	if (rc != 0 && !sqlite3_get_autocommit(c->db))
		conn_step(c, STEP_ROLLBACK, NULL);
	return rc;
}
