/* SPDX-License-Identifier: MIT
 * The least that a program over libcurl can do for many streams: floor_streams [-1] URL STREAMS SECONDS opens them (one
 * each millisecond) with multi_socket on epoll, waits until each has had a byte of its body, and prints what the next
 * SECONDS cost: CPU time and memory above that of the process before. It counts bytes; it keeps, parses and shows
 * nothing. Certificates are not checked. -1: HTTP/1.1 also over TLS. */
#include <curl/curl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define BODY       "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"stream slowly\"}]}"
#define EVENTS_MAX 256
#define SETTLE_MS  1000 /* between the last first byte and the measure */

struct stream {
	struct floor *f;
	size_t got;
};

struct floor {
	CURLM *multi;
	int epoll;
	int64_t timer_ms; /* when libcurl wants to be called; -1: never */
	const char *url;
	long version;
	struct curl_slist *headers;
	struct stream *streams;
	size_t n, begun, alive, reads, bytes;
	int ended;
};

static int64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t
cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (int64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

static long
pss_kib(void)
{
	char line[256];
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	long kib = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "Pss: %ld", &kib) == 1)
			break;
	if (f != NULL)
		fclose(f);
	return kib;
}

static size_t
on_bytes(char *p, size_t size, size_t n, void *arg)
{
	struct stream *s = arg;

	s->f->alive += s->got == 0;
	s->got += size * n;
	s->f->bytes += size * n;
	s->f->reads++;
	return size * n;
}

static int
want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct floor *f = arg;
	struct epoll_event ev = { .data.fd = fd };

	if (what == CURL_POLL_REMOVE) {
		epoll_ctl(f->epoll, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	ev.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (epoll_ctl(f->epoll, EPOLL_CTL_MOD, fd, &ev) != 0)
		epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &ev);
	return 0;
}

static int
want_timer(CURLM *multi, long ms, void *arg)
{
	((struct floor *)arg)->timer_ms = ms < 0 ? -1 : now_ms() + ms;
	return 0;
}

static void
begin(struct floor *f)
{
	CURL *c = curl_easy_init();
	struct stream *s = &f->streams[f->begun++];

	s->f = f;
	curl_easy_setopt(c, CURLOPT_URL, f->url);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, f->headers);
	curl_easy_setopt(c, CURLOPT_POSTFIELDS, BODY);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_bytes);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, s);
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, f->version);
	/* Without TLS a request would wait until the first answer begins. */
	curl_easy_setopt(c, CURLOPT_PIPEWAIT, strncmp(f->url, "https:", 6) == 0 ? 1L : 0L);
	curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
	curl_multi_add_handle(f->multi, c);
}

/* One pass: until something is ready, at most to `until_ms`. */
static void
turn(struct floor *f, int64_t until_ms)
{
	struct epoll_event events[EVENTS_MAX];
	int64_t now = now_ms(), until = f->timer_ms >= 0 && f->timer_ms < until_ms ? f->timer_ms : until_ms;
	int running, left, n = epoll_wait(f->epoll, events, EVENTS_MAX, until > now ? (int)(until - now) : 0);
	CURLMsg *m;

	for (int i = 0; i < n; i++)
		curl_multi_socket_action(f->multi, events[i].data.fd,
			(events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
				(events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0),
			&running);
	if (f->timer_ms >= 0 && f->timer_ms <= now_ms()) {
		f->timer_ms = -1;
		curl_multi_socket_action(f->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	while ((m = curl_multi_info_read(f->multi, &left)) != NULL)
		if (m->msg == CURLMSG_DONE && f->ended++ == 0)
			fprintf(stderr, "floor_streams: a stream ended: %s\n", curl_easy_strerror(m->data.result));
}

static int
measure(struct floor *f, int64_t ms, long idle_kib)
{
	int64_t from = now_ms(), cpu = cpu_us();
	size_t bytes = f->bytes, reads = f->reads;

	while (now_ms() < from + ms)
		turn(f, from + ms);
	printf("{\"streams\":%zu,\"ended\":%d,\"wall_ms\":%lld,\"cpu_ms\":%.3f,\"reads\":%zu,\"bytes\":%zu,\"kib_each\":%.2f}\n", f->n,
		f->ended, (long long)(now_ms() - from), (double)(cpu_us() - cpu) / 1000, f->reads - reads, f->bytes - bytes,
		(double)(pss_kib() - idle_kib) / (double)f->n);
	return f->ended == 0 ? 0 : 1;
}

int
main(int argc, char **argv)
{
	struct floor f = { .epoll = epoll_create1(EPOLL_CLOEXEC), .timer_ms = -1, .version = CURL_HTTP_VERSION_2TLS };
	int first = argc > 1 && strcmp(argv[1], "-1") == 0 ? 2 : 1;
	struct rlimit files;
	long idle_kib;
	int64_t due;

	if (argc - first != 3 || curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
		fputs("usage: floor_streams [-1] URL STREAMS SECONDS\n", stderr);
		return 2;
	}
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	f.url = argv[first];
	f.n = (size_t)strtoul(argv[first + 1], NULL, 10);
	f.version = first == 2 ? CURL_HTTP_VERSION_1_1 : CURL_HTTP_VERSION_2TLS;
	f.multi = curl_multi_init();
	f.headers = curl_slist_append(NULL, "content-type: application/json");
	f.streams = calloc(f.n, sizeof(*f.streams));
	curl_multi_setopt(f.multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	curl_multi_setopt(f.multi, CURLMOPT_SOCKETDATA, &f);
	curl_multi_setopt(f.multi, CURLMOPT_TIMERFUNCTION, want_timer);
	curl_multi_setopt(f.multi, CURLMOPT_TIMERDATA, &f);
	idle_kib = pss_kib();
	for (due = now_ms(); f.alive < f.n && f.ended == 0;) {
		if (f.begun < f.n && now_ms() >= due) {
			begin(&f);
			due++;
		}
		turn(&f, f.begun < f.n ? due : now_ms() + 1000);
	}
	for (due = now_ms() + SETTLE_MS; now_ms() < due;)
		turn(&f, due);
	return measure(&f, strtol(argv[first + 2], NULL, 10) * 1000, idle_kib);
}
