/* See keyspace_copy.h.
 *
 * Until it is done the target is a collection without a key: a root that holds nothing but its tables, with an id, on
 * the list of its shard, so that its pages are moved and tiered as any others. In the last step the tables pass to a
 * copy of the source's root, which takes over the id.
 *
 * The source may leave meanwhile: it is known by its id and address, and looked for in the registry. */

#include "keyspace/keyspace_copy.h"

#include "base/clock.h"
#include "keyspace/keyspace_private.h"

#include <assert.h>
#include <stdlib.h>

enum {
    LOOK_AT_CLOCK = 16, /* pages between two looks */
    ROUNDS_MAX = 64,    /* slices for what changed; then the rest is copied at once */
};
#define LONG_BYTES (4ul << 20)

struct collection_copy {
    struct keyspace *keyspace;
    struct collection *source, *target; /* target NULL: done */
    uint32_t source_id, target_shard;
    uint64_t target_hash;
    struct page_changes changes;
    uint32_t part, number; /* the next page to be copied for the first time */
    unsigned rounds;
};

bool keyspace_copy_is_long(const struct lookup *source) {
    if (!record_is_paged(source->record)) return false;
    const struct collection *collection = lookup_collection(source);
    return collection->parts[0].payload_bytes + collection->parts[1].payload_bytes >= LONG_BYTES;
}

struct collection_copy *keyspace_copy_begin(struct keyspace *keyspace, const struct lookup *source,
                                            const struct view *target_view, const struct key *target_key) {
    struct collection *collection = lookup_collection(source);
    struct collection_copy *copy = calloc(1, sizeof(*copy));
    if (!copy || collection->changes) { /* one at a time */
        free(copy);
        return NULL;
    }
    copy->target = keyspace_new_collection(target_view, target_key, collection->kind);
    if (!copy->target) {
        free(copy);
        return NULL;
    }
    copy->target->epoch = COLLECTION_KEYLESS;
    (void)collection_give_heap(&keyspace->shards[target_key->shard], copy->target); /* it is going to be big */
    copy->keyspace = keyspace;
    copy->source = collection;
    copy->source_id = collection->id;
    copy->target_shard = target_key->shard;
    copy->target_hash = target_key->hash;
    collection->changes = &copy->changes;
    return copy;
}

bool keyspace_copy_is_of(const struct collection_copy *copy, const struct lookup *source,
                         const struct key *target_key) {
    return copy->target && record_is_paged(source->record) && lookup_collection(source) == copy->source &&
           copy->source->id == copy->source_id && copy->source->changes == &copy->changes &&
           copy->target_hash == target_key->hash;
}

/* ---- slices ---- */

struct slice {
    struct collection_copy *copy;
    struct page_access source, target;
    uint64_t started, budget_ns;
    unsigned pages;
};

static bool is_over(struct slice *slice) {
    return ++slice->pages % LOOK_AT_CLOCK == 0 && clock_elapsed_ns(slice->started) >= slice->budget_ns;
}

/* Makes the target's page like the source's. False: not now. */
static bool copy_page(struct slice *slice, unsigned part, uint32_t number) {
    struct page_table *from = &slice->copy->source->parts[part], *to = &slice->copy->target->parts[part];
    bool there = page_exists(to, number);
    if (!page_exists(from, number)) return !there || page_drop_at(&slice->target, to, number);
    struct span payload = page_read(&slice->source, from, number);
    if (!payload.data) return false;
    char *bytes = there ? page_edit(&slice->target, to, number, payload.length)
                        : page_add_at(&slice->target, to, number, payload.length);
    if (!bytes) return false;
    memcpy(bytes, payload.data, payload.length);
    page_set_note(to, number, page_note(from, number));
    return true;
}

/* True: every page has been copied once. */
static bool copy_first(struct slice *slice, bool *failed) {
    struct collection_copy *copy = slice->copy;
    for (; copy->part < COLLECTION_PARTS; copy->part++, copy->number = 0) {
        for (; copy->number < page_table_end(&copy->source->parts[copy->part]); copy->number++) {
            if (is_over(slice)) return false;
            *failed = !copy_page(slice, copy->part, copy->number);
            if (*failed) return false;
        }
    }
    return true;
}

/* True: no page is left that has changed since it was copied. */
static bool copy_changed(struct slice *slice, bool *failed) {
    struct page_changes *changes = &slice->copy->changes;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++)
        for (size_t word = 0; word < changes->words[part]; word++)
            while (changes->bits[part][word]) {
                unsigned bit = (unsigned)__builtin_ctzll(changes->bits[part][word]);
                if (slice->copy->rounds < ROUNDS_MAX && is_over(slice)) return false;
                *failed = !copy_page(slice, part, (uint32_t)(word * 64 + bit));
                if (*failed) return false;
                changes->bits[part][word] &= changes->bits[part][word] - 1;
            }
    return true;
}

/* ---- the end ---- */

/* The root of the copy, with the tables and the id that the target has had so far. NULL: no memory. */
static struct collection *make_root(struct collection_copy *copy) {
    struct collection *shell = copy->target, *root = shell->kind->copy_root(copy->source);
    if (!root) return NULL;
    collection_init(root, shell->kind);
    root->epoch = copy->keyspace->shards[shell->shard].epoch;
    root->next_expiry_ms = copy->source->next_expiry_ms;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        root->parts[part] = shell->parts[part];
        root->parts[part].owner = root;
        page_table_init(&shell->parts[part], shell, part);
        page_table_link_free(&root->parts[part]);
    }
    root->heap = shell->heap;
    shell->heap = NULL;
    collection_replace(copy->keyspace, shell, root);
    free(shell);
    return root;
}

static void stop_listening(struct collection_copy *copy) {
    copy->source->changes = NULL;
    copy->source = NULL;
}

static enum keyspace_copy_status finish(struct collection_copy *copy, const struct lookup *source,
                                        const struct view *view, const struct key *key, struct lookup *target) {
    struct record_plan plan = record_plan_of(source->record);
    int64_t expiry_ms = plan.expiry_ms;
    struct collection *root = make_root(copy);
    if (!root) return KEYSPACE_COPY_NO_MEMORY;
    copy->target = root;
    plan = (struct record_plan){.type = root->kind->type,
                                .encoding = RECORD_PAGED,
                                .value = span_of((const char *)&root, sizeof(struct collection *)),
                                .expiry_ms = expiry_ms};
    if (!keyspace_store(view, key, target, &plan)) {
        stop_listening(copy); /* the root is of this moment: it cannot go on later */
        return KEYSPACE_COPY_NO_MEMORY;
    }
    stop_listening(copy);
    copy->target = NULL;
    return KEYSPACE_COPY_DONE;
}

enum keyspace_copy_status keyspace_copy_step(struct collection_copy *copy, const struct view *source_view,
                                             struct lookup *source, const struct view *target_view,
                                             const struct key *target_key, struct lookup *target, uint64_t budget_ns) {
    struct slice slice = {.copy = copy,
                          .source = keyspace_pages(source_view, source->shard),
                          .target = keyspace_pages(target_view, target->shard),
                          .started = clock_ticks(),
                          .budget_ns = budget_ns};
    bool failed = false;
    slice.source.keep_access = true;
    if (copy->changes.lost) {
        copy->part = copy->number = 0;
        copy->changes.lost = false;
    }
    if (!copy_first(&slice, &failed)) return failed ? KEYSPACE_COPY_NO_MEMORY : KEYSPACE_COPY_GOES_ON;
    copy->rounds++;
    if (!copy_changed(&slice, &failed)) return failed ? KEYSPACE_COPY_NO_MEMORY : KEYSPACE_COPY_GOES_ON;
    if (copy->changes.lost) return KEYSPACE_COPY_GOES_ON;
    return finish(copy, source, target_view, target_key, target);
}

/* ---- giving up ---- */

/* The source's shard is found without a lock, so it may be another one when that is held. */
static bool leave_source(struct collection_copy *copy) {
    struct keyspace *keyspace = copy->keyspace;
    uint32_t shard = collection_shard(keyspace->collections, copy->source_id);
    if (shard == UINT32_MAX) return true;
    keyspace_lock(keyspace, shard);
    bool still = collection_shard(keyspace->collections, copy->source_id) == shard;
    if (still && collection_find(keyspace->collections, copy->source_id) == copy->source &&
        copy->source->changes == &copy->changes)
        copy->source->changes = NULL;
    keyspace_unlock(keyspace, shard);
    return still;
}

void keyspace_copy_free(struct collection_copy *copy) {
    if (!copy) return;
    struct keyspace *keyspace = copy->keyspace;
    if (copy->source)
        while (!leave_source(copy)) continue;
    if (copy->target) {
        keyspace_lock(keyspace, copy->target_shard);
        collection_condemn(keyspace, &keyspace->shards[copy->target_shard], copy->target);
        keyspace_unlock(keyspace, copy->target_shard);
    }
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) free(copy->changes.bits[part]);
    free(copy);
}
