/* See rdb_sink.h. */

#include "persist/rdb_sink.h"

#include <errno.h>
#include <stdlib.h>

enum { STEP_BYTES = 64 << 10 }; /* of a big collection under one hold of its shard's lock: some tens of microseconds */

struct rdb_sink {
    struct rdb_file *file;
    struct rdb_save_options save;
    unsigned lane_count;
    struct sink_lane {
        struct rdb_lane lane;
        bool ended;
    } lanes[];
};

struct rdb_sink *rdb_sink_open(const struct rdb_file_options *options, unsigned lanes, struct rdb_file_error *error) {
    struct rdb_sink *sink = calloc(1, sizeof(*sink) + lanes * sizeof(sink->lanes[0]));
    *error = (struct rdb_file_error){"allocate", ENOMEM};
    if (!sink) return NULL;
    sink->file = rdb_file_open(options, error);
    if (!sink->file) {
        free(sink);
        return NULL;
    }
    sink->save = options->save;
    sink->lane_count = lanes;
    for (unsigned i = 0; i < lanes; i++) rdb_lane_init(&sink->lanes[i].lane, sink->file);
    return sink;
}

void rdb_sink_set_history(struct rdb_sink *sink, const struct rdb_history *history) {
    rdb_file_set_history(sink->file, history);
}

/* ---- what the walkers call ---- */

static bool take_record(void *ctx, unsigned lane, uint32_t database, const struct record *image) {
    struct rdb_sink *sink = ctx;
    return rdb_lane_record(&sink->lanes[lane].lane, database, image);
}

/* Steps to the collection's end, each under its shard's lock. */
static bool take_steps(struct rdb_lane *lane, struct rdb_collection_save *save, struct snapshot_collection *value) {
    enum rdb_save_status status;
    do {
        struct page_access *access = snapshot_collection_lock(value);
        status = rdb_collection_step(save, access, &lane->output, STEP_BYTES);
        snapshot_collection_unlock(value);
        if (status == RDB_SAVE_FAILED || !rdb_lane_collection_settle(lane)) return false;
        if (status == RDB_SAVE_MISSING && !snapshot_collection_fetch(value)) return false;
    } while (status != RDB_SAVE_DONE);
    return true;
}

static bool take_collection(void *ctx, unsigned lane_number, uint32_t database, struct snapshot_collection *value) {
    struct rdb_sink *sink = ctx;
    struct rdb_lane *lane = &sink->lanes[lane_number].lane;
    struct rdb_collection_save save;
    bool begun =
        rdb_lane_collection_begin(lane, &save, database, value->root, value->key, value->expiry_ms, value->access);
    bool whole = begun && take_steps(lane, &save, value);
    /* Also of one that failed: others may be waiting for the file. */
    return begun && rdb_lane_collection_end(lane, &save) && whole;
}

static bool end_lane(void *ctx, unsigned lane) {
    struct rdb_sink *sink = ctx;
    sink->lanes[lane].ended = true;
    return rdb_lane_end(&sink->lanes[lane].lane);
}

struct snapshot_sink rdb_sink_of(struct rdb_sink *sink) {
    return (struct snapshot_sink){
        .ctx = sink, .record = take_record, .collection = take_collection, .lane_end = end_lane};
}

/* ---- the end ---- */

bool rdb_sink_close(struct rdb_sink *sink, bool whole, struct rdb_file_error *error) {
    *error = rdb_file_error(sink->file);
    /* Lanes that were not ended have memory, and nothing that is worth writing. */
    for (unsigned i = 0; i < sink->lane_count; i++)
        if (!sink->lanes[i].ended) (void)!rdb_lane_end(&sink->lanes[i].lane);
    if (whole)
        whole = rdb_file_finish(sink->file, error);
    else
        rdb_file_abandon(sink->file);
    free(sink);
    return whole;
}
