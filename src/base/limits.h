/* SPDX-License-Identifier: MIT
 * Named maxima for sizes that come from outside. A parser or buffer without one of these is a bug. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#define KIB 1024u
#define MIB (1024u * 1024u)

#define JSON_DEPTH_MAX        128
#define JSON_TEXT_MAX         (64u * MIB)
#define JSON_NODES_MAX        2000000u
#define JSON_NUMBER_MAX       1024u /* characters of a number that does not fit int64 */
#define YAML_TEXT_MAX         (4u * MIB)
#define YAML_NODES_MAX        200000u /* after alias expansion */
#define YAML_ANCHORS_MAX      1000u
#define YAML_EXPANDED_MAX     (16u * MIB) /* bytes of all scalars after alias expansion */
#define CONFIG_TEXT_MAX       (1u * MIB)
#define CONFIG_ARENA_MAX      (512u * MIB) /* all layers, parsed and merged */
#define SHELL_TEXT_MAX        (64u * KIB)  /* of a script that policy judges */
#define SHELL_DEPTH_MAX       64u          /* of its nested commands, substitutions and expansions */
#define SHELL_ARENA_MAX       (64u * MIB)  /* for judging one request */
#define SHELL_THROUGH_MAX     8u           /* scripts inside arguments of scripts that policy looks into */
#define RULE_TEXT_MAX         1024u
#define PERMISSION_RULES_MAX  1000u        /* in one of allow, ask, deny */
#define POLICY_ARENA_MAX      (128u * MIB) /* all compiled rules */
#define LOG_RECORD_MAX        (16u * KIB)
#define LOG_PENDING_MAX       (256u * KIB) /* of one log file, while its disk is full */
#define LOG_RATE_MAX          (1u * MIB)   /* bytes a second of one role's output that are kept, in the long run */
#define LOG_BURST_MAX         (8u * MIB)   /* and at once */
#define LOG_TAIL_MAX          100000u      /* lines that `ithaca logs` holds */
#define LOG_HELD_MAX          (64u * MIB)  /* and bytes */
#define CONTROL_CLIENTS_MAX   16u          /* of run/control.sock */

#define WIRE_HEAD_MAX         (256u * KIB)
#define WIRE_TAIL_MAX         (4u * MIB)
#define WIRE_WINDOW           (256u * KIB) /* bytes a stream may have in flight: its first credit */
#define WIRE_OUT_MAX          (32u * MIB)  /* queued for one slow peer before it is dropped */
#define WIRE_BACKLOG_HIGH     (8u * MIB)   /* queued for a peer, from which on its streams wait ... */
#define WIRE_BACKLOG_LOW      (2u * MIB)   /* ... until so much is left */
#define WIRE_STREAMS_MAX      65536u
#define WIRE_NODES_MAX        (16u * MIB)  /* memory that one parsed head may take */

#define SSE_EVENT_MAX         (8u * MIB)
#define PROVIDER_ERROR_MAX    (64u * KIB)  /* of an error body that is read */
#define MODEL_TEXT_MAX        (2u * MIB)   /* of one answer */
#define MODEL_CALLS_MAX       128u         /* tool calls in one answer */
#define MODEL_ARGS_MAX        (1u * MIB)   /* of one tool call */
#define MODEL_ANSWER_MAX      (3u * MIB)   /* of one answer: text, arguments and signatures together */
#define MODEL_PARTS_MAX       1024u        /* of one answer */
#define MODEL_NAME_MAX        256u         /* of a tool, in an answer */
#define MODEL_EVENT_TREE_MAX  (8 * SSE_EVENT_MAX) /* memory for the tree of one event */
#define TEXT_CALLS_TRIED_MAX  256u         /* places in one answer that may begin a call written as text */
#define EMBED_TEXTS_MAX       128u         /* of one request for vectors */
#define EMBED_DIMENSIONS_MAX  8192u        /* of one vector */
#define EMBED_ANSWER_MAX      (32u * MIB)  /* body of an answer with vectors */
#define EMBED_TREE_MAX        (512u * MIB) /* memory for the tree of one */
#define USAGE_TOKENS_MAX      1000000000000 /* of one answer, so that prices cannot overflow */
#define OFFLINE_STEPS_MAX     100000u      /* of one answer of the offline model */
#define CATALOG_TEXT_MAX      (16u * MIB)  /* of a model catalog that is fetched */
#define CATALOG_TREE_MAX      (8 * CATALOG_TEXT_MAX) /* memory for its tree */
#define CATALOG_MODELS_MAX    10000u       /* that are kept of it */
#define CATALOG_ARENA_MAX     (32u * MIB)  /* memory for these */
#define MODEL_ID_MAX          200u         /* characters of a model's id in it */
#define FALLBACKS_MAX         8u           /* models of models.fallback */
#define ANSWER_SCHEMA_MAX     (64u * KIB)  /* JSON Schema of a final answer */
#define FETCH_PATH_MAX        (8u * KIB)
#define FETCH_HEADERS_MAX     (64u * KIB)  /* of one request, and of one answer */
#define FETCH_CONNECTIONS_MAX 10000        /* that a provider may be given; further requests wait, or share one by HTTP/2 */
#define EGRESS_RULES_MAX      256u         /* in one of allow and deny, for the proxy of cells */
#define EGRESS_SERVICES_MAX   64u
#define EGRESS_HEAD_MAX       (32u * KIB)  /* of a request that a cell makes to the proxy */
#define EGRESS_HEADERS_MAX    100u         /* lines of one */
#define EGRESS_CONNECTIONS_MAX 128u        /* of one cell at a time; further ones wait inside the cell */
#define EGRESS_ALL_MAX        8192u        /* of all cells */
#define EGRESS_GRANTS_MAX     4096u        /* cells that may connect to anywhere */
#define EGRESS_TOLD_MAX       64u          /* refused targets of one cell that are told; the rest is counted */
#define EGRESS_ADDRESSES_MAX  8u           /* of one name that are tried */
#define EGRESS_LOOKUPS_MAX    4u           /* names of one cell that are resolved at a time; further ones wait */
#define EGRESS_RESOLVE_MS     30000        /* for a name */
#define EGRESS_HEAD_MS        15000        /* for a request to be whole */
#define EGRESS_GRANT_MS       2000         /* for a grant that is on its way */
#define EGRESS_CONNECT_MS     10000        /* for one address */
#define EGRESS_IDLE_MS        600000       /* without a byte either way */
#define REQUEST_BODY_MAX      (64u * MIB)

#define SECRET_NAME_MAX       64u
#define SECRET_VALUE_MAX      (8u * KIB)
#define SECRET_HOSTS_MAX      16u          /* that one secret may go to */
#define SECRET_USES_MAX       16u          /* headers it may stand in, and the URL */
#define SECRET_HOST_MAX       300u         /* bytes of one of these */
#define SECRET_RECORD_MAX     (32u * KIB)  /* of a sealed secret with its bindings */
#define SECRETS_MAX           256u
#define SECRETS_FILE_MAX      (1u * MIB)
#define KEY_MAX               (8u * KIB)   /* of a key from a file, a variable or a command */
#define MASTER_FILE_MAX       (4u * KIB)   /* of a master key's file, and of a passphrase */
#define SEAL_OPS_MAX          64           /* passes of Argon2id that a file may ask for */
#define SEAL_MEM_MAX          (1024u * MIB) /* and bytes */

#define USER_TEXT_MAX         (1u * MIB)
#define MEDIA_MAX             (20u * MIB)  /* of one file that goes along with a message, and of one blob */
#define TEXT_FILE_MAX         USER_TEXT_MAX /* of one that is text */
#define TURN_MEDIA_MAX        (32u * MIB)  /* of all files of one message, of one request to a model, and in an inbox */
#define TURN_FILES_MAX        32u          /* files of one message, and in the inbox of a run */
#define INBOX_NOTES_MAX       (4u * KIB)   /* about files that could not be put there */
#define INBOX_PART            (2u * MIB)   /* of a file that one operation puts there */
#define OUTBOX_FILES_MAX      32u          /* that are kept of a turn, each of MEDIA_MAX, ... */
#define OUTBOX_BYTES_MAX      (32u * MIB)  /* ... together of this */
#define OUTBOX_SEEN_MAX       256u         /* entries that are looked at; of the rest nothing but that it is there is told */
#define OUTBOX_SHOWN_MAX      16u          /* that the model is told of after a command */
#define OUTBOX_DEPTH_MAX      8u           /* levels of directories in it */
#define OUTBOX_PART           (3u * MIB)   /* of a file that one operation reads */
#define OUTBOX_COLLECT_MS     60000        /* after which no further file is read */
#define BLOB_ROW_MAX          (64u * KIB)  /* larger blobs are files in state/blobs */
#define BLOB_TRANSFERS_MAX    8u           /* uploads and downloads at a time */
#define BLOB_STALL_MS         5000         /* without a byte: then a transfer gives way to one that wants to begin */
#define TOOL_RESULT_MAX       (32u * KIB)  /* that enters the context; the rest by handle */
#define TOOL_OUTPUT_MAX       (64u * MIB)  /* kept of one call */
#define FILE_READ_MAX         (16u * MIB)
#define FILE_PATH_MAX         4096u
#define FILE_PARAMS_MAX       (192u * KIB) /* parameters of one file operation, as JSON */
#define FILE_HEAD_MAX         (192u * KIB) /* facts that one file operation answers with, as JSON */
#define FILE_ARENA_MAX        (64u * MIB)  /* of one file operation */
#define FILE_HASH_MAX         (256u * MIB) /* larger files get no hash */
#define FILE_SCAN_MAX         (1024u * MIB) /* read to find a line in a file above FILE_READ_MAX */
#define FILE_DEPTH_MAX        64u          /* levels of a tree that are walked */
#define FILE_DIR_MAX          100000u      /* names of one directory that are looked at */
#define FILE_WALK_MAX         1000000u     /* entries of one walk */
#define FILE_WALK_MS          20000        /* of one walk */
#define GREP_FILE_MAX         (64u * MIB)  /* larger files are skipped, and counted */
#define GREP_LINE_MAX         (64u * KIB)  /* of a line that is searched */
#define GREP_TEXT_MAX         400u         /* of a line that is shown */
#define GREP_PATTERN_MAX      1024u
#define GREP_REPEAT_MAX       1000         /* product of nested {n,m}: regcomp would eat memory */
#define GLOB_PATTERN_MAX      1024u
#define GLOB_BRACES_MAX       64u          /* expansions of {a,b} */
#define GLOB_PARTS_MAX        63u          /* parts between slashes */
#define EDIT_COUNT_MAX        1000u        /* matches that are counted */
#define EDIT_COMPARE_MAX      (64u * MIB)  /* bytes compared to find a near miss */
#define EVENT_BODY_MAX        (WIRE_TAIL_MAX - 64u * KIB) /* an event travels in one message */
#define SCHEMA_NODES_MAX      10000u       /* subschemas of one JSON Schema */
#define SCHEMA_IN_PLACE_MAX   64u          /* levels of $ref, anyOf, allOf, oneOf and not on one value */
#define SCHEMA_DEPTH_MAX      1024u        /* levels of schemas on the way to a value that is checked */
#define SCHEMA_WORK_MAX       50000000     /* comparisons of one check */
#define SCHEMA_FAULTS_MAX     8u           /* that one check tells of */
#define SCHEMA_FAULT_TEXT_MAX 600u         /* of one of them */
#define TURN_ARENA_MAX        (256u * MIB)
#define RUNTIME_MEMORY_MAX    (2048u * (int64_t)MIB) /* of a runtime in a container */
#define RUNTIME_TASKS_MAX     256          /* and its threads */
#define TRANSCRIPT_MAX        (256u * MIB) /* text of one session that is held in memory */
#define SESSIONS_ACTIVE_MAX   4096u

#define STORE_BATCH_MAX       (64u * MIB)  /* of one batch */
#define STORE_QUEUE_MAX       (96u * MIB)  /* of all batches that wait for the writer */
#define STORE_GROUP_MAX       1024u        /* batches in one COMMIT */
#define STORE_GROUP_BYTES     (8u * MIB)   /* after which a COMMIT takes no further batch */
#define STORE_ROWS_MAX        (16u * MIB)  /* of one result */
#define EVENT_PAGE            256u         /* events read at once */

#endif
