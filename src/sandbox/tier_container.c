/* SPDX-License-Identifier: MIT
 * The container tier: shelld as the only process of a container without network, with a read-only root, no capability
 * (one for root), a profile of system calls of ours, and limits. It sees the directories that may be
 * workspaces and its own, each at the path that it has on the host, so that plans mean the same here and there. */
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
#define SPEC_MAX   MIB
#define TMP_BYTES  (64 * (int64_t)MIB)
#define NOFILE_MAX 16384
#define NPROC_MAX  32768 /* podman's own limit where it may not raise it; the cgroup counts what matters */
#define MAP_MAX    4096 /* of a user namespace; the kernel takes no more than a page */
#define LABEL      "ithaca.home"

/* Of a shelld that is root of the container: since Linux 5.12 root may not be mapped into a user namespace without it. One
 * that is another user has none. */
static const char *const root_capabilities[] = { "SETFCAP" };

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

/* The host's programs, as cells of the host see them. */
static void
mount_system(struct json *j)
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
write_mounts(struct json *j, const struct tier_spec *s, bool has_own_root)
{
	json_key(j, "Mounts");
	json_arr(j);
	if (!has_own_root)
		mount_system(j);
	mount(j, s->guest, GUEST_PATH, true);
	for (size_t i = 0; i < s->mounts_n; i++)
		mount(j, s->mounts[i], s->mounts[i], false);
	mount(j, s->run_dir, s->run_dir, false);
	mount(j, s->spool_dir, s->spool_dir, false);
	mount(j, s->state_root, s->state_root, false);
	json_arr_end(j);
	json_key(j, "Tmpfs");
	json_obj(j);
	char text[64];
	snprintf(text, sizeof(text), "rw,nosuid,nodev,mode=1777,size=%lld", (long long)TMP_BYTES);
	json_kv_z(j, "/tmp", text);
	if (covers_home(s))
		json_kv_z(j, s->home, "rw,nosuid,nodev,mode=0755,size=1m");
	json_obj_end(j);
}

/* ---- what it may ---- */

static void
write_security(struct json *j, const struct tier_spec *s, const struct oci *g, bool is_root, const char *profile)
{
	struct buf b;

	json_kv_z(j, "NetworkMode", "none");
	json_kv_bool(j, "ReadonlyRootfs", true);
	json_kv_bool(j, "Privileged", false);
	json_key(j, "CapDrop");
	json_arr(j);
	json_z(j, "ALL");
	json_arr_end(j);
	json_key(j, "CapAdd");
	json_arr(j);
	for (size_t i = 0; is_root && i < ARRAY_LEN(root_capabilities); i++)
		json_z(j, root_capabilities[i]);
	json_arr_end(j);
	json_key(j, "SecurityOpt");
	json_arr(j);
	json_z(j, "no-new-privileges");
	buf_init(&b, SPEC_MAX);
	buf_add_z(&b, "seccomp=");
	if (g->kind == OCI_PODMAN) /* reads a file of its own host, which is ours */
		buf_add_z(&b, profile);
	else
		tier_seccomp(&b);
	json_z(j, buf_z(&b));
	buf_fini(&b);
	if (g->kind == OCI_PODMAN)
		json_z(j, "unmask=ALL"); /* a cell mounts its own /proc, which takes one without holes around it */
	if (g->has_apparmor)
		json_z(j, "apparmor=unconfined"); /* the engines' default profile denies every mount */
	if (g->has_selinux)
		json_z(j, "label=disable");
	json_arr_end(j);
	json_key(j, "MaskedPaths"); /* docker's word for unmask */
	json_arr(j);
	json_arr_end(j);
	json_key(j, "ReadonlyPaths");
	json_arr(j);
	json_arr_end(j);
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
	json_key(j, "Ulimits"); /* always said: an engine's defaults may be more than it can give */
	json_arr(j);
	ulimit(j, "nofile", RLIMIT_NOFILE, NOFILE_MAX);
	ulimit(j, "nproc", RLIMIT_NPROC, NPROC_MAX);
	json_arr_end(j);
}

/* The number by which those outside of our user namespace know one of ours; the same where there is none. Lines of a map:
 * "INSIDE OUTSIDE COUNT". */
static int64_t
outer_id(const char *map, int64_t id)
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
write_spec(struct buf *b, const struct tier_spec *s, const struct oci *g, const char *profile)
{
	bool has_image = s->container.image != NULL && s->container.image[0] != '\0';
	/* A rootless docker maps its user to the container's root, podman keeps the number when asked. */
	bool keeps_id = g->is_rootless && g->kind == OCI_PODMAN;
	int64_t uid = outer_id("/proc/self/uid_map", geteuid()), gid = outer_id("/proc/self/gid_map", getegid());
	bool is_root = uid == 0 || (g->is_rootless && !keeps_id);
	const char *const command[] = { GUEST_PATH, "--listen", s->run_dir };
	struct json j;
	char user[64];

	snprintf(user, sizeof(user), "%lld:%lld", is_root ? 0LL : (long long)uid, is_root ? 0LL : (long long)gid);
	json_init(&j, b);
	json_obj(&j);
	json_kv_z(&j, "Image", has_image ? s->container.image : OCI_HOST_IMAGE);
	json_key(&j, "Entrypoint");
	json_arr(&j);
	for (size_t i = 0; i < ARRAY_LEN(command); i++)
		json_z(&j, command[i]);
	json_arr_end(&j);
	json_key(&j, "Cmd");
	json_arr(&j);
	json_arr_end(&j);
	json_kv_z(&j, "User", user);
	json_kv_z(&j, "WorkingDir", "/");
	json_kv_z(&j, "Hostname", "ithaca");
	json_kv_bool(&j, "NetworkDisabled", true);
	json_key(&j, "Env");
	json_arr(&j);
	json_z(&j, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	json_arr_end(&j);
	json_key(&j, "Labels");
	json_obj(&j);
	json_kv_z(&j, LABEL, s->home);
	json_kv_z(&j, "ithaca.role", "shelld");
	json_obj_end(&j);
	json_key(&j, "HostConfig");
	json_obj(&j);
	write_mounts(&j, s, has_image);
	write_security(&j, s, g, is_root, profile);
	write_limits(&j, s);
	if (keeps_id)
		json_kv_z(&j, "UsernsMode", "keep-id");
	json_kv_z(&j, "IpcMode", "private");
	json_key(&j, "RestartPolicy");
	json_obj(&j);
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

	if (oci_open(s->container.socket, g, &e) != 0)
		return tier_refuse(why, "engine_missing", ERR_UNSUPPORTED, "%s", e.msg);
	return 0;
}

static int
find_image(const struct tier_spec *s, const struct oci *g, struct tier_reason *why)
{
	bool is_own = s->container.image == NULL || s->container.image[0] == '\0', is_there;
	const char *image = is_own ? OCI_HOST_IMAGE : s->container.image;
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
	const char *const dirs[] = { s->run_dir, s->spool_dir, s->state_root };
	char path[PLAN_PATH_MAX];
	struct buf b;

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		if (path_mkdirs(dirs[i], 0700, e) != 0)
			return e->code;
	}
	snprintf(path, sizeof(path), "%s/shelld.sock", s->run_dir);
	unlink(path);
	buf_init(&b, SPEC_MAX);
	tier_seccomp(&b);
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
	char profile[PLAN_PATH_MAX], name[64];
	struct id id = id_new();
	struct buf spec;

	snprintf(profile, sizeof(profile), "%s/seccomp.json", s->run_dir);
	snprintf(name, sizeof(name), "ithaca-guest-%s", id.z);
	buf_init(&spec, SPEC_MAX);
	write_spec(&spec, s, &run->oci, profile);
	int rc = oci_create(&run->oci, name, buf_str(&spec), run->id, e);
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

	if (find_engine(s, &run.oci, why) != 0 || find_image(s, &run.oci, why) != 0)
		return why->e.code;
	snprintf(path, sizeof(path), "%s/shelld.sock", s->run_dir);
	door_token(run.token);
	int rc = oci_remove_labelled(&run.oci, LABEL, s->home, &e);
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
			tier_refuse(why, "guest_failed", ERR_FAILED, "%s", e.msg);
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

const struct tier tier_container = { .name = "container", .probe = probe, .start = start, .stop = stop };
