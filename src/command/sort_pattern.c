/* Patterns of SORT. A lookup counts as a read of the key, as any other; a key of the wrong type counts as absent. */

#include "command/sort_pattern.h"

#include "command/string_value.h"

#include <stdlib.h>

struct sort_pattern sort_pattern_parse(struct span text) {
    struct sort_pattern pattern = {0};
    /* Redis reads the pattern as a C string: nothing behind a NUL has a meaning. */
    size_t searched = text.length ? strnlen(text.data, text.length) : 0;
    if (searched == 1 && text.data[0] == '#') pattern.is_element = true;
    const char *star = searched ? memchr(text.data, '*', searched) : NULL;
    if (!star) return pattern;
    const char *begin = star + 1, *end = text.data + text.length, *last = text.data + searched;
    const char *arrow = begin < last ? memmem(begin, (size_t)(last - begin), "->", 2) : NULL;
    pattern.names_key = true;
    pattern.prefix = span_of(text.data, (size_t)(star - text.data));
    if (arrow && arrow + 2 < end && arrow[2] != 0) {
        pattern.suffix = span_of(begin, (size_t)(arrow - begin));
        pattern.field = span_of(arrow + 2, (size_t)(end - arrow - 2));
    } else {
        pattern.suffix = span_of(begin, (size_t)(end - begin));
    }
    return pattern;
}

/* False: no memory. */
static bool compose_name(struct sort_lookup *lookup, const struct sort_pattern *pattern, struct span element,
                         struct span *name) {
    size_t length = pattern->prefix.length + element.length + pattern->suffix.length;
    if (length > lookup->capacity || !lookup->name) {
        size_t capacity = length * 2 + 64;
        char *grown = realloc(lookup->name, capacity);
        if (!grown) {
            lookup->no_memory = true;
            return false;
        }
        lookup->name = grown;
        lookup->capacity = capacity;
    }
    char *at = lookup->name;
    memcpy(at, pattern->prefix.data, pattern->prefix.length);
    at += pattern->prefix.length;
    if (element.length) memcpy(at, element.data, element.length);
    at += element.length;
    memcpy(at, pattern->suffix.data, pattern->suffix.length);
    *name = span_of(lookup->name, length);
    return true;
}

static bool find_string(struct sort_lookup *lookup, struct span *value) {
    struct lookup found = keyspace_read(&lookup->call->view, &lookup->key);
    if (!found.record || record_type(found.record) != RECORD_STRING) return false;
    free(lookup->copy);
    enum page_status status = string_whole(lookup->call, &found, lookup->text, value, &lookup->copy);
    if (status == PAGE_NO_MEMORY) lookup->no_memory = true;
    return status == PAGE_DONE;
}

static bool find_field(struct sort_lookup *lookup, struct span field, struct span *value) {
    struct hash_value hash;
    if (!hash_value_open(&hash, &lookup->call->view, &lookup->key, HASH_FOR_READ) || !hash_value_exists(&hash))
        return false;
    if (hash_value_get(&hash, field, &lookup->entry) != PAGE_DONE) return false;
    *value = lookup->entry.value;
    return true;
}

bool sort_lookup(struct sort_lookup *lookup, const struct sort_pattern *pattern, struct span element,
                 struct span *value) {
    struct span name;
    if (pattern->is_element) {
        *value = element;
        return true;
    }
    if (!pattern->names_key || !compose_name(lookup, pattern, element, &name)) return false;
    lookup->key = keyspace_key(lookup->call->view.keyspace, name);
    return pattern->field.length ? find_field(lookup, pattern->field, value) : find_string(lookup, value);
}

void sort_lookup_free(struct sort_lookup *lookup) {
    free(lookup->name);
    free(lookup->copy);
    lookup->name = lookup->copy = NULL;
    lookup->capacity = 0;
}
