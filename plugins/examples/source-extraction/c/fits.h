/* Reads the first image of a FITS file. */
#pragma once

#include "failure.h"
#include "fetch.h"

struct image {
    /* Row by row, as in the file: y * width + x. Blank pixels are NaN. */
    float *pixels;
    int width;
    int height;
};

bool read_fits(struct bytes file, struct image *image, struct failure *failure);
