/* SPDX-License-Identifier: MIT
 * The offline model's reader of plain English: a table of phrases, each of which becomes one tool
 * call. Requests joined by "then" or on lines of their own are done one after the other; how far
 * they are is the number of tool results after the request. It claims nothing that a result does
 * not show: an error ends the work and is told as it came. */
#include "provider/internal.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"

#define OPS_MAX      32
#define REQUEST_SEEN (64 * KIB) /* of the user's text that is read as requests */
#define SHOWN_MAX    4000       /* bytes of one result that an answer repeats */
#define SENTENCE_MAX 400
#define HEADINGS_MAX 6
#define GROUPS_MAX   20

enum op_kind { OP_LIST, OP_READ, OP_RUN, OP_WRITE, OP_SUMMARISE, OP_COUNT, OP_GREP, OP_FIND };

#define THE    "( the)?"
#define FILE_  "( files?| contents? of| text of)?"
#define QUOTED "\"[^\"]+\"|'[^']+'|`[^`]+`"
#define NAME   "(" QUOTED "|[^ ]+)"
/* One group of use, four inside. */
#define PLACE                                                                                      \
	"(" QUOTED                                                                                 \
	"|[^ ]+|(the |this )?(current |working )?(directory|folder|workspace|project)( [^ ]+)?)"
#define END "( please)?[.!?]*$"

/* First match wins. subject, extra: groups of the expression. */
static const struct phrase {
	enum op_kind op;
	int subject, extra;
	const char *expr;
} table[] = {
	{ OP_LIST, 8, 0,
		"^(list|show|ls)( me)?( all)?" THE
		" (files|file names|directory|folder)( (in|of|under|below|from) " PLACE ")?" END },
	{ OP_LIST, 5, 0, "^(what|which) files are( there)?( (in|under|below) " PLACE ")?" END },
	{ OP_LIST, 3, 0, "^(list|ls)" THE " contents of " PLACE END },
	{ OP_LIST, 3, 0, "^(list|ls)" THE " " PLACE END },
	{ OP_LIST, 0, 0, "^(list|ls)" END },
	{ OP_COUNT, 11, 5,
		"^(count|how many)( all)?" THE
		"( number of)? (words|lines|characters|bytes)( are)?( there)?"
		" (in|of)" THE FILE_ " " NAME END },
	{ OP_SUMMARISE, 4, 0,
		"^(summari[sz]e|sum up|give me a summary of)" THE FILE_ " " NAME END },
	{ OP_GREP, 6, 3, "^(search|grep|look)( for)? (.+) in" THE FILE_ " " PLACE END },
	{ OP_GREP, 0, 2, "^(search|grep|look) for (.+)$" },
	{ OP_FIND, 5, 0, "^find( all)?" THE "( files)?( named| called| matching)? " NAME END },
	{ OP_WRITE, 6, 10,
		"^(write|create|save|make)( a| the)?( new)?( file)?( called| named)? " NAME
		" (with|containing|saying)" THE "( text| words?| lines?| contents?)?:? (.+)$" },
	{ OP_WRITE, 6, 2, "^(write|put|save) (.+) (to|into|in)" THE "( file)? " NAME "$" },
	{ OP_RUN, 5, 0, "^(run|execute|exec)" THE "( shell)?( command)?:? (.+)$" },
	{ OP_READ, 7, 0,
		"^(read|open|cat|print|show|display)( me)?" THE FILE_ THE "( file)? " NAME END },
};

/* What a request may begin with: a separator counts only before one of these. */
static const char verbs[] =
	"^(list|ls|show|what files|which files|count|how many|summari[sz]e|sum up|give me a "
	"summary|"
	"search|grep|look for|find|write|create|save|make|put|run|execute|exec|read|open|cat|print|"
	"display)( |$)";
static const char separators[] = "([,;.]? and|[,;.])? then |; ";

static const char *const fillers[] = { "please ", "kindly ", "can you ", "could you ", "would you ",
	"now ", "now, ", "first ", "first, ", "next ", "next, ", "then ", "then, ", "finally ",
	"finally, ", "and ", "also ", "- ", "* " };

static const char help[] = "I am a small rule-based model for demonstration and tests; I have no "
			   "knowledge and cannot reason. I understand "
			   "requests like these, also joined by \"then\" or one per line:\n"
			   "- list the files (in DIRECTORY)\n"
			   "- read FILE\n"
			   "- run COMMAND\n"
			   "- write FILE with TEXT\n"
			   "- summarise FILE\n"
			   "- count the words in FILE (also lines, characters)\n"
			   "- search for TEXT in FILE or DIRECTORY\n"
			   "- find files named PATTERN\n"
			   "For real work choose a model with --model PROVIDER/MODEL, or set "
			   "`model:` in the configuration.";

struct phrases {
	regex_t rows[ARRAY_LEN(table)];
	regex_t verbs, separators;
};

struct op {
	enum op_kind kind;
	struct str subject; /* path, pattern or command */
	struct str extra;   /* content, what to count, what to search for */
};

struct plan {
	struct op ops[OPS_MAX];
	size_t n;
	struct str unknown; /* the first piece that was not understood, when others were */
};

static void
compile(regex_t *re, const char *expr)
{
	if (regcomp(re, expr, REG_EXTENDED | REG_ICASE) != 0)
		fatal("the offline model's expression %s does not compile", expr);
}

struct phrases *
phrases_new(void)
{
	struct phrases *p = xcalloc(1, sizeof(*p));

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		compile(&p->rows[i], table[i].expr);
	compile(&p->verbs, verbs);
	compile(&p->separators, separators);
	return p;
}

void
phrases_free(struct phrases *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		regfree(&p->rows[i]);
	regfree(&p->verbs);
	regfree(&p->separators);
	free(p);
}

/* ---- reading the request ---- */

static bool
match(const regex_t *re, struct str s, regmatch_t g[GROUPS_MAX])
{
	g[0] = (regmatch_t){ .rm_so = 0, .rm_eo = (regoff_t)s.n };
	return s.n > 0 && regexec(re, s.p, GROUPS_MAX, g, REG_STARTEND) == 0;
}

static struct str
group(struct str s, const regmatch_t g[GROUPS_MAX], int i)
{
	if (i == 0 || g[i].rm_so < 0)
		return STR("");
	return str_sub(s, (size_t)g[i].rm_so, (size_t)(g[i].rm_eo - g[i].rm_so));
}

static bool
starts_nocase(struct str s, const char *prefix)
{
	size_t n = strlen(prefix);

	return s.n >= n && strncasecmp(s.p, prefix, n) == 0;
}

/* Bullets, numbers and politeness off the front. */
static struct str
strip_front(struct str s)
{
	bool again = true;
	size_t d = 0;

	s = str_trim(s);
	while (d < s.n && s.p[d] >= '0' && s.p[d] <= '9')
		d++;
	if (d > 0 && d + 1 < s.n && (s.p[d] == '.' || s.p[d] == ')') && s.p[d + 1] == ' ')
		s = str_trim(str_sub(s, d + 1, s.n));
	while (again) {
		again = false;
		for (size_t i = 0; i < ARRAY_LEN(fillers); i++) {
			if (!starts_nocase(s, fillers[i]))
				continue;
			s = str_trim(str_sub(s, strlen(fillers[i]), s.n));
			again = true;
		}
	}
	return s;
}

static struct str
unquote(struct str s)
{
	s = str_trim(s);
	if (s.n >= 2 && s.p[0] == s.p[s.n - 1] && strchr("\"'`", s.p[0]))
		return str_sub(s, 1, s.n - 2);
	return s;
}

/* "the file `a b.txt`." -> a b.txt; "the current directory" -> "." */
static struct str
clean_path(struct str s)
{
	static const char *const here[] = { "here", "this directory", "this folder",
		"current directory", "current folder", "workspace", "project", "directory",
		"folder" };
	static const char *const lead[] = { "in ", "under ", "below ", "the ", "file ",
		"directory ", "folder " };

	s = str_trim(s);
	if (s.n > 7 && str_ends(s, " please"))
		s = str_trim(str_sub(s, 0, s.n - 7));
	while (s.n > 1 && strchr(".?!,", s.p[s.n - 1]) && s.p[s.n - 2] != '.' &&
		s.p[s.n - 2] != '/')
		s = str_trim(str_sub(s, 0, s.n - 1));
	for (size_t i = 0; i < ARRAY_LEN(lead); i++)
		if (starts_nocase(s, lead[i]))
			s = str_trim(str_sub(s, strlen(lead[i]), s.n));
	for (size_t i = 0; i < ARRAY_LEN(here); i++)
		if (s.n == strlen(here[i]) && starts_nocase(s, here[i]))
			return STR(".");
	return unquote(s);
}

static bool
read_op(const struct phrases *p, struct str s, struct op *op)
{
	regmatch_t g[GROUPS_MAX];

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		if (!match(&p->rows[i], s, g))
			continue;
		*op = (struct op){ .kind = table[i].op };
		op->subject = group(s, g, table[i].subject);
		op->extra = group(s, g, table[i].extra);
		op->subject = op->kind == OP_RUN ? unquote(op->subject) : clean_path(op->subject);
		if (op->kind != OP_COUNT)
			op->extra = unquote(op->extra);
		if (op->subject.n == 0)
			op->subject = STR(".");
		return true;
	}
	return false;
}

/* Offset of the next separator outside quotes whose right side begins a request, or -1; *n is its
 * length. */
static ptrdiff_t
next_split(const struct phrases *p, struct str s, size_t *n)
{
	regmatch_t g[GROUPS_MAX], v[GROUPS_MAX];
	size_t from = 0;

	while (from < s.n && match(&p->separators, str_sub(s, from, s.n), g)) {
		size_t at = from + (size_t)g[0].rm_so, end = from + (size_t)g[0].rm_eo;
		size_t quotes = 0, ticks = 0;

		for (size_t i = 0; i < at; i++) {
			quotes += s.p[i] == '"';
			ticks += s.p[i] == '`';
		}
		if (quotes % 2 == 0 && ticks % 2 == 0 &&
			match(&p->verbs, strip_front(str_sub(s, end, s.n)), v)) {
			*n = end - at;
			return (ptrdiff_t)at;
		}
		from = end > from ? end : from + 1;
	}
	return -1;
}

/* Lines that are no request of their own go on with the content or the command before them, unless
 * that was in quotes. Both are views of the same text, so the view only grows. */
static bool
extend(struct plan *plan, struct str l)
{
	struct op *op = plan->n ? &plan->ops[plan->n - 1] : NULL;
	struct str *s;

	if (!op || (op->kind != OP_WRITE && op->kind != OP_RUN))
		return false;
	s = op->kind == OP_WRITE ? &op->extra : &op->subject;
	if (strchr("\"'`", s->p[s->n]))
		return false;
	s->n = (size_t)(l.p + l.n - s->p);
	return true;
}

static void
add_piece(const struct phrases *p, struct plan *plan, struct str s)
{
	struct op op;

	s = strip_front(s);
	if (s.n == 0 || plan->n >= OPS_MAX)
		return;
	if (read_op(p, s, &op))
		plan->ops[plan->n++] = op;
	else if (!extend(plan, s) && plan->unknown.n == 0)
		plan->unknown = s;
}

static void
read_plan(const struct phrases *p, struct str text, struct arena *a, struct plan *plan)
{
	struct str l;

	/* regexec looks for a NUL even where the length is given: the copy has one. */
	text = arena_str(a, str_sub(text, 0, utf8_cut(text, REQUEST_SEEN)));
	while (str_next(&text, '\n', &l)) {
		ptrdiff_t at;
		size_t n;

		while ((at = next_split(p, l, &n)) >= 0) {
			add_piece(p, plan, str_sub(l, 0, (size_t)at));
			l = str_sub(l, (size_t)at + n, l.n);
		}
		add_piece(p, plan, l);
	}
}

/* ---- calls ---- */

static bool
has_tool(const struct model_request *r, const char *name)
{
	for (size_t i = 0; i < r->tools_n; i++)
		if (strcmp(r->tools[i].name, name) == 0)
			return true;
	return false;
}

static const char *
tool_of(const struct op *op, const struct model_request *r)
{
	static const char *const tools[] = {
		[OP_LIST] = "list",
		[OP_READ] = "read",
		[OP_RUN] = "exec",
		[OP_WRITE] = "write",
		[OP_SUMMARISE] = "read",
		[OP_COUNT] = "exec",
		[OP_GREP] = "grep",
		[OP_FIND] = "glob",
	};

	return op->kind == OP_COUNT && !has_tool(r, "exec") ? "read" : tools[op->kind];
}

/* The option of wc for what is to be counted. */
static char
count_flag(const struct op *op)
{
	char what = (char)(op->extra.p[0] | 0x20);

	return what == 'b' ? 'c' : what == 'c' ? 'm' : what;
}

static void
write_path(struct json *j, const struct op *op)
{
	struct buf b;

	if (op->kind != OP_FIND) {
		json_kv_str(j, "path", op->subject);
		if (op->kind == OP_WRITE)
			json_kv_str(j, "content", op->extra);
		return;
	}
	buf_init(&b, 2 * USER_TEXT_MAX);
	if (str_find_char(op->subject, '/') < 0) /* a name is looked for at any depth */
		buf_add_z(&b, "**/");
	buf_add_str(&b, op->subject);
	json_kv_str(j, "pattern", buf_str(&b));
	buf_fini(&b);
}

static void
write_args(struct json *j, const struct op *op, const char *tool)
{
	struct buf cmd;

	if (strcmp(tool, "exec") == 0) {
		buf_init(&cmd, 2 * USER_TEXT_MAX);
		if (op->kind == OP_COUNT) {
			buf_printf(&cmd, "wc -%c -- ", count_flag(op));
			buf_add_quoted(&cmd, op->subject);
		} else {
			buf_add_str(&cmd, op->subject);
		}
		json_kv_str(j, "command", buf_str(&cmd));
		buf_fini(&cmd);
	} else if (strcmp(tool, "grep") == 0) {
		json_kv_str(j, "pattern", op->extra);
		json_kv_str(j, "path", op->subject);
	} else {
		write_path(j, op);
	}
}

static void
say_op(struct buf *b, const struct op *op)
{
	static const char *const verbs_[] = {
		[OP_LIST] = "list the files in",
		[OP_READ] = "read",
		[OP_RUN] = "run",
		[OP_WRITE] = "write",
		[OP_SUMMARISE] = "summarise",
		[OP_COUNT] = "count",
		[OP_GREP] = "search",
		[OP_FIND] = "find",
	};

	buf_printf(b, "%s ", verbs_[op->kind]);
	if (op->kind == OP_COUNT)
		buf_printf(b, "the %.*s in ", STR_FMT(op->extra));
	buf_printf(b, "`%.*s`", STR_FMT(str_sub(op->subject, 0, utf8_cut(op->subject, 200))));
	if (op->kind == OP_GREP)
		buf_printf(
			b, " for `%.*s`", STR_FMT(str_sub(op->extra, 0, utf8_cut(op->extra, 200))));
}

static int
call(const struct op *op, const struct model_request *r, struct offline_out *o, struct err *e)
{
	const char *tool = tool_of(op, r);
	struct offline_step *s;
	struct buf b;
	struct json j;
	int rc;

	buf_init(&b, 2 * USER_TEXT_MAX);
	buf_add_z(&b, "I will ");
	say_op(&b, op);
	buf_add_char(&b, '.');
	rc = offline_text(o, OFFLINE_TEXT, arena_str(o->a, buf_str(&b)), 0, 0, e);
	s = rc == 0 ? offline_add(o, OFFLINE_CALL) : NULL;
	if (s) {
		buf_reset(&b);
		json_init(&j, &b);
		json_obj(&j);
		write_args(&j, op, tool);
		json_obj_end(&j);
		s->tool = str_of(tool);
		s->args = arena_str(o->a, buf_str(&b));
	}
	buf_fini(&b);
	return s    ? 0
	       : rc ? rc
		    : err_set(e, ERR_LIMIT, ERR_TO_USER, "the offline model's answer is too long");
}

/* ---- the report ---- */

static void
add_shown(struct buf *b, struct str text)
{
	size_t n;

	text = str_trim(text);
	n = utf8_cut(text, SHOWN_MAX);
	buf_add_str(b, str_sub(text, 0, n));
	if (n < text.n)
		buf_printf(b, "\n(%zu more bytes are not shown)", text.n - n);
}

struct counts {
	size_t lines, words, bytes, characters;
};

static struct counts
count_text(struct str s)
{
	struct counts c = { .bytes = s.n };
	bool in_word = false;

	for (size_t i = 0; i < s.n; i++) {
		bool space = strchr(" \t\n\r\v\f", s.p[i]) && s.p[i];

		c.words += !space && !in_word;
		c.lines += s.p[i] == '\n';
		c.characters += ((unsigned char)s.p[i] & 0xC0) != 0x80;
		in_word = !space;
	}
	c.lines += s.n > 0 && s.p[s.n - 1] != '\n';
	return c;
}

/* Tools add a last line in brackets. Takes it off; true when it says that there is more than was
 * read. */
static bool
strip_note(struct str *text)
{
	struct str t = str_trim(*text), note;
	size_t from = t.n;

	if (t.n == 0 || t.p[t.n - 1] != ']')
		return false;
	while (from > 0 && t.p[from - 1] != '\n')
		from--;
	note = str_sub(t, from, t.n);
	if (note.p[0] != '[')
		return false;
	*text = str_sub(t, 0, from);
	return str_find(note, STR("read on")) >= 0;
}

/* The first sentence of prose: headings, rules, quotes of code and empty lines are passed over. */
static struct str
first_sentence(struct str text)
{
	struct str l, rest = text, s;
	bool in_code = false;

	while (str_next(&rest, '\n', &l)) {
		struct str t = str_trim(l);

		if (str_starts(t, "```"))
			in_code = !in_code;
		else if (!in_code && t.n > 0 && !strchr("#=-*_|<!>`[", t.p[0]))
			break;
		l = STR("");
	}
	if (l.n == 0)
		return STR("");
	s = str_sub(text, (size_t)(l.p - text.p), text.n);
	for (size_t i = 0; i < s.n; i++) {
		bool at_end = i + 1 == s.n || s.p[i + 1] == ' ' || s.p[i + 1] == '\n';

		if ((strchr(".!?", s.p[i]) && s.p[i] && at_end) ||
			(s.p[i] == '\n' && i + 1 < s.n && s.p[i + 1] == '\n')) {
			s = str_sub(s, 0, i + 1);
			break;
		}
	}
	return str_trim(str_sub(s, 0, utf8_cut(s, SENTENCE_MAX)));
}

static void
add_one_line(struct buf *b, struct str s)
{
	struct str l;
	bool first = true;

	while (str_next(&s, '\n', &l)) {
		if (!first)
			buf_add_char(b, ' ');
		buf_add_str(b, str_trim(l));
		first = false;
	}
}

static void
add_summary(struct buf *b, const struct op *op, struct str text)
{
	bool is_part = strip_note(&text);
	struct counts c = count_text(text);
	struct str l, rest = text, sentence = first_sentence(text);
	size_t headings = 0;

	buf_printf(b, "Summary of `%.*s`: ", STR_FMT(op->subject));
	if (sentence.n)
		add_one_line(b, sentence);
	else
		buf_add_z(b, "no prose was found.");
	buf_printf(b, " (%zu lines, %zu words, %zu bytes%s)", c.lines, c.words, c.bytes,
		is_part ? " in the first part, which is all that I read" : "");
	while (headings < HEADINGS_MAX && str_next(&rest, '\n', &l)) {
		if (l.n < 3 || l.p[0] != '#' || !strchr("# ", l.p[1]))
			continue;
		while (l.n && (l.p[0] == '#' || l.p[0] == ' '))
			l = str_sub(l, 1, l.n);
		buf_printf(b, "%s%.*s", headings++ ? "; " : "\nHeadings: ", STR_FMT(str_trim(l)));
	}
}

/* The number that wc printed: on the line that names the file, or else the first line that begins
 * with one. */
static bool
wc_number(struct str text, struct str path, int64_t *n)
{
	struct str l, digits;
	bool found = false;
	size_t d;

	while (str_next(&text, '\n', &l)) {
		l = str_trim(l);
		for (d = 0; d < l.n && l.p[d] >= '0' && l.p[d] <= '9';)
			d++;
		digits = str_sub(l, 0, d);
		if (d == 0 || (d < l.n && l.p[d] != ' '))
			continue;
		if (str_eq(str_trim(str_sub(l, d, l.n)), path))
			return str_i64(digits, n) == 0;
		if (!found)
			found = str_i64(digits, n) == 0;
	}
	return found;
}

static void
add_count(struct buf *b, const struct op *op, const char *tool, struct str text)
{
	bool by_exec = strcmp(tool, "exec") == 0, is_part = !by_exec && strip_note(&text);
	struct counts c = count_text(text);
	char flag = count_flag(op);
	size_t here = flag == 'w'   ? c.words
		      : flag == 'l' ? c.lines
		      : flag == 'c' ? c.bytes
				    : c.characters;
	int64_t n = (int64_t)here;

	if (by_exec && !wc_number(text, op->subject, &n)) {
		buf_add_z(b, "I could not find the number in what the command printed:\n");
		add_shown(b, text);
		return;
	}
	buf_printf(b, "`%.*s` has %lld %.*s%s.", STR_FMT(op->subject), (long long)n,
		STR_FMT(op->extra), is_part ? " in its first part, which is all that I read" : "");
}

static void
add_done(struct buf *b, const struct op *op, const char *tool, struct str text)
{
	switch (op->kind) {
	case OP_SUMMARISE:
		add_summary(b, op, text);
		return;
	case OP_COUNT:
		add_count(b, op, tool, text);
		return;
	case OP_WRITE:
		buf_printf(b, "I wrote %zu bytes to `%.*s`.", op->extra.n, STR_FMT(op->subject));
		return;
	case OP_LIST:
	case OP_READ:
	case OP_RUN:
	case OP_GREP:
	case OP_FIND:
		break;
	}
	buf_add_z(b, "Asked to ");
	say_op(b, op);
	buf_add_z(b, ", the tool answered:\n");
	if (str_trim(text).n)
		add_shown(b, text);
	else
		buf_add_z(b, "(nothing)");
}

static void
add_failed(struct buf *b, const struct op *op, struct str text)
{
	buf_add_z(b, "I could not ");
	say_op(b, op);
	buf_add_z(b, ": ");
	add_shown(b, text.n ? text : STR("the tool failed without a message"));
}

/* The end of the work: done counts the results that belong to the plan. missing: a tool that is not
 * offered. */
static int
report(const struct plan *plan, const struct offline_view *v, const struct model_request *r,
	const char *missing, struct offline_out *o, struct err *e)
{
	size_t done = MIN(v->results_n, plan->n);
	struct buf b;
	int rc;

	buf_init(&b, MODEL_TEXT_MAX);
	for (size_t i = 0; i < done; i++) {
		if (i > 0)
			buf_add_z(&b, "\n\n");
		if (v->results[i]->is_error)
			add_failed(&b, &plan->ops[i], v->results[i]->text);
		else
			add_done(&b, &plan->ops[i], tool_of(&plan->ops[i], r), v->results[i]->text);
	}
	if (missing)
		buf_printf(&b, "%sI cannot do the rest: the tool `%s` is not offered here.",
			done ? "\n\n" : "", missing);
	if (done < plan->n) {
		buf_add_z(&b, "\n\nNot done: ");
		for (size_t i = done; i < plan->n; i++) {
			buf_add_z(&b, i > done ? "; " : "");
			say_op(&b, &plan->ops[i]);
		}
		buf_add_char(&b, '.');
	}
	if (plan->unknown.n)
		buf_printf(&b, "\n\nI did not understand: %.*s",
			STR_FMT(str_sub(plan->unknown, 0, utf8_cut(plan->unknown, 200))));
	rc = offline_text(o, OFFLINE_TEXT, arena_str(o->a, buf_str(&b)), 0, 0, e);
	buf_fini(&b);
	return rc;
}

int
phrases_answer(const struct phrases *p, const struct model_request *r, struct offline_out *o,
	struct err *e)
{
	struct plan plan = { 0 };
	struct offline_view v;
	const struct op *next;

	if (offline_look(r, r->messages_n, o->a, &v, e) != 0)
		return ERR_LIMIT;
	read_plan(p, v.user, o->a, &plan);
	if (plan.n == 0)
		return offline_text(o, OFFLINE_TEXT, str_of(help), 0, 0, e);
	if (v.results_n >= plan.n || (v.result && v.result->is_error))
		return report(&plan, &v, r, NULL, o, e);
	next = &plan.ops[v.results_n];
	if (!has_tool(r, tool_of(next, r)))
		return report(&plan, &v, r, tool_of(next, r), o, e);
	return call(next, r, o, e);
}
