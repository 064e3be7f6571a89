/* See rdb_load.h.
 *
 *   header, aux ... --> [with a sidecar: chunks, each thread reads its own] --> end, checksum
 *                       [without: read, survey, cut into jobs for the crew]
 *
 * The reading thread keeps one input over the source. What is at hand in its buffer is surveyed; whole records become a
 * job, the rest stays and is read on. When the buffer is full and holds no whole record, the next one is larger than
 * the buffer: this thread loads it itself, through the same input, while the crew goes on with what it has.
 *
 * A failure has an offset and a reason; the first one is told. Everything before has been, or may have been, loaded. */

#include "persist/rdb_load.h"

#include "base/log.h"
#include "base/number.h"
#include "keyspace/keyspace_import.h"
#include "persist/rdb_load_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD_BYTES_LEAST = 4 }; /* a type, an empty key's length, and a value of two bytes at least */

struct load {
    const struct rdb_load_options *options; /* `own` */
    struct rdb_load_options own;            /* the caller's, and what the header says of them */
    struct rdb_load_result *result;
    struct rdb_input input;
    struct rdb_inserter inserter; /* of this thread */
    struct rdb_crew crew;
    uint32_t database;
    uint64_t source_bytes; /* UINT64_MAX: not known */
    uint64_t index_id;     /* the header names a sidecar */
    bool has_index_id;
    bool ended;
};

/* ---- the header ---- */

static bool get_header(struct load *load) {
    struct rdb_input *input = &load->input;
    unsigned version = 0;
    if (!rdb_input_have(input, RDB_HEADER_BYTES) || memcmp(input->at, RDB_MAGIC, RDB_MAGIC_BYTES) != 0) {
        rdb_input_fail(input, RDB_CORRUPT, "it does not begin as an RDB does");
        return false;
    }
    for (unsigned i = RDB_MAGIC_BYTES; i < RDB_HEADER_BYTES; i++) {
        unsigned digit = (unsigned)input->at[i] - '0';
        version = digit > 9 ? UINT16_MAX : version * 10 + digit;
    }
    load->result->version = version;
    if (version < RDB_VERSION_MIN || version > RDB_VERSION_MAX) {
        rdb_input_fail(input, RDB_UNSUPPORTED, "it has a version that is not known here");
        return false;
    }
    return rdb_skip_bytes(input, RDB_HEADER_BYTES);
}

/* Some are written with zeros in front. */
static int64_t number_of(struct span text) {
    int64_t number;
    while (text.length > 1 && text.data[0] == '0') text = span_of(text.data + 1, text.length - 1);
    return number_parse_i64(text, &number) ? number : 0;
}

static void copy_text(char *to, size_t room, struct span text) {
    size_t length = text.length < room ? text.length : room - 1;
    memcpy(to, text.data, length);
    to[length] = '\0';
}

static void note_index(struct load *load, struct span value) {
    uint64_t id = 0;
    for (size_t i = 0; i < value.length; i++) {
        const char *digits = "0123456789abcdef", *digit = value.data[i] ? strchr(digits, value.data[i]) : NULL;
        if (!digit) return;
        id = id << 4 | (uint64_t)(digit - digits);
    }
    load->index_id = id;
    load->has_index_id = value.length == 16;
}

static void note_used_memory(struct load *load, uint64_t bytes) {
    struct rdb_load_progress *progress = load->options->progress;
    load->result->used_memory = bytes;
    if (progress) atomic_store_explicit(&progress->used_memory, bytes, memory_order_relaxed);
}

/* Replicas may have the keys that have expired: they are told of it when these are deleted, as always. No record has
 * been given to anybody yet. */
static void note_history(struct load *load, struct span id) {
    copy_text(load->result->replication_id, sizeof(load->result->replication_id), id);
    load->own.drop_expired = false;
}

static void note_aux(struct load *load, struct span name, struct span value) {
    struct rdb_load_result *result = load->result;
    if (span_is_word(name, "redis-ver"))
        copy_text(result->server_version, sizeof(result->server_version), value);
    else if (span_is_word(name, "ctime"))
        result->created_s = number_of(value);
    else if (span_is_word(name, "used-mem"))
        note_used_memory(load, (uint64_t)number_of(value));
    else if (span_is_word(name, "aof-base") || span_is_word(name, "aof-preamble"))
        result->aof_base = result->aof_base || number_of(value) != 0;
    else if (span_is_word(name, "repl-id") && value.length == sizeof(result->replication_id) - 1)
        note_history(load, value);
    else if (span_is_word(name, "repl-offset"))
        result->replication_offset = number_of(value);
    else if (span_is_word(name, "repl-stream-db"))
        result->replication_database = number_of(value);
    else if (span_is_word(name, RDB_AUX_INDEX))
        note_index(load, value);
}

static bool get_aux(struct load *load) {
    struct rdb_text name = {0}, value = {0};
    bool got = rdb_get_text(&load->input, &name) && rdb_get_text(&load->input, &value);
    if (got) note_aux(load, name.span, value.span);
    rdb_text_free(&name);
    rdb_text_free(&value);
    return got;
}

/* ---- what is passed by ---- */

/* Of a module: numbers and strings, each behind a number that says which. */
enum { MODULE_END, MODULE_SIGNED, MODULE_UNSIGNED, MODULE_FLOAT, MODULE_DOUBLE, MODULE_STRING };

static bool skip_module_aux(struct load *load) {
    struct rdb_input *input = &load->input;
    (void)rdb_get_length(input); /* which module, and when it is to be loaded */
    uint64_t part = rdb_get_length(input);
    if (part != MODULE_UNSIGNED) rdb_input_fail(input, RDB_CORRUPT, "data of a module is damaged");
    (void)rdb_get_length(input);
    while (!rdb_input_failed(input)) {
        switch (rdb_get_length(input)) {
        case MODULE_END: load->result->module_records++; return !rdb_input_failed(input);
        case MODULE_SIGNED:
        case MODULE_UNSIGNED: (void)rdb_get_length(input); break;
        case MODULE_FLOAT: (void)rdb_skip_bytes(input, 4); break;
        case MODULE_DOUBLE: (void)rdb_skip_bytes(input, 8); break;
        case MODULE_STRING: (void)rdb_skip_string(input); break;
        default: rdb_input_fail(input, RDB_CORRUPT, "data of a module is damaged"); break;
        }
    }
    return false;
}

/* Two lengths in front of the code: of the whole, and whether there is a description. */
static bool skip_function(struct load *load, uint8_t operation) {
    if (operation == RDB_OP_FUNCTION_PRE_GA) {
        rdb_input_fail(&load->input, RDB_UNSUPPORTED, "it has functions in the form of a release candidate");
        return false;
    }
    load->result->functions++;
    return rdb_skip_string(&load->input);
}

/* So many keys of the database are said to come. A source of known length cannot hold more than it has bytes for; of
 * another nothing is believed. */
static void expect_keys(struct load *load, uint32_t database, uint64_t keys) {
    struct rdb_load_progress *progress = load->options->progress;
    if (progress) atomic_fetch_add_explicit(&progress->expected_keys, keys, memory_order_relaxed);
    if (load->source_bytes == UINT64_MAX || load->options->aside) return;
    if (keys > load->source_bytes / RECORD_BYTES_LEAST) keys = load->source_bytes / RECORD_BYTES_LEAST;
    keyspace_reserve(load->options->keyspace, database, keys);
}

/* The same by a sidecar, whose chunks stand in no order. */
static void expect_chunks(struct load *load, const struct rdb_index *index) {
    for (uint32_t database = 0; database < load->options->keyspace->database_count; database++) {
        uint64_t keys = 0;
        for (uint32_t i = 0; i < index->head.chunk_count; i++)
            if (index->chunks[i].database == database) keys += index->chunks[i].keys;
        if (keys) expect_keys(load, database, keys);
    }
}

/* An operation that stands at the input. */
static bool get_operation(struct load *load) {
    struct rdb_input *input = &load->input;
    uint8_t operation = rdb_get_byte(input);
    switch (operation) {
    case RDB_OP_EOF: load->ended = true; return true;
    case RDB_OP_SELECT: return rdb_get_database(input, load->options->keyspace, &load->database);
    case RDB_OP_RESIZE:
        expect_keys(load, load->database, rdb_get_length(input));
        (void)rdb_get_length(input);
        return !rdb_input_failed(input);
    case RDB_OP_SLOT_INFO:
        for (unsigned i = 0; i < 3; i++) (void)rdb_get_length(input);
        return !rdb_input_failed(input);
    case RDB_OP_AUX: return get_aux(load);
    case RDB_OP_MODULE_AUX: return skip_module_aux(load);
    default: return skip_function(load, operation);
    }
}

static bool is_operation(uint8_t byte) {
    switch (byte) {
    case RDB_OP_EOF:
    case RDB_OP_SELECT:
    case RDB_OP_RESIZE:
    case RDB_OP_SLOT_INFO:
    case RDB_OP_AUX:
    case RDB_OP_MODULE_AUX:
    case RDB_OP_FUNCTION:
    case RDB_OP_FUNCTION_PRE_GA: return true;
    default: return false;
    }
}

/* ---- records, without a sidecar ---- */

/* The records before `behind`: by the crew, or here if there is none. */
static bool load_records(struct load *load, const uint8_t *behind) {
    struct rdb_input *input = &load->input, memory;
    size_t length = (size_t)(behind - input->at);
    uint32_t database = load->database;
    if (load->crew.thread_count == 0) {
        rdb_input_of_memory(&memory, span_of(input->at, length), rdb_input_offset(input));
        if (rdb_insert_all(&load->inserter, &memory, &database) != RDB_DONE) {
            rdb_crew_fail(&load->crew, memory.status, memory.reason, memory.failed_at);
            return false;
        }
    } else {
        struct rdb_job *job = rdb_crew_spare(&load->crew);
        if (!job) return false;
        memcpy(job->bytes, input->at, length);
        job->length = length;
        job->offset = rdb_input_offset(input);
        job->database = database;
        rdb_crew_give(&load->crew, job);
    }
    input->at = behind;
    return true;
}

static void show_progress(struct load *load) {
    struct rdb_load_progress *progress = load->options->progress;
    if (progress) atomic_store_explicit(&progress->loaded_bytes, rdb_input_offset(&load->input), memory_order_relaxed);
}

/* What begins with a record: as many as are at hand, or the one that is larger than the buffer. */
static bool get_records(struct load *load) {
    struct rdb_input *input = &load->input, survey;
    uint32_t database = load->database;
    (void)rdb_input_have(input, RDB_INPUT_BUFFER);
    if (rdb_input_failed(input)) return false;
    rdb_input_of_memory(&survey, span_of(input->at, (size_t)(input->end - input->at)), rdb_input_offset(input));
    survey.source_bytes = input->source_bytes;
    const uint8_t *behind = rdb_survey(&survey, load->options->keyspace, &database);
    bool done;
    if (behind > input->at) {
        done = load_records(load, behind);
        load->database = database;
    } else {
        done = rdb_insert_one(&load->inserter, input, load->database) == RDB_DONE;
    }
    show_progress(load);
    return done;
}

static bool is_cancelled(const struct load *load) {
    const atomic_bool *cancel = load->options->cancel;
    return cancel && atomic_load_explicit((atomic_bool *)(uintptr_t)cancel, memory_order_relaxed);
}

/* From the header to the byte that tells the end. `until_select`: no further than to where the records begin. */
static bool get_body(struct load *load, bool until_select) {
    struct rdb_input *input = &load->input;
    while (!load->ended && !rdb_input_failed(input)) {
        if (is_cancelled(load)) rdb_input_fail(input, RDB_CANCELLED, "it was ended");
        if (!rdb_input_have(input, 1)) rdb_input_fail(input, RDB_ENDS_EARLY, "it ends in the middle");
        if (rdb_input_failed(input)) return false;
        bool operation = is_operation(*input->at);
        if (until_select && (!operation || *input->at == RDB_OP_SELECT || *input->at == RDB_OP_EOF)) return true;
        if (!(operation ? get_operation(load) : get_records(load))) return false;
    }
    return load->ended;
}

static bool get_checksum(struct load *load) {
    struct rdb_input *input = &load->input;
    if (load->result->version < RDB_VERSION_CHECKSUM) return true;
    uint64_t sum = input->sums ? rdb_input_checksum(input) : 0, stated = rdb_get_u64(input);
    if (rdb_input_failed(input)) return false;
    if (input->sums && stated && stated != sum)
        rdb_input_fail(input, RDB_CORRUPT, "CRC error: the checksum at the end does not match");
    return !rdb_input_failed(input);
}

/* ---- with a sidecar ---- */

struct part {
    int fd;
    uint64_t at, end;
};

static long read_part(void *ctx, void *buffer, size_t room) {
    struct part *part = ctx;
    uint64_t left = part->end - part->at;
    if (left == 0) return 0;
    ssize_t count;
    do count = pread(part->fd, buffer, room < left ? room : (size_t)left, (off_t)part->at);
    while (count < 0 && errno == EINTR);
    if (count > 0) part->at += (uint64_t)count;
    return count;
}

/* A chunk that is too long for the crew: as it is read, record by record. */
static bool load_long_chunk(struct load *load, const struct rdb_index_chunk *chunk) {
    struct part part = {load->crew.fd, chunk->offset, chunk->offset + chunk->length};
    struct rdb_input input;
    uint32_t database = chunk->database;
    if (!rdb_input_of_reader(&input, read_part, &part, part.end, !load->options->ignore_checksum)) {
        rdb_crew_fail(&load->crew, RDB_NO_MEMORY, "there is no memory for it", chunk->offset);
        return false;
    }
    input.end_offset = chunk->offset;
    while (rdb_input_have(&input, 1)) {
        if (*input.at == RDB_OP_SELECT) {
            (void)rdb_get_byte(&input);
            if (!rdb_get_database(&input, load->options->keyspace, &database)) break;
        } else if (rdb_insert_one(&load->inserter, &input, database) != RDB_DONE) {
            break;
        }
    }
    if (!rdb_input_failed(&input) && input.sums && rdb_input_checksum(&input) != chunk->crc)
        rdb_input_fail(&input, RDB_CORRUPT, "CRC error: the checksum of a chunk does not match");
    if (rdb_input_failed(&input)) rdb_crew_fail(&load->crew, input.status, input.reason, input.failed_at);
    bool done = !rdb_input_failed(&input);
    if (done && load->options->progress)
        atomic_fetch_add_explicit(&load->options->progress->loaded_bytes, chunk->length, memory_order_relaxed);
    rdb_input_free(&input);
    return done;
}

/* Everything behind the header, by the sidecar's chunks. */
static bool load_chunks(struct load *load, const struct rdb_index *index) {
    struct rdb_load_result *result = load->result;
    load->crew.chunks = index->chunks;
    load->crew.chunk_count = index->head.chunk_count;
    expect_chunks(load, index);
    rdb_crew_start(&load->crew);
    if (load->crew.thread_count == 0) {
        load->crew.chunks = NULL;
        return false;
    }
    result->used_sidecar = true;
    for (uint32_t i = 0; i < index->head.chunk_count; i++)
        if (index->chunks[i].length > RDB_CHUNK_AT_ONCE && !load_long_chunk(load, &index->chunks[i])) break;
    result->bytes = index->head.file_bytes;
    load->ended = true;
    return true;
}

static bool header_matches(struct load *load, const struct rdb_index *index) {
    struct rdb_input *input = &load->input;
    if (!load->has_index_id || load->index_id != index->head.id) return false;
    if (rdb_input_offset(input) != index->head.body_offset) return false;
    return !input->sums || rdb_input_checksum(input) == index->head.head_crc;
}

/* ---- the whole ---- */

static void explain(struct load *load) {
    struct rdb_load_result *result = load->result;
    struct rdb_crew *crew = &load->crew;
    result->status = crew->status;
    result->offset = crew->failed_at;
    const char *reason = crew->reason;
    if (load->input.status != RDB_DONE && result->status == RDB_DONE) {
        result->status = load->input.status;
        result->offset = load->input.failed_at;
        reason = load->input.reason;
    }
    if (result->status == RDB_DONE) return;
    snprintf(result->reason, sizeof(result->reason), "%s, at byte %llu", reason ? reason : "it cannot be loaded",
             (unsigned long long)result->offset);
}

static void add_figures(struct load *load) {
    struct rdb_load_result *result = load->result;
    const struct rdb_crew *crew = &load->crew;
    const struct rdb_inserter *own = &load->inserter;
    result->keys = crew->keys + own->keys;
    result->expired = crew->expired + own->expired;
    result->empty = crew->empty + own->empty;
    result->replaced = crew->replaced + own->replaced;
    if (result->functions) log_warning("%u function libraries of the RDB were passed by", result->functions);
    if (result->module_records) log_warning("%u records of modules in the RDB were passed by", result->module_records);
    if (result->empty)
        log_warning("%llu keys without elements in the RDB were passed by", (unsigned long long)result->empty);
}

static void load_all(struct load *load, const struct rdb_index *index) {
    if (!get_header(load) || (index && !get_body(load, true))) return;
    if (index && header_matches(load, index) && load_chunks(load, index)) return;
    rdb_crew_start(&load->crew);
    if (get_body(load, false) && get_checksum(load)) load->result->bytes = rdb_input_offset(&load->input);
}

static enum rdb_status load_from(rdb_read *read, void *ctx, uint64_t source_bytes, int fd,
                                 const struct rdb_index *index, const struct rdb_load_options *options,
                                 struct rdb_load_result *result) {
    struct load load = {.own = *options, .result = result, .source_bytes = source_bytes};
    struct rdb_load_progress *progress = options->progress;
    *result = (struct rdb_load_result){.status = RDB_NO_MEMORY, .reason = "there is no memory for it"};
    if (progress && source_bytes != UINT64_MAX)
        atomic_store_explicit(&progress->total_bytes, source_bytes, memory_order_relaxed);
    load.options = &load.own;
    rdb_crew_begin(&load.crew, load.options);
    load.crew.fd = fd;
    if (rdb_inserter_init(&load.inserter, load.options, options->port) &&
        rdb_input_of_reader(&load.input, read, ctx, source_bytes, !options->ignore_checksum)) {
        load_all(&load, index);
        if (rdb_input_failed(&load.input))
            rdb_crew_fail(&load.crew, load.input.status, load.input.reason, load.input.failed_at);
        rdb_crew_end(&load.crew);
        explain(&load);
        if (result->status == RDB_DONE) result->reason[0] = '\0';
        add_figures(&load);
    } else {
        rdb_crew_end(&load.crew);
    }
    rdb_input_free(&load.input);
    rdb_inserter_free(&load.inserter);
    if (options->port) tier_port_drain(options->port);
    return result->status;
}

enum rdb_status rdb_load_stream(rdb_read *read, void *ctx, uint64_t source_bytes,
                                const struct rdb_load_options *options, struct rdb_load_result *result) {
    return load_from(read, ctx, source_bytes, -1, NULL, options, result);
}

enum rdb_status rdb_load_file(const char *path, const struct rdb_load_options *options,
                              struct rdb_load_result *result) {
    struct stat stat;
    struct rdb_index index;
    *result = (struct rdb_load_result){.status = RDB_IO};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &stat) != 0) {
        int error = errno;
        snprintf(result->reason, sizeof(result->reason), "it cannot be opened: %s", strerror(error));
        if (fd >= 0) close(fd);
        errno = error;
        return RDB_IO;
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    bool indexed = !options->ignore_sidecar && rdb_index_read(&index, path, (uint64_t)stat.st_size);
    struct part part = {fd, 0, (uint64_t)stat.st_size};
    load_from(read_part, &part, part.end, fd, indexed ? &index : NULL, options, result);
    if (indexed) rdb_index_free(&index);
    close(fd);
    return result->status;
}
