/* Values as commands. See aof_text.h.
 *
 * A step goes on where the one before has ended, like those of rdb_save_collection.c, whose state it shares: a byte, a
 * page number of the hash, or a position in the tree. Commands do not tell how many elements there are altogether, but
 * how many words follow; so a command holds items of one page only, which can be counted before they are put. */

#include "persist/aof_text.h"

#include "keyspace/hash_value.h"
#include "keyspace/list_value.h"
#include "keyspace/set_value.h"
#include "keyspace/sorted_set_private.h"
#include "persist/aof_text_private.h"
#include "record/intset.h"
#include "record/packed_list.h"
#include "record/paged_bytes.h"

#include <math.h>

enum { STRING_STRETCH = 4 * PAGED_BYTES_PAGE };

/* ---- words ---- */

static void put_count(struct rdb_output *output, char kind, uint64_t count) {
    char line[NUMBER_TEXT_MAX + 3] = {kind};
    size_t length = 1 + number_format_u64(count, line + 1);
    memcpy(line + length, "\r\n", 2);
    rdb_put_bytes(output, line, length + 2);
}

void aof_text_head(struct rdb_output *output, uint64_t words) {
    put_count(output, '*', words);
}

void aof_text_word(struct rdb_output *output, struct span word) {
    put_count(output, '$', word.length);
    rdb_put_bytes(output, word.data, word.length);
    rdb_put_bytes(output, "\r\n", 2);
}

void aof_text_literal(struct rdb_output *output, const char *word) {
    aof_text_word(output, span_of_text(word));
}

void aof_text_integer(struct rdb_output *output, int64_t number) {
    char text[NUMBER_TEXT_MAX];
    aof_text_word(output, span_of(text, number_format_i64(number, text)));
}

void aof_text_unsigned(struct rdb_output *output, uint64_t number) {
    char text[NUMBER_TEXT_MAX];
    aof_text_word(output, span_of(text, number_format_u64(number, text)));
}

static void put_beginning(struct rdb_output *output, const char *command, struct span key, uint64_t words) {
    aof_text_head(output, 2 + words);
    aof_text_literal(output, command);
    aof_text_word(output, key);
}

static void put_expiry(struct rdb_output *output, struct span key, int64_t expiry_ms) {
    if (expiry_ms == RECORD_EXPIRY_NONE) return;
    put_beginning(output, "PEXPIREAT", key, 1);
    aof_text_integer(output, expiry_ms);
}

static void put_field_expiry(struct rdb_output *output, struct span key, struct span field, int64_t expiry_ms) {
    put_beginning(output, "HPEXPIREAT", key, 4);
    aof_text_integer(output, expiry_ms);
    aof_text_literal(output, "FIELDS");
    aof_text_literal(output, "1");
    aof_text_word(output, field);
}

void aof_text_select(struct rdb_output *output, uint32_t database) {
    aof_text_head(output, 2);
    aof_text_literal(output, "SELECT");
    aof_text_unsigned(output, database);
}

/* ---- records ---- */

static void put_string(struct rdb_output *output, const struct record *record) {
    put_beginning(output, "SET", record_key(record), 1);
    if (record_is_integer(record))
        aof_text_integer(output, record_integer(record));
    else
        aof_text_word(output, record_value(record));
}

static void put_entry(struct rdb_output *output, const uint8_t *entry) {
    char room[LISTPACK_NUMBER_TEXT_BYTES];
    aof_text_word(output, listpack_get_text(entry, room));
}

/* Items of `entries` entries each, of which the first `words` are told. */
static void put_listpack(struct rdb_output *output, const char *command, struct span key, const uint8_t *listpack,
                         unsigned entries, unsigned words) {
    uint32_t left = listpack_count(listpack) / entries, in_command = 0;
    for (const uint8_t *at = listpack_first(listpack); left > 0; left--) {
        if (in_command == 0) {
            in_command = left < AOF_TEXT_ITEMS ? left : AOF_TEXT_ITEMS;
            put_beginning(output, command, key, (uint64_t)in_command * words);
        }
        for (unsigned i = 0; i < entries; i++, at = listpack_next(at))
            if (i < words) put_entry(output, at);
        in_command--;
    }
}

static void put_intset(struct rdb_output *output, struct span key, const uint8_t *intset) {
    uint32_t count = intset_count(intset);
    for (uint32_t i = 0; i < count; i++) {
        if (i % AOF_TEXT_ITEMS == 0)
            put_beginning(output, "SADD", key, count - i < AOF_TEXT_ITEMS ? count - i : AOF_TEXT_ITEMS);
        aof_text_integer(output, intset_get(intset, i));
    }
}

/* A score stands behind its member in the listpack, and before it in the command. */
static void put_packed_scores(struct rdb_output *output, struct span key, const uint8_t *listpack) {
    uint32_t left = listpack_count(listpack) / 2, in_command = 0;
    for (const uint8_t *at = listpack_first(listpack); left > 0; left--) {
        if (in_command == 0) {
            in_command = left < AOF_TEXT_ITEMS ? left : AOF_TEXT_ITEMS;
            put_beginning(output, "ZADD", key, (uint64_t)in_command * 2);
        }
        const uint8_t *score = listpack_next(at);
        put_entry(output, score);
        put_entry(output, at);
        at = listpack_next(score);
        in_command--;
    }
}

static void put_packed_timed(struct rdb_output *output, struct span key, const uint8_t *listpack) {
    put_listpack(output, "HMSET", key, listpack, 3, 2);
    for (const uint8_t *at = listpack_first(listpack); !listpack_at_end(at);) {
        char room[LISTPACK_NUMBER_TEXT_BYTES];
        const uint8_t *expiry = listpack_next(listpack_next(at));
        int64_t expiry_ms = listpack_get(expiry).number;
        if (expiry_ms) put_field_expiry(output, key, listpack_get_text(at, room), expiry_ms);
        at = listpack_next(expiry);
    }
}

void aof_text_record(struct rdb_output *output, const struct record *record) {
    assert(!record_is_paged(record));
    struct span key = record_key(record);
    const uint8_t *packed = (const uint8_t *)record_value(record).data;
    switch (record_type(record)) {
    case RECORD_LIST: put_listpack(output, "RPUSH", key, packed_list_elements(packed), 1, 1); break;
    case RECORD_SET:
        if (record_encoding(record) == RECORD_INTSET)
            put_intset(output, key, packed);
        else
            put_listpack(output, "SADD", key, packed, 1, 1);
        break;
    case RECORD_SORTED_SET: put_packed_scores(output, key, packed); break;
    case RECORD_HASH:
        if (record_encoding(record) == RECORD_LISTPACK_TIMED)
            put_packed_timed(output, key, packed);
        else
            put_listpack(output, "HMSET", key, packed, 2, 2);
        break;
    default: put_string(output, record); break;
    }
    put_expiry(output, key, record_expiry(record));
}

/* ---- big strings ---- */

static enum rdb_save_status step_string(struct rdb_step *step) {
    struct rdb_collection_save *save = step->save;
    struct paged_bytes *bytes = paged_bytes_of(save->root);
    do {
        if (rdb_step_is_over(step)) return RDB_SAVE_MORE;
        uint64_t left = bytes->length - save->at;
        size_t part = left < STRING_STRETCH ? (size_t)left : STRING_STRETCH;
        if (!rdb_reserve_scratch(save, part ? part : 1)) return RDB_SAVE_FAILED;
        if (paged_bytes_read(bytes, step->access, save->at, save->scratch, part) != PAGE_DONE)
            return rdb_step_lacks(step);
        put_beginning(step->output, save->at ? "APPEND" : "SET", aof_text_key(step), 1);
        aof_text_word(step->output, span_of(save->scratch, part));
        save->at += part;
    } while (save->at < bytes->length);
    return RDB_SAVE_DONE;
}

/* ---- lists and sorted sets: trees ---- */

enum rdb_save_status aof_text_put_tree(struct rdb_step *step, const struct paged_tree *tree, const char *command,
                                       unsigned words, rdb_prepare_leaf *prepare, rdb_put_item *put) {
    struct rdb_collection_save *save = step->save;
    struct paged_tree_cursor at;
    while (save->at < tree->count) {
        if (rdb_step_is_over(step)) return RDB_SAVE_MORE;
        paged_tree_at(&at, tree, step->access, save->at);
        uint32_t items = at.leaf_count - at.index;
        if (at.missing || (prepare && !prepare(step, at))) return rdb_step_lacks(step);
        for (uint32_t i = 0; i < items; i++) {
            uint64_t left = items - i;
            if (i) paged_tree_next(&at);
            if (command && i % AOF_TEXT_ITEMS == 0)
                put_beginning(step->output, command, aof_text_key(step),
                              (left < AOF_TEXT_ITEMS ? left : AOF_TEXT_ITEMS) * words);
            put(step, &at.item);
        }
        save->at += items;
    }
    return RDB_SAVE_DONE;
}

static void put_element(struct rdb_step *step, const struct paged_item *item) {
    aof_text_word(step->output, item->value);
    step->save->written++;
}

static void put_scored(struct rdb_step *step, const struct paged_item *item) {
    char text[NUMBER_DOUBLE_TEXT_MAX];
    double score = rdb_score_of(step, item);
    if (score == 0 && signbit(score))
        aof_text_literal(step->output, "-0"); /* which the formatting does not tell */
    else
        aof_text_word(step->output, span_of(text, number_format_double(score, text)));
    aof_text_word(step->output, item->key.tail);
    step->save->written++;
}

/* ---- sets and hashes: pages by number ---- */

static void begin_page(struct paged_hash_walk *walk, struct rdb_step *step, const struct paged_hash *hash) {
    paged_hash_walk_all(walk, hash, step->access);
    walk->number = (uint32_t)step->save->at;
    walk->end = walk->number + 1;
}

static void put_page(struct rdb_step *step, const struct paged_hash *hash, uint64_t left) {
    bool pairs = hash->kind == PAGED_HASH_MAP;
    struct paged_hash_walk walk;
    struct paged_hash_item item;
    uint64_t in_command = 0;
    begin_page(&walk, step, hash);
    for (; left > 0 && paged_hash_walk_next(&walk, &item); left--, in_command--) {
        if (in_command == 0) {
            in_command = left < AOF_TEXT_ITEMS ? left : AOF_TEXT_ITEMS;
            put_beginning(step->output, pairs ? "HMSET" : "SADD", aof_text_key(step), in_command * (pairs ? 2 : 1));
        }
        aof_text_word(step->output, item.field);
        if (pairs) aof_text_word(step->output, item.value);
        step->save->written++;
    }
}

static void put_page_expiries(struct rdb_step *step, const struct paged_hash *hash) {
    struct paged_hash_walk walk;
    struct paged_hash_item item;
    begin_page(&walk, step, hash);
    while (paged_hash_walk_next(&walk, &item))
        if (item.expiry_ms != RECORD_EXPIRY_NONE)
            put_field_expiry(step->output, aof_text_key(step), item.field, item.expiry_ms);
}

static enum rdb_save_status step_hash(struct rdb_step *step, const struct paged_hash *hash) {
    struct rdb_collection_save *save = step->save;
    struct paged_hash_walk walk;
    struct paged_hash_item item;
    for (; save->at < hash->page_count; save->at++) {
        uint64_t count = 0;
        if (rdb_step_is_over(step)) return RDB_SAVE_MORE;
        begin_page(&walk, step, hash);
        while (paged_hash_walk_next(&walk, &item)) count++;
        if (count == 0 && step->access->missing) return RDB_SAVE_MISSING;
        put_page(step, hash, count);
        if (hash->kind == PAGED_HASH_MAP && hash->timed) put_page_expiries(step, hash);
    }
    return RDB_SAVE_DONE;
}

/* ---- steps ---- */

void aof_text_begin(struct aof_text_save *save, struct collection *root, struct span key, int64_t expiry_ms) {
    *save = (struct aof_text_save){.key = key, .expiry_ms = expiry_ms};
    rdb_collection_begin(&save->save, NULL, root);
}

void aof_text_end(struct aof_text_save *save) {
    rdb_collection_end(&save->save);
}

/* The elements; of all but strings and streams it is known how many there are. */
static enum rdb_save_status step_elements(struct rdb_step *step) {
    const struct collection *root = step->save->root;
    const struct paged_tree *tree;
    enum rdb_save_status status;
    uint64_t count;
    switch (root->kind->type) {
    case RECORD_LIST:
        tree = &((const struct list_root *)root)->elements;
        status = aof_text_put_tree(step, tree, "RPUSH", 1, NULL, put_element);
        count = tree->count;
        break;
    case RECORD_SORTED_SET:
        tree = &((const struct sorted_set_root *)root)->members;
        status = aof_text_put_tree(step, tree, "ZADD", 2, rdb_prepare_scores, put_scored);
        count = tree->count;
        break;
    case RECORD_SET:
    case RECORD_HASH:
        status = step_hash(step, paged_hash_of(root));
        count = paged_hash_of(root)->count;
        break;
    case RECORD_STREAM: return aof_text_step_stream(step);
    default: return step_string(step);
    }
    return status == RDB_SAVE_DONE && step->save->written != count ? RDB_SAVE_FAILED : status;
}

enum rdb_save_status aof_text_step(struct aof_text_save *save, struct page_access *access, struct rdb_output *output,
                                   size_t budget_bytes) {
    struct rdb_step step = {&save->save, access, output, SIZE_MAX};
    if (budget_bytes < SIZE_MAX - output->length) step.end = output->length + (budget_bytes ? budget_bytes : 1);
    enum rdb_save_status status = step_elements(&step);
    if (status == RDB_SAVE_DONE) put_expiry(output, save->key, save->expiry_ms);
    if (output->failed) status = RDB_SAVE_FAILED;
    save->save.status = status;
    return status;
}
