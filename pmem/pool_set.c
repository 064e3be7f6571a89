/* Several pools that are one: pool_layout.h has the steps in which they are made, and what a start finds after a crash.
 *
 * First all that is there is opened, and what is absent noted. Only when everything found belongs together is anything
 * made. A pool alone goes the same way with nothing to compare. */

#include "base/random.h"
#include "pmem/pool_parts.h"
#include "pmem/pool_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct joining {
    const struct pmem_pool_options *options;
    char *names; /* owned */
    unsigned count;
    const char *path[PMEM_POOLS_MAX];        /* in `names` */
    struct pmem_pool *found[PMEM_POOLS_MAX]; /* as they were named; NULL: absent */
    bool is_new[PMEM_POOLS_MAX];
    char *error;
    size_t error_bytes;
};

/* Of the pool that was named as `i`-th. Returns false. */
static bool refuse(const struct joining *joining, unsigned i, const char *text) {
    snprintf(joining->error, joining->error_bytes, "pmem-pool '%.200s': %s; nothing was changed", joining->path[i],
             text);
    return false;
}

static struct pmem_pool_options options_of(const struct joining *joining, unsigned i) {
    struct pmem_pool_options options = *joining->options;
    options.path = joining->path[i];
    return options;
}

static bool split(struct joining *joining) {
    joining->names = strdup(joining->options->path);
    char *rest = NULL, *name = joining->names ? strtok_r(joining->names, ",", &rest) : NULL;
    for (; name; name = strtok_r(NULL, ",", &rest)) {
        if (joining->count == PMEM_POOLS_MAX) {
            snprintf(joining->error, joining->error_bytes, "pmem-pool: %d pools are the most", PMEM_POOLS_MAX);
            return false;
        }
        for (unsigned i = 0; i < joining->count; i++)
            if (strcmp(joining->path[i], name) == 0) return refuse(joining, i, "is named twice");
        joining->path[joining->count++] = name;
    }
    if (joining->count) return true;
    snprintf(joining->error, joining->error_bytes, "pmem-pool: names no pool");
    return false;
}

static bool open_present(struct joining *joining) {
    for (unsigned i = 0; i < joining->count; i++) {
        struct pmem_pool_options options = options_of(joining, i);
        bool absent;
        joining->found[i] = pmem_pool_open_one(&options, NULL, &absent, joining->error, joining->error_bytes);
        if (!joining->found[i] && !absent) return false;
    }
    return true;
}

/* ---- what was found ---- */

static const struct pmem_pool_identity *identity_of(const struct joining *joining, unsigned i) {
    return joining->found[i] ? &joining->found[i]->root->identity : NULL;
}

/* The identity of some pool that is there; NULL: none is. */
static const struct pmem_pool_identity *any_identity(const struct joining *joining) {
    for (unsigned i = 0; i < joining->count; i++)
        if (joining->found[i]) return identity_of(joining, i);
    return NULL;
}

static bool fits(const struct joining *joining, unsigned i) {
    char text[160];
    const struct pmem_pool_identity *mine = identity_of(joining, i), *first = any_identity(joining);
    unsigned pools = mine->set_pools ? mine->set_pools : 1;
    if (pools != joining->count) {
        if (pools == 1)
            snprintf(text, sizeof(text), "is a pool of its own, and cannot be one of %u", joining->count);
        else
            snprintf(text, sizeof(text), "is one of a set of %u pools, and %u were named", pools, joining->count);
        return refuse(joining, i, text);
    }
    if (pools == 1) return true;
    if (memcmp(mine->set_uuid, first->set_uuid, sizeof(mine->set_uuid)) != 0)
        return refuse(joining, i, "belongs to another set than the pools before it");
    if (mine->set_index >= pools || mine->segment_bytes != first->segment_bytes)
        return refuse(joining, i, "is damaged: what it says of its set does not fit");
    for (unsigned k = 0; k < i; k++)
        if (joining->found[k] && identity_of(joining, k)->set_index == mine->set_index)
            return refuse(joining, i, "is a copy of another pool of the set");
    return true;
}

static bool is_joined(const struct joining *joining) {
    for (unsigned i = 0; i < joining->count; i++)
        if (joining->found[i] && identity_of(joining, i)->flags & PMEM_POOL_JOINED) return true;
    return false;
}

static bool judge(const struct joining *joining) {
    for (unsigned i = 0; i < joining->count; i++)
        if (joining->found[i] && !fits(joining, i)) return false;
    if (!is_joined(joining)) return true;
    for (unsigned i = 0; i < joining->count; i++)
        if (!joining->found[i])
            return refuse(joining, i, "is not there, or empty, and the others are pools of a set that was complete");
    return true;
}

/* ---- what is absent ---- */

static bool is_taken(const struct joining *joining, unsigned index) {
    for (unsigned i = 0; i < joining->count; i++)
        if (joining->found[i] && identity_of(joining, i)->set_index == index) return true;
    return false;
}

static bool make_absent(struct joining *joining) {
    const struct pmem_pool_identity *known = any_identity(joining);
    struct pmem_pool_place place = {.pools = joining->count > 1 ? joining->count : 0};
    if (known) memcpy(place.set_uuid, known->set_uuid, sizeof(place.set_uuid));
    if (!known) random_fill_secret(place.set_uuid, sizeof(place.set_uuid));
    for (unsigned i = 0; i < joining->count; i++) {
        if (joining->found[i]) continue;
        struct pmem_pool_options options = options_of(joining, i);
        bool absent, was_there = access(options.path, F_OK) == 0;
        if (joining->count > 1 && known) options.segment_bytes = known->segment_bytes;
        while (is_taken(joining, place.index)) place.index++;
        joining->found[i] = pmem_pool_open_one(&options, &place, &absent, joining->error, joining->error_bytes);
        if (!joining->found[i]) return false;
        joining->is_new[i] = !was_there;
        known = identity_of(joining, i);
    }
    return true;
}

/* ---- one of all ---- */

static bool mark_joined(struct pmem_pool *pool) {
    volatile int error = 0;
    struct pmem_pool_identity *identity = &pool->root->identity;
    if (identity->flags & PMEM_POOL_JOINED) return true;
    TX_BEGIN(pool->pop) {
        pmemobj_tx_add_range_direct(identity, sizeof(*identity));
        identity->flags |= PMEM_POOL_JOINED;
        identity->checksum = pmem_identity_checksum(identity);
    }
    TX_ONABORT {
        error = pmemobj_tx_errno();
    }
    TX_END
    errno = error;
    return error == 0;
}

static struct pmem_pool *join(struct joining *joining) {
    struct pmem_pool *by_index[PMEM_POOLS_MAX] = {NULL};
    for (unsigned i = 0; i < joining->count; i++) {
        joining->found[i]->named = i;
        by_index[joining->count == 1 ? 0 : identity_of(joining, i)->set_index] = joining->found[i];
    }
    for (unsigned i = joining->count; joining->count > 1 && i-- > 0;)
        if (!mark_joined(by_index[i])) {
            snprintf(joining->error, joining->error_bytes, "pmem-pool '%.200s': cannot be written: %s",
                     by_index[i]->path, strerror(errno));
            return NULL;
        }
    struct pmem_pool *first = by_index[0];
    first->member_count = joining->count;
    memcpy(first->members, by_index, sizeof(by_index));
    if (pmem_segments_find(first, joining->error, joining->error_bytes)) return first;
    first->member_count = 1;
    return NULL;
}

/* What was made in vain goes again: nothing is in it, as long as none is joined. */
static void give_up(struct joining *joining) {
    bool joined = is_joined(joining);
    for (unsigned i = 0; i < joining->count; i++) {
        pmem_pool_close_one(joining->found[i]);
        if (joining->is_new[i] && !joined) (void)unlink(joining->path[i]);
    }
}

struct pmem_pool *pmem_pool_open(const struct pmem_pool_options *options, char *error, size_t error_bytes) {
    struct joining joining = {.options = options, .error = error, .error_bytes = error_bytes};
    struct pmem_pool *pool = NULL;
    snprintf(error, error_bytes, "pmem-pool '%.200s': out of memory", options->path);
    if (split(&joining) && open_present(&joining) && judge(&joining) && make_absent(&joining)) pool = join(&joining);
    if (!pool) give_up(&joining);
    free(joining.names);
    return pool;
}

void pmem_pool_close(struct pmem_pool *pool) {
    for (unsigned i = pool ? pool->member_count : 0; i-- > 0;) pmem_pool_close_one(pool->members[i]);
}

/* ---- looking ---- */

unsigned pmem_pool_members(const struct pmem_pool *pool) {
    return pool->member_count;
}

struct pmem_pool_member pmem_pool_member(const struct pmem_pool *pool, unsigned index) {
    const struct pmem_pool *one = pool->members[index];
    struct pmem_pool_member member = {.path = one->path,
                                      .named = one->named,
                                      .pool_bytes = pmem_pool_end_of(one),
                                      .segments = one->own_segments,
                                      .node = -1};
    struct pmem_parts parts;
    if (!pmem_parts_read(one->path, &parts)) return member;
    member.node = pmem_parts_node(&parts);
    pmem_parts_free(&parts);
    return member;
}
