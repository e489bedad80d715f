/* SPDX-License-Identifier: MIT
 * The tools that people use must work in a cell: each row runs a small real task. A tool that is not installed is a SKIP
 * that names it. */
#include "../unit/sandbox/rig.h"

static const struct row {
	const char *tool; /* looked up in /usr/bin and /bin */
	const char *command, *output;
} rows[] = {
	{ "git", "git init -q r && cd r && echo a > f && git add f && git -c user.name=a -c user.email=a@b commit -qm one && "
		 "git mv f g && mkdir d && git mv g d/ && git -c user.name=a -c user.email=a@b commit -qm two && git log --format=%s && "
		 "git clone -q . ../copy && git -C ../copy status --short", "two\none\n" },
	{ "gcc", "printf '#include <stdio.h>\\n#include <pthread.h>\\nstatic void *f(void *p) { return p; }\\n"
		 "int main(void) { pthread_t t; void *r; pthread_create(&t, 0, f, \"thread\"); pthread_join(t, &r); puts(r); }\\n' > a.c && "
		 "gcc -O2 -Wall -o a a.c -pthread && ./a", "thread\n" },
	{ "make", "printf 'all: x y\\n\\t@cat x y\\nx y:\\n\\t@echo $@ > $@\\n' > Makefile && make -s -j4", "x\ny\n" },
	{ "python3", "/usr/bin/python3 -m venv --without-pip v && . v/bin/activate && python -c 'import sys, json, sqlite3, ssl, subprocess, "
		     "multiprocessing as m; print(sys.prefix, subprocess.check_output([\"echo\", \"x\"]).decode().strip(), "
		     "m.Pool(2).map(abs, [-1, -2]))'", "/shared/v x [1, 2]\n" },
	{ "node", "node -e 'const {Worker} = require(\"worker_threads\"); const w = new Worker(\"require(\\\"worker_threads\\\")."
		  "parentPort.postMessage(6*7)\", {eval: true}); w.on(\"message\", m => console.log(m));'", "42\n" },
	{ "npm", "mkdir p && cd p && npm init -y >/dev/null && npm pkg get name", "\"p\"\n" },
	{ "tar", "mkdir t && echo a > t/f && ln -s f t/l && chmod 640 t/f && tar -czf t.tgz t && mkdir u && tar -xzpf t.tgz -C u && "
		 "stat -c %a u/t/f && readlink u/t/l", "640\nf\n" },
	/* Setuid and setgid are refused: the rest of the work is done, and the status says that not all was. */
	{ "tar", "mkdir -p a/d && echo x > a/f && tar --mode=g+s -cf a.tar a && mkdir u && tar -xf a.tar -C u && stat -c %a u/a u/a/d u/a/f",
	  "755\n755\n644\n" },
	{ "cp", "cp /usr/bin/passwd x && stat -c %a x && cp -p /usr/bin/passwd y; cmp /usr/bin/passwd y && find y ! -perm /6000", "755\ny\n" },
	{ "install", "echo a > f && install -m 755 f g && install -d -m 755 d/e && stat -c %a g d/e && install -m 4755 f h 2>e; echo $?; "
		     "cat h; grep -c 'not permitted' e", "755\n755\n1\na\n1\n" },
	{ "rm", "touch f && chmod 1777 . && chmod 4755 f 2>e; echo $?; chmod 0755 f && chmod g-s . && chmod 755 . && rm f", "1\n" },
	{ "sqlite3", "sqlite3 x.db 'pragma journal_mode=wal; create table t(a); insert into t values (1), (2); select sum(a) from t;'",
	  "wal\n3\n" },
	{ "perl", "perl -e 'use POSIX; my $p = fork // die; if (!$p) { POSIX::_exit(3) } waitpid $p, 0; print $? >> 8, \"\\n\"'", "3\n" },
	{ "javac", "printf 'public class A { public static void main(String[] a) throws Exception { Thread t = new Thread(() -> "
		   "System.out.println(6 * 7)); t.start(); t.join(); } }' > A.java && javac -J-Xmx128m A.java && java -Xmx64m A", "42\n" },
	{ "go", "printf 'package main\\nfunc main() { c := make(chan int); go func() { c <- 42 }(); println(<-c) }\\n' > m.go && "
		"GOFLAGS=-mod=mod GOCACHE=/tmp/c go run m.go 2>&1", "42\n" },
	{ "script", "script -qec 'tty >/dev/null && echo terminal' /dev/null | tr -d '\\r'", "terminal\n" },
	{ "curl", "/usr/bin/python3 -m http.server -b 127.0.0.1 8000 >/dev/null 2>&1 & echo hello > page; "
		  "curl -s --retry 20 --retry-connrefused --retry-delay 0 --retry-max-time 10 http://127.0.0.1:8000/page", "hello\n" },
};

static void
test_tool(void **state)
{
	const struct row *row = *state;
	char path[64];
	struct rig rig, *r = &rig;
	struct outcome o;

	snprintf(path, sizeof(path), "/usr/bin/%s", row->tool);
	if (access(path, X_OK) != 0) {
		print_message("   SKIP: %s is not installed\n", row->tool);
		skip();
	}
	rig_start(r);
	r->plan.memory_bytes = 1024 * MIB;
	r->plan.processes = 512;
	r->plan.file_bytes = 256 * MIB;
	int64_t began = clock_mono_ms();
	rig_sh(r, row->command, &o);
	if (o.e.code != 0 || o.st.exit_code != 0 || strcmp(buf_z(&o.out), row->output) != 0)
		fail_msg("%s: %s exit %d signal %d\n%s\n%s", row->tool, o.e.msg, o.st.exit_code, o.st.signal, buf_z(&o.out),
			buf_z(&o.err));
	print_message("   %s works, %lld ms\n", row->tool, (long long)(clock_mono_ms() - began));
	outcome_fini(&o);
	rig_stop(r);
}

int
main(void)
{
	struct CMUnitTest tests[ARRAY_LEN(rows)] = { 0 };
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].tool, .test_func = test_tool,
			.initial_state = (void *)(uintptr_t)&rows[i] };
	return _cmocka_run_group_tests("tools", tests, ARRAY_LEN(rows), NULL, NULL);
}
