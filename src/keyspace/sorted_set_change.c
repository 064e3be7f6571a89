/* Sorted sets, changed: see sorted_set_value.h.
 *
 * Packed: a pair that changes is taken out of the listpack and put where it belongs; when it stays in its place only
 * the score is rewritten. The bytes are made enough first, and cut at the end.
 *
 * Big: a member that is added goes to the hash, then to the tree; one that goes leaves the tree, then the hash; one
 * whose score changes is added to the tree under the new score, changed in the hash, and taken from the tree under the
 * old one. A step that fails undoes those before it, which only take back what was just done and find their pages at
 * hand. Should even that fail, what is left over is an entry of the hash that leads nowhere. Before the first step the
 * pages of all are asked for, so that a command which has to wait has changed nothing.
 *
 * A long range is cut off the tree, and its members stay in the hash as such entries until the leaves are dropped, in
 * slices (paged_tree.h). A member that comes again meanwhile has two entries, of which either may go then: they are the
 * same, or have different scores. Sets with cold pages are left out, since to take a member from the hash its leaf has
 * to be read; where a leaf became cold afterwards its members' entries stay.
 *
 * Only of zeros the hash knows more than the tree: which of the two it is. Of all entries for a member with either zero
 * one would do, so the one that came last has the say (spell_zeros()). */

#include "keyspace/sorted_set_private.h"

#include <math.h>
#include <stdlib.h>

enum { REMOVE_AT_ONCE = 256, CUT_FROM = REMOVE_AT_ONCE };

/* ---- root ---- */

static void init_root(struct sorted_set_root *root, uint64_t seed) {
    paged_hash_init(&root->scores, &root->collection.parts[COLLECTION_HASH], PAGED_HASH_SCORES, seed);
    paged_tree_init(&root->members, &root->collection.parts[COLLECTION_TREES],
                    (struct paged_tree_shape){.numbers = 1, .tail = true});
}

static bool release(struct collection *collection, unsigned budget) {
    return paged_tree_release(&((struct sorted_set_root *)collection)->members, budget);
}

/* From the hash: of a zero either may stand there. */
static void forget_score(struct sorted_set_root *root, struct page_access *access, uint32_t code, double score) {
    enum page_status status = paged_hash_delete_score(&root->scores, access, code, score_bits(score));
    if (status == PAGE_ABSENT && score == 0)
        status = paged_hash_delete_score(&root->scores, access, code, score_bits(-score));
    (void)status;
}

struct tidying {
    struct sorted_set_root *root;
    struct page_access *access;
};

/* An entry whose page has become cold stays: it is harmless. */
static void forget_cut_item(void *ctx, const struct paged_item *item) {
    const struct tidying *tidying = ctx;
    uint32_t code = member_code(tidying->root, item->key.tail);
    forget_score(tidying->root, tidying->access, code, score_of_image(item->key.numbers[0]));
    tidying->access->missing = false;
}

/* Dropping a leaf is little beside forgetting its members. */
static bool tidy(struct collection *collection, struct page_access *access, unsigned budget) {
    enum { PAGES_FOR_LEAF = 8 };
    struct sorted_set_root *root = (struct sorted_set_root *)collection;
    struct tidying tidying = {root, access};
    unsigned leaves = budget / PAGES_FOR_LEAF + (budget > 0);
    return paged_tree_drop_cut(&root->members, access, leaves, forget_cut_item, &tidying);
}

static struct collection *copy_root(const struct collection *collection) {
    const struct sorted_set_root *from = (const struct sorted_set_root *)collection;
    struct sorted_set_root *to = calloc(1, sizeof(*to));
    if (!to) return NULL;
    if (!paged_tree_copy(&from->members, &to->members, &to->collection.parts[COLLECTION_TREES])) {
        free(to);
        return NULL;
    }
    paged_hash_copy(&from->scores, &to->scores, &to->collection.parts[COLLECTION_HASH]);
    to->has_minus_zero = from->has_minus_zero;
    return &to->collection;
}

static bool save(const struct collection *collection, struct state_writer *out) {
    const struct sorted_set_root *root = (const struct sorted_set_root *)collection;
    state_write_u8(out, root->has_minus_zero);
    paged_hash_save(&root->scores, out);
    paged_tree_save(&root->members, out);
    return !out->failed;
}

static struct collection *load(struct state_reader *in, uint64_t seed) {
    struct sorted_set_root *root = calloc(1, sizeof(*root));
    if (!root) return NULL;
    init_root(root, seed);
    root->has_minus_zero = state_read_u8(in);
    if (paged_hash_load(&root->scores, &root->collection.parts[COLLECTION_HASH], PAGED_HASH_SCORES, seed, in) &&
        paged_tree_load(&root->members, in))
        return &root->collection;
    while (release(&root->collection, UINT32_MAX)) continue;
    free(root);
    return NULL;
}

static bool loaded(struct collection *collection, struct page_access *access) {
    struct sorted_set_root *root = (struct sorted_set_root *)collection;
    if (!paged_hash_loaded(&root->scores, access) || !paged_tree_claim(&root->members)) return false;
    (void)page_table_end_claims(&collection->parts[COLLECTION_TREES]);
    return true;
}

static size_t bytes_of(const struct collection *collection) {
    return sizeof(struct sorted_set_root) + paged_tree_bytes(&((const struct sorted_set_root *)collection)->members);
}

/* Every member of the tree is in the hash. */
static bool validate(struct collection *collection, struct page_access *access) {
    struct sorted_set_root *root = (struct sorted_set_root *)collection;
    if (!paged_tree_validate(&root->members, access) || !paged_hash_validate(&root->scores, access)) return false;
    struct paged_tree_cursor at;
    for (paged_tree_first(&at, &root->members, access); at.valid; paged_tree_next(&at)) {
        if (at.missing) continue;
        struct paged_hash_candidates candidates;
        uint64_t bits;
        bool found = false;
        paged_hash_candidates(&candidates, &root->scores, access, member_code(root, at.item.key.tail));
        while (!found && paged_hash_next_candidate(&candidates, &bits))
            found = score_image(score_of_bits(bits)) == at.item.key.numbers[0];
        if (!found && !access->missing) return false;
    }
    return true;
}

static void prefetch(const struct collection *collection, struct span element, unsigned step) {
    const struct sorted_set_root *root = (const struct sorted_set_root *)collection;
    uint32_t code = member_code(root, element);
    uint64_t bits;
    if (step == 0) {
        paged_hash_prefetch_codes(&root->scores, code);
    } else if (step == 1) {
        paged_hash_prefetch_score(&root->scores, code);
    } else if (paged_hash_peek_score(&root->scores, code, &bits)) {
        struct paged_key key = tree_key(score_of_bits(bits), element);
        paged_tree_prefetch_key(&root->members, &key);
    }
}

const struct collection_kind sorted_set_kind = {.type = RECORD_SORTED_SET,
                                                .encoding = "skiplist",
                                                .release = release,
                                                .tidy = tidy,
                                                .copy_root = copy_root,
                                                .save = save,
                                                .load = load,
                                                .loaded = loaded,
                                                .prefetch = prefetch,
                                                .prefetch_steps = 3,
                                                .bytes = bytes_of,
                                                .validate = validate,
                                                .root_bytes = sizeof(struct sorted_set_root)};

static struct sorted_set_root *new_root(const struct view *view, const struct key *key) {
    struct sorted_set_root *root = (struct sorted_set_root *)keyspace_new_collection(view, key, &sorted_set_kind);
    if (root) init_root(root, view->keyspace->seed);
    return root;
}

/* ---- big sets: one member ---- */

/* The member is to have this zero. Entries of the hash that may be taken for its own, which are old ones or those of
 * another member with the same code, become the same zero. PAGE_DONE, or why not; the tree is as it was. */
static enum page_status spell_zeros(struct sorted_set_root *root, struct page_access *access, uint32_t code,
                                    double score) {
    if (score != 0 || (!signbit(score) && !root->has_minus_zero)) return PAGE_DONE;
    enum page_status status;
    do status = paged_hash_replace_score(&root->scores, access, code, score_bits(-score), score_bits(score));
    while (status == PAGE_DONE);
    if (status != PAGE_ABSENT) return status;
    if (!page_begin_change(access)) return PAGE_MISSING;
    root->has_minus_zero = true;
    return PAGE_DONE;
}

static enum page_status add_to_root(struct sorted_set_root *root, struct page_access *access, struct span member,
                                    uint32_t code, double score) {
    const struct paged_key key = tree_key(score, member);
    enum page_status status = spell_zeros(root, access, code, score);
    if (status != PAGE_DONE) return status;
    status = paged_hash_insert_score(&root->scores, access, code, score_bits(score));
    if (status != PAGE_DONE) return status;
    status = paged_tree_insert(&root->members, access, &key, span_of(NULL, 0));
    if (status != PAGE_DONE) {
        enum page_status undone = paged_hash_delete_score(&root->scores, access, code, score_bits(score));
        (void)undone;
    }
    return status;
}

static enum page_status move_in_root(struct sorted_set_root *root, struct page_access *access, struct span member,
                                     double old_score, double score) {
    const struct paged_key old_key = tree_key(old_score, member), key = tree_key(score, member);
    uint32_t code = member_code(root, member);
    enum page_status undone, status = spell_zeros(root, access, code, score);
    if (status != PAGE_DONE) return status;
    status = paged_tree_insert(&root->members, access, &key, span_of(NULL, 0));
    if (status != PAGE_DONE) return status;
    status = paged_hash_replace_score(&root->scores, access, code, score_bits(old_score), score_bits(score));
    if (status == PAGE_DONE) {
        status = paged_tree_delete(&root->members, access, &old_key);
        if (status == PAGE_DONE) return PAGE_DONE;
        undone = paged_hash_replace_score(&root->scores, access, code, score_bits(score), score_bits(old_score));
        (void)undone;
    }
    undone = paged_tree_delete(&root->members, access, &key);
    (void)undone;
    return status == PAGE_MISSING ? PAGE_MISSING : PAGE_NO_MEMORY;
}

static enum page_status put_in_root(struct sorted_set *set, struct span member, double score, enum page_status found,
                                    double old_score) {
    struct sorted_set_root *root = set->root;
    enum page_status status;
    if (set->access.source) {
        const struct paged_key key = tree_key(score, member);
        paged_tree_touch_key(&root->members, &set->access, &key);
        if (set->access.missing) return PAGE_MISSING;
    }
    if (found == PAGE_DONE)
        status = move_in_root(root, &set->access, member, old_score, score);
    else
        status = add_to_root(root, &set->access, member, member_code(root, member), score);
    if (status == PAGE_DONE) keyspace_collection_changed(set->view, set->key);
    return status;
}

/* ---- packed sets ---- */

struct score_text {
    char text[NUMBER_DOUBLE_TEXT_MAX];
};

/* As Redis has it; a -0 becomes 0. */
static struct listpack_element score_element(double score, struct score_text *room) {
    if (score >= -0x1p62 && score <= 0x1p62 && (double)(int64_t)score == score)
        return listpack_element_of_integer((int64_t)score);
    return listpack_element_of_text(span_of(room->text, number_format_double(score, room->text)));
}

/* Without memory for a shorter record the set keeps its old length, which the listpack's own header makes harmless. */
static void cut(struct sorted_set *set, size_t length) {
    keyspace_shorten_value(set->view, set->key, &set->lookup, length);
}

/* The position of the first pair that belongs behind (score, member), not looking at the one at `skip`. */
static const uint8_t *place_for(const uint8_t *listpack, double score, struct span member, const uint8_t *skip) {
    const uint8_t *at = listpack_first(listpack);
    char room[LISTPACK_NUMBER_TEXT_BYTES];
    while (!listpack_at_end(at)) {
        const uint8_t *score_entry = listpack_next(at);
        double other = sorted_set_entry_score(score_entry);
        bool behind = other > score;
        if (other == score && at != skip) behind = paged_tail_compare(listpack_get_text(at, room), member) > 0;
        if (behind) break;
        at = listpack_next(score_entry);
    }
    return at;
}

static enum page_status insert_packed(struct sorted_set *set, struct span member, double score) {
    const uint8_t *listpack = sorted_set_listpack(set);
    struct score_text room;
    struct listpack_element pair[2] = {listpack_element_of_text(member), score_element(score, &room)};
    struct listpack_edit edit = listpack_plan_insert(listpack, place_for(listpack, score, member, NULL), pair, 2);
    uint8_t *bytes =
        (uint8_t *)keyspace_edit_value(set->view, set->key, &set->lookup, listpack_length_after(listpack, &edit));
    if (!bytes) return refusal_of(set->view);
    listpack_apply(bytes, &edit);
    return PAGE_DONE;
}

static enum page_status move_packed(struct sorted_set *set, struct span member, double score) {
    const uint8_t *listpack = sorted_set_listpack(set);
    const uint8_t *entry = listpack_find(listpack_first(listpack), member, 1);
    const uint8_t *place = place_for(listpack, score, member, entry), *score_entry = listpack_next(entry);
    struct score_text room;
    struct listpack_element pair[2] = {listpack_element_of_text(member), score_element(score, &room)};
    bool stays = place == entry || place == listpack_next(score_entry);
    struct listpack_edit out =
        stays ? listpack_plan_replace(listpack, score_entry, &pair[1]) : listpack_plan_delete(listpack, entry, 2);
    size_t before = listpack_bytes(listpack);
    size_t after =
        stays ? listpack_length_after(listpack, &out) : before - out.removed_bytes + pair[0].bytes + pair[1].bytes;
    size_t place_at = (size_t)(place - listpack), offset = out.offset;
    uint8_t *bytes = (uint8_t *)keyspace_edit_value(set->view, set->key, &set->lookup, after > before ? after : before);
    if (!bytes) return refusal_of(set->view);
    listpack_apply(bytes, &out);
    if (!stays) {
        if (place_at > offset) place_at -= out.removed_bytes;
        struct listpack_edit in = listpack_plan_insert(bytes, bytes + place_at, pair, 2);
        listpack_apply(bytes, &in);
    }
    cut(set, after);
    return PAGE_DONE;
}

static bool fits_packed(const struct view *view, uint64_t count, size_t longest, size_t total) {
    const struct value_limits *limits = &view->keyspace->limits;
    return (int64_t)count <= limits->sorted_set_packed_entries && (int64_t)longest <= limits->sorted_set_packed_bytes &&
           total < LISTPACK_BYTES_MAX / 4;
}

/* Whether a packed set may take one more member. */
static bool may_add_packed(const struct sorted_set *set, struct span member) {
    size_t bytes = set->lookup.record ? record_value_length(set->lookup.record) : 0;
    return fits_packed(set->view, sorted_set_count(set) + 1, member.length, bytes + member.length);
}

static enum page_status make_packed(struct sorted_set *set, struct span member, double score) {
    struct score_text room;
    struct listpack_element pair[2] = {listpack_element_of_text(member), score_element(score, &room)};
    size_t length = LISTPACK_EMPTY_BYTES + listpack_elements_bytes(pair, 2);
    struct record_plan plan = {.type = RECORD_SORTED_SET,
                               .encoding = RECORD_LISTPACK,
                               .value = span_of(NULL, length),
                               .expiry_ms = RECORD_EXPIRY_NONE};
    if (!keyspace_store(set->view, set->key, &set->lookup, &plan)) return refusal_of(set->view);
    struct listpack_writer writer;
    listpack_writer_begin(&writer, (uint8_t *)(uintptr_t)sorted_set_listpack(set), length);
    listpack_writer_append(&writer, &pair[0]);
    listpack_writer_append(&writer, &pair[1]);
    listpack_writer_finish(&writer);
    return PAGE_DONE;
}

/* ---- from packed to big ---- */

static void adopt_root(struct sorted_set *set, struct sorted_set_root *root) {
    set->root = root;
    set->access = keyspace_pages(set->view, set->lookup.shard);
}

static bool fill_from_packed(const struct sorted_set *set, struct sorted_set_root *root, struct page_access *access) {
    char room[LISTPACK_NUMBER_TEXT_BYTES];
    for (const uint8_t *at = listpack_first(sorted_set_listpack(set)); !listpack_at_end(at); at = listpack_next(at)) {
        struct span member = listpack_get_text(at, room);
        at = listpack_next(at);
        if (add_to_root(root, access, member, member_code(root, member), sorted_set_entry_score(at)) != PAGE_DONE)
            return false;
    }
    return true;
}

/* The set, packed or absent, is a big one afterwards, which counts as no change. */
static enum page_status convert(struct sorted_set *set) {
    struct view quiet = *set->view;
    quiet.quiet = true;
    struct sorted_set_root *root = new_root(set->view, set->key);
    if (!root) return refusal_of(set->view);
    struct page_access access = keyspace_pages(set->view, &set->view->keyspace->shards[set->key->shard]);
    bool filled = !set->lookup.record || fill_from_packed(set, root, &access);
    if (!filled || !keyspace_store_collection(&quiet, set->key, &set->lookup, &root->collection, true)) {
        keyspace_discard_collection(set->view, &root->collection);
        return refusal_of(set->view);
    }
    adopt_root(set, root);
    return PAGE_DONE;
}

enum page_status sorted_set_put(struct sorted_set *set, struct span member, double score, enum page_status found,
                                double old_score) {
    if (set->root) return put_in_root(set, member, score, found, old_score);
    if (found == PAGE_DONE) return move_packed(set, member, score);
    if (may_add_packed(set, member))
        return set->lookup.record ? insert_packed(set, member, score) : make_packed(set, member, score);
    bool was_absent = !set->lookup.record;
    enum page_status status = convert(set);
    if (status != PAGE_DONE) return status;
    status = put_in_root(set, member, score, found, old_score);
    if (status != PAGE_DONE && was_absent) {
        keyspace_remove(set->view, set->key, &set->lookup);
        set->root = NULL;
    }
    return status;
}

/* ---- removing ---- */

static enum page_status remove_all(struct sorted_set *set) {
    if (!view_begin_change(set->view)) return PAGE_MISSING;
    keyspace_remove(set->view, set->key, &set->lookup);
    set->lookup.record = NULL;
    set->root = NULL;
    return PAGE_DONE;
}

static enum page_status remove_packed(struct sorted_set *set, const uint8_t *entry, uint64_t count) {
    const uint8_t *listpack = sorted_set_listpack(set);
    struct listpack_edit edit = listpack_plan_delete(listpack, entry, (uint32_t)count * 2);
    size_t before = listpack_bytes(listpack), after = listpack_length_after(listpack, &edit);
    uint8_t *bytes = (uint8_t *)keyspace_edit_value(set->view, set->key, &set->lookup, before);
    if (!bytes) return refusal_of(set->view);
    listpack_apply(bytes, &edit);
    cut(set, after);
    return PAGE_DONE;
}

enum page_status sorted_set_remove(struct sorted_set *set, struct span member) {
    double score = 0;
    if (!set->root) {
        if (!set->lookup.record) return PAGE_ABSENT;
        const uint8_t *entry = listpack_find(listpack_first(sorted_set_listpack(set)), member, 1);
        if (!entry) return PAGE_ABSENT;
        return sorted_set_count(set) == 1 ? remove_all(set) : remove_packed(set, entry, 1);
    }
    enum page_status status = sorted_set_score(set, member, &score);
    if (status != PAGE_DONE) return status;
    if (sorted_set_count(set) == 1) return remove_all(set);
    const struct paged_key key = tree_key(score, member);
    status = paged_tree_delete(&set->root->members, &set->access, &key);
    if (status != PAGE_DONE) return status;
    forget_score(set->root, &set->access, member_code(set->root, member), score);
    keyspace_collection_changed(set->view, set->key);
    return PAGE_DONE;
}

/* Has the pages of all members of the part requested, of the tree and of the hash. */
static bool touch_part(struct sorted_set *set, struct sorted_set_part part) {
    struct sorted_set_cursor at;
    for (sorted_set_at(&at, set, part.first); at.valid && at.position < part.first + part.count; sorted_set_next(&at))
        if (!at.missing)
            (void)!paged_hash_touch_code(&set->root->scores, &set->access, member_code(set->root, at.member));
    return !set->access.missing;
}

static enum page_status remove_some(struct sorted_set *set, uint64_t first, uint64_t count) {
    struct {
        double score;
        uint32_t code;
    } gone[REMOVE_AT_ONCE];
    struct sorted_set_cursor at;
    uint64_t known = 0;
    for (sorted_set_at(&at, set, first); at.valid && known < count; sorted_set_next(&at)) {
        if (at.missing) return PAGE_MISSING;
        gone[known].score = at.score;
        gone[known].code = member_code(set->root, at.member);
        paged_hash_prefetch(&set->root->scores, gone[known++].code);
    }
    enum page_status status = paged_tree_delete_range(&set->root->members, &set->access, first, known);
    if (status != PAGE_DONE) return status;
    for (uint64_t i = 0; i < known; i++) forget_score(set->root, &set->access, gone[i].code, gone[i].score);
    return PAGE_DONE;
}

static bool may_cut(const struct sorted_set *set, struct sorted_set_part part) {
    const struct page_table *parts = set->root->collection.parts;
    return part.count >= CUT_FROM && !parts[COLLECTION_TREES].cold && !parts[COLLECTION_HASH].cold;
}

/* What lies in leaves that go whole; the part is what is left. */
static enum page_status cut_part(struct sorted_set *set, struct sorted_set_part *part, bool *changed) {
    uint64_t gone;
    enum page_status status = paged_tree_cut_leaves(&set->root->members, &set->access, part->first, part->count, &gone);
    if (status != PAGE_DONE) return status;
    part->count -= gone;
    *changed = gone > 0;
    if (gone) keyspace_tidy_later(set->view, &set->root->collection);
    return PAGE_DONE;
}

enum page_status sorted_set_remove_part(struct sorted_set *set, struct sorted_set_part part) {
    uint64_t count = sorted_set_count(set);
    if (part.first >= count || part.count == 0) return PAGE_ABSENT;
    if (part.count > count - part.first) part.count = count - part.first;
    if (part.count == count) return remove_all(set);
    if (!set->root) {
        const uint8_t *entry = listpack_at(sorted_set_listpack(set), (int64_t)part.first * 2);
        return remove_packed(set, entry, part.count);
    }
    bool changed = false;
    enum page_status status = PAGE_DONE;
    if (may_cut(set, part))
        status = cut_part(set, &part, &changed);
    else if (set->access.source && !touch_part(set, part))
        return PAGE_MISSING;
    for (uint64_t left = part.count; left && status == PAGE_DONE;) {
        uint64_t now = left < REMOVE_AT_ONCE ? left : REMOVE_AT_ONCE;
        status = remove_some(set, part.first, now);
        changed |= status == PAGE_DONE;
        left -= now;
    }
    if (changed) keyspace_collection_changed(set->view, set->key);
    return status;
}

/* ---- storing a result ---- */

int scored_member_compare(const void *a, const void *b) {
    const struct scored_member *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return paged_tail_compare(x->member, y->member);
}

static enum page_status store_packed(const struct view *view, const struct key *key,
                                     const struct scored_member *members, uint64_t count, size_t total) {
    struct score_text room;
    size_t capacity = LISTPACK_EMPTY_BYTES + total + count * (2 * 11 + sizeof(room));
    uint8_t *listpack = malloc(capacity);
    if (!listpack) return PAGE_NO_MEMORY;
    struct listpack_writer writer;
    listpack_writer_begin(&writer, listpack, capacity);
    for (uint64_t i = 0; i < count; i++) {
        struct listpack_element score = score_element(members[i].score, &room);
        listpack_writer_append_text(&writer, members[i].member);
        listpack_writer_append(&writer, &score);
    }
    struct record_plan plan = {.type = RECORD_SORTED_SET,
                               .encoding = RECORD_LISTPACK,
                               .value = span_of(listpack, listpack_writer_finish(&writer)),
                               .expiry_ms = RECORD_EXPIRY_NONE};
    struct lookup lookup = keyspace_find_for_write(view, key);
    bool stored = keyspace_store(view, key, &lookup, &plan);
    free(listpack);
    return stored ? PAGE_DONE : refusal_of(view);
}

/* Making pages may move what the members point to, so they are copied first. */
static enum page_status store_big(const struct view *view, const struct key *key, const struct scored_member *members,
                                  uint64_t count, size_t total) {
    char *bytes = malloc(total ? total : 1), *at = bytes;
    struct sorted_set_root *root = bytes ? new_root(view, key) : NULL;
    struct page_access access = keyspace_pages(view, &view->keyspace->shards[key->shard]);
    bool filled = root != NULL;
    size_t *lengths = filled ? malloc(count * sizeof(*lengths)) : NULL;
    filled = lengths != NULL;
    for (uint64_t i = 0; filled && i < count; i++) {
        lengths[i] = members[i].member.length;
        if (lengths[i]) memcpy(at, members[i].member.data, lengths[i]);
        at += lengths[i];
    }
    at = bytes;
    for (uint64_t i = 0; filled && i < count; i++) {
        struct span member = span_of(at, lengths[i]);
        filled = add_to_root(root, &access, member, member_code(root, member), members[i].score) == PAGE_DONE;
        at += lengths[i];
    }
    free(lengths);
    free(bytes);
    if (filled) {
        struct lookup lookup = keyspace_find_for_write(view, key);
        filled = keyspace_store_collection(view, key, &lookup, &root->collection, false);
    }
    if (!filled && root) keyspace_discard_collection(view, &root->collection);
    return filled ? PAGE_DONE : refusal_of(view);
}

enum page_status sorted_set_store(const struct view *view, const struct key *key, const struct scored_member *members,
                                  uint64_t count) {
    size_t longest = 0, total = 0;
    if (!view_begin_change(view)) return PAGE_MISSING;
    for (uint64_t i = 0; i < count; i++) {
        size_t length = members[i].member.length;
        if (length > longest) longest = length;
        total += length;
    }
    if (count == 0) {
        struct lookup lookup = keyspace_find_for_write(view, key);
        if (!lookup.record) return PAGE_ABSENT;
        keyspace_remove(view, key, &lookup);
        return PAGE_DONE;
    }
    if (fits_packed(view, count, longest, total)) return store_packed(view, key, members, count, total);
    return store_big(view, key, members, count, total);
}
