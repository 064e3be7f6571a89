/* The sidecar, read: see rdb_layout.h. Whatever is not as it should be makes it as if it were not there. */

#include "persist/crc64.h"
#include "persist/rdb_load_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool read_all(int fd, void *bytes, size_t length) {
    char *at = bytes;
    while (length) {
        ssize_t count = read(fd, at, length);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        at += count;
        length -= (size_t)count;
    }
    return true;
}

static bool head_is_sound(const struct rdb_index_head *head, uint64_t index_bytes, uint64_t file_bytes) {
    if (memcmp(head->magic, RDB_INDEX_MAGIC, sizeof(head->magic)) != 0 || head->version != RDB_INDEX_VERSION)
        return false;
    if (head->chunk_count > RDB_INDEX_CHUNKS_MAX || head->file_bytes != file_bytes) return false;
    if (head->body_offset < RDB_HEADER_BYTES || head->body_end < head->body_offset) return false;
    if (head->body_end + 1 + RDB_CHECKSUM_BYTES != file_bytes) return false;
    return index_bytes == sizeof(*head) + head->chunk_count * sizeof(struct rdb_index_chunk) + RDB_CHECKSUM_BYTES;
}

/* They follow each other without gaps from the first byte of the body to its last. */
static bool chunks_are_sound(const struct rdb_index *index) {
    uint64_t at = index->head.body_offset;
    for (uint32_t i = 0; i < index->head.chunk_count; i++) {
        const struct rdb_index_chunk *chunk = &index->chunks[i];
        if (chunk->offset != at || chunk->length == 0 || chunk->length > index->head.body_end - at) return false;
        at += chunk->length;
    }
    return at == index->head.body_end;
}

static bool read_index(struct rdb_index *index, int fd, uint64_t file_bytes) {
    struct stat stat;
    uint64_t stated;
    if (fstat(fd, &stat) != 0 || !read_all(fd, &index->head, sizeof(index->head)) ||
        !head_is_sound(&index->head, (uint64_t)stat.st_size, file_bytes))
        return false;
    size_t bytes = index->head.chunk_count * sizeof(*index->chunks);
    index->chunks = malloc(bytes ? bytes : 1);
    if (!index->chunks || !read_all(fd, index->chunks, bytes) || !read_all(fd, &stated, sizeof(stated))) return false;
    uint64_t crc = crc64(crc64(0, &index->head, sizeof(index->head)), index->chunks, bytes);
    return crc == stated && chunks_are_sound(index);
}

bool rdb_index_read(struct rdb_index *index, const char *path, uint64_t file_bytes) {
    char name[PATH_MAX];
    *index = (struct rdb_index){0};
    int length = snprintf(name, sizeof(name), "%s%s", path, RDB_INDEX_SUFFIX);
    if (length < 0 || (size_t)length >= sizeof(name)) return false;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool sound = read_index(index, fd, file_bytes);
    close(fd);
    if (!sound) rdb_index_free(index);
    return sound;
}

void rdb_index_free(struct rdb_index *index) {
    free(index->chunks);
    index->chunks = NULL;
}
