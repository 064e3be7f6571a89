#ifndef TERRACE_BASE_LIMITS_H
#define TERRACE_BASE_LIMITS_H

/* Every bound that more than one module depends on, with its reason. A bound that only one module
 * uses stands in that module's header. */

/* Keys and values: Redis's limit, and what a 4-byte length can hold with room to spare. */
#define LIMIT_VALUE_BYTES (512ull * 1024 * 1024)

/* Shards: enough that 64 workers rarely meet (several per worker), few enough that a bitmap of
 * the shards a command locks fits in two cache lines. */
#define LIMIT_SHARDS 1024

/* Workers: one bit per worker in a 64-bit mask when all of them are stopped for a cut. */
#define LIMIT_WORKERS 64

/* Those who read the journal at the same time: the append-only file, the backlog, the spool of a full synchronisation,
 * and a pin for each worker that sends to replicas. */
#define LIMIT_JOURNAL_READERS (LIMIT_WORKERS + 8)

/* Databases: a shard keeps one pointer for each. */
#define LIMIT_DATABASES 10000

/* Commands parsed ahead and prefetched together. At ~100 ns a DRAM miss and ~12 line fill buffers a
 * core gains nothing past a few dozen; 64 matches the deepest pipeline that is common. */
#define LIMIT_BATCH_COMMANDS 64

/* Arguments of one batch held in the worker's arena; a longer command brings its own array. */
#define LIMIT_BATCH_ARGUMENTS 1024

/* Keys of one batch that are hashed and prefetched ahead. */
#define LIMIT_BATCH_KEYS 512

/* One read from a socket: the usual socket buffer yields no more at once, and the buffer stays in L2. */
#define LIMIT_READ_BYTES (64 * 1024)

/* Before AUTH: at most this many arguments, of at most this many bytes each (Redis's own bounds). */
#define LIMIT_UNAUTHENTICATED_ARGUMENTS 10
#define LIMIT_UNAUTHENTICATED_BULK      16384

/* An inline command, or the text of a length, that has no line end within this many bytes is refused. */
#define LIMIT_INLINE_BYTES (64 * 1024)

/* The largest number of arguments a command may announce (Redis: INT_MAX). */
#define LIMIT_ARGUMENTS 2147483647

/* Reply bytes a client may leave unread before its further commands wait for it to read. A client that
 * pipelines without reading therefore costs this plus one command's reply. */
#define LIMIT_PENDING_REPLY_BYTES (1024 * 1024)

/* While memory is short: replies composed before they are sent, and unfinished input beyond which no more is read. A
 * thousand clients can then add 64 MB at the most. */
#define LIMIT_TIGHT_BYTES (64 * 1024)

/* Values from this size on are sent from where they lie instead of being copied into the output buffer:
 * below it, a copy costs less than another iovec and a pin. */
#define LIMIT_REPLY_COPY_BYTES (32 * 1024)

/* The longest time, in nanoseconds, that a background step holds one shard. */
#define LIMIT_SHARD_HOLD_NS 100000

#endif
