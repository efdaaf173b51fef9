/* Finds the sources of an image, with SEP: the measuring code of Source Extractor as a library. */
#pragma once

#include "failure.h"
#include "fits.h"

#include <sep.h>

struct options {
    double threshold;
    int minimum_area;
    int deblend_levels;
    double deblend_contrast;
    int mesh;
};

struct catalogue {
    float background_level;
    float background_rms;
    /* Columns, as SEP has them. */
    sep_catalog *sources;
};

/* Measures the background and subtracts it from `image`. */
bool subtract_background(const struct options *options, struct image *image,
                         struct catalogue *catalogue, struct failure *failure);

/* Fills in the sources of an image without background. */
bool extract(const struct options *options, const struct image *image,
             struct catalogue *catalogue, struct failure *failure);
