/* SPDX-License-Identifier: MIT
 * One connection to the SQLite file: opening, prepared statements, and what a result code means to
 * a person. Does not know threads or batches. Invariant: every connection is in WAL mode with
 * synchronous=FULL and never checkpoints by itself. */
#include "store/internal.h"

#include <errno.h>
#include <stdio.h>
#include "base/utf8.h"

#define CACHE_KIB_WRITER 1024
#define CACHE_KIB_READER 512
#define WHERE_MAX        90         /* bytes of the path in a message: its end */
#define WAL_KEEP_BYTES   "16777216" /* a longer log is cut back to this when it starts over */

#define STMT(name, ...) { #name, __VA_ARGS__ },
static const struct {
	const char *name, *sql;
} statements[STMT_COUNT] = {
#include "store/statements.def"
};
#undef STMT

static const char *const step_sql[STEP_COUNT] = {
	[STEP_BEGIN] = "BEGIN IMMEDIATE",
	[STEP_SAVEPOINT] = "SAVEPOINT batch",
	[STEP_UNDO] = "ROLLBACK TO batch",
	[STEP_RELEASE] = "RELEASE batch",
	[STEP_COMMIT] = "COMMIT",
	[STEP_ROLLBACK] = "ROLLBACK",
};

/* First match wins: extended codes stand before primary ones. errnum 0: any. */
static const struct cause {
	int rc, errnum, code;
	const char *what, *fix;
} causes[] = {
	{ SQLITE_CONSTRAINT, 0, ERR_CONFLICT, NULL, NULL },
	{ SQLITE_BUSY, 0, ERR_BUSY, "is locked by another process",
		"stop the other program that has it open, then try again" },
	{ SQLITE_LOCKED, 0, ERR_BUSY, "is locked by another connection", "try again" },
	{ SQLITE_READONLY_DBMOVED, 0, ERR_READONLY, "was moved or deleted while it was open",
		"put it back, or restart the daemon" },
	{ SQLITE_READONLY, 0, ERR_READONLY, "is read-only",
		"make the file and its directory writable for this user" },
	{ SQLITE_PERM, 0, ERR_READONLY, "may not be accessed",
		"make the file and its directory writable for this user" },
	{ SQLITE_FULL, 0, ERR_FULL, "has no room: the disk is full",
		"free some space; nothing has to be restarted" },
	{ SQLITE_IOERR, ENOSPC, ERR_FULL, "has no room: the disk is full",
		"free some space; nothing has to be restarted" },
	{ SQLITE_IOERR, EDQUOT, ERR_FULL, "has no room: the disk quota is used up",
		"free some space; nothing has to be restarted" },
	{ SQLITE_IOERR, EFBIG, ERR_FULL, "may not grow: the file size limit is reached",
		"raise the limit (ulimit -f)" },
	{ SQLITE_CANTOPEN, ENOSPC, ERR_FULL, "has no room: the disk is full", "free some space" },
	{ SQLITE_CANTOPEN, EACCES, ERR_READONLY, "cannot be opened for writing",
		"make the file and its directory writable for this user" },
	{ SQLITE_CANTOPEN, EPERM, ERR_READONLY, "cannot be opened for writing",
		"make the file and its directory writable for this user" },
	{ SQLITE_CANTOPEN, EROFS, ERR_READONLY, "is on a read-only file system",
		"mount it read-write, or choose another home" },
	{ SQLITE_CANTOPEN, 0, ERR_IO, "cannot be opened", "check the path and its directory" },
	{ SQLITE_IOERR, 0, ERR_IO, "could not be read or written",
		"look for disk errors in the kernel log" },
	{ SQLITE_CORRUPT, 0, ERR_CORRUPT, "is damaged",
		"restore the last backup, or move the file away to start empty" },
	{ SQLITE_NOTADB, 0, ERR_CORRUPT, "is not a database or its header is damaged",
		"restore the last backup, or move the file away to start empty" },
	{ SQLITE_TOOBIG, 0, ERR_LIMIT, "cannot hold a value this large", "store it as a blob" },
	{ SQLITE_NOMEM, 0, ERR_FAILED, "needs more memory than there is", "free memory" },
	{ SQLITE_PROTOCOL, 0, ERR_BUSY, "is locked by another process",
		"stop the other program that has it open, then try again" },
};

const char *
stmt_name(enum stmt st)
{
	return statements[st].name;
}

/* Why the system refused. A failed write to the log is followed by a rollback, whose calls leave
 * an errno of their own; the log's file keeps the one that counts. */
static int
system_errno(struct conn *c, int rc)
{
	sqlite3_file *log = NULL;
	int errnum = 0;

	if (c->db == NULL)
		return 0;
	if (rc == SQLITE_IOERR_WRITE &&
		sqlite3_file_control(c->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) ==
			SQLITE_OK &&
		log != NULL && log->pMethods != NULL &&
		log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &errnum) == SQLITE_OK &&
		errnum != 0)
		return errnum;
	return sqlite3_system_errno(c->db);
}

int
conn_err(struct conn *c, int rc, const char *doing, struct err *e)
{
	int errnum = system_errno(c, rc);
	struct str path = str_of(c->path);
	const char *why = c->db != NULL ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc);

	if (path.n > WHERE_MAX)
		path = str_sub(path, utf8_start(path, path.n - WHERE_MAX), path.n);
	for (size_t i = 0; i < ARRAY_LEN(causes); i++) {
		const struct cause *k = &causes[i];
		if (k->rc != rc && k->rc != (rc & 0xff))
			continue;
		if (k->errnum != 0 && k->errnum != errnum)
			continue;
		if (k->what == NULL)
			return err_set(e, k->code, ERR_TO_LOG, "%s: %s", doing, why);
		return err_set(e, k->code, ERR_TO_USER, "database %.*s %s (%s)", STR_FMT(path),
			k->what, k->fix);
	}
	return err_set(e, ERR_INTERNAL, ERR_TO_LOG, "database %.*s: %s: %s (code %d)",
		STR_FMT(path), doing, why, rc);
}

int
conn_exec(struct conn *c, const char *sql, struct err *e)
{
	int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : conn_err(c, rc, sql, e);
}

int
conn_int(struct conn *c, const char *sql, int64_t *out, struct err *e)
{
	sqlite3_stmt *q;
	int64_t value = 0;
	int rc = sqlite3_prepare_v2(c->db, sql, -1, &q, NULL);

	if (rc != SQLITE_OK)
		return conn_err(c, rc, sql, e);
	rc = sqlite3_step(q);
	if (rc == SQLITE_ROW)
		value = sqlite3_column_int64(q, 0);
	rc = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : conn_err(c, rc, sql, e);
	sqlite3_finalize(q);
	if (rc == 0)
		*out = value;
	return rc;
}

static int
prepare(struct conn *c, sqlite3_stmt **slot, const char *sql, const char *name, struct err *e)
{
	int rc;

	if (*slot != NULL)
		return 0;
	rc = sqlite3_prepare_v3(c->db, sql, -1, SQLITE_PREPARE_PERSISTENT, slot, NULL);
	return rc == SQLITE_OK ? 0 : conn_err(c, rc, name, e);
}

int
conn_stmt(struct conn *c, enum stmt st, sqlite3_stmt **out, struct err *e)
{
	int rc = prepare(c, &c->stmts[st], statements[st].sql, statements[st].name, e);

	if (rc == 0)
		*out = c->stmts[st];
	return rc;
}

int
conn_step(struct conn *c, enum step step, struct err *e)
{
	int rc = prepare(c, &c->steps[step], step_sql[step], step_sql[step], e);

	if (rc != 0)
		return rc;
	rc = sqlite3_step(c->steps[step]);
	rc = rc == SQLITE_DONE ? 0 : conn_err(c, rc, step_sql[step], e);
	sqlite3_reset(c->steps[step]);
	return rc;
}

/* Before the first connection of the process; refused later, which is harmless. Statistics would
 * take a global lock at every allocation, and statement journals stay in memory because a role may
 * have no directory for temporary files. */
static void
library_init(void)
{
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	sqlite3_config(SQLITE_CONFIG_STMTJRNL_SPILL, -1);
}

int
conn_open(struct conn *c, enum conn_kind kind, const struct store_options *o, struct err *e)
{
	struct err why = { 0 };
	char sql[256];
	int rc;

	library_init();
	*c = (struct conn){ .path = o->path };
	rc = sqlite3_open_v2(o->path, &c->db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE |
			SQLITE_OPEN_EXRESCODE,
		o->vfs);
	if (rc != SQLITE_OK)
		goto fail;
	if (sqlite3_db_readonly(c->db, "main") == 1) {
		rc = SQLITE_READONLY;
		goto fail;
	}
	sqlite3_busy_timeout(c->db, (int)MIN(o->busy_ms, 3600000));
	sqlite3_wal_autocheckpoint(c->db, 0);
	snprintf(sql, sizeof(sql),
		"PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-%d;"
		" PRAGMA trusted_schema=OFF; %s",
		kind == CONN_WRITER ? CACHE_KIB_WRITER : CACHE_KIB_READER,
		kind == CONN_WRITER ? "PRAGMA journal_size_limit=" WAL_KEEP_BYTES
				    : "PRAGMA query_only=ON");
	rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		return 0;
fail:
	conn_err(c, rc, "open", &why);
	conn_close(c);
	return err_copy(e, &why);
}

void
conn_close(struct conn *c)
{
	for (int i = 0; i < STMT_COUNT; i++)
		sqlite3_finalize(c->stmts[i]);
	for (int i = 0; i < STEP_COUNT; i++)
		sqlite3_finalize(c->steps[i]);
	sqlite3_close(c->db);
	*c = (struct conn){ .path = c->path };
}
