/* The threads of a load: see rdb_load_private.h.
 *
 * Jobs go round: the reading thread fills a spare one, members take them in order and give them back. There are a few
 * more than members, so that nobody waits for the other's rhythm, and the bytes stay in the caches. */

#include "base/limits.h"
#include "persist/crc64.h"
#include "persist/rdb_load_private.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- a member ---- */

static bool read_at(int fd, uint8_t *bytes, size_t length, uint64_t offset) {
    while (length) {
        ssize_t count = pread(fd, bytes, length, (off_t)offset);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        bytes += count;
        offset += (uint64_t)count;
        length -= (size_t)count;
    }
    return true;
}

/* A chunk's bytes, checked. `*room` grows by malloc. */
static bool read_chunk(struct rdb_crew *crew, struct rdb_job *job, uint8_t **room, size_t *capacity) {
    if (job->length > *capacity) {
        uint8_t *larger = realloc(*room, job->length);
        if (!larger) {
            rdb_crew_fail(crew, RDB_NO_MEMORY, "there is no memory for it", job->offset);
            return false;
        }
        *room = larger;
        *capacity = job->length;
    }
    if (!read_at(crew->fd, *room, job->length, job->offset)) {
        rdb_crew_fail(crew, RDB_IO, "it cannot be read", job->offset);
        return false;
    }
    job->bytes = *room;
    if (crc64(0, *room, job->length) == job->crc || crew->options->ignore_checksum) return true;
    rdb_crew_fail(crew, RDB_CORRUPT, "the checksum of a chunk does not match", job->offset);
    return false;
}

static bool do_job(struct rdb_crew *crew, struct rdb_inserter *inserter, struct rdb_job *job) {
    struct rdb_input input;
    uint32_t database = job->database;
    rdb_input_of_memory(&input, span_of(job->bytes, job->length), job->offset);
    if (rdb_insert_all(inserter, &input, &database) == RDB_DONE) return true;
    rdb_crew_fail(crew, input.status, input.reason, input.failed_at);
    return false;
}

/* The next chunk that is read at once, as a job; false: there is none. */
static bool take_chunk(struct rdb_crew *crew, struct rdb_job *job) {
    while (crew->next_chunk < crew->chunk_count) {
        const struct rdb_index_chunk *chunk = &crew->chunks[crew->next_chunk++];
        if (chunk->length > RDB_CHUNK_AT_ONCE) continue;
        *job = (struct rdb_job){
            .length = (size_t)chunk->length, .offset = chunk->offset, .database = chunk->database, .crc = chunk->crc};
        return true;
    }
    return false;
}

/* What to do next; false: nothing any more. */
static bool take(struct rdb_crew *crew, struct rdb_job **job, struct rdb_job *own) {
    *job = NULL;
    pthread_mutex_lock(&crew->lock);
    while (crew->status == RDB_DONE && !*job) {
        if (crew->chunks) {
            if (!take_chunk(crew, own)) break;
            *job = own;
        } else if (crew->jobs) {
            *job = crew->jobs;
            crew->jobs = (*job)->next;
            if (!crew->jobs) crew->last = &crew->jobs;
        } else if (crew->ended) {
            break;
        } else {
            pthread_cond_wait(&crew->changed, &crew->lock);
        }
    }
    pthread_mutex_unlock(&crew->lock);
    return *job != NULL;
}

static void give_back(struct rdb_crew *crew, struct rdb_job *job) {
    pthread_mutex_lock(&crew->lock);
    job->next = crew->spare;
    crew->spare = job;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
}

static void count_loaded(struct rdb_crew *crew, uint64_t bytes) {
    struct rdb_load_progress *progress = crew->options->progress;
    if (progress) atomic_fetch_add_explicit(&progress->loaded_bytes, bytes, memory_order_relaxed);
}

static void *work(void *ctx) {
    struct rdb_crew *crew = ctx;
    struct rdb_inserter inserter;
    struct rdb_job *job, own;
    uint8_t *room = NULL;
    size_t capacity = 0;
    if (!rdb_inserter_init(&inserter, crew->options, NULL))
        rdb_crew_fail(crew, RDB_NO_MEMORY, "there is no memory for it", 0);
    while (take(crew, &job, &own)) {
        if (job == &own) {
            if (read_chunk(crew, job, &room, &capacity) && do_job(crew, &inserter, job))
                count_loaded(crew, job->length);
        } else {
            (void)do_job(crew, &inserter, job);
            give_back(crew, job);
        }
    }
    pthread_mutex_lock(&crew->lock);
    crew->keys += inserter.keys;
    crew->expired += inserter.expired;
    crew->empty += inserter.empty;
    crew->replaced += inserter.replaced;
    pthread_mutex_unlock(&crew->lock);
    rdb_inserter_free(&inserter);
    free(room);
    return NULL;
}

/* ---- the crew ---- */

static bool make_jobs(struct rdb_crew *crew, unsigned members) {
    crew->job_count = 2 * members + 1;
    crew->all = calloc(crew->job_count, sizeof(*crew->all));
    if (!crew->all) return false;
    for (unsigned i = 0; i < crew->job_count; i++) {
        if (!(crew->all[i].bytes = malloc(RDB_INPUT_BUFFER))) return false;
        crew->all[i].next = crew->spare;
        crew->spare = &crew->all[i];
    }
    return true;
}

void rdb_crew_begin(struct rdb_crew *crew, const struct rdb_load_options *options) {
    *crew = (struct rdb_crew){.options = options, .fd = -1, .status = RDB_DONE};
    crew->last = &crew->jobs;
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->changed, NULL);
}

void rdb_crew_start(struct rdb_crew *crew) {
    const struct rdb_load_options *options = crew->options;
    unsigned members = options->keyspace->locking ? options->threads : 0;
    if (members > RDB_CREW_MAX) members = RDB_CREW_MAX;
    if (members == 0 || (!crew->chunks && !make_jobs(crew, members))) return;
    while (crew->thread_count < members && pthread_create(&crew->threads[crew->thread_count], NULL, work, crew) == 0)
        crew->thread_count++;
}

void rdb_crew_fail(struct rdb_crew *crew, enum rdb_status status, const char *reason, uint64_t offset) {
    pthread_mutex_lock(&crew->lock);
    if (crew->status == RDB_DONE) {
        crew->status = status;
        crew->reason = reason;
        crew->failed_at = offset;
    }
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
}

struct rdb_job *rdb_crew_spare(struct rdb_crew *crew) {
    struct rdb_job *job = NULL;
    pthread_mutex_lock(&crew->lock);
    while (crew->status == RDB_DONE && !crew->spare) pthread_cond_wait(&crew->changed, &crew->lock);
    if (crew->status == RDB_DONE) {
        job = crew->spare;
        crew->spare = job->next;
    }
    pthread_mutex_unlock(&crew->lock);
    return job;
}

void rdb_crew_give(struct rdb_crew *crew, struct rdb_job *job) {
    pthread_mutex_lock(&crew->lock);
    job->next = NULL;
    *crew->last = job;
    crew->last = &job->next;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
}

void rdb_crew_end(struct rdb_crew *crew) {
    pthread_mutex_lock(&crew->lock);
    crew->ended = true;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
    for (unsigned i = 0; i < crew->thread_count; i++) pthread_join(crew->threads[i], NULL);
    for (unsigned i = 0; crew->all && i < crew->job_count; i++) free(crew->all[i].bytes);
    free(crew->all);
    crew->all = NULL;
    pthread_cond_destroy(&crew->changed);
    pthread_mutex_destroy(&crew->lock);
}
