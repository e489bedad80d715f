/* SPDX-License-Identifier: MIT
 * The plan of a cell, as far as configuration and mode say it. What it sees is for its owner to fill in. */
#include "tool/tool.h"

#include "base/limits.h"

enum cell_access
tool_access(enum mode m)
{
	static const enum cell_access by_mode[MODE_COUNT] = {
		[MODE_READ_ONLY] = CELL_READ_ONLY,
		[MODE_WORKSPACE_WRITE] = CELL_WORKSPACE_WRITE,
		[MODE_DANGER_FULL_ACCESS] = CELL_HOST,
	};

	return by_mode[m];
}

struct cell_plan
tool_plan(const struct config *c, enum mode m)
{
	return (struct cell_plan){
		.access = tool_access(m),
		.memory_bytes = config_int(c, "cell.memory_mb") * (int64_t)MIB,
		.processes = config_int(c, "cell.processes"),
		.cpu_percent = config_int(c, "cell.cpu_percent"),
		.file_bytes = config_int(c, "cell.file_mb") * (int64_t)MIB,
		.tmp_bytes = config_int(c, "cell.tmp_mb") * (int64_t)MIB,
		.disk_bytes = config_int(c, "cell.disk_mb") * (int64_t)MIB,
		.cpu_ms = config_int(c, "cell.cpu_ms"),
		.open_files = config_int(c, "cell.open_files"),
		.require_limits = config_bool(c, "cell.require_limits"),
		.allow_basic = config_bool(c, "cell.allow_basic"),
	};
}
