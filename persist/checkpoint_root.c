/* Types of roots, writing and reading them: see checkpoint_root.h. */

#include "persist/checkpoint_root.h"

#include "keyspace/hash_value.h"
#include "keyspace/list_value.h"
#include "keyspace/set_value.h"
#include "keyspace/sorted_set_value.h"
#include "keyspace/stream_value.h"
#include "record/paged_bytes.h"

#include <stdlib.h>

enum { KEY_BYTES_MAX = 512 << 20 };

static const struct collection_kind *const kinds[] = {&paged_bytes_kind, &hash_kind,       &set_kind,
                                                      &list_kind,        &sorted_set_kind, &stream_kind};

const struct collection_kind *checkpoint_root_kind(uint32_t type) {
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (kinds[i]->type == type) return kinds[i];
    return NULL;
}

/* ---- writing ---- */

static bool is_long(size_t key_bytes) {
    return key_bytes > CHECKPOINT_ROOT_KEY_MAX;
}

void checkpoint_root_begin(struct state_writer *state, struct span key) {
    if (is_long(key.length)) state_write(state, key.data, key.length);
}

void checkpoint_root_write(struct state_writer *out, const struct collection *root,
                           const struct checkpoint_root_key *key, uint32_t pieces, struct span state,
                           struct span pages) {
    struct checkpoint_root head = {.collection = root->id,
                                   .type = root->kind->type,
                                   .expiry_ms = key->expiry_ms,
                                   .next_expiry_ms = root->next_expiry_ms,
                                   .access = key->access,
                                   .key_bytes = (uint32_t)key->name.length,
                                   .state_bytes = (uint32_t)state.length,
                                   .pieces = pieces,
                                   .page_bytes = (uint32_t)pages.length};
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        head.end[part] = page_table_end(&root->parts[part]);
        head.live[part] = page_table_live(&root->parts[part]);
        head.payload_bytes[part] = root->parts[part].payload_bytes;
    }
    state_write(out, &head, sizeof(head));
    if (!is_long(key->name.length)) state_write(out, key->name.data, key->name.length);
    state_write(out, state.data, state.length);
    state_write(out, pages.data, pages.length);
}

/* ---- reading ---- */

static struct span take(struct span *rest, size_t length) {
    struct span taken = span_of(rest->data, length);
    *rest = span_of(rest->data + length, rest->length - length);
    return taken;
}

/* Entries, and a print for some of them. */
static bool pages_are_plausible(const struct checkpoint_root *root) {
    uint64_t count = (uint64_t)root->end[0] + root->end[1], least = count * sizeof(uint64_t);
    if (root->page_bytes == 0) return true;
    return count <= CHECKPOINT_PAGES_BESIDE && root->page_bytes >= least &&
           (root->page_bytes - least) % sizeof(struct checkpoint_print) == 0 &&
           (root->page_bytes - least) / sizeof(struct checkpoint_print) <= count;
}

bool checkpoint_root_next(struct span *rest, struct checkpoint_root_view *view) {
    struct checkpoint_root *root = &view->root;
    if (rest->length < sizeof(*root)) return false;
    memcpy(root, take(rest, sizeof(*root)).data, sizeof(*root));
    uint32_t key_bytes = is_long(root->key_bytes) ? 0 : root->key_bytes;
    if (root->key_bytes > KEY_BYTES_MAX || !pages_are_plausible(root) ||
        (uint64_t)key_bytes + root->state_bytes + root->page_bytes > rest->length)
        return false;
    view->key = take(rest, key_bytes);
    view->state = take(rest, root->state_bytes);
    view->pages = take(rest, root->page_bytes);
    view->long_key = NULL;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++)
        if (root->end[part] > PAGE_NUMBER_MAX || root->live[part] > root->end[part]) return false;
    return checkpoint_root_kind(root->type) && root->collection != UINT32_MAX;
}

/* ---- loading ---- */

/* What a root knew, piece by piece: those that stand elsewhere, then the one beside it. */
struct pieces {
    const struct checkpoint_reader *reader;
    uint32_t next, left; /* chunk; pieces */
    struct span last;
    bool last_given;
    char *bytes; /* of the piece at hand; owned */
};

static bool next_piece(void *ctx, struct span *piece) {
    struct pieces *pieces = ctx;
    char error[200];
    if (pieces->left == 0) {
        bool first_time = !pieces->last_given;
        *piece = pieces->last;
        pieces->last_given = true;
        return first_time;
    }
    pieces->left--;
    const struct checkpoint_place *place = checkpoint_reader_place(pieces->reader, pieces->next);
    free(pieces->bytes);
    pieces->bytes = malloc(place->bytes);
    *piece = span_of(pieces->bytes, place->bytes);
    return pieces->bytes && checkpoint_reader_read(pieces->reader, pieces->next++, pieces->bytes, error, sizeof(error));
}

/* False: there are not as many as the root says. */
static bool find_pieces(struct pieces *pieces, uint32_t collection) {
    uint32_t chunks = checkpoint_reader_chunks(pieces->reader), found = 0;
    pieces->next = checkpoint_reader_find(pieces->reader, CHECKPOINT_STATES, collection);
    for (uint32_t i = pieces->next; i < chunks; i++, found++) {
        const struct checkpoint_place *place = checkpoint_reader_place(pieces->reader, i);
        if (place->kind != CHECKPOINT_STATES || place->shard != collection) break;
    }
    return found == pieces->left;
}

static bool load_long_key(struct checkpoint_root_view *view, struct state_reader *in) {
    if (!(view->long_key = malloc(view->root.key_bytes))) return false;
    view->key = span_of(view->long_key, view->root.key_bytes);
    return state_read_text(in, view->long_key, view->root.key_bytes);
}

struct collection *checkpoint_root_load(const struct checkpoint_reader *reader, struct checkpoint_root_view *view,
                                        uint64_t seed) {
    struct pieces pieces = {.reader = reader, .left = view->root.pieces, .last = view->state};
    if (!find_pieces(&pieces, view->root.collection)) return NULL;
    struct state_reader in = {.piece = next_piece, .ctx = &pieces};
    struct collection *root = NULL;
    if (!is_long(view->root.key_bytes) || load_long_key(view, &in))
        root = checkpoint_root_kind(view->root.type)->load(&in, seed);
    free(pieces.bytes);
    return root;
}
