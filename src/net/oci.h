/* SPDX-License-Identifier: MIT
 * Container engines that speak the Docker Engine API on a Unix socket: docker and podman. Every call blocks, and answers
 * within its own deadline. Nothing here decides what a container may do; nothing is ever pulled from a registry. */
#ifndef NET_OCI_H
#define NET_OCI_H

#include "net/local.h"

enum oci_kind { OCI_DOCKER, OCI_PODMAN };

struct oci {
	char socket[512];
	enum oci_kind kind;
	char version[32];
	bool is_rootless; /* its containers run in the user namespace of whom it serves */
	bool has_apparmor, has_selinux;
};

/* socket: from the configuration; NULL or "": the first that answers of DOCKER_HOST, the user's podman, the system's podman,
 * docker. ERR_NOT_FOUND says what was tried. */
int oci_open(const char *socket, struct oci *out, struct err *e) MUST_USE;

int oci_has_image(const struct oci *g, const char *image, bool *out, struct err *e) MUST_USE;
/* A tar archive of a root directory becomes the image `name` (tag latest): from memory, or from a descriptor. */
int oci_import(const struct oci *g, const char *name, struct str tar, int tar_fd, struct err *e) MUST_USE;
int oci_image_remove(const struct oci *g, const char *image, struct err *e) MUST_USE;

/* The image whose programs are those of the host: its root as a tar archive, and its name. */
#define OCI_HOST_IMAGE "localhost/ithaca-host"
void oci_host_root(struct buf *b);
/* Images on this machine whose name begins with prefix: {name, id, bytes, created_s} each, into an open JSON list. */
struct json;
int oci_images(const struct oci *g, const char *prefix, struct json *j, struct err *e) MUST_USE;

#define OCI_ID_SIZE 80
/* spec: the body of POST /containers/create. Where it fails no container is left, even if the answer was lost. */
int oci_create(const struct oci *g, const char *name, struct str spec, char id[OCI_ID_SIZE], struct err *e) MUST_USE;
int oci_start(const struct oci *g, const char *id, struct err *e) MUST_USE;
/* Ends and removes it; one that is not there is fine. */
int oci_remove(const struct oci *g, const char *id, struct err *e);
/* Of all containers, running or not, that have these labels. */
struct oci_label {
	const char *name, *value;
};
int oci_remove_labelled(const struct oci *g, const struct oci_label *labels, size_t n, struct err *e) MUST_USE;
/* Whether it runs; if not, why: its exit status and its last lines in *why. */
int oci_is_running(const struct oci *g, const char *id, bool *out, struct err *why, struct err *e) MUST_USE;

#endif
