#ifndef TERRACE_BASE_POISON_H
#define TERRACE_BASE_POISON_H

/* Tells the address sanitizer which bytes of our own heaps may not be touched, so that it finds a use of freed memory
 * there as it does in malloc's. Without the sanitizer these do nothing. */

#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
static inline void poison_memory(const void *memory, size_t bytes) {
    __asan_poison_memory_region(memory, bytes);
}
static inline void unpoison_memory(const void *memory, size_t bytes) {
    __asan_unpoison_memory_region(memory, bytes);
}
#else
static inline void poison_memory(const void *memory, size_t bytes) {
    (void)memory, (void)bytes;
}
static inline void unpoison_memory(const void *memory, size_t bytes) {
    (void)memory, (void)bytes;
}
#endif

#endif
