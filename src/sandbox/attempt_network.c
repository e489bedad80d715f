/* SPDX-License-Identifier: MIT
 * Attempts on the network, and on memory and queues with a name: of the host, and of another session. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include "sandbox/attempt.h"

/* ---- network ---- */

static int
try_connect(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)attempt_decoy_number("DECOY_PORT")),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	return attempt_verdict(fd < 0 ? -1 : connect(fd, (struct sockaddr *)&a, sizeof(a)));
}

static int
connect_unix(const char *name, bool is_abstract)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t n = strlen(name);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(a.sun_path + is_abstract, name, n);
	return attempt_verdict(fd < 0 ? -1
			      : connect(fd, (struct sockaddr *)&a,
					(socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + is_abstract)));
}

static int
try_control_socket(void)
{
	return connect_unix(attempt_decoy("DECOY_SOCKET"), false);
}

static int
try_abstract_socket(void)
{
	return connect_unix(attempt_decoy("DECOY_ABSTRACT"), true);
}

/* The other end of try_abstract_socket, for as long as it is let live. */
static int
try_offer_socket(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const char *name = attempt_decoy("DECOY_OFFER");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(a.sun_path + 1, name, strlen(name));
	if (bind(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))) != 0 ||
		listen(fd, 4) != 0)
		return attempt_skip("cannot listen");
	printf("ready\n");
	fflush(stdout);
	pause();
	return ATTEMPT_WORKED;
}

static int
try_take_socket(void)
{
	return connect_unix(attempt_decoy("DECOY_OFFER"), true);
}

static int
try_raw_socket(void)
{
	return attempt_verdict(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP));
}

static int
try_packet_socket(void)
{
	return attempt_verdict(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)));
}

/* Something answers there, and only there. */
static int
try_udp(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)attempt_decoy_number("DECOY_UDP")),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval wait = { .tv_sec = 2 };
	char c = 'x';

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) != 0 ||
		connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || send(fd, &c, 1, 0) != 1)
		return attempt_verdict(-1);
	return attempt_verdict(recv(fd, &c, 1, 0));
}

static int
try_vsock(void)
{
	return attempt_verdict(socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int
try_alg(void)
{
	return attempt_verdict(socket(AF_ALG, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
}

static int
try_netlink_uevent(void)
{
	return attempt_verdict(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 15 /* NETLINK_KOBJECT_UEVENT */));
}

static int
try_netlink_netfilter(void)
{
	return attempt_verdict(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 12 /* NETLINK_NETFILTER */));
}

static int
try_netlink_audit(void)
{
	return attempt_verdict(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 9 /* NETLINK_AUDIT */));
}

/* ---- memory and queues with a name: of the host, and of another session ---- */

#define OFFER_KEY  0x17741774
#define OFFER_PORT 4711

static int
try_host_shm(void)
{
	return attempt_verdict(shmget(attempt_decoy_number("DECOY_SHM"), 0, 0));
}

static int
try_host_mq(void)
{
	return attempt_verdict(syscall(SYS_mq_open, attempt_decoy("DECOY_MQ"), O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0, NULL));
}

static int
make_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

	if (fd >= 0)
		close(fd);
	return fd;
}

/* What a session may have lying about, for as long as it is let live. */
static int
try_offer_all(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(OFFER_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (shmget(OFFER_KEY, 4096, IPC_CREAT | 0666) < 0 || msgget(OFFER_KEY, IPC_CREAT | 0666) < 0 ||
		semget(OFFER_KEY, 1, IPC_CREAT | 0666) < 0 ||
		make_file("/tmp/offered") < 0 || make_file("/dev/shm/offered") < 0 || make_file("/home/agent/offered") < 0 ||
		bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(fd, 4) != 0)
		return attempt_verdict(-1);
	printf("ready\n");
	fflush(stdout);
	pause();
	return ATTEMPT_WORKED;
}

static int
try_take_shm(void)
{
	return attempt_verdict(shmget(OFFER_KEY, 0, 0));
}

static int
try_take_queue(void)
{
	return attempt_verdict(msgget(OFFER_KEY, 0));
}

static int
try_take_semaphore(void)
{
	return attempt_verdict(semget(OFFER_KEY, 0, 0));
}

static int
try_take_tmp(void)
{
	return attempt_verdict(access("/tmp/offered", F_OK));
}

static int
try_take_dev_shm(void)
{
	return attempt_verdict(access("/dev/shm/offered", F_OK));
}

static int
try_take_home(void)
{
	return attempt_verdict(access("/home/agent/offered", F_OK));
}

static int
try_take_tcp(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(OFFER_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return attempt_verdict(fd < 0 ? -1 : connect(fd, (struct sockaddr *)&a, sizeof(a)));
}

const struct attempt attempts_network[] = {
	{ "network", "connect", try_connect, NULL },
	{ "network", "udp", try_udp, NULL },
	{ "network", "control_socket", try_control_socket, NULL },
	{ "network", "abstract_socket", try_abstract_socket, NULL },
	{ "network", "raw_socket", try_raw_socket, NULL },
	{ "network", "packet_socket", try_packet_socket, NULL },
	{ "network", "vsock", try_vsock, NULL },
	{ "network", "alg", try_alg, NULL },
	{ "network", "netlink_uevent", try_netlink_uevent, NULL },
	{ "network", "netlink_netfilter", try_netlink_netfilter, NULL },
	{ "network", "netlink_audit", try_netlink_audit, NULL },
	{ "memory", "host_shm", try_host_shm, NULL },
	{ "memory", "host_mq", try_host_mq, NULL },
	{ NULL, "offer_socket", try_offer_socket, NULL },
	{ NULL, "take_socket", try_take_socket, NULL },
	{ NULL, "offer_all", try_offer_all, NULL },
	{ NULL, "take_shm", try_take_shm, NULL },
	{ NULL, "take_queue", try_take_queue, NULL },
	{ NULL, "take_semaphore", try_take_semaphore, NULL },
	{ NULL, "take_tmp", try_take_tmp, NULL },
	{ NULL, "take_dev_shm", try_take_dev_shm, NULL },
	{ NULL, "take_home", try_take_home, NULL },
	{ NULL, "take_tcp", try_take_tcp, NULL },
	{ 0 },
};
