/* Any bytes as a manifest: refused, or the same again when composed and parsed. */

#include "persist/aof_manifest.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char error[AOF_MANIFEST_ERROR_MAX] = "";
    struct aof_manifest manifest, again;
    if (!aof_manifest_parse(&manifest, span_of(data, size), error)) {
        assert(error[0] != '\0');
        return 0;
    }
    size_t length;
    char *text = aof_manifest_compose(&manifest, &length);
    bool parsed = aof_manifest_parse(&again, span_of(text, length), error);
    assert(parsed);
    assert(again.count == manifest.count && again.increment_sequence == manifest.increment_sequence);
    for (uint32_t i = 0; i < again.count; i++) {
        assert(strcmp(again.files[i].name, manifest.files[i].name) == 0);
        assert(again.files[i].sequence == manifest.files[i].sequence && again.files[i].type == manifest.files[i].type);
    }
    free(text);
    aof_manifest_free(&again);
    aof_manifest_free(&manifest);
    return 0;
}
