/* Gets the bytes of an image: from a granted directory, or over HTTP. */
#pragma once

#include "failure.h"

#include <stddef.h>
#include <stdint.h>

struct bytes {
    uint8_t *start;
    size_t length;
};

/* `image` is a path below /data/ or a URL. */
bool fetch(const char *image, struct bytes *bytes, struct failure *failure);
