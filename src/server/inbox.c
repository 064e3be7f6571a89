/* See inbox.h. The array of entries goes to who takes them, so taking is a few instructions under the lock whatever has
 * come. */

#include "server/inbox.h"

#include <stdlib.h>

enum { FIRST_ENTRIES = 64 };

void inbox_init(struct inbox *inbox) {
    pthread_mutex_init(&inbox->lock, NULL);
}

void inbox_free(struct inbox *inbox) {
    free(inbox->entries);
    pthread_mutex_destroy(&inbox->lock);
}

static bool make_room(struct inbox *inbox) {
    if (inbox->count < inbox->capacity) return true;
    size_t capacity = inbox->capacity ? inbox->capacity * 2 : FIRST_ENTRIES;
    struct inbox_entry *grown = realloc(inbox->entries, capacity * sizeof(struct inbox_entry));
    if (!grown) return false;
    inbox->entries = grown;
    inbox->capacity = capacity;
    return true;
}

bool inbox_put(struct inbox *inbox, struct inbox_entry *entry, bool *first) {
    size_t bytes = sizeof(*entry) + sizeof(struct message) + message_bytes(entry->message);
    pthread_mutex_lock(&inbox->lock);
    *first = inbox->count == 0 && !inbox->overflowed;
    bool kept = inbox->bytes + bytes <= INBOX_BYTES_MAX && make_room(inbox);
    if (kept) {
        message_hold(entry->message);
        entry->number = atomic_load_explicit(&inbox->number, memory_order_relaxed);
        inbox->entries[inbox->count++] = *entry;
        inbox->bytes += bytes;
    } else {
        inbox->overflowed = true;
    }
    atomic_fetch_add(&inbox->number, 1);
    if (*first) atomic_store(&inbox->filled, true);
    pthread_mutex_unlock(&inbox->lock);
    return kept;
}

struct inbox_batch inbox_take(struct inbox *inbox) {
    pthread_mutex_lock(&inbox->lock);
    struct inbox_batch batch = {inbox->entries, inbox->count, inbox->overflowed};
    inbox->entries = NULL;
    inbox->count = inbox->capacity = inbox->bytes = 0;
    inbox->overflowed = false;
    atomic_store(&inbox->filled, false);
    pthread_mutex_unlock(&inbox->lock);
    return batch;
}
