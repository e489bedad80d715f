/* SPDX-License-Identifier: MIT
 * Unix stream sockets: listen, connect, accept, peer credentials. Does no reading or writing.
 * Invariant: a socket file is never visible with wider permissions than asked for, and only a
 * socket that nobody serves is replaced. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/err.h"
#include "loop/loop.h"

#define LISTEN_BACKLOG 128
#define CONNECT_S      5 /* for room in a full backlog */

/* sun_path holds 107 bytes; a longer path is reached through its directory's descriptor. *dir_fd is
 * the caller's to close after use (-1: none). */
static int
address_of(const char *path, struct sockaddr_un *sa, int *dir_fd, struct err *e)
{
	*dir_fd = -1;
	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) < sizeof(sa->sun_path)) {
		memcpy(sa->sun_path, path, strlen(path) + 1);
		return 0;
	}
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX];
	if (slash == NULL || (size_t)(slash - path) >= sizeof(dir))
		return err_set(e, ERR_INVALID, ERR_TO_USER, "socket path is too long: %s", path);
	memcpy(dir, path, (size_t)(slash - path));
	dir[slash - path] = '\0';
	int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot open %s", dir);
	int n = snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d%s", fd, slash);
	if (n < 0 || (size_t)n >= sizeof(sa->sun_path)) {
		close(fd);
		return err_set(e, ERR_INVALID, ERR_TO_USER,
			"socket name is too long: %s (at most 80 bytes after the last slash)",
			path);
	}
	*dir_fd = fd;
	return 0;
}

static int
unix_socket(int flags, struct err *e)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (fd < 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot make a Unix socket");
	return fd;
}

/* Removes a socket file that nobody serves. */
static int
clear_stale(const char *path, const struct sockaddr_un *sa, struct err *e)
{
	struct stat st;
	if (lstat(path, &st) != 0)
		return errno == ENOENT ? 0 : err_errno(e, errno, ERR_TO_USER, "stat %s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, ERR_EXISTS, ERR_TO_USER,
			"%s exists and is not a socket (remove it)", path);
	AUTO_CLOSE int fd = unix_socket(SOCK_NONBLOCK, e);
	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 || errno == EAGAIN)
		return err_set(e, ERR_BUSY, ERR_TO_USER,
			"%s is served by another process (stop it first)", path);
	if (errno != ECONNREFUSED)
		return err_errno(e, errno, ERR_TO_USER, "cannot tell whether %s is in use", path);
	if (unlink(path) != 0 && errno != ENOENT)
		return err_errno(e, errno, ERR_TO_USER, "cannot remove the stale socket %s", path);
	return 0;
}

int
unix_listen(const char *path, mode_t mode, struct err *e)
{
	struct sockaddr_un sa;
	AUTO_CLOSE int dir_fd = -1;
	int rc = address_of(path, &sa, &dir_fd, e);
	if (rc == 0)
		rc = clear_stale(path, &sa, e);
	if (rc != 0)
		return rc;
	AUTO_CLOSE int fd = unix_socket(SOCK_NONBLOCK, e);
	if (fd < 0)
		return fd;
	/* Linux gives the file the mode of the socket's inode less the umask, so it is never wider
	 * even for a moment; chmod then adds what the umask took. */
	if (fchmod(fd, mode) != 0 || bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) != 0 ||
		chmod(path, mode) != 0 || listen(fd, LISTEN_BACKLOG) != 0)
		return err_errno(e, errno, ERR_TO_USER, "cannot listen on %s", path);
	return take_fd(&fd);
}

int
unix_connect(const char *path, struct err *e)
{
	struct sockaddr_un sa;
	AUTO_CLOSE int dir_fd = -1;
	int rc = address_of(path, &sa, &dir_fd, e);
	if (rc != 0)
		return rc;
	AUTO_CLOSE int fd = unix_socket(0, e);
	if (fd < 0)
		return fd;
	struct timeval wait = { .tv_sec = CONNECT_S }, never = { 0 };
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) != 0) {
		if (errno == ECONNREFUSED || errno == ENOENT)
			return err_set(e, ERR_NOT_FOUND, ERR_TO_USER, "nobody serves %s", path);
		if (errno == EAGAIN)
			return err_set(e, ERR_TIMEOUT, ERR_TO_USER,
				"%s does not accept connections", path);
		return err_errno(e, errno, ERR_TO_USER, "cannot connect to %s", path);
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &never, sizeof(never));
	return take_fd(&fd);
}

int
unix_accept(int listen_fd)
{
	int fd;
	do
		fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	return fd;
}

int
unix_peer(int fd, uid_t *uid, pid_t *pid)
{
	struct ucred cred;
	socklen_t n = sizeof(cred);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) != 0)
		return -1;
	*uid = cred.uid;
	*pid = cred.pid;
	return 0;
}
