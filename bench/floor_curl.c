/* SPDX-License-Identifier: MIT
 * The least that a program over libcurl can do: floor_curl URL [CALLS] streams one answer of an OpenAI-compatible server
 * and prints its bytes; with CALLS it runs `sh -c true` that often, each time sending the grown conversation. It keeps
 * nothing, isolates nothing and understands nothing. */
#include <curl/curl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define BODY_MAX (1 << 20)

extern char **environ;

static size_t
on_bytes(char *p, size_t size, size_t n, void *arg)
{
	*(size_t *)arg += size * n;
	return fwrite(p, size, n, stdout) * size;
}

static int
run_true(void)
{
	char *argv[] = { (char[]){ "sh" }, (char[]){ "-c" }, (char[]){ "true" }, NULL };
	int status = -1;
	pid_t pid;

	if (posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) != 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

/* The conversation after `calls` tool calls. */
static void
write_body(char *out, size_t size, int calls, int calls_all)
{
	size_t n = (size_t)snprintf(out, size,
		"{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}",
		calls_all > 0 ? "call the tools" : "say a word");

	for (int i = 0; i < calls && n < size; i++)
		n += (size_t)snprintf(out + n, size - n,
			",{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c%d\",\"type\":\"function\",\"function\":{\"name\":"
			"\"exec\",\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"c%d\",\"content\":\"ok\"}",
			i, i);
	if (n < size)
		snprintf(out + n, size - n, "]}");
}

int
main(int argc, char **argv)
{
	int calls = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;
	struct curl_slist *headers;
	static char body[BODY_MAX];
	size_t got = 0;
	CURLcode rc = CURLE_OK;
	CURL *c;

	if (argc < 2 || curl_global_init(CURL_GLOBAL_DEFAULT) != 0 || (c = curl_easy_init()) == NULL)
		return 2;
	headers = curl_slist_append(NULL, "content-type: application/json");
	curl_easy_setopt(c, CURLOPT_URL, argv[1]);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_bytes);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, &got);
	for (int i = 0; i <= calls && rc == CURLE_OK; i++) {
		write_body(body, sizeof(body), i, calls);
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
		rc = curl_easy_perform(c);
		if (i < calls && run_true() != 0)
			return 1;
	}
	if (rc != CURLE_OK)
		fprintf(stderr, "floor_curl: %s\n", curl_easy_strerror(rc));
	curl_easy_cleanup(c);
	curl_slist_free_all(headers);
	curl_global_cleanup();
	return rc == CURLE_OK && got > 0 ? 0 : 1;
}
