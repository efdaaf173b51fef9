/* Arguments and result, which the host hands over as JSON. */
#pragma once

#include "catalogue.h"
#include "failure.h"
#include "fits.h"

#include <stddef.h>

struct arguments {
    /* A path below /data/ or a URL. */
    const char *image;
    struct options options;
};

/* A text that does not end with a zero byte, which is how the host gives it. */
struct text {
    const char *start;
    size_t length;
};

bool read_arguments(struct text args, struct text kwargs, struct arguments *arguments,
                    struct failure *failure);

bool write_result(const struct arguments *arguments, const struct image *image,
                  const struct catalogue *catalogue, struct text *result, struct failure *failure);
