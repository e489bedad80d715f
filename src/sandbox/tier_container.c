/* SPDX-License-Identifier: MIT
 * The container tier: shelld, and in another one the runtime, as the only process of a container without network, with a
 * read-only root, no capability (one for a shelld of root), a profile of system calls of ours, and limits. shelld sees the
 * directories that may be workspaces and its own, the runtime the store, each at the path that it has on the host, so that
 * plans mean the same here and there. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/id.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/path.h"
#include "sandbox/internal.h"
#include "sandbox/tier.h"

#define GUEST_PATH "/run/ithaca-guest" /* inside */
#define DAEMON_PATH "/run/ithacad"
#define SPEC_MAX   MIB
#define TMP_BYTES  (64 * (int64_t)MIB)
#define NOFILE_MAX 16384
#define NPROC_MAX  32768 /* podman's own limit where it may not raise it; the cgroup counts what matters */
#define MAP_MAX    4096 /* of a user namespace; the kernel takes no more than a page */
#define LABEL      "ithaca.home"
#define LABEL_ROLE "ithaca.role"

/* Of a shelld that is root of the container: since Linux 5.12 root may not be mapped into a user namespace without it. One
 * that is another user has none. */
static const char *const root_capabilities[] = { "SETFCAP" };

static bool
is_runtime(const struct tier_spec *s)
{
	return s->runtime.program != NULL;
}

static enum role
role_of(const struct tier_spec *s)
{
	return is_runtime(s) ? ROLE_RUNTIME : ROLE_SHELLD;
}

/* "": the host's own programs, which is what ithacad is linked with. */
static const char *
image_of(const struct tier_spec *s)
{
	return is_runtime(s) || s->container.image == NULL ? "" : s->container.image;
}

/* ---- what it sees ---- */

static void
mount(struct json *j, const char *path, const char *target, bool is_readonly)
{
	json_obj(j);
	json_kv_z(j, "Type", "bind");
	json_kv_z(j, "Source", path);
	json_kv_z(j, "Target", target);
	json_kv_bool(j, "ReadOnly", is_readonly);
	json_obj_end(j);
}

/* What the runtime needs of /etc: where libraries are, and what time it is here. */
static bool
is_for_runtime(const char *path)
{
	static const char *const names[] = { "etc/ld.so.cache", "etc/ld.so.conf", "etc/localtime" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(path, names[i]) == 0)
			return true;
	}
	return strncmp(path, "etc/", 4) != 0;
}

/* The host's programs, as cells of the host see them. */
static void
mount_system(struct json *j, bool for_runtime)
{
	struct survey *s = survey_new();
	const char *paths[SURVEY_PATHS_MAX];
	size_t n = survey_paths(s, paths, ARRAY_LEN(paths));
	struct stat st;
	char host[300];

	mount(j, "/usr", "/usr", true);
	for (size_t i = 0; i < n; i++) {
		snprintf(host, sizeof(host), "/%s", paths[i]);
		/* Links beside /usr are in the image; one of /etc is mounted as what it leads to. */
		if (for_runtime && !is_for_runtime(paths[i]))
			continue;
		if (stat(host, &st) == 0 && (strncmp(paths[i], "etc/", 4) == 0 || (lstat(host, &st) == 0 && S_ISDIR(st.st_mode))))
			mount(j, host, host, true);
	}
	survey_free(s);
}

static bool
is_within(const char *path, const char *dir)
{
	size_t n = strlen(dir);
	return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* A directory that holds the home of the daemon would show its keys: an empty one is put over them. */
static bool
covers_home(const struct tier_spec *s)
{
	for (size_t i = 0; i < s->mounts_n; i++) {
		if (is_within(s->home, s->mounts[i]))
			return true;
	}
	return false;
}

static void
mount_sidecar(struct json *j, const struct tier_spec *s)
{
	mount(j, s->guest, GUEST_PATH, true);
	for (size_t i = 0; i < s->mounts_n; i++)
		mount(j, s->mounts[i], s->mounts[i], false);
	mount(j, s->run_dir, s->run_dir, false);
	mount(j, s->spool_dir, s->spool_dir, false);
	mount(j, s->state_root, s->state_root, false);
}

static void
mount_runtime(struct json *j, const struct tier_spec *s)
{
	mount(j, s->runtime.program, DAEMON_PATH, true);
	mount(j, s->guest, GUEST_PATH, true); /* doctor has it copied into a cell */
	mount(j, s->run_dir, s->run_dir, false);
	mount(j, s->runtime.state, s->runtime.state, false);
	if (s->runtime.store != NULL)
		mount(j, s->runtime.store, s->runtime.store, false);
}

/* Empty: podman would fill it with what it covers. */
static void
mount_empty(struct json *j, const struct oci *g, const char *path, const char *access, int mode, int64_t bytes)
{
	char text[128];

	snprintf(text, sizeof(text), "%s,nosuid,nodev,mode=%04o,size=%lld%s", access, (unsigned)mode, (long long)bytes,
		g->kind == OCI_PODMAN ? ",notmpcopyup" : "");
	json_kv_z(j, path, text);
}

static void
write_mounts(struct json *j, const struct tier_spec *s, const struct oci *g)
{
	json_kv_arr(j, "Mounts");
	if (image_of(s)[0] == '\0')
		mount_system(j, is_runtime(s));
	if (is_runtime(s))
		mount_runtime(j, s);
	else
		mount_sidecar(j, s);
	json_arr_end(j);
	json_kv_obj(j, "Tmpfs");
	mount_empty(j, g, "/tmp", "rw", 01777, TMP_BYTES);
	if (covers_home(s))
		mount_empty(j, g, s->home, "rw", 0755, MIB);
	if (is_runtime(s)) { /* below state/: files and output of cells, which are shelld's */
		mount_empty(j, g, s->spool_dir, "ro", 0755, 64 * KIB);
		mount_empty(j, g, s->state_root, "ro", 0755, 64 * KIB);
	}
	json_obj_end(j);
}

/* ---- what it may ---- */

static void
write_options(struct json *j, const struct tier_spec *s, const struct oci *g, const char *profile)
{
	struct buf b;

	json_kv_arr(j, "SecurityOpt");
	json_z(j, "no-new-privileges");
	buf_init(&b, SPEC_MAX);
	buf_add_z(&b, "seccomp=");
	if (g->kind == OCI_PODMAN) /* reads a file of its own host, which is ours */
		buf_add_z(&b, profile);
	else
		tier_seccomp(is_runtime(s), &b);
	json_z(j, buf_z(&b));
	buf_fini(&b);
	if (g->kind == OCI_PODMAN && !is_runtime(s))
		json_z(j, "unmask=ALL"); /* a cell mounts its own /proc, which takes one without holes around it */
	if (g->has_apparmor && !is_runtime(s))
		json_z(j, "apparmor=unconfined"); /* the engines' default profile denies every mount */
	if (g->has_selinux)
		json_z(j, "label=disable");
	json_arr_end(j);
	if (is_runtime(s))
		return; /* the engine's own masks of /proc */
	json_kv_arr(j, "MaskedPaths"); /* docker's word for unmask */
	json_arr_end(j);
	json_kv_arr(j, "ReadonlyPaths");
	json_arr_end(j);
}

static void
write_security(struct json *j, const struct tier_spec *s, const struct oci *g, bool is_root, const char *profile)
{
	json_kv_z(j, "NetworkMode", "none");
	json_kv_bool(j, "ReadonlyRootfs", true);
	json_kv_bool(j, "Privileged", false);
	json_kv_arr(j, "CapDrop");
	json_z(j, "ALL");
	json_arr_end(j);
	json_kv_arr(j, "CapAdd");
	for (size_t i = 0; is_root && !is_runtime(s) && i < ARRAY_LEN(root_capabilities); i++)
		json_z(j, root_capabilities[i]);
	json_arr_end(j);
	write_options(j, s, g, profile);
}

static void
ulimit(struct json *j, const char *name, int resource, rlim_t max)
{
	struct rlimit r = { max, max };

	(void)getrlimit((__rlimit_resource_t)resource, &r);
	int64_t n = (int64_t)MIN(r.rlim_max, max);
	json_obj(j);
	json_kv_z(j, "Name", name);
	json_kv_int(j, "Soft", n);
	json_kv_int(j, "Hard", n);
	json_obj_end(j);
}

static void
write_limits(struct json *j, const struct tier_spec *s)
{
	int64_t cpus = sysconf(_SC_NPROCESSORS_ONLN) * 100;

	json_kv_int(j, "Memory", s->memory_bytes);
	json_kv_int(j, "MemorySwap", s->memory_bytes); /* no swap beyond it */
	json_kv_int(j, "PidsLimit", s->processes);
	json_kv_int(j, "NanoCpus", MIN(s->cpu_percent, cpus) * 10000000);
	json_kv_arr(j, "Ulimits"); /* always said: an engine's defaults may be more than it can give */
	ulimit(j, "nofile", RLIMIT_NOFILE, NOFILE_MAX);
	ulimit(j, "nproc", RLIMIT_NPROC, NPROC_MAX);
	json_arr_end(j);
}

/* Lines of a map: "INSIDE OUTSIDE COUNT". */
int64_t
tier_outer_id(const char *map, int64_t id)
{
	char text[MAP_MAX];
	AUTO_CLOSE int fd = open(map, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[MAX(n, 0)] = '\0';
	for (char *line = text; line[0] != '\0';) {
		int64_t inside = strtoll(line, &line, 10), outside = strtoll(line, &line, 10), count = strtoll(line, &line, 10);
		if (id >= inside && id - inside < count)
			return outside + id - inside;
		if (count <= 0)
			break;
		line += strspn(line, " \n");
	}
	return id;
}

static void
write_list(struct json *j, const char *key, const char *const *v, size_t n)
{
	json_kv_arr(j, key);
	for (size_t i = 0; i < n; i++)
		json_z(j, v[i]);
	json_arr_end(j);
}

/* The runtime says what time it is, and in a build with sanitizers obeys the words for those. */
static void
write_env(struct json *j, const struct tier_spec *s)
{
	static const char *const names[] = { "LANG", "TZ", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS" };
	char text[1024];

	json_kv_arr(j, "Env");
	json_z(j, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	for (size_t i = 0; is_runtime(s) && i < ARRAY_LEN(names); i++) {
		const char *value = getenv(names[i]);
		if (value != NULL && (size_t)snprintf(text, sizeof(text), "%s=%s", names[i], value) < sizeof(text))
			json_z(j, text);
	}
	json_arr_end(j);
}

static void
write_command(struct json *j, const struct tier_spec *s)
{
	const char *const sidecar[] = { GUEST_PATH, "--listen", s->run_dir };
	const char *const runtime[] = { DAEMON_PATH, "-x", role_name(ROLE_RUNTIME), "--listen", s->run_dir };

	json_kv_z(j, "Image", image_of(s)[0] != '\0' ? image_of(s) : OCI_HOST_IMAGE);
	if (is_runtime(s))
		write_list(j, "Entrypoint", runtime, ARRAY_LEN(runtime));
	else
		write_list(j, "Entrypoint", sidecar, ARRAY_LEN(sidecar));
	write_list(j, "Cmd", NULL, 0);
}

static void
write_spec(struct buf *b, const struct tier_spec *s, const struct oci *g, const char *profile)
{
	/* A rootless docker maps its user to the container's root, podman keeps the number when asked. */
	bool keeps_id = g->is_rootless && g->kind == OCI_PODMAN;
	int64_t uid = tier_outer_id("/proc/self/uid_map", geteuid()), gid = tier_outer_id("/proc/self/gid_map", getegid());
	bool is_root = uid == 0 || (g->is_rootless && !keeps_id);
	struct json j;
	char user[64];

	snprintf(user, sizeof(user), "%lld:%lld", is_root ? 0LL : (long long)uid, is_root ? 0LL : (long long)gid);
	json_init(&j, b);
	json_obj(&j);
	write_command(&j, s);
	json_kv_z(&j, "User", user);
	json_kv_z(&j, "WorkingDir", "/");
	json_kv_z(&j, "Hostname", "ithaca");
	json_kv_bool(&j, "NetworkDisabled", true);
	write_env(&j, s);
	json_kv_obj(&j, "Labels");
	json_kv_z(&j, LABEL, s->home);
	json_kv_z(&j, LABEL_ROLE, role_name(role_of(s)));
	json_obj_end(&j);
	json_kv_obj(&j, "HostConfig");
	write_mounts(&j, s, g);
	write_security(&j, s, g, is_root, profile);
	write_limits(&j, s);
	if (keeps_id)
		json_kv_z(&j, "UsernsMode", "keep-id");
	json_kv_z(&j, "IpcMode", "private");
	json_kv_obj(&j, "RestartPolicy");
	json_kv_z(&j, "Name", "no"); /* the runner starts it again, with a new token */
	json_obj_end(&j);
	json_obj_end(&j);
	json_obj_end(&j);
}

/* ---- starting ---- */

static int
find_engine(const struct tier_spec *s, struct oci *g, struct tier_reason *why)
{
	struct err e;

	if (s->container.engine != NULL) {
		*g = *s->container.engine;
		return 0;
	}
	if (oci_open(s->container.socket, g, &e) != 0)
		return tier_refuse(why, "engine_missing", ERR_UNSUPPORTED, "%s", e.msg);
	return 0;
}

static int
find_image(const struct tier_spec *s, const struct oci *g, struct tier_reason *why)
{
	bool is_own = image_of(s)[0] == '\0', is_there;
	const char *image = is_own ? OCI_HOST_IMAGE : image_of(s);
	struct err e;
	struct buf tar;

	int rc = oci_has_image(g, image, &is_there, &e);
	if (rc == 0 && !is_there && !is_own)
		return tier_refuse(why, "image_missing", ERR_NOT_FOUND,
			"there is no image %s (ithaca image build --root DIR --name %s, or leave container.image empty)", image, image);
	if (rc == 0 && !is_there) {
		buf_init(&tar, SPEC_MAX);
		oci_host_root(&tar);
		rc = oci_import(g, image, buf_str(&tar), -1, &e);
		buf_fini(&tar);
	}
	return rc == 0 ? 0 : tier_refuse(why, "engine_failed", ERR_FAILED, "%s", e.msg);
}

static int
probe(const struct tier_spec *s, char found[120], struct tier_reason *why)
{
	struct oci g;
	int rc = find_engine(s, &g, why);

	if (rc == 0)
		snprintf(found, 120, "%s %.20s%s at %.70s", g.kind == OCI_PODMAN ? "podman" : "docker", g.version,
			g.is_rootless ? ", rootless," : "", g.socket);
	return rc;
}

static int
put_file(const struct tier_spec *s, const char *name, struct str text, struct err *e)
{
	char path[PLAN_PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", s->run_dir, name);
	return file_write(path, text, 0600, e);
}

/* What the guest finds in its directory: nothing of an earlier start. */
static int
prepare_dir(const struct tier_spec *s, const char *token, struct err *e)
{
	const char *const dirs[] = { s->run_dir, s->spool_dir, s->state_root }; /* mounted or covered */
	char path[PLAN_PATH_MAX];
	struct buf b;

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		if (path_mkdirs(dirs[i], 0700, e) != 0)
			return e->code;
	}
	door_path(s->run_dir, role_of(s), path, sizeof(path));
	unlink(path);
	buf_init(&b, SPEC_MAX);
	tier_seccomp(is_runtime(s), &b);
	int rc = put_file(s, "seccomp.json", buf_str(&b), e);
	buf_fini(&b);
	return rc == 0 ? put_file(s, "token", str_of(token), e) : rc;
}

struct watcher {
	const struct tier_spec *s;
	const struct tier_run *run;
};

static bool
is_there(void *arg, struct err *e)
{
	struct watcher *w = arg;
	bool is_running = true;
	struct err ignored;

	if (w->s->is_cancelled != NULL && w->s->is_cancelled(w->s->arg)) {
		err_set(e, ERR_CANCELLED, ERR_TO_LOG, "the start was given up");
		return false;
	}
	return oci_is_running(&w->run->oci, w->run->id, &is_running, e, &ignored) != 0 || is_running;
}

static int
create(const struct tier_spec *s, struct tier_run *run, struct err *e)
{
	char profile[PLAN_PATH_MAX];
	struct id id = id_new();
	struct buf spec;

	snprintf(profile, sizeof(profile), "%s/seccomp.json", s->run_dir);
	snprintf(run->name, sizeof(run->name), "ithaca-%s-%s", is_runtime(s) ? "runtime" : "guest", id.z);
	buf_init(&spec, SPEC_MAX);
	write_spec(&spec, s, &run->oci, profile);
	int rc = oci_create(&run->oci, run->name, buf_str(&spec), run->id, e);
	buf_fini(&spec);
	return rc;
}

static int
start(const struct tier_spec *s, struct tier_run *out, int *link, struct tier_reason *why)
{
	struct tier_run run = { .tier = &tier_container };
	struct watcher w = { s, &run };
	char path[PLAN_PATH_MAX];
	struct err e;

	if (s->runtime.store != NULL && is_within(s->home, s->runtime.store))
		return tier_refuse(why, "runtime_failed", ERR_CONFIG, "store.url: %.100s holds the home, whose keys the runtime may not see "
			"(put the store into another directory)", s->runtime.store);
	if (find_engine(s, &run.oci, why) != 0 || find_image(s, &run.oci, why) != 0)
		return why->e.code;
	door_path(s->run_dir, role_of(s), path, sizeof(path));
	door_token(run.token);
	const struct oci_label ours[] = { { LABEL, s->home }, { LABEL_ROLE, role_name(role_of(s)) } };
	int rc = oci_remove_labelled(&run.oci, ours, ARRAY_LEN(ours), &e);
	if (rc == 0)
		rc = prepare_dir(s, run.token, &e);
	if (rc == 0)
		rc = create(s, &run, &e);
	if (rc != 0)
		return tier_refuse(why, "engine_failed", ERR_FAILED, "%s", e.msg);
	rc = oci_start(&run.oci, run.id, &e);
	if (rc != 0)
		tier_refuse(why, "engine_failed", ERR_FAILED, "%s", e.msg);
	int fd = rc != 0 ? -1 : door_reach(path, ROLE_RUNNER, run.token, TIER_START_MS, is_there, &w, &e);
	if (fd < 0) {
		if (rc == 0)
			tier_refuse(why, is_runtime(s) ? "runtime_failed" : "guest_failed", ERR_FAILED, "%s", e.msg);
		(void)oci_remove(&run.oci, run.id, &e);
		return why->e.code;
	}
	*out = run;
	*link = fd;
	return 0;
}

static void
stop(struct tier_run *run)
{
	struct err e;

	if (oci_remove(&run->oci, run->id, &e) != 0)
		log_warn("a container could not be removed", LOG_S("id", run->id), LOG_E(&e));
	explicit_bzero(run->token, sizeof(run->token));
	run->tier = NULL;
}

const struct tier tier_container = { .name = "container", .holds_runtime = true, .probe = probe, .start = start, .stop = stop };
