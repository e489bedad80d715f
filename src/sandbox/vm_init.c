/* SPDX-License-Identifier: MIT
 * ithaca-guest as the first program of a virtual machine, twice. First it loads what reaches the
 * host and waits for a hello; here the host may save the machine, so until then it knows nothing
 * secret, and the hello brings time and randomness that are right now. Then it is executed again,
 * makes the tree that the host shares the root, and carries bytes between serial ports and the
 * socket of shelld. It brings up no network. When shelld ends the machine goes off. Invariant: a
 * port's bytes go to shelld only behind a hello with the token of this start, and each hello begins
 * a new link, whatever an earlier one left on the port. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/random.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "sandbox/door.h"
#include "sandbox/internal.h"
#include "sandbox/vm.h"

#define CHUNK       16384
#define ABSENT_MS   20   /* between two looks at a port that nobody on the host has open */
#define SHARE_TRIES 6000 /* looks for the share, 5 ms apart */

bool
vm_is_first(void)
{
	return getpid() == 1 && access(VM_MARK, F_OK) == 0;
}

static void NORETURN
power_off(const char *why, int code)
{
	if (why != NULL)
		dprintf(2, "ithaca-guest: %s: %s\n", why, strerror(code));
	sync();
	(void)reboot(RB_POWER_OFF);
	_exit(1);
}

static void
must(bool is_done, const char *what)
{
	if (!is_done)
		power_off(what, errno);
}

/* ---- the machine ---- */

static int
by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* In the order of their names, which the host chose. */
static void
load_modules(void)
{
	struct dirent **list;
	char path[300];
	int n = scandir(VM_MODULES, &list, NULL, by_name);

	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), VM_MODULES "/%s", list[i]->d_name);
		int fd = list[i]->d_name[0] == '.' ? -1 : open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)
			power_off(path, errno);
		if (fd >= 0)
			close(fd);
	}
}

/* The console announces its ports when it likes, and has the number that it was found by. */
static int
open_port(int number, int flags)
{
	char name[32];
	int fd = -1;

	for (int i = 0; fd < 0 && i < 500; i++) {
		for (int bus = 0; fd < 0 && bus < 10; bus++) {
			snprintf(name, sizeof(name), "/dev/vport%dp%d", bus, number);
			fd = open(name, O_RDWR | O_CLOEXEC | flags);
		}
		if (fd < 0)
			nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	must(fd >= 0, "a serial port");
	return fd;
}

/* ---- before the host says which start this is ---- */

/* Two machines restored from one state would else draw the same numbers. */
static void
reseed(const unsigned char random[VM_RANDOM])
{
	union {
		struct rand_pool_info info;
		char space[sizeof(struct rand_pool_info) + VM_RANDOM];
	} pool = { .info = { .entropy_count = 8 * VM_RANDOM, .buf_size = VM_RANDOM } };
	AUTO_CLOSE int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);

	memcpy(pool.space + sizeof(pool.info), random, VM_RANDOM);
	must(fd >= 0 && ioctl(fd, RNDADDENTROPY, &pool) == 0 && ioctl(fd, RNDRESEEDCRNG) == 0,
		"randomness");
	explicit_bzero(&pool, sizeof(pool));
}

static void NORETURN
wait_for_host(void)
{
	static char text[VM_HELLO_MAX]; /* too large for the stack */
	char *const argv[] = { (char *)(uintptr_t) "/init", NULL };
	struct vm_hello h;
	size_t n = 0;
	struct buf b;

	must(mount("devtmpfs", "/dev", "devtmpfs", 0, NULL) == 0 || errno == EBUSY, "/dev");
	load_modules();
	int fd = open_port(VM_PORT_BOOT, 0);
	must(write(fd, &(char){ VM_ANSWER }, 1) == 1, "no answer to the host");
	for (int rc = 0; rc == 0;) {
		ssize_t got = read(fd, text + n, sizeof(text) - n);
		if (got <= 0) /* the host has it open in a moment */
			nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
		n += got > 0 ? (size_t)got : 0;
		rc = vm_hello_parse(text, n, &h);
		errno = EPROTO;
		must(rc >= 0, "hello");
	}
	must(clock_settime(CLOCK_REALTIME, &(struct timespec){ .tv_sec = h.at_ns / 1000000000,
						   .tv_nsec = h.at_ns % 1000000000 }) == 0,
		"the time");
	reseed(h.random);
	buf_init(&b, VM_HELLO_MAX);
	buf_printf(&b, "%s\n%s\n", h.token, h.dir);
	must(file_write(VM_CONF, buf_str(&b), 0600, NULL) == 0, VM_CONF);
	execv(argv[0], argv); /* with canaries and addresses of its own */
	power_off(argv[0], errno);
}

/* ---- after it ---- */

/* VM_CONF: the token, then the directory of shelld, a line each. */
static void
read_conf(char token[DOOR_TOKEN_SIZE], char dir[PLAN_PATH_MAX])
{
	char *text;
	size_t n;
	struct str rest, line;

	must(file_read(VM_CONF, PLAN_PATH_MAX + 256, &text, &n, NULL) == 0, VM_CONF);
	rest = (struct str){ text, n };
	must(str_next(&rest, '\n', &line) && door_token_valid(line), "no token");
	memcpy(token, line.p, line.n);
	token[line.n] = '\0';
	must(str_next(&rest, '\n', &line) && line.n > 1 && line.p[0] == '/' &&
			line.n < PLAN_PATH_MAX,
		"no directory");
	memcpy(dir, line.p, line.n);
	dir[line.n] = '\0';
	explicit_bzero(text, n);
	free(text);
	unlink(VM_CONF);
}

/* It is plugged in about when the hello comes, before or behind it. */
static void
await_share(void)
{
	char name[64];

	must(mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0, "/sys");
	for (int i = 0; i < SHARE_TRIES; i++) {
		for (int device = 0; device < 10; device++) {
			snprintf(name, sizeof(name), "/sys/bus/virtio/drivers/virtiofs/virtio%d",
				device);
			if (access(name, F_OK) == 0)
				return;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	}
	errno = ENODEV;
	must(false, "the shared tree");
}

/* The shared tree becomes the root, with what a running system has over its empty directories. */
static void
enter_tree(const char *dir)
{
	static const struct {
		const char *type, *path, *options;
		unsigned long flags;
	} mounts[] = {
		{ "proc", "/new/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
		{ "sysfs", "/new/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
		{ "devtmpfs", "/new/dev", "mode=0755", MS_NOSUID },
	};
	char path[PLAN_PATH_MAX + 8];

	must(mkdir("/new", 0755) == 0, "/new");
	/* The driver has the device a moment before it knows its tag. */
	for (int i = 0; mount(VM_TAG, "/new", "virtiofs", MS_NOSUID | MS_NODEV, NULL) != 0; i++) {
		must(errno == EINVAL && i < SHARE_TRIES, "the shared tree");
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	}
	for (size_t i = 0; i < ARRAY_LEN(mounts); i++)
		must(mount(mounts[i].type, mounts[i].path, mounts[i].type, mounts[i].flags,
			     mounts[i].options) == 0,
			mounts[i].path);
	(void)mount(
		"cgroup2", "/new/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	(void)mkdir("/new/dev/shm", 01777);
	(void)mkdir("/new/dev/pts", 0755);
	must(mount("tmpfs", "/new/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") == 0 &&
			mount("devpts", "/new/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
				"ptmxmode=0666") == 0,
		"devices");
	snprintf(path, sizeof(path), "/new%s", dir);
	must(mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,size=4m") == 0, path);
	must(chdir("/new") == 0 && mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 &&
			chdir("/") == 0,
		"the root");
}

/* ---- the bridge ---- */

struct pipe_half {
	char bytes[CHUNK];
	size_t from, to;
};

struct port {
	int fd, conn;                /* conn: to shelld, -1: none */
	char mark[DOOR_FRAME_MAX];   /* how a hello for this port begins */
	size_t mark_n, seen;         /* of it, in the bytes that came last */
	size_t fail[DOOR_FRAME_MAX]; /* of Knuth, Morris and Pratt */
	struct pipe_half in, out;    /* to shelld, to the host */
	const char *socket;
};

static void
port_open(struct port *p, int number, enum role who, const char *token, const char *socket)
{
	char nonce[DOOR_TOKEN_SIZE];
	struct buf b;

	*p = (struct port){ .conn = -1, .socket = socket, .fd = open_port(number, O_NONBLOCK) };
	memset(nonce, '0', sizeof(nonce) - 1);
	nonce[sizeof(nonce) - 1] = '\0';
	buf_init(&b, DOOR_FRAME_MAX);
	door_hello_put(&b, who, token, nonce);
	ptrdiff_t n = str_find(buf_str(&b), str_of(nonce));
	must(n > 0, "hello");
	memcpy(p->mark, b.p, (size_t)n);
	p->mark_n = (size_t)n;
	buf_fini(&b);
	for (size_t i = 1, k = 0; i < p->mark_n; i++) {
		while (k > 0 && p->mark[i] != p->mark[k])
			k = p->fail[k - 1];
		if (p->mark[i] == p->mark[k])
			k++;
		p->fail[i] = k;
	}
}

static void
link_end(struct port *p)
{
	if (p->conn >= 0)
		close(p->conn);
	p->conn = -1;
	p->in.from = p->in.to = 0;
	p->out.from = p->out.to = 0;
}

static void
link_begin(struct port *p)
{
	struct err e;

	link_end(p);
	for (int i = 0; (p->conn = unix_connect(p->socket, &e)) < 0 && i < 500; i++)
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	if (p->conn < 0)
		return;
	fd_set_nonblock(p->conn);
	memcpy(p->in.bytes, p->mark, p->mark_n);
	p->in.to = p->mark_n;
}

static bool
is_whole_mark(struct port *p, char c)
{
	while (p->seen > 0 && p->mark[p->seen] != c)
		p->seen = p->fail[p->seen - 1];
	if (p->mark[p->seen] == c)
		p->seen++;
	if (p->seen < p->mark_n)
		return false;
	p->seen = 0;
	return true;
}

/* Bytes of the host: those behind a mark are a new link's, those without a link nobody's. */
static void
take(struct port *p, const char *bytes, size_t n)
{
	size_t at = p->in.to;

	for (size_t i = 0; i < n; i++) {
		if (is_whole_mark(p, bytes[i])) {
			link_begin(p);
			at = p->in.to;
		} else if (p->conn >= 0) {
			p->in.bytes[at++] = bytes[i];
			p->in.to = at;
		}
	}
}

static void
flush(struct pipe_half *h, int fd, bool *is_gone)
{
	while (h->from < h->to) {
		ssize_t n = write(fd, h->bytes + h->from, h->to - h->from);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			*is_gone = *is_gone || (n < 0 && errno != EAGAIN);
			return;
		}
		h->from += (size_t)n;
	}
	h->from = h->to = 0;
}

static void
port_turn(struct port *p, bool is_open, short port_events, short conn_events)
{
	char bytes[CHUNK - DOOR_FRAME_MAX];
	bool is_gone = false, ignored = false;

	bool is_left = !is_open && p->conn >= 0; /* what the host still said comes first */
	if (((port_events & POLLIN) != 0 || is_left) && p->in.to == 0) {
		ssize_t n = read(p->fd, bytes, sizeof(bytes));
		if (n > 0)
			take(p, bytes, (size_t)n);
		else if (is_left)
			link_end(p); /* shelld is to know that nobody is there */
	}
	if (p->conn < 0)
		return;
	flush(&p->in, p->conn, &is_gone);
	if ((conn_events & (POLLIN | POLLHUP)) != 0 && p->out.to == 0) {
		ssize_t n = read(p->conn, p->out.bytes, sizeof(p->out.bytes));
		is_gone = is_gone || n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
		p->out.to = n > 0 ? (size_t)n : 0;
	}
	flush(&p->out, p->fd, &ignored);
	if (is_gone && p->out.to == 0)
		link_end(p);
}

static void NORETURN
carry(struct port *ports, size_t n, pid_t shelld)
{
	for (;;) {
		struct pollfd fds[2 * VM_PORTS];
		bool open[VM_PORTS];
		int status, timeout = 1000;

		for (size_t i = 0; i < n; i++) {
			struct port *p = &ports[i];
			struct pollfd look = { .fd = p->fd };
			(void)poll(&look, 1, 0);
			bool is_open = (look.revents & POLLHUP) ==
				       0; /* else poll would return at once, for ever */
			open[i] = is_open;
			timeout = is_open ? timeout : ABSENT_MS;
			fds[2 * i] = (struct pollfd){ .fd = is_open ? p->fd : -1,
				.events = (short)((p->in.to == 0 ? POLLIN : 0) |
						  (p->out.to > 0 ? POLLOUT : 0)) };
			fds[2 * i + 1] = (struct pollfd){ .fd = p->conn,
				.events = (short)((p->out.to == 0 ? POLLIN : 0) |
						  (p->in.to > 0 ? POLLOUT : 0)) };
		}
		(void)poll(fds, 2 * n, timeout);
		for (size_t i = 0; i < n; i++)
			port_turn(&ports[i], open[i], fds[2 * i].revents, fds[2 * i + 1].revents);
		for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
			if (pid == shelld)
				power_off(NULL, 0);
		}
	}
}

void
vm_split(char dir[PLAN_PATH_MAX])
{
	static struct port ports[VM_PORTS]; /* too large for the stack, and there is one bridge */
	static char socket[PLAN_PATH_MAX + 16];
	char token[DOOR_TOKEN_SIZE], path[PLAN_PATH_MAX + 16];

	if (access(VM_CONF, F_OK) != 0)
		wait_for_host();
	read_conf(token, dir);
	await_share();
	enter_tree(dir);
	snprintf(path, sizeof(path), "%s/token", dir);
	must(file_write(path, str_of(token), 0600, NULL) == 0, path);
	snprintf(socket, sizeof(socket), "%s/shelld.sock", dir);
	pid_t pid = fork();
	must(pid >= 0, "fork");
	if (pid == 0) {
		explicit_bzero(token, sizeof(token));
		return;
	}
	signal(SIGPIPE, SIG_IGN);
	port_open(&ports[0], VM_PORT_RUNNER, ROLE_RUNNER, token, socket);
	port_open(&ports[1], VM_PORT_RUNTIME, ROLE_RUNTIME, token, socket);
	port_open(&ports[2], VM_PORT_BROKER, ROLE_BROKER, token, socket);
	carry(ports, VM_PORTS, pid);
}
