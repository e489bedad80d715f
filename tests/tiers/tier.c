/* SPDX-License-Identifier: MIT
 * The life of a sidecar in the tier RIG_TIER: started, reached, refused what it may not see, lost, started again over what
 * was left, ended; and each reason for which it cannot be used. RIG_ONLY: tests of that name. */
#include "../unit/sandbox/rig.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include "base/json.h"
#include "sandbox/vm_host.h"

static const struct tier *tier;

static struct rig *
begin(void)
{
	struct rig *r = xcalloc(1, sizeof(*r));
	rig_init(r);
	return r;
}

static void
end(struct rig *r)
{
	rig_stop(r);
	free(r);
}

static void
test_works(void **state)
{
	struct rig *r = begin();
	struct outcome o;
	char path[RIG_PATH + 16];

	rig_spawn(r);
	rig_peer(r);
	assert_string_equal(sandbox_facts(r->sb)->tier, tier->name);
	assert_int_equal(sandbox_facts(r->sb)->level, CELL_FULL);
	rig_expect(r, "echo from inside > file; cat file; id -u; pwd", "from inside\n1000\n/shared\n");
	snprintf(path, sizeof(path), "%s/file", r->shared);
	assert_int_equal(access(path, F_OK), 0); /* the same directory */
	rig_expect(r, "git --version >/dev/null && python3 -c 'print(6 * 7)' && ls /usr/bin/env", "42\n/usr/bin/env\n");
	/* A runtime that comes back. */
	rig_peer(r);
	rig_expect(r, "cat file", "from inside\n");
	/* What nobody mounted is refused with a reason, not shown empty. */
	struct exec_request q = rig_request(r, "elsewhere", "true");
	struct cell_plan plan = r->plan;
	char other[RIG_PATH];
	snprintf(other, sizeof(other), "%s/other", r->dir);
	assert_int_equal(mkdir(other, 0755), 0);
	plan.shared = other;
	q.plan = &plan;
	q.cell = "cell-2";
	rig_run(r, &q, &o);
	assert_int_equal(o.e.code, ERR_UNSUPPORTED);
	assert_non_null(strstr(o.e.msg, "not_mounted: "));
	outcome_fini(&o);
	if (geteuid() == 0) { /* root inside is not root of what is shared */
		assert_int_equal(chown(r->shared, 65534, 65534), 0);
		q = rig_request(r, "foreign", "true");
		q.cell = "cell-3";
		rig_run(r, &q, &o);
		assert_int_equal(o.e.code, ERR_UNSUPPORTED);
		assert_non_null(strstr(o.e.msg, "foreign_owner: "));
		outcome_fini(&o);
		assert_int_equal(chown(r->shared, 0, 0), 0);
	}
	end(r);
}

/* Without its descriptor the whole guest is gone; the next start clears away what is left of it. */
static void
test_lost(void **state)
{
	struct rig *r = begin();
	struct tier_reason why;
	struct tier_run first;

	rig_spawn(r);
	rig_peer(r);
	first = r->tier;
	rig_expect(r, "echo one", "one\n");
	struct outcome o;
	struct exec_request q = rig_request(r, "long", "echo begun; sleep 100");
	rig_begin(r, &q, &o);
	o.stop_after = 1;
	rig_wait(r);
	o.stop_after = 0;
	tier->stop(&(struct tier_run){ .tier = tier, .oci = first.oci, .id = { 0 } }); /* of no container: harmless */
	assert_false(r->guest_ended);
	struct tier_run copy = first;
	tier->stop(&copy);
	rig_finish(&o);
	assert_int_equal(o.e.code, ERR_GONE);
	outcome_fini(&o);
	while (!r->guest_ended)
		rig_wait(r);
	wire_close(take_ptr(&r->runner));
	/* Two starts in a row, the first left behind as by a runner that was killed. */
	rig_spawn(r);
	rig_peer(r);
	first = r->tier;
	wire_close(take_ptr(&r->runner));
	assert_int_equal(rig_tier_start(r, tier, &why), 0);
	bool is_running = true;
	struct err e, end_why;
	assert_true(oci_is_running(&first.oci, first.id, &is_running, &end_why, &e) != 0 || !is_running);
	rig_boot(r, NULL);
	while (!r->is_ready)
		rig_wait(r);
	rig_peer(r);
	rig_expect(r, "echo two", "two\n");
	end(r);
}

static void
test_reasons(void **state)
{
	struct rig *r = begin();
	struct tier_reason why = { 0 };
	char engine[RIG_PATH], guest[RIG_PATH], found[120];
	struct tier_spec s = { .home = r->run, .guest = guest, .run_dir = r->run, .spool_dir = r->spool, .state_root = r->cells,
		.memory_bytes = 64 * MIB, .processes = 64, .cpu_percent = 100 };
	struct tier_run run;
	int fd;

	snprintf(engine, sizeof(engine), "%s/none.sock", r->dir);
	rig_guest_path(guest);
	s.container.socket = engine;
	assert_int_equal(tier->probe(&s, found, &why), ERR_UNSUPPORTED);
	assert_string_equal(why.code, "engine_missing");
	assert_int_equal(tier->start(&s, &run, &fd, &why), ERR_UNSUPPORTED);
	s.container.socket = getenv("RIG_ENGINE");
	assert_int_equal(tier->probe(&s, found, &why), 0);
	assert_true(strlen(found) > 0);
	s.container.image = "localhost/ithaca-no-such-image";
	assert_int_equal(tier->start(&s, &run, &fd, &why), ERR_NOT_FOUND);
	assert_string_equal(why.code, "image_missing");
	s.container.image = NULL;
	s.guest = "/bin/false"; /* ends at once: told with its status, not after a long wait */
	int64_t began_ms = clock_mono_ms();
	assert_int_equal(tier->start(&s, &run, &fd, &why), ERR_FAILED);
	assert_string_equal(why.code, "guest_failed");
	assert_non_null(strstr(why.e.msg, "status 1"));
	assert_true(clock_mono_ms() - began_ms < TIER_START_MS);
	sandbox_free(r->sb);
	loop_close(r->l);
	rig_remove(r->dir);
	free(r);
}

/* ---- microvm ---- */

static void
test_machine_lost(void **state)
{
	struct rig *r = begin();
	struct outcome o;

	rig_spawn(r);
	rig_peer(r);
	rig_expect(r, "grep -c . /proc/self/cgroup; uname -n", "1\ncell\n");
	assert_int_equal(sandbox_facts(r->sb)->limits, LIMITS_CGROUP); /* its own kernel has them, whoever we are */
	struct rlimit file_size;
	assert_int_equal(prlimit(r->tier.machine, RLIMIT_FSIZE, NULL, &file_size), 0);
	assert_int_equal(file_size.rlim_max, SAVED_MEMORY_AT); /* it fills no disk */
	struct exec_request q = rig_request(r, "long", "echo begun; sleep 100");
	rig_begin(r, &q, &o);
	o.stop_after = 1;
	rig_wait(r);
	o.stop_after = 0;
	struct tier_run copy = r->tier;
	r->tier.tier = NULL;
	tier->stop(&copy);
	rig_finish(&o);
	assert_int_equal(o.e.code, ERR_GONE);
	outcome_fini(&o);
	end(r);
}

/* What a machine says of itself; random is what its generator and a new process get. */
struct told {
	char random[256];
	struct buf console;
	long long at_ms;
	bool is_restored;
};

static struct told
one_start(struct rig *r)
{
	static const char facts[] = "head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n'; echo; cat /proc/sys/kernel/random/uuid "
				    "/proc/sys/kernel/random/boot_id; "
				    "od -An -tx1 -N 16 /dev/random; date +%s%3N";
	struct told t = { 0 };
	struct outcome o;

	rig_spawn(r);
	rig_peer(r);
	t.is_restored = r->tier.is_restored;
	buf_init(&t.console, MIB);
	rig_sh(r, facts, &o);
	for (char *at; (at = buf_reserve(&t.console, 4096)) != NULL;) {
		ssize_t n = read(r->tier.logs[0].fd, at, 4096);
		if (n <= 0)
			break;
		buf_added(&t.console, (size_t)n);
	}
	if (o.e.code != 0 || o.out.n >= sizeof(t.random))
		fail_msg("no facts: %s", o.e.msg);
	snprintf(t.random, sizeof(t.random), "%s", buf_z(&o.out));
	t.random[MAX(o.out.n, 1) - 1] = '\0'; /* of the last line */
	char *last = strrchr(t.random, '\n');
	assert_non_null(last);
	t.at_ms = strtoll(last + 1, NULL, 10);
	*last = '\0';
	assert_in_range(t.at_ms, clock_wall_ms() - 2000 * rig_slow(), clock_wall_ms() + 100);
	outcome_fini(&o);
	wire_begin(r->runner, WIRE_STOP, 0);
	assert_int_equal(wire_end(r->runner, STR(""), -1), 0);
	while (!r->guest_ended)
		rig_wait(r);
	wire_close(take_ptr(&r->runner));
	r->tier.tier->stop(&r->tier);
	return t;
}

/* No line of one is a line of the other. */
static void
expect_other(const struct told *a, const struct told *b)
{
	struct str rest = str_of(a->random), line;

	while (str_next(&rest, '\n', &line)) {
		assert_true(line.n > 30);
		assert_true(str_find(str_of(b->random), line) < 0);
	}
}

static void
told_fini(struct told *t)
{
	buf_fini(&t->console);
}

static bool
is_restored_start(struct rig *r)
{
	struct told t = one_start(r);

	told_fini(&t);
	return t.is_restored;
}

/* Whether the generators of two starts gave a number in common; each has shown some. */
static bool
shares_a_number(const struct told *a, const struct told *b)
{
	struct str rest = buf_str(&a->console), line;
	size_t n = 0;
	bool is_shared = false;

	while (str_next(&rest, '\n', &line)) {
		if (!str_starts(line, "number "))
			continue;
		n++;
		is_shared = is_shared || str_find(buf_str(&b->console), line) >= 0;
	}
	if (n < 32)
		fail_msg("%zu numbers: %s", n, buf_z(&((struct told *)(uintptr_t)a)->console));
	return is_shared;
}

/* Where the host is so slow that one is not restored in time, it boots, and is another state from then on. */
static void
two_of_one_state(struct rig *r, struct told *a, struct told *b)
{
	bool has_a = false;

	for (int starts = 0; starts < 10; starts++) {
		struct told t = one_start(r);
		if (t.is_restored && has_a) {
			*b = t;
			return;
		}
		if (has_a)
			told_fini(a);
		has_a = t.is_restored;
		if (has_a)
			*a = t;
		else
			told_fini(&t);
	}
	fail_msg("of ten starts no two in a row were restored");
}

/* What a start brings for the generator is what makes the difference: without, two machines restored from one state draw the
 * same numbers. Both guests are of this test, and show what they draw first. */
static void
test_machine_reseeded(void **state)
{
	static const struct {
		const char *guest;
		bool shares;
	} rows[] = { { "guest-unseeded", true }, { "guest-reseeded", false } };
	char *saved = getenv("RIG_SAVED") != NULL ? strdup(getenv("RIG_SAVED")) : NULL,
	     *guest = getenv("ITHACA_GUEST") != NULL ? strdup(getenv("ITHACA_GUEST")) : NULL;
	char path[RIG_PATH + 32], self[RIG_PATH];

	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	assert_true(n > 0);
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct rig *r = begin();
		snprintf(path, sizeof(path), "%s/machine", r->dir);
		setenv("RIG_SAVED", path, 1);
		snprintf(path, sizeof(path), "%s/%s", self, rows[i].guest);
		setenv("ITHACA_GUEST", path, 1);
		struct told a, b;
		two_of_one_state(r, &a, &b);
		if (shares_a_number(&a, &b) != rows[i].shares)
			fail_msg("%s: two machines of one state %s", rows[i].guest,
				rows[i].shares ? "draw other numbers: this proves nothing" : "draw the same numbers");
		told_fini(&a);
		told_fini(&b);
		sandbox_free(r->sb);
		loop_close(r->l);
		rig_remove(r->dir);
		free(r);
	}
	if (saved != NULL)
		setenv("RIG_SAVED", saved, 1);
	else
		unsetenv("RIG_SAVED");
	if (guest != NULL)
		setenv("ITHACA_GUEST", guest, 1);
	else
		unsetenv("ITHACA_GUEST");
	free(saved);
	free(guest);
}

static void
damage(const char *path, off_t at, const char *bytes, size_t n)
{
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0 && pwrite(fd, bytes, n, at) == (ssize_t)n);
}

/* Saved by the first start, restored by the next ones, which share neither time nor randomness; what does not come up is
 * replaced, whatever is wrong with it. */
static void
test_machine_saved(void **state)
{
	struct rig *r = begin();
	char path[RIG_PATH], *was = getenv("RIG_SAVED") != NULL ? strdup(getenv("RIG_SAVED")) : NULL, head[SAVED_HEADER_MAX];
	struct saved_header h;
	struct stat st;
	struct err e;

	snprintf(path, sizeof(path), "%s/machine", r->dir);
	setenv("RIG_SAVED", path, 1);
	struct told first = one_start(r);
	assert_false(first.is_restored);
	told_fini(&first);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	struct told second = one_start(r), third = one_start(r);
	assert_true(second.is_restored && third.is_restored);
	expect_other(&first, &second);
	expect_other(&second, &third);
	told_fini(&second);
	told_fini(&third);
	/* QEMU refuses the state of its devices, whose check is right. */
	int fd = open(path, O_RDWR | O_CLOEXEC), memory = memfd_create("test", MFD_CLOEXEC), none = -1;
	assert_int_equal(pread(fd, head, sizeof(head), 0), sizeof(head));
	assert_int_equal(saved_header_parse((struct str){ head, sizeof(head) }, &h, &e), 0);
	close(fd);
	assert_int_equal(saved_begin(path, &fd, &e), 0);
	assert_int_equal(write(fd, "no state of a machine", 21), 21);
	assert_int_equal(ftruncate(memory, (off_t)h.memory_bytes), 0);
	assert_int_equal(saved_end(path, h.key, fd, memory, (int64_t)h.memory_bytes, &e), 0);
	close(fd);
	assert_int_equal(saved_open(path, h.key, memory, (int64_t)h.memory_bytes, &none, &e), 0);
	close(none);
	close(memory);
	assert_false(is_restored_start(r));
	assert_true(is_restored_start(r));
	/* Damage that QEMU would not see. */
	damage(path, SAVED_MEMORY_AT + 32 * (off_t)MIB, "damage", 6);
	assert_false(is_restored_start(r));
	assert_true(is_restored_start(r));
	/* It cannot be saved: the start is none the worse. */
	setenv("RIG_SAVED", "/proc/none", 1);
	assert_false(is_restored_start(r));
	if (was != NULL)
		setenv("RIG_SAVED", was, 1);
	else
		unsetenv("RIG_SAVED");
	free(was);
	sandbox_free(r->sb);
	loop_close(r->l);
	rig_remove(r->dir);
	free(r);
}

/* Its kernel gives up: told with its own words, and nothing is left. */
static void
test_machine_panics(void **state)
{
	static const char *const gone[] = { "runner.sock", "fs.sock", "initrd", "share", "processes", "tree" };
	struct rig *r = begin();
	struct tier_reason why = { 0 };
	char guest[RIG_PATH], script[RIG_PATH + 16], text[RIG_PATH + 64], saved[RIG_PATH + 16], path[RIG_PATH + 64];
	struct tier_spec s = { .home = r->run, .guest = script, .run_dir = r->run, .spool_dir = r->spool, .state_root = r->cells,
		.memory_bytes = 256 * MIB, .processes = 64, .cpu_percent = 100,
		.microvm = { .kernel = getenv("RIG_KERNEL"), .saved = saved, .allow_emulation = true } };
	struct tier_run run;
	struct err e;
	int fd;

	/* It serves the share as ever; as the first program of a machine it lacks its shell. */
	rig_guest_path(guest);
	snprintf(saved, sizeof(saved), "%s/machine", r->dir);
	snprintf(script, sizeof(script), "%s/guest", r->dir);
	snprintf(text, sizeof(text), "#!/bin/sh\nexec %s \"$@\"\n", guest);
	assert_int_equal(file_write(script, str_of(text), 0700, &e), 0);
	assert_int_equal(tier->start(&s, &run, &fd, &why), ERR_FAILED);
	assert_string_equal(why.code, "guest_failed");
	if (strstr(why.e.msg, "Kernel panic - not syncing: No working init") == NULL)
		fail_msg("%s", why.e.msg);
	assert_int_equal(access(saved, F_OK), -1);
	for (size_t i = 0; i < ARRAY_LEN(gone); i++) {
		snprintf(path, sizeof(path), "%s/%s", r->run, gone[i]);
		assert_int_equal(access(path, F_OK), -1);
	}
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child */
	sandbox_free(r->sb);
	loop_close(r->l);
	rig_remove(r->dir);
	free(r);
}

static void
test_machine_reasons(void **state)
{
	struct rig *r = begin();
	struct tier_reason why = { 0 };
	char guest[RIG_PATH], found[120];
	struct tier_spec s = { .home = r->run, .guest = guest, .run_dir = r->run, .spool_dir = r->spool, .state_root = r->cells,
		.memory_bytes = 256 * MIB, .processes = 64, .cpu_percent = 100,
		.microvm = { .kernel = getenv("RIG_KERNEL"), .allow_emulation = true } };

	rig_guest_path(guest);
	assert_int_equal(tier->probe(&s, found, &why), 0);
	s.microvm.qemu = "/nonexistent";
	assert_int_equal(tier->probe(&s, found, &why), ERR_UNSUPPORTED);
	assert_string_equal(why.code, "qemu_missing");
	s.microvm.qemu = NULL;
	s.microvm.virtiofsd = "/nonexistent";
	assert_int_equal(tier->probe(&s, found, &why), ERR_UNSUPPORTED);
	assert_string_equal(why.code, "virtiofsd_missing");
	s.microvm.virtiofsd = NULL;
	s.microvm.kernel = "/nonexistent/vmlinuz-1";
	assert_int_equal(tier->probe(&s, found, &why), ERR_UNSUPPORTED);
	assert_string_equal(why.code, "kernel_missing");
	sandbox_free(r->sb);
	loop_close(r->l);
	rig_remove(r->dir);
	free(r);
}

int
main(void)
{
	tier = tier_find(getenv("RIG_TIER") != NULL ? getenv("RIG_TIER") : "");
	if (tier == NULL) {
		print_message("SKIP: RIG_TIER names no tier (started by tests/tiers/test_*.py)\n");
		return 77;
	}
	if (getenv("RIG_ONLY") != NULL)
		cmocka_set_test_filter(getenv("RIG_ONLY"));
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_reasons), cmocka_unit_test(test_works),
		cmocka_unit_test(test_lost) };
	const struct CMUnitTest machine[] = { cmocka_unit_test(test_machine_reasons), cmocka_unit_test(test_works),
		cmocka_unit_test(test_machine_lost), cmocka_unit_test(test_machine_saved),
		cmocka_unit_test(test_machine_reseeded),
		cmocka_unit_test(test_machine_panics) };
	return tier == &tier_microvm ? cmocka_run_group_tests(machine, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
}
